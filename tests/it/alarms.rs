//! Alarms and failures of a run reach the log, the screen and the user's command, and finished work is kept.

use crate::common::{self, Reader, Running};
use std::fs;

fn hot<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    let sets: Vec<&str> = common::HOT.into_iter().flat_map(|set| ["--set", set]).collect();
    common::tiny(&[&sets[..], &["--run-dir", "run"], extra].concat())
}

#[test]
fn the_users_command_hears_of_alarms_and_of_the_end() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let command = "echo \"$SIMMIM_EVENT/$SIMMIM_ALARM/$SIMMIM_STEP/$SIMMIM_MESSAGE\" >> told; cd /; \
                   echo in notify.log; test -d \"$SIMMIM_RUN\" || echo missing";
    let ended = common::run(temp.path(), &hot(&["--notify", command])).expect(3, "no number");
    assert!(ended.stderr.contains("ALARM: not a number at step "), "{ended:?}");
    let told = fs::read_to_string(temp.path().join("told")).expect("it was called");
    let alarm = told.lines().find(|line| line.starts_with("alarm/not_finite/"));
    let alarm = alarm.unwrap_or_else(|| panic!("the alarm: {told}"));
    assert!(alarm.contains("the update was left out"), "{alarm}");
    let last = told.lines().last().expect("some");
    assert!(last.starts_with("failed//") && last.contains("not a number"), "the end: {told}");
    let log = fs::read_to_string(temp.path().join("run/notify.log")).expect("what it printed");
    assert!(log.contains("in notify.log") && !log.contains("missing"), "{log}");
    assert!(!ended.stdout.contains("in notify.log"), "and nowhere else");

    let extra = ["--run-dir", "good", "--notify", "echo $SIMMIM_EVENT $SIMMIM_STEP > good.txt"];
    common::run_tiny(temp.path(), &extra).expect(0, "a good run");
    let told = fs::read_to_string(temp.path().join("good.txt")).expect("it was called");
    assert_eq!(told.trim(), "finished 42");
}

#[test]
fn a_command_that_hangs_or_fails_holds_up_nothing() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    // The command that shouts stops writing at some point: nobody ends it once its run is killed.
    let shouts = "yes | head -c 10000000; sleep 20";
    for (name, command) in [("fails", "exit 7"), ("missing", "/nowhere/at/all"), ("shouts", shouts)]
    {
        let extra = ["--run-dir", name, "--notify", command];
        let process = Running::start(temp.path(), &common::tiny(&extra), Reader::All);
        if name == "shouts" {
            common::until("the run is over", || {
                !common::events_of(&temp.path().join(name), "finished").is_empty()
            });
            continue; // The program waits for this command for a while and then gives it up.
        }
        process.end().expect(0, name);
    }
}

#[test]
fn a_policy_on_the_command_line_decides_what_follows() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let ended =
        common::run(temp.path(), &hot(&["--on-nan", "sometimes"])).expect(2, "a wrong word");
    assert!(ended.stderr.contains("on_nan"), "{ended:?}");
    let process = Running::start(temp.path(), &hot(&["--on-nan", "pause"]), Reader::All);
    let run = temp.path().join("run");
    common::until("it pauses", || {
        common::events_of(&run, "phase").last().is_some_and(|event| event["phase"] == "paused")
    });
    let status = common::run(temp.path(), &["ctl", "run", "status"]).expect(0, "the status");
    assert!(
        status.stdout.contains("paused") && status.stdout.contains("not a number"),
        "{status:?}"
    );
    common::run(temp.path(), &["ctl", "run", "stop"]).expect(0, "the stop");
    process.end().expect(0, "stopped by hand");
    common::assert_finished(&run, "stopped");
}

#[test]
fn data_that_vanishes_ends_the_run_with_all_that_was_done_saved() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    common::pictures(&folder.join("data"), 24);
    let settings = [
        "--data",
        "data",
        "--set",
        "data.cache_mib=0",
        "--set",
        "train.epochs=2000",
        "--set",
        "train.val_every=1000000",
        "--set",
        "train.log_every=10",
    ];
    let arguments = common::tiny(&[&settings[..], &["--run-dir", "run"]].concat());
    let process = Running::start(folder, &arguments, Reader::All);
    let run = folder.join("run");
    common::until_step(&run, "step", 30);
    fs::rename(folder.join("data"), folder.join("gone")).expect("the folder can be moved");
    let ended = process.end().expect(1, "nothing can be read any more");
    assert!(ended.stderr.lines().last().is_some_and(|line| line.contains("data")), "{ended:?}");
    let saved = common::newest_state(&run).updates;
    assert!(saved >= 30, "saved at step {saved}");
    fs::rename(folder.join("gone"), folder.join("data")).expect("and back");
    let end = format!("train.epochs={}", saved / 2 + 10);
    common::run(folder, &["--resume", "run", "--set", &end]).expect(0, "it goes on");
    common::assert_finished(&run, "completed");
    let steps = common::events_of(&run, "started").last().expect("two")["step"].clone();
    assert_eq!(steps.as_u64(), Some(saved), "from just there");
}
