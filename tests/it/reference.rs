//! Compares the tables of the documents with the code: what is added to the program must be added there.
//!
//! The table of keys has its test beside the keys, in `src/ui/keymap.rs`.

use clap::CommandFactory as _;
use simmim_tui::cli::Cli;
use simmim_tui::config::{Config, FinetuneConfig, file};
use simmim_tui::event::AlarmKind;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const REFERENCE: &str = "docs/reference.md";

const DOCUMENTS: [&str; 11] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs/evaluation.md",
    "docs/export.md",
    "docs/formats.md",
    "docs/guide.md",
    "docs/imagenet.md",
    "docs/performance.md",
    REFERENCE,
    "docs/slurm.md",
];

fn read(path: &str) -> String {
    let path = Path::new(ROOT).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns what stands between backticks in a document.
fn quoted(document: &str) -> Vec<String> {
    let text = read(document).replace("```", "");
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the first cells of the table of a document whose head has `word` in its first cell, without backticks.
fn first_column(document: &str, word: &str) -> Vec<String> {
    let text = read(document);
    let cell = |line: &str| {
        let cell = line.strip_prefix("| ")?.split(" | ").next()?;
        Some(cell.replace('`', ""))
    };
    let from_head = text.lines().skip_while(|line| cell(line).as_deref() != Some(word));
    let rows = from_head.skip(2).map_while(cell).collect::<Vec<_>>();
    assert!(!rows.is_empty(), "{document} has a table whose first column is {word}");
    rows
}

#[test]
fn the_table_of_commands_has_every_command_in_the_order_of_the_help() {
    let cli = Cli::command();
    let shown = cli.get_subcommands().filter(|command| !command.is_hide_set());
    let names: Vec<_> = shown.map(|command| command.get_name().to_owned()).collect();
    let mut rows = first_column(REFERENCE, "command");
    if cfg!(not(feature = "tui")) {
        rows.retain(|row| !["preview", "attach", "embed"].contains(&row.as_str()));
    }
    assert_eq!(rows, names);
}

#[test]
fn the_table_of_alarms_has_every_alarm_by_its_name() {
    use AlarmKind::{
        CannotWrite, DiskFull, DiskLow, FilesLost, GpuHot, GradientJump, LossSpike, NotFinite,
        SlowLoader, Stalled,
    };
    let all = [
        NotFinite,
        LossSpike,
        GradientJump,
        Stalled,
        SlowLoader,
        DiskLow,
        DiskFull,
        CannotWrite,
        FilesLost,
        GpuHot,
    ];
    // A new kind doesn't compile here. It belongs into the list above and into the table.
    for kind in all {
        match kind {
            NotFinite | LossSpike | GradientJump | Stalled | SlowLoader | DiskLow | DiskFull
            | CannotWrite | FilesLost | GpuHot => {}
        }
    }
    assert_eq!(first_column(REFERENCE, "alarm"), all.map(AlarmKind::name));
}

#[test]
fn the_table_of_exit_codes_has_every_code() {
    let source = read("src/exit.rs");
    let constants = source.lines().filter_map(|line| line.strip_prefix("pub const "));
    let code = |line: &str| Some(line.split_once("= ")?.1.trim_end_matches(';').to_owned());
    let codes: Vec<_> = ["0".to_owned()].into_iter().chain(constants.filter_map(code)).collect();
    assert_eq!(codes.len(), 5, "{codes:?}");
    assert_eq!(first_column(REFERENCE, "code"), codes);
}

#[test]
fn the_table_of_built_in_configurations_has_every_file_of_configs() {
    let rows = first_column(REFERENCE, "built-in");
    for name in &rows {
        file::load(Some(Path::new(name)), &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let folder = Path::new(ROOT).join("configs");
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let files: BTreeSet<_> = fs::read_dir(folder)
        .expect("the folder is there")
        .filter_map(|entry| stem(&entry.expect("readable").path()))
        .collect();
    assert_eq!(rows.into_iter().collect::<BTreeSet<_>>(), files);
}

/// Returns every key of the configuration as `section.key`, from a configuration that has all of them.
fn keys() -> BTreeSet<String> {
    let mut config = Config { finetune: Some(FinetuneConfig::default()), ..Config::default() };
    let path = || Some("somewhere".into());
    (config.data.path, config.data.val_path, config.eval.path) = (path(), path(), path());
    config.train.init = path();
    (config.train.steps, config.train.val_every_steps) = (Some(1), Some(1));
    config.schedule.warmup_steps = Some(1);
    config.train.init_network = Some("student".to_owned());
    config.finetune.as_mut().expect("set above").from = path();
    let table: toml::Table = file::to_toml(&config).parse().expect("TOML");
    let keys = table.iter().flat_map(|(section, keys)| {
        let keys = keys.as_table().expect("a section");
        keys.keys().map(move |key| format!("{section}.{key}"))
    });
    keys.collect()
}

#[test]
fn keys_that_documents_name_exist() {
    let keys = keys();
    let sections: BTreeSet<_> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    for document in DOCUMENTS {
        for text in quoted(document) {
            // A value may follow the key.
            let key = text.split([' ', '=']).next().unwrap_or_default();
            let Some((section, name)) = key.split_once('.') else { continue };
            let is_key =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            let is_file = ["rs", "toml", "safetensors"].contains(&name);
            // In a checkpoint the names of weights begin with `model.` too.
            let is_weight = document == "docs/formats.md" && section == "model";
            if sections.contains(section) && is_key && !is_file && !is_weight {
                assert!(keys.contains(key), "{document} names the key {key}");
            }
        }
    }
}

#[test]
fn files_that_documents_name_exist() {
    let folders = ["src/", "tests/", "tools/", "benches/", "docs/", "configs/", "assets/", ".ci/"];
    for document in DOCUMENTS {
        for text in quoted(document) {
            // A command may stand there, or a placeholder for any name.
            let path = text.split(' ').next().unwrap_or_default();
            if folders.iter().any(|folder| path.starts_with(folder)) && !path.contains("NAME") {
                assert!(Path::new(ROOT).join(path).exists(), "{document} names {path}");
            }
        }
        let folder = Path::new(document).parent().expect("a file stands in a folder");
        let text = read(document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !link.contains("://") {
                let target = Path::new(ROOT).join(folder).join(path);
                assert!(target.exists(), "{document} links to {link}");
            }
        }
    }
}

#[test]
fn the_table_of_events_has_every_kind_of_event() {
    let source = read("src/event/mod.rs");
    let body = source.split("pub enum Event {\n").nth(1).expect("the enum is there");
    let lines = body.lines().take_while(|line| *line != "}");
    // Variants are indented once; their fields and comments are not words at that place.
    let variants = lines.filter_map(|line| line.strip_prefix("    "));
    let name = |line: &str| {
        let name = line.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        name.starts_with(|c: char| c.is_ascii_uppercase()).then(|| name.to_owned())
    };
    let snake_case = |name: String| {
        let mut text = String::new();
        for (place, letter) in name.char_indices() {
            if letter.is_ascii_uppercase() && place > 0 {
                text.push('_');
            }
            text.push(letter.to_ascii_lowercase());
        }
        text
    };
    let kinds: BTreeSet<_> = variants.filter_map(name).map(snake_case).collect();
    assert!(kinds.len() > 10, "{kinds:?}");
    let rows = first_column("docs/formats.md", "event");
    assert_eq!(rows.into_iter().collect::<BTreeSet<_>>(), kinds);
}

#[test]
fn the_default_configuration_file_names_every_key() {
    let text = read("configs/default.toml");
    let mut named = BTreeSet::new();
    let mut section = String::new();
    for line in text.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            name.clone_into(&mut section);
        } else if let Some((key, _)) = line.split_once(" = ") {
            named.insert(format!("{section}.{key}"));
        }
    }
    assert_eq!(named, keys());
}
