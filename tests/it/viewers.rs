//! Viewers come and go while a real run trains, and the run is not affected.

use crate::common::line::{Line, Style};
use crate::common::{self, Reader, Running};
use simmim_tui::control::Link;
use simmim_tui::control::follow::{Follower, News};
use simmim_tui::event::{Command, Event};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const LONG: [&str; 6] =
    ["--set", "train.epochs=400", "--set", "train.val_every=200", "--set", "train.log_every=10"];

fn arguments(run: &str) -> Vec<&str> {
    common::tiny(&[&LONG[..], &["--run-dir", run]].concat())
}

/// Follows a run and waits until its process has accepted the connection.
fn attach(run: &Path) -> Follower {
    let mut follower = Follower::open(run, "a viewer", false).expect("a run");
    common::until("the viewer is connected", || {
        loop {
            match follower.poll() {
                News::Link(Link::Steerable) => return true,
                News::Nothing => return false,
                News::Event(_) | News::Link(_) | News::Ended(_) => {}
            }
        }
    });
    follower
}

/// Follows a run until its end or until `stop` is set. Returns the steps of all reports it received.
fn watch(run: &Path, stop: &AtomicBool) -> Vec<u64> {
    let mut follower = Follower::open(run, "a watcher", true).expect("a run");
    let mut steps = Vec::new();
    loop {
        match follower.poll() {
            News::Event(stamped) => {
                if let Event::Step(report) = stamped.event {
                    steps.push(report.step);
                }
            }
            News::Link(Link::Over) => return steps,
            News::Link(_) | News::Ended(_) => {}
            News::Nothing if stop.load(Ordering::Relaxed) => return steps,
            News::Nothing => follower.wait(Duration::from_millis(50)),
        }
    }
}

fn count(process: u32, what: &str) -> usize {
    fs::read_dir(format!("/proc/{process}/{what}")).expect("it is running").count()
}

#[test]
fn a_hundred_visits_and_eight_viewers_leave_no_trace_in_the_run() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    common::run(temp.path(), &arguments("whole")).expect(0, "the undisturbed run");
    let whole = common::newest_state(&temp.path().join("whole"));
    let run = temp.path().join("run");
    // The last visitor pauses the run, so that it does not end before the visits are over, however slow they are.
    let endless = common::tiny(&[&LONG[..], &["--run-dir", "run"]].concat());
    let process = Running::start(temp.path(), &endless, Reader::All);
    common::until_step(&run, "step", 100);
    let before = (count(process.id(), "fd"), count(process.id(), "task"));
    let stop = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> = (0..8)
        .map(|_| {
            let (run, stop) = (run.clone(), Arc::clone(&stop));
            thread::spawn(move || watch(&run, &stop))
        })
        .collect();
    for visit in 0..100 {
        let mut follower = attach(&run);
        if visit % 10 == 0 {
            // Some visitors give orders. Pauses and checkpoints must not change what the run computes.
            for command in [Command::Pause, Command::Checkpoint, Command::Resume] {
                assert!(follower.send(command), "visit {visit}: {command:?} is taken");
            }
        }
    }
    let mut last = attach(&run);
    assert!(last.send(Command::Pause));
    common::until("it is paused", || {
        common::events_of(&run, "phase").last().is_some_and(|event| event["phase"] == "paused")
    });
    common::until("the visitors are forgotten", || {
        // Eight watchers and the last visitor are still connected.
        count(process.id(), "fd") <= before.0 + 9
    });
    assert_eq!(count(process.id(), "task"), before.1, "as many threads as before");
    assert!(last.send(Command::Resume));
    drop(last);
    process.end().expect(0, "the run");
    common::assert_finished(&run, "completed");
    stop.store(true, Ordering::Relaxed);
    let told: Vec<u64> = common::events_of(&run, "step")
        .iter()
        .map(|event| event["step"].as_u64().expect("a number"))
        .collect();
    for watcher in watchers {
        assert_eq!(watcher.join().expect("it doesn't panic"), told, "every step, each once");
    }
    common::assert_same_state(&common::newest_state(&run), &whole, "the visited run");
}

