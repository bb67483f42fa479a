//! Each signal in each phase of a run: the run ends as documented, and after a resume it computes what it would have
//! computed without the signal.

use crate::common::{self, Reader, Running};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Settings that make each phase long enough to be hit by a signal: a slower model, and half of the photos for
/// validation.
const SLOW: [&str; 9] = [
    "model.image_size=64",
    "model.embed_dim=96",
    "model.depth=3",
    "model.heads=3",
    "mask.unit=16",
    "train.batch_size=16",
    "data.val_fraction=0.5",
    "train.log_every=1",
    "train.val_every=1",
];

fn slow(run: &str) -> Vec<&str> {
    let sets = SLOW.into_iter().flat_map(|set| ["--set", set]);
    common::tiny(&sets.chain(["--run-dir", run]).collect::<Vec<_>>())
}

/// The moment of a run at which a signal arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    FirstValidation,
    FirstStep,
    Running,
    LaterValidation,
    Saving,
    Paused,
}

const MOMENTS: [Moment; 6] = [
    Moment::FirstValidation,
    Moment::FirstStep,
    Moment::Running,
    Moment::LaterValidation,
    Moment::Saving,
    Moment::Paused,
];

fn send(process: u32, signal: Signal) {
    let process = Pid::from_raw(process as i32).expect("a process");
    kill_process(process, signal).expect("it is running");
}

/// Waits for a moment of the run. It polls with hardly a pause because some moments are short.
fn wait_for(moment: Moment, run: &Path, process: u32) {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let log = fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
        let phase = |name: &str, times: usize| {
            log.matches(&format!("\"phase\":\"{name}\"")).count() >= times
        };
        let there = match moment {
            Moment::FirstValidation => phase("evaluating", 1),
            Moment::FirstStep => phase("compiling", 1),
            Moment::Running => log.contains("\"step\":2,"),
            Moment::LaterValidation => phase("evaluating", 2),
            Moment::Saving => phase("saving", 1),
            Moment::Paused => phase("paused", 1),
        };
        if there {
            return;
        }
        assert!(Instant::now() < end, "process {process} never came to {moment:?}: {log}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Starts a run in `folder`, sends it signals at a moment, and returns how it ended.
fn signalled(folder: &Path, moment: Moment, signals: &[Signal]) -> common::Ended {
    let mut arguments = slow("run");
    if moment == Moment::Saving {
        arguments.extend(["--set", "checkpoint.every_steps=2"]);
    }
    let process = Running::start(folder, &arguments, Reader::All);
    let run = folder.join("run");
    if moment == Moment::Paused {
        common::until_step(&run, "step", 1);
        let ended = common::run(folder, &["ctl", "run", "pause"]);
        ended.expect(0, "the pause");
    }
    wait_for(moment, &run, process.id());
    for &signal in signals {
        send(process.id(), signal);
    }
    if moment == Moment::Paused && signals == [Signal::USR2] {
        common::until("it saves in the pause", || {
            common::events_of(&run, "obeyed").iter().any(|event| event["by"] == "SIGUSR2")
        });
        common::run(folder, &["ctl", "run", "resume"]).expect(0, "the end of the pause");
    }
    process.end()
}

#[test]
fn each_signal_in_each_phase_does_what_the_table_says() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    common::run(temp.path(), &slow("whole")).expect(0, "the undisturbed run");
    let whole = common::newest_state(&temp.path().join("whole"));
    let ends = ("stop", "stopped");
    let save = ("checkpoint", "completed");
    let table = [
        (Signal::INT, "SIGINT", ends),
        (Signal::TERM, "SIGTERM", ends),
        (Signal::USR1, "SIGUSR1", ends),
        (Signal::USR2, "SIGUSR2", save),
        (Signal::HUP, "hangup", save),
    ];
    for (signal, by, (command, reason)) in table {
        for moment in MOMENTS {
            if by == "hangup" && moment == Moment::Paused {
                continue; // The run stays paused; the last test of this file covers that.
            }
            let what = format!("{by} at {moment:?}");
            let folder = temp.path().join(&what);
            fs::create_dir(&folder).expect("writable");
            let run = folder.join("run");
            signalled(&folder, moment, &[signal]).expect(0, &what);
            let obeyed = common::events_of(&run, "obeyed");
            let told = obeyed.iter().find(|event| event["by"] == by);
            let told = told.unwrap_or_else(|| panic!("{what}: the log tells of it: {obeyed:?}"));
            assert_eq!(told["command"], command, "{what}");
            let finished = common::events_of(&run, "finished").remove(0);
            // A signal that arrives while the last step is being saved finds nothing to stop.
            if finished["step"].as_u64() < Some(whole.updates) {
                assert_eq!(finished["reason"], reason, "{what}");
                let step = finished["step"].as_u64().expect("a number");
                assert!(common::checkpoint_at(&run, step).exists(), "{what}: saved at {step}");
                common::run(&folder, &["--resume", "run"]).expect(0, &what);
            }
            common::assert_same_state(&common::newest_state(&run), &whole, &what);
        }
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once_and_nothing_saved_is_lost() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    common::run(temp.path(), &slow("whole")).expect(0, "the undisturbed run");
    let whole = common::newest_state(&temp.path().join("whole"));
    for moment in MOMENTS {
        let what = format!("twice at {moment:?}");
        let folder = temp.path().join(&what);
        fs::create_dir(&folder).expect("writable");
        let ended = signalled(&folder, moment, &[Signal::TERM, Signal::INT]);
        // The first signal may have ended the run before the second one arrived.
        assert!(matches!(ended.code, Some(0 | 130)), "{what}: {ended:?}");
        common::run(&folder, &["--resume", "run"]).expect(0, &what);
        common::assert_same_state(&common::newest_state(&folder.join("run")), &whole, &what);
    }
}

#[test]
fn a_hangup_in_a_pause_saves_and_the_pause_goes_on() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let run = folder.join("run");
    let process = Running::start(folder, &slow("run"), Reader::All);
    common::until_step(&run, "step", 1);
    common::run(folder, &["ctl", "run", "pause"]).expect(0, "the pause");
    send(process.id(), Signal::HUP);
    common::until("it is saved", || {
        common::events_of(&run, "obeyed").iter().any(|event| event["by"] == "hangup")
    });
    let phases = common::events_of(&run, "phase");
    assert_eq!(phases.last().expect("some")["phase"], "paused");
    common::run(folder, &["ctl", "run", "stop"]).expect(0, "the end");
    process.end().expect(0, "stopped");
    common::assert_finished(&run, "stopped");
}
