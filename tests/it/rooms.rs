//! The rooms of `src/` stand in one order, and a room imports only rooms below it: so there is no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from top to bottom: each is a file or a folder of `src/`. [`ARCHITECTURE.md`] describes them in this order.
const ROOMS: [&str; 29] = [
    "main", "lib", "cli", "command", "headless", "ui", "error", "train", "eval", "weights",
    "control", "engine", "cuda", "process", "run_dir", "picture", "data", "model", "event", "text",
    "terminal", "ops", "config", "gpu", "rng", "files", "shown", "version", "exit",
];

/// Crates that only some rooms may name, so that each library has one place where it is used.
const KEPT_TO: [(&str, &[&str]); 10] = [
    ("burn", &["engine", "model", "ops"]),
    ("burn_std", &["engine"]),
    ("crossterm", &["ui"]),
    ("cudarc", &["cuda"]),
    ("gemm", &["ops"]),
    ("indicatif", &["text"]),
    ("libloading", &["cuda"]),
    ("nvml_wrapper", &["gpu"]),
    ("ratatui", &["ui", "terminal", "command"]),
    ("viuer", &["terminal"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src is readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// All source files with their text, by paths relative to `src/`.
fn sources() -> Vec<(PathBuf, String)> {
    let src = root().join("src");
    let mut paths = Vec::new();
    rust_files(&src, &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file is readable");
        (path.strip_prefix(&src).expect("below src").to_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

/// The room of a source file: its first folder, or its own name.
fn room(path: &Path) -> String {
    let first = path.components().next().expect("a path has components").as_os_str();
    first.to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// The text with comments replaced by nothing, line breaks kept. String literals may hold `//`: what follows is lost,
/// which can hide nothing, as no import stands behind a string on its line.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The names behind `crate::`, one or those at the top of a group `{a, b::{c, d}}`.
fn names(after: &str) -> Vec<&str> {
    let Some(group) = after.strip_prefix('{') else { return vec![word(after)] };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(word(group[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// What a file imports from its own level or above, as lines `path:line: what`.
fn upward_imports(path: &Path, text: &str) -> Vec<String> {
    let text = code(text);
    let own = room(path);
    let place = |name: &str| ROOMS.iter().position(|room| *room == name);
    let from = place(&own).unwrap_or_else(|| panic!("{own} is in no order: add it to ROOMS"));
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue; // the end of another name
        }
        let line = text[..at].matches('\n').count() + 1;
        for name in names(&text[at + "crate::".len()..]) {
            let below = place(name).is_some_and(|to| to > from);
            if !below && name != own {
                found.push(format!("src/{}:{line}: {own} imports {name}", path.display()));
            }
        }
    }
    // In the root file of a room `super` is the crate: nothing but its tests, which are indented, may say it.
    let inside = path.components().count() - usize::from(path.ends_with("mod.rs"));
    let escape = format!("use {}", "super::".repeat(inside));
    let escapes = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.trim_start_matches("pub ").starts_with(&escape));
    found
        .extend(escapes.map(|(line, text)| format!("src/{}:{}: {text}", path.display(), line + 1)));
    found
}

#[test]
fn a_room_imports_only_rooms_below_it() {
    let found: Vec<String> =
        sources().iter().flat_map(|(path, text)| upward_imports(path, text)).collect();
    assert!(found.is_empty(), "upward imports:\n{}", found.join("\n"));
}

#[test]
fn an_upward_import_is_found_wherever_it_hides() {
    let path = Path::new("data/split.rs");
    for (text, expected) in [
        ("use crate::config::Config;\nuse crate::rng;\n", vec![]),
        ("use crate::data::Source;\n// use crate::train::Job;\n", vec![]),
        ("\nuse crate::train::Job;\n", vec!["src/data/split.rs:2: data imports train"]),
        ("fn a() {\n    crate::ui::run();\n}\n", vec!["src/data/split.rs:2: data imports ui"]),
        ("use crate::{\n    config::{self, Config},\n    model, say,\n};\n", vec![]),
        ("use crate::say;\n", vec!["src/data/split.rs:1: data imports say"]),
        ("use super::super::model;\n", vec!["src/data/split.rs:1: use super::super::model;"]),
    ] {
        let found = upward_imports(path, text);
        if text.contains("model, say") {
            assert_eq!(found, ["src/data/split.rs:1: data imports say"]);
            continue;
        }
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn every_entry_of_src_is_a_room_and_every_room_is_there() {
    let there: BTreeSet<String> = sources().iter().map(|(path, _)| room(path)).collect();
    let known: BTreeSet<String> = ROOMS.iter().map(ToString::to_string).collect();
    assert_eq!(there, known);
    let entries = fs::read_dir(root().join("src")).expect("src is readable").count();
    assert_eq!(entries, ROOMS.len(), "a room is one entry: a file, or a folder with a mod.rs");
}

#[test]
fn libraries_stay_in_the_rooms_that_they_belong_to() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let own = room(&path);
        for (number, line) in code(&text).lines().enumerate() {
            for (library, rooms) in KEPT_TO {
                let named = line.match_indices(library).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    line[at + library.len()..].starts_with("::")
                        && before.is_none_or(|c| !c.is_alphanumeric() && !"_:".contains(c))
                });
                if named && !rooms.contains(&own.as_str()) {
                    found.push(format!("src/{}:{}: {line}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "libraries out of their rooms:\n{}", found.join("\n"));
}

/// The name of the type that a line makes known outside of its module.
fn public_type(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub")?;
    let rest =
        rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest);
    let kinds = ["struct ", "enum ", "trait ", "type ", "union "];
    kinds.iter().find_map(|kind| rest.trim_start().strip_prefix(kind)).map(word)
}

#[test]
fn no_public_type_name_stands_for_two_things() {
    let mut first: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut found = Vec::new();
    for (path, text) in sources() {
        // Two halves of a door have the same face on purpose.
        if path.ends_with("enabled.rs") || path.ends_with("disabled.rs") {
            continue;
        }
        for name in code(&text).lines().filter_map(public_type) {
            if let Some(other) = first.insert(name.to_owned(), path.clone()) {
                found.push(format!("{name}: src/{} and src/{}", other.display(), path.display()));
            }
        }
    }
    assert!(found.is_empty(), "names of two types:\n{}", found.join("\n"));
    let line = "pub(super) struct Comms {";
    assert_eq!((public_type(line), public_type("struct Comms {")), (Some("Comms"), None));
}

#[test]
fn no_file_outgrows_one_idea() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 600, "src/{} has {lines} lines: find the second idea", path.display());
    }
}

/// The room and the body of each section of ARCHITECTURE.md whose heading is a name in code.
fn described_rooms(text: &str) -> Vec<(&str, &str)> {
    let sections = text.split("\n### `").skip(1);
    sections
        .map(|section| {
            let body = section.split("\n## ").next().unwrap_or(section);
            (word(section), body)
        })
        .collect()
}

#[test]
fn architecture_md_describes_every_room_in_order_with_its_invariant() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("it is there");
    let described = described_rooms(&text);
    let names: Vec<&str> = described.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ROOMS);
    for (name, body) in described {
        assert!(body.contains("**Invariant:**"), "{name} has no invariant");
    }
}

#[test]
fn unsafe_code_is_only_where_architecture_md_says() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("it is there");
    let mut files = Vec::new();
    for (path, source) in sources() {
        let allows = code(&source).lines().any(|line| line.contains("allow(unsafe_code"));
        if allows {
            files.push(format!("`src/{}`", path.display()));
        }
        let opened = code(&source).contains("unsafe {") || code(&source).contains("unsafe fn");
        assert!(allows || !opened, "src/{} has unsafe code", path.display());
    }
    let paragraph =
        text.split("\n\n").find(|part| part.starts_with("**Unsafe code**")).expect("it says where");
    for file in &files {
        assert!(paragraph.contains(file.as_str()), "{file} is missing in: {paragraph}");
    }
    assert_eq!(paragraph.matches("`src/").count(), files.len(), "{paragraph}");
}
