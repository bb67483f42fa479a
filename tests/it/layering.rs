//! The layers of the program, read off the `use` lines.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src is readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// Source files of a module, with their text.
fn module(name: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let inside = |path: &PathBuf| {
        let relative = path.strip_prefix(&root).expect("below src");
        relative == Path::new(&format!("{name}.rs")) || relative.starts_with(name)
    };
    let found: Vec<_> = paths.into_iter().filter(inside).collect();
    assert!(!found.is_empty(), "there is no module {name}");
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("readable");
            (path, text)
        })
        .collect()
}

#[test]
fn each_module_names_only_what_lies_below_it() {
    let table: [(&str, &[&str]); 19] = [
        ("event", &["crate::ui", "crate::train", "burn", "ratatui", "crossterm"]),
        ("config", &["crate::model", "crate::data", "crate::train", "burn", "ratatui"]),
        ("rng", &["crate::", "burn"]),
        ("model", &["crate::data", "crate::train", "crate::event", "crate::run_dir", "ratatui"]),
        ("data", &["crate::model", "crate::train", "crate::event", "burn", "ratatui"]),
        (
            "train",
            &["crate::headless", "crate::ui", "crate::cli", "ratatui", "crossterm", "println!"],
        ),
        (
            "run_dir",
            &["crate::train", "crate::control", "crate::ui", "crate::cli", "burn", "println!"],
        ),
        (
            "control",
            &[
                "crate::train",
                "crate::model",
                "crate::data",
                "crate::ui",
                "crate::cli",
                "burn",
                "println!",
            ],
        ),
        (
            "runs",
            &["crate::train", "crate::control", "crate::ui", "crate::cli", "burn", "println!"],
        ),
        ("event/state", &["crate::train", "crate::model", "burn", "ratatui"]),
        ("ui", &["crate::model", "crate::data", "crate::device", "crate::cli", "burn", "println!"]),
        (
            "export",
            &["crate::model::vit", "crate::data", "crate::ui", "crate::cli", "burn", "ratatui"],
        ),
        (
            "weights/foreign",
            &["crate::data", "crate::event", "crate::ui", "crate::cli", "burn", "ratatui"],
        ),
        ("eval/features", &["crate::ui", "burn", "ratatui"]),
        ("eval", &["crate::ui", "crate::cli", "burn", "ratatui"]),
        ("command/embed", &["crate::model", "burn", "ratatui"]),
        ("picture/sheet", &["crate::", "burn", "ratatui"]),
        ("command/preview", &["crate::model", "crate::train", "crate::event", "burn"]),
        ("headless", &["crate::model", "crate::data", "burn", "ratatui"]),
    ];
    for (name, forbidden) in table {
        for (path, text) in module(name) {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                for word in forbidden {
                    assert!(
                        !line.contains(word),
                        "{}: code line {} names {word}: {line}",
                        path.display(),
                        number + 1
                    );
                }
            }
        }
    }
}

#[test]
fn no_file_outgrows_one_idea() {
    let mut paths = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
    for path in paths {
        let lines = fs::read_to_string(&path).expect("readable").lines().count();
        assert!(lines <= 600, "{} has {lines} lines: split it", path.display());
    }
}
