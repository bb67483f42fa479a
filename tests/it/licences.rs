//! The notices that the program prints name every crate that is linked into it, under a licence that deny.toml allows.

use crate::common;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the crates that the program's notices name, as `name version`, with their licences.
fn named() -> BTreeMap<String, String> {
    let ended = common::run(Path::new(ROOT), &["--licenses"]).expect(0, "--licenses");
    let table = ended.stdout.lines().take_while(|line| !line.starts_with("====="));
    let rows = table.filter_map(|line| line.split_once("  "));
    rows.filter(|(name, _)| !name.is_empty())
        .map(|(name, licence)| (name.to_owned(), licence.to_owned()))
        .collect()
}

#[test]
fn every_linked_crate_is_named_and_no_other() {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let listing = ["tree", "--locked", "--offline", "--target", &target, "--edges"];
    let format = ["normal,no-proc-macro", "--prefix", "none", "--format", "{p}"];
    let cargo = Command::new(env!("CARGO")).current_dir(ROOT).args(listing).args(format).output();
    let output = cargo.expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let linked: BTreeSet<String> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.contains("(proc-macro)"))
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| format!("{name} {}", rest.split(' ').next().unwrap_or(rest)))
        .filter(|name| !name.starts_with("simmim-tui "))
        .collect();
    assert!(linked.len() > 100, "{}", linked.len());
    let named: BTreeSet<String> = named().into_keys().collect();
    let missing: Vec<_> = linked.difference(&named).collect();
    assert!(missing.is_empty(), "run tools/notices.py: {missing:?}");
    // The notices are of two processors, so that a few crates may be of the other one alone.
    assert!(named.difference(&linked).count() < 10, "{:?}", named.difference(&linked));
}

#[test]
fn every_licence_is_one_that_deny_toml_allows() {
    let text = fs::read_to_string(Path::new(ROOT).join("deny.toml")).expect("there");
    let deny: toml::Table = text.parse().expect("TOML");
    let list = |value: &toml::Value| -> Vec<String> {
        let words = value.as_array().expect("a list").iter();
        words.map(|word| word.as_str().expect("a text").to_owned()).collect()
    };
    let allowed = list(&deny["licenses"]["allow"]);
    let exceptions: BTreeMap<String, Vec<String>> = deny["licenses"]["exceptions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (entry["crate"].as_str().expect("a name").to_owned(), list(&entry["allow"])))
        .collect();
    for (name, licences) in named() {
        let krate = name.split(' ').next().expect("a name");
        for licence in licences.split(" AND ").map(str::to_owned) {
            let excepted = exceptions.get(krate).is_some_and(|allow| allow.contains(&licence));
            assert!(allowed.contains(&licence) || excepted, "{name}: {licence}");
        }
    }
}

#[test]
fn the_texts_that_must_come_along_do() {
    let ended = common::run(Path::new(ROOT), &["--licenses"]).expect(0, "--licenses");
    for part in [
        "GNU LESSER GENERAL PUBLIC LICENSE",
        "GNU GENERAL PUBLIC LICENSE",
        "Mozilla Public License Version 2.0",
        "[patch.crates-io]",
        "Apache License",
        "Zstandard",
    ] {
        assert!(ended.stdout.contains(part), "{part}");
    }
    common::run(Path::new(ROOT), &["--licenses", "plan"]).expect(2, "a command beside it");
}
