//! Tells the program which commit it was built from, for `--version` and the log of each run.

use std::path::Path;
use std::process::Command;

/// What decides the binary: a change here that isn't committed makes the commit a wrong name for it.
const SOURCES: [&str; 6] = ["src", "configs", "assets", "Cargo.toml", "Cargo.lock", "build.rs"];

fn main() {
    println!("cargo::rerun-if-env-changed=SIMMIM_TUI_COMMIT");
    let given = std::env::var("SIMMIM_TUI_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(commit).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=SIMMIM_TUI_COMMIT={commit}");
}

/// The short name of the commit, with `-modified` if the sources differ from it. `None` without git or a repository.
fn commit() -> Option<String> {
    for path in SOURCES {
        println!("cargo::rerun-if-changed={path}");
    }
    // Moves with every commit and checkout.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    // A package unpacked inside of somebody else's repository isn't that repository's commit.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let name = git(&["rev-parse", "--short=9", "HEAD"])?;
    let status = git(&[&["status", "--porcelain", "--"][..], &SOURCES].concat())?;
    Some(if status.is_empty() { name } else { format!("{name}-modified") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
