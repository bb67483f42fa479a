//! The command `check` names each kind of damage to a run, and finds nothing where there is none.

use crate::common;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Checks a run; returns the exit code and the names of the findings that aren't good, with their state.
fn check(run: &Path) -> (i32, Vec<String>, Value) {
    let path = run.to_str().expect("UTF-8");
    let ended = common::run(run, &["check", path, "--json"]);
    let report: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    let findings = report["findings"].as_array().expect("a list").clone();
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("a text").to_owned();
    let bad = findings.iter().filter(|finding| finding["state"] != "good");
    let names = bad.map(|finding| {
        [text(finding, "state"), text(finding, "area"), text(finding, "name")].join(" ")
    });
    (ended.code.expect("an exit code"), names.collect(), report)
}

fn cut(path: &Path, share: u64) {
    let length = fs::metadata(path).expect("there").len();
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(length / share))
        .expect("cut");
}

fn append(path: &Path, text: &str) {
    let mut file = File::options().append(true).open(path).expect("there");
    file.write_all(text.as_bytes()).expect("written");
}

/// Deletes the first line of the log that tells of a step after `step`.
fn forget_a_step(run: &Path, step: u64) {
    let path = run.join("events.jsonl");
    let text = fs::read_to_string(&path).expect("a log");
    let is_it = |line: &&str| {
        let event: Value = serde_json::from_str(line).expect("an event");
        event["event"] == "step" && event["step"].as_u64() > Some(step)
    };
    let lost = text.lines().find(is_it).expect("a step").to_owned();
    fs::write(&path, text.replace(&format!("{lost}\n"), "")).expect("written");
}

type Damage = fn(&Path);

/// What is done to a run, and what is to be found then.
const CASES: [(&str, Damage, &[&str]); 13] = [
    ("nothing", |_| {}, &[]),
    ("a torn end", |run| append(&run.join("events.jsonl"), "{\"time\":"), &["note log end"]),
    ("garbage", |run| append(&run.join("events.jsonl"), "garbage\n"), &["failure log lines"]),
    ("a lost line", |run| forget_a_step(run, 4), &["failure log gaps"]),
    (
        "a lost log",
        |run| fs::remove_file(run.join("events.jsonl")).expect("there"),
        &["failure log events"],
    ),
    (
        "a cut checkpoint",
        |run| cut(&common::checkpoint_at(run, 42), 2),
        &["failure checkpoints damaged"],
    ),
    (
        "a lost checkpoint",
        |run| fs::remove_file(common::checkpoint_at(run, 42)).expect("there"),
        &["failure checkpoints missing"],
    ),
    (
        "a renamed checkpoint",
        |run| {
            let to = run.join("checkpoints/step-00000099.safetensors");
            fs::copy(common::checkpoint_at(run, 42), to).expect("copied");
        },
        &["failure checkpoints name"],
    ),
    (
        "a cut picture",
        |run| cut(&run.join("previews/step-00000042.png"), 2),
        &["failure previews picture"],
    ),
    (
        "a picture elsewhere",
        |run| {
            append(
                &run.join("events.jsonl"),
                "{\"time\":1,\"event\":\"log\",\"level\":\"info\",\"message\":\"x\"}\n\
             {\"time\":1,\"event\":\"started\",\"step\":42,\"total_steps\":42,\"steps_per_epoch\":4,\"epochs\":4,\
             \"warmup_steps\":0,\"parameters\":1,\"device\":\"\",\"data\":\"\",\"resumed\":true,\"version\":\"\"}\n\
             {\"time\":1,\"event\":\"preview\",\"step\":42,\"path\":\"../../x.png\",\"image\":8,\"scale\":1,\"psnr\":[]}\n",
            );
        },
        &["failure previews picture"],
    ),
    ("a bad configuration", |run| append(&run.join("config.toml"), "]"), &["failure run config"]),
    (
        "files set aside",
        |run| {
            let to = run.join("checkpoints/step-00000008.safetensors.abandoned");
            fs::copy(common::checkpoint_at(run, 42), to).expect("copied");
            fs::write(run.join("checkpoints/.step-00000042.png.tmp"), "x").expect("written");
        },
        &["note left over temporary", "note left over set aside"],
    ),
    (
        "a socket",
        |run| drop(UnixListener::bind(run.join("control.sock")).expect("bound")),
        &["note left over socket"],
    ),
];

#[test]
fn each_kind_of_damage_is_named_and_nothing_else() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let made = ["--no-ui", "--run-dir", "run", "--set", "train.log_every=1"];
    common::run_tiny(temp.path(), &made).expect(0, "a run");
    for (name, damage, expected) in CASES {
        let run = temp.path().join(name.replace(' ', "-"));
        common::copy(&temp.path().join("run"), &run);
        damage(&run);
        let before = common::names(&run);
        let (code, found, report) = check(&run);
        assert_eq!(found, expected, "{name}: {report:#}");
        let sound = !expected.iter().any(|finding| finding.starts_with("failure"));
        assert_eq!((code, report["sound"].as_bool()), (i32::from(!sound), Some(sound)), "{name}");
        assert_eq!(common::names(&run), before, "{name}: nothing is changed");
    }
}

#[test]
fn people_are_told_the_verdict_and_how_to_go_on() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    common::run_tiny(temp.path(), &["--no-ui", "--run-dir", "run"]).expect(0, "a run");
    let sound = common::run(temp.path(), &["check", "run"]).expect(0, "a sound run");
    let last = sound.stdout.lines().last().expect("a verdict");
    assert!(last.starts_with("sound: ") && last.contains("--resume run"), "{last}");
    fs::write(temp.path().join("run/events.jsonl"), "\u{1b}[2J\n").expect("written");
    let unsound = common::run(temp.path(), &["check", "run"]).expect(1, "a broken log");
    assert!(unsound.stdout.contains("not sound: ") && !unsound.stdout.contains('\u{1b}'));
    assert!(unsound.stderr.contains("not sound"), "{}", unsound.stderr);
    common::run(temp.path(), &["check", "nowhere"]).expect(2, "no run");
    common::run(temp.path(), &["check", "."]).expect(2, "no run either");
}
