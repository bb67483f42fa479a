//! What the program reports about itself and its environment: version, doctor, completions, manual pages.

#[cfg(feature = "tui")]
use crate::common::pty;
use crate::common::{self, run};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

/// Returns the commands that the help lists.
fn commands() -> Vec<String> {
    let help = run(Path::new("."), &["--help"]).expect(0, "help").stdout;
    let list = help.split("Commands:\n").nth(1).expect("a list of commands");
    let names: Vec<String> = list
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 8 && names.contains(&"attach".to_owned()), "{names:?}");
    names
}

#[test]
fn the_version_names_commit_and_features() {
    let long = run(Path::new("."), &["--version"]).expect(0, "version").stdout;
    let lines: Vec<_> = long.lines().collect();
    let [release, commit, features] = lines[..] else { panic!("{long}") };
    assert_eq!(release, concat!("simmim-tui ", env!("CARGO_PKG_VERSION")));
    let commit = commit.strip_prefix("commit: ").expect("a commit");
    let name = commit.strip_suffix("-modified").unwrap_or(commit);
    let known = name.len() >= 9 && name.chars().all(|c| c.is_ascii_hexdigit());
    assert!(known || commit == "unknown" || std::env::var("SIMMIM_TUI_COMMIT").is_ok(), "{commit}");
    let features = features.strip_prefix("features: ").expect("features");
    assert_eq!(features.contains("tui"), cfg!(feature = "tui"), "{features}");
    let short = run(Path::new("."), &["-V"]).expect(0, "version").stdout;
    assert_eq!(short.trim_end(), release);
}

#[test]
fn a_run_records_the_commit_that_it_was_made_by() {
    let temp = tempdir().expect("a temporary folder");
    common::run_tiny(temp.path(), &["--run-dir", "run", "--no-ui"]).expect(0, "a run");
    let doctor = run(temp.path(), &["doctor", "--json"]).expect(0, "doctor").stdout;
    let doctor: Value = serde_json::from_str(&doctor).expect("one JSON object");
    let started = common::events(&temp.path().join("run"));
    assert_eq!(started[0]["version"], doctor["version"]);
    assert!(doctor["version"].as_str().is_some_and(|version| version.contains('+')), "{doctor}");
}

#[test]
fn doctor_looks_at_everything_and_leaves_no_trace() {
    let temp = tempdir().expect("a temporary folder");
    let report = run(temp.path(), &["doctor", "--json"]).expect(0, "doctor").stdout;
    let report: Value = serde_json::from_str(&report).expect("one JSON object");
    let findings = report["findings"].as_array().expect("findings");
    let find = |name: &str| {
        let found = findings.iter().find(|finding| finding["name"] == name);
        found.unwrap_or_else(|| panic!("nothing about {name}: {report}"))
    };
    for (name, area) in [
        ("cpu", "device"),
        ("vectors", "device"),
        ("cuda", "device"),
        ("choice", "device"),
        ("screen", "terminal"),
        ("space", "disk"),
        ("runs", "disk"),
        ("lock", "disk"),
        ("socket", "disk"),
        ("lists", "disk"),
    ] {
        let finding = find(name);
        assert_eq!(finding["area"], area, "{finding}");
        assert!(finding["found"].as_str().is_some_and(|found| !found.is_empty()), "{finding}");
        if finding["state"] != "good" {
            assert!(finding["why"].as_str().is_some_and(|why| !why.is_empty()), "{finding}");
        }
    }
    // The test has no terminal, and that decides this finding.
    assert_eq!(find("screen")["state"], "note");
    assert_eq!(fs::read_dir(temp.path()).expect("readable").count(), 0);
}

#[test]
fn doctor_fails_where_a_run_would_fail() {
    let temp = tempdir().expect("a temporary folder");
    // Nobody can create a folder there, not even root.
    let ended = run(temp.path(), &["doctor", "--run-dir", "/proc/self/runs"]).expect(1, "doctor");
    assert!(ended.stdout.contains("FAIL  runs"), "{}", ended.stdout);
    assert!(ended.stderr.contains("would make a run fail"), "{}", ended.stderr);
    let arguments = ["--run-dir", "/proc/self/runs/a", "--no-ui"];
    assert_ne!(common::run_tiny(temp.path(), &arguments).code, Some(0));
}

#[cfg(feature = "tui")]
#[test]
fn on_a_terminal_doctor_decides_as_the_screen_does() {
    let temp = tempdir().expect("a temporary folder");
    let cases = [
        (("NO_COLOR", None), "colours   24 bits"),
        (("COLORTERM", None), "colours   256"),
        (("NO_COLOR", Some("1")), "colours   none"),
        (("LC_ALL", Some("C")), "locale    ASCII"),
    ];
    for (env, expected) in cases {
        let mut tty = pty::Tty::start(temp.path(), &["doctor"], (100, 60), &[env]);
        tty.until_shown("can be locked");
        let text = tty.text();
        assert!(text.contains(expected), "{expected}: {text}");
        assert!(text.contains("screen    a run has the screen"), "{text}");
        assert!(text.contains("pictures  half blocks"), "nobody answered: {text}");
        tty.end().expect(0);
    }
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let temp = tempdir().expect("a temporary folder");
    let commands = commands();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(temp.path(), &["completions", shell]).expect(0, shell).stdout;
        for command in commands.iter().filter(|command| *command != "help") {
            assert!(script.contains(command), "{shell}: {command}");
        }
        if shell == "bash" {
            let file = temp.path().join("completions.bash");
            fs::write(&file, script).expect("writable");
            let status = Command::new("bash").arg("-n").arg(&file).status();
            assert!(status.is_ok_and(|status| status.success()), "bash reads its completions");
        }
    }
    let page = run(temp.path(), &["man"]).expect(0, "man").stdout;
    assert!(page.contains(".TH simmim-tui 1"), "{page}");
    run(temp.path(), &["man", "--dir", "man"]).expect(0, "man");
    for command in commands.iter().filter(|command| *command != "help") {
        let path = temp.path().join(format!("man/simmim-tui-{command}.1"));
        let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{command}: {error}"));
        assert!(page.contains(".SH"), "{page}");
    }
}
