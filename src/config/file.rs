//! Reads a configuration from TOML files and `--set key=value` texts.

use super::{Config, length};
use crate::files;
use crate::shown;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What is wrong with a configuration. Each message is one line.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read config {path}: {source}; built in are {}", BUILT_IN.map(|(name, _)| name).join(", "), path = shown::path(.path))]
    Read { path: PathBuf, source: std::io::Error },
    #[error("config {origin}: {message}")]
    Syntax { origin: String, message: String },
    #[error("config key {key} is {value}: allowed is {allowed}")]
    Value { key: String, value: String, allowed: String },
    #[error("{origin}: {source}")]
    In { origin: String, source: Box<ConfigError> },
    #[error("--set {text}: write key=value, for example --set train.epochs=20")]
    SetForm { text: String },
    #[error("--set {text}: {message}")]
    Set { text: String, message: String },
}

/// Bytes of the largest file that is read as a configuration.
const LARGEST: u64 = 16 << 20;
/// The origin of a configuration without a file.
const DEFAULTS: &str = "defaults";

/// Builds a configuration from an optional file and the `--set` texts, of which later ones override earlier ones.
///
/// A relative `data.path` or `data.val_path` in a file is relative to the current directory, as on the command line.
///
/// # Errors
/// If the file can't be read, the TOML has a syntax error, a key is unknown, or a value has the wrong type or is out of
/// range.
pub fn load(file: Option<&Path>, sets: &[String]) -> Result<Config, ConfigError> {
    let table = match file {
        None => toml::Table::new(),
        Some(path) => read_table(path)?,
    };
    let origin = file.map_or_else(|| DEFAULTS.to_owned(), |path| shown::path(path).to_string());
    layered(table, &origin, sets)
}

/// Reads the configuration that a run has saved. Unlike a file that the user names, it is a regular file.
///
/// # Errors
/// As for [`load`].
pub fn saved(path: &Path) -> Result<Config, ConfigError> {
    let origin = shown::path(path).to_string();
    let file = files::open(path).and_then(|file| text_of(&file));
    let text = file.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text, &origin)
}

/// Reads a file that holds a configuration.
fn text_of(file: &File) -> std::io::Result<String> {
    let bytes = files::read(file, LARGEST)?;
    String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is no UTF-8 text"))
}

/// Applies `--set` texts to a complete configuration, such as that of a run to be resumed.
///
/// # Errors
/// As for [`load`].
pub fn override_with(base: &Config, sets: &[String]) -> Result<Config, ConfigError> {
    let table = toml::Table::try_from(base).map_err(|error| ConfigError::Syntax {
        origin: "saved".to_owned(),
        message: error.to_string(),
    })?;
    layered(table, "saved in the run", sets)
}

/// A part of a configuration, and where it comes from.
#[derive(Debug, Clone)]
pub struct Layer {
    origin: String,
    table: toml::Table,
}

impl Layer {
    /// Reads a file, or takes the built-in configuration of that name.
    ///
    /// # Errors
    /// If the file can't be read or the TOML has a syntax error.
    pub fn file(path: &Path) -> Result<Self, ConfigError> {
        Ok(Self { origin: shown::path(path).to_string(), table: read_table(path)? })
    }

    /// Parses TOML text. `origin` names the text in errors.
    ///
    /// # Errors
    /// If the TOML has a syntax error.
    pub fn text(text: &str, origin: &str) -> Result<Self, ConfigError> {
        Ok(Self { origin: origin.to_owned(), table: parse_table(text, origin)? })
    }

    /// Makes a layer of a complete configuration.
    pub fn whole(config: &Config) -> Self {
        let table = toml::Table::try_from(config).unwrap_or_default();
        Self { origin: "saved in the run".to_owned(), table }
    }

    /// Makes a layer of some sections of a complete configuration. Keys that are unset there are not in the layer either.
    pub fn sections(config: &Config, sections: &[&str], origin: &str) -> Self {
        let mut layer = Self { origin: origin.to_owned(), ..Self::whole(config) };
        layer.table.retain(|section, _| sections.contains(&section));
        layer
    }

    /// Removes one key, so that the layers below decide it.
    pub fn remove(&mut self, section: &str, key: &str) {
        if let Some(keys) = self.table.get_mut(section).and_then(toml::Value::as_table_mut) {
            keys.remove(key);
        }
    }

    /// Returns whether the layer sets the key.
    pub fn has(&self, section: &str, key: &str) -> bool {
        length::has(&self.table, section, key)
    }
}