#[test]
fn screens_attach_steer_and_leave() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let run = temp.path().join("run");
    let endless = common::tiny(&[&LONG[..], &common::ENDLESS, &["--run-dir", "run"]].concat());
    let process = Running::start(temp.path(), &endless, Reader::All);
    common::until_step(&run, "step", 100);
    for visit in 0..3 {
        let mut screen = Line::start(temp.path(), &["attach", "run"], Style::InteractiveJob, true);
        common::until("the screen is there", || screen.text().contains("running"));
        screen.write(b"p");
        common::until("it pauses", || screen.text().contains("PAUSED"));
        screen.write(b"p");
        common::until("it goes on", || common::events_of(&run, "obeyed").len() == 2 * visit + 2);
        screen.write(b"q");
        common::until("the box is there", || screen.text().contains("leave?"));
        screen.write(b"d");
        common::until("the shell is back", || screen.text().contains("back to it"));
        screen.write(b"exit\n");
        screen.child().wait().expect("the shell ends");
    }
    // A viewer ends when its line drops, and the run is not affected.
    let mut screen = Line::start(temp.path(), &["attach", "run"], Style::SessionLeader, true);
    common::until("the screen is there", || screen.text().contains("running"));
    screen.hang_up();
    let status = screen.child().wait().expect("the viewer ends");
    assert_eq!(status.code(), Some(0), "the end of the line is no error of the viewer");
    let mut ctl = common::run(temp.path(), &["ctl", "run", "stop"]);
    ctl = ctl.expect(0, "the stop");
    assert!(ctl.stdout.contains("stopped and saved at step"), "{ctl:?}");
    process.end().expect(0, "the run");
    common::assert_finished(&run, "stopped");
    // The viewer now replays an ended run, which only the quit key leaves.
    let mut screen = Line::start(temp.path(), &["attach", "run"], Style::SessionLeader, true);
    common::until("the screen is there", || screen.text().contains("stopped"));
    screen.write(b"xg");
    thread::sleep(Duration::from_millis(200));
    assert!(screen.child().try_wait().expect("it can be asked").is_none(), "it stays");
    screen.write(b"q");
    assert_eq!(screen.child().wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_killed_run_is_shown_as_dead() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let run = temp.path().join("run");
    let endless = common::tiny(&[&LONG[..], &common::ENDLESS, &["--run-dir", "run"]].concat());
    let process = Running::start(temp.path(), &endless, Reader::All);
    common::until_step(&run, "step", 100);
    process.kill();
    let mut screen = Line::start(temp.path(), &["attach", "run"], Style::SessionLeader, true);
    common::until("it says so", || {
        let text = screen.text();
        text.contains("DEAD") && text.contains("ended without a word")
    });
    screen.write(b"q");
    assert_eq!(screen.child().wait().expect("it ends").code(), Some(0));
    let runs = common::run(temp.path(), &["runs", "."]).expect(0, "the list");
    assert!(runs.stdout.contains("dead"), "{runs:?}");
    let ctl = common::run(temp.path(), &["ctl", "run", "pause"]).expect(1, "an order");
    assert!(ctl.stderr.contains("no process trains this run"), "{ctl:?}");
}

#[test]
fn attach_without_a_terminal_or_a_run_says_what_to_do() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let ended = common::run(temp.path(), &["attach", "nowhere"]).expect(2, "no run");
    assert!(ended.stderr.contains("no run at nowhere"), "{ended:?}");
    common::run_tiny(temp.path(), &["--run-dir", "run"]).expect(0, "a run");
    let ended = common::run(temp.path(), &["attach", "run"]).expect(2, "no terminal");
    assert!(ended.stderr.contains("ctl run status"), "{ended:?}");
}
