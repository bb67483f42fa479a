//! Runs every shell command of the documents, in order, so that the documents stay correct.
//!
//! Stand-ins on the PATH keep this fast: training gets a tiny model and few epochs, GPUs become the CPU, and cargo and
//! mail do nothing. Commands that need a terminal are run on one afterwards.

use crate::common;
#[cfg(feature = "tui")]
use crate::common::pty;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::tempdir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the lines of all blocks that are marked as shell, as one script.
fn commands(document: &str) -> String {
    let text = fs::read_to_string(Path::new(ROOT).join(document)).expect("the document is there");
    let mut script = String::new();
    let mut inside = false;
    for line in text.lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => script.extend([line, "\n"]),
            _ => {}
        }
    }
    assert!(!script.is_empty(), "{document} has commands");
    script
}

/// Returns a script that calls the program. It adds settings of the tests to those of the document where the command
/// would otherwise take long.
fn stand_in() -> String {
    let tiny: String = common::TINY.map(|set| format!(" --set {set}")).concat();
    format!(
        r#"#!/bin/bash
arguments=() kind=train
for argument; do
    arguments+=("${{argument/#cuda*/cpu}}")
    [[ $argument == --resume ]] && kind=resume
    [[ $argument == --detach ]] && kind=detach
done
case "$1" in
    finetune) [[ $kind == train ]] && kind=finetune ;;
    "" | -* | train) ;;
    attach) printf '%s\n' "${{arguments[*]}}" >> "$ATTACHED"; exit ;;
    *) kind=other ;;
esac
case $kind in
    train) arguments+=({tiny}) ;;
    resume) arguments+=(--set train.epochs=3) ;;
    detach) arguments+=({tiny} --set train.epochs=1000000) ;;
    finetune) arguments+=(--set train.epochs=1 --set train.device=cpu) ;;
esac
exec {program} "${{arguments[@]}}"
"#,
        program = env!("CARGO_BIN_EXE_simmim-tui")
    )
}

const CARGO: &str = r#"#!/bin/bash
case "$1 $2" in
    "run --release") shift 2; [[ $1 == -- ]] && shift; exec simmim-tui "$@" ;;
    # These are what runs this test, and what .ci/run checks.
    "test --release" | "build --release" | "install --path") ;;
    *) echo "cargo $*: not known here" >&2; exit 1 ;;
esac
"#;

fn executable(path: &Path, text: &str) {
    fs::write(path, text).expect("writable");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("made executable");
}

/// Runs the commands of a document in a home directory of their own. `before` is a command that the document assumes
/// has been run.
fn run_document(document: &str, before: &str) {
    let temp = tempdir().expect("a temporary folder");
    let (bin, home) = (temp.path().join("bin"), temp.path().join("home"));
    for folder in [&bin, &home] {
        fs::create_dir_all(folder).expect("made");
    }
    let photos = Path::new(ROOT).join("assets/photos-cc0/train");
    common::copy(&photos, &home.join("photos"));
    fs::copy(photos.join("animal/dog.jpg"), home.join("dog.jpg")).expect("copied");
    executable(&bin.join("simmim-tui"), &stand_in());
    executable(&bin.join("cargo"), CARGO);
    executable(&bin.join("mail"), "#!/bin/sh\nexec cat\n");
    if !Command::new("jq").arg("--version").output().is_ok_and(|found| found.status.success()) {
        executable(&bin.join("jq"), "#!/bin/sh\nexec cat\n");
    }
    let script = temp.path().join("script");
    fs::write(&script, format!("set -o pipefail\n{before}\n{}", commands(document)))
        .expect("writable");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let attached = temp.path().join("attached");
    let output = Command::new("bash")
        .arg("-ex")
        .arg(&script)
        .current_dir(&home)
        .env("PATH", path)
        .env("HOME", &home)
        .env("ATTACHED", &attached)
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| line.starts_with('+')).unwrap_or_default();
    assert!(output.status.success(), "{document}: {last}\n{said}");
    assert!(!said.contains("panicked"), "{document}: {said}");
    #[cfg(feature = "tui")]
    for line in fs::read_to_string(attached).unwrap_or_default().lines() {
        let mut tty = pty::Tty::start(&home, &line.split(' ').collect::<Vec<_>>(), (110, 34), &[]);
        tty.until_shown("loss");
        tty.press("q");
        tty.end().expect(0);
    }
}

#[test]
fn the_commands_of_the_readme_work() {
    run_document("README.md", "");
}

#[test]
fn the_commands_of_the_reference_work() {
    run_document("docs/reference.md", "");
}

#[test]
fn the_commands_of_the_guide_work() {
    run_document("docs/guide.md", "");
}

#[test]
fn the_commands_about_formats_work() {
    run_document("docs/formats.md", "simmim-tui");
}

#[test]
fn the_commands_about_large_data_work() {
    run_document("docs/imagenet.md", "cp -r photos imagenet");
}

#[test]
fn the_test_command_of_the_readme_is_what_ci_runs() {
    let ci = fs::read_to_string(Path::new(ROOT).join(".ci/run")).expect("the CI script is there");
    let readme = commands("README.md");
    let test = readme.lines().find(|line| line.starts_with("cargo test")).expect("a test command");
    let test = test.split('#').next().expect("the command").trim();
    assert!(ci.lines().any(|line| line.starts_with(test)), "{test}");
}