/// Puts layers over each other, the last one on top, and the `--set` texts over all of them.
///
/// # Errors
/// As for [`load`].
pub fn stack(layers: Vec<Layer>, sets: &[String]) -> Result<Config, ConfigError> {
    let mut whole = toml::Table::new();
    let mut origin = DEFAULTS.to_owned();
    for layer in layers {
        // Each layer is checked alone first, so that errors name the layer.
        typed(&layer.table, &layer.origin)?;
        length::give_way(&mut whole, &layer.table);
        for (section, keys) in layer.table {
            let below = whole.entry(section).or_insert_with(|| toml::Table::new().into());
            if let (Some(below), toml::Value::Table(keys)) = (below.as_table_mut(), keys) {
                below.extend(keys);
            }
        }
        origin = layer.origin;
    }
    layered(whole, &origin, sets)
}

/// Parses a complete or partial configuration from TOML text. `origin` names the text in errors.
///
/// # Errors
/// As for [`load`].
pub fn parse(text: &str, origin: &str) -> Result<Config, ConfigError> {
    layered(parse_table(text, origin)?, origin, &[])
}

/// Returns a configuration as TOML text. Every key that has a value is in it.
pub fn to_toml(config: &Config) -> String {
    toml::to_string(config).expect("a config of plain numbers, strings and paths serialises")
}

fn layered(mut table: toml::Table, origin: &str, sets: &[String]) -> Result<Config, ConfigError> {
    // The table is checked without the `--set` texts first, so that its errors name the file and not a flag.
    let mut config = typed(&table, origin)?;
    // What the texts give together: they are one layer.
    let mut given = toml::Table::new();
    for text in sets {
        let mut one = toml::Table::new();
        apply_set(&mut one, text)?;
        length::give_way(&mut table, &one);
        apply_set(&mut table, text)?;
        let wrong = |message| ConfigError::Set { text: text.clone(), message };
        config = typed(&table, "").map_err(|error| match error {
            ConfigError::Syntax { message, .. } => wrong(message),
            other => other,
        })?;
        apply_set(&mut given, text)?;
        if let Some(message) = length::both(&given) {
            return Err(wrong(message));
        }
    }
    config.data.resolve_built_in();
    match config.validate() {
        Ok(()) => Ok(config),
        // Without a file there is no origin to name.
        Err(error) if origin == DEFAULTS => Err(error),
        Err(error) => Err(ConfigError::In { origin: origin.to_owned(), source: Box::new(error) }),
    }
}

/// Returns the keys in which two configurations differ, with dots between section and key.
pub fn differences(a: &Config, b: &Config) -> Vec<String> {
    let flat = |config: &Config| -> BTreeMap<String, toml::Value> {
        let sections = toml::Table::try_from(config).unwrap_or_default().into_iter();
        sections
            .flat_map(|(section, keys)| {
                let keys = keys.as_table().cloned().unwrap_or_default().into_iter();
                keys.map(move |(key, value)| (format!("{section}.{key}"), value))
            })
            .collect()
    };
    let (a, b) = (flat(a), flat(b));
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    keys.into_iter().filter(|key| a.get(*key) != b.get(*key)).cloned().collect()
}

fn typed(table: &toml::Table, origin: &str) -> Result<Config, ConfigError> {
    let wrong = |message| ConfigError::Syntax { origin: origin.to_owned(), message };
    if let Some(message) = length::both(table) {
        return Err(wrong(message));
    }
    let mut config: Config = table.clone().try_into().map_err(|error: toml::de::Error| {
        wrong(without_rust_types(&one_line(&error.to_string())))
    })?;
    length::keep_one(&mut config);
    Ok(config)
}

/// The files of `configs/` by name. They are embedded, so that the names work without the source tree.
pub const BUILT_IN: [(&str, &str); 7] = [
    ("default", include_str!("../../configs/default.toml")),
    ("fashion_mnist", include_str!("../../configs/fashion_mnist.toml")),
    ("smoke", include_str!("../../configs/smoke.toml")),
    ("vit_small_96", include_str!("../../configs/vit_small_96.toml")),
    ("vit_base_224", include_str!("../../configs/vit_base_224.toml")),
    ("vit_ssl", include_str!("../../configs/vit_ssl.toml")),
    ("finetune", include_str!("../../configs/finetune.toml")),
];

fn read_table(path: &Path) -> Result<toml::Table, ConfigError> {
    if !path.is_file()
        && let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| path.as_os_str() == *name)
    {
        return parse_table(text, name);
    }
    let text = File::open(path)
        .and_then(|file| text_of(&file))
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse_table(&text, &shown::path(path).to_string())
}

fn parse_table(text: &str, origin: &str) -> Result<toml::Table, ConfigError> {
    text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        ConfigError::Syntax {
            origin: origin.to_owned(),
            message: format!("line {line}: {}", one_line(error.message())),
        }
    })
}

/// Sets one dotted key. The value is read as TOML. What isn't TOML is taken as a string, so that
/// `--set data.path=photos` needs no quotes.
fn apply_set(table: &mut toml::Table, text: &str) -> Result<(), ConfigError> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| ConfigError::SetForm { text: text.to_owned() })?;
    let (key, value) = (key.trim(), value.trim());
    let parts: Vec<&str> = key.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(ConfigError::SetForm { text: text.to_owned() });
    }
    let parsed = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let (last, sections) = parts.split_last().expect("split yields at least one part");
    let mut at = table;
    for part in sections {
        let entry =
            at.entry((*part).to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = entry.as_table_mut().ok_or_else(|| ConfigError::Set {
            text: text.to_owned(),
            message: format!("{part} is a value, not a section"),
        })?;
    }
    at.insert((*last).to_owned(), parsed);
    Ok(())
}

/// Replaces the Rust types in Serde's messages by words for people.
fn without_rust_types(message: &str) -> String {
    let words = [
        ("expected usize", "expected a whole number from 0 up"),
        ("expected u64", "expected a whole number from 0 up"),
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
        ("expected struct", "expected a section, like"),
    ];
    words.iter().fold(message.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_configuration_is_valid_and_the_default_file_is_the_default() {
        for (name, text) in BUILT_IN {
            let config = parse(text, name).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(parse(&to_toml(&config), "again").expect("valid"), config, "{name}");
            if name == "default" {
                assert_eq!(config, Config::default(), "configs/default.toml");
            }
        }
    }

    #[test]
    fn later_settings_win_and_bare_words_are_strings() {
        let sets = ["train.epochs=3", "train.epochs=4", "data.path=a/b c", "model.position=sincos"];
        let config = load(None, &sets.map(str::to_owned)).expect("valid");
        assert_eq!(config.train.epochs, Some(4));
        assert_eq!(config.data.path, Some(PathBuf::from("a/b c")));
        assert_eq!(config.model.position, crate::config::Position::Sincos);
    }

    #[test]
    fn errors_name_the_key_and_what_is_allowed() {
        for (set, parts) in [
            ("train.epoch=3", ["train.epoch", "epochs"]),
            ("trian.epochs=3", ["trian", "train"]),
            ("train.epochs=0", ["train.epochs is 0", "from 1 to"]),
            ("train.epochs=many", ["train.epochs=many", "invalid type"]),
            ("mask.ratio=nan", ["mask.ratio is NaN", "from 0.01 to 0.99"]),
            ("model.patch_size=7", ["model.image_size is 64", "multiple of model.patch_size = 7"]),
            ("model.position=up", ["up", "`learned`, `sincos`, `relative`"]),
        ] {
            let error = load(None, &[set.to_owned()]).expect_err(set).to_string();
            for part in parts {
                assert!(error.contains(part), "{set}: {part} is missing in: {error}");
            }
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn layers_lie_over_each_other_key_by_key() {
        let mut saved = Config::default();
        saved.model.drop_path = 0.3;
        saved.model.depth = 4;
        saved.train.epochs = Some(7);
        let mut below = Layer::sections(&saved, &["model", "data"], "saved");
        assert!(below.has("model", "drop_path") && !below.has("train", "epochs"));
        assert!(!below.has("data", "path"), "it isn't set");
        below.remove("model", "drop_path");
        let finetune = Layer::file(Path::new("finetune")).expect("built in");
        let sets = ["model.heads=4".to_owned()];
        let config = stack(vec![finetune.clone(), below], &sets).expect("valid");
        let alone = stack(vec![finetune], &[]).expect("valid");
        assert_eq!((config.model.depth, config.model.heads), (4, 4));
        assert!(config.model.drop_path.to_bits() == alone.model.drop_path.to_bits());
        assert_eq!((config.train, config.finetune), (alone.train, alone.finetune));
        let bad = Layer { origin: "x".to_owned(), table: "train.epoch = 3".parse().expect("TOML") };
        let error = stack(vec![bad], &[]).expect_err("no such key").to_string();
        assert!(error.starts_with("config x: "), "{error}");
    }

    #[test]
    fn syntax_errors_name_the_line() {
        let error = parse("[train]\nepochs = = 3\n", "x.toml").expect_err("bad").to_string();
        assert!(error.starts_with("config x.toml: line 2: "), "{error}");
    }
}
