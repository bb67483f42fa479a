//! A run loses no step when its terminal line drops, when the user detaches, or when the terminal stalls.

use crate::common;
use crate::common::line::{Line, STYLES, Style};
use rustix::process::Signal;
use simmim_tui::engine::EngineState;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Settings for a run that logs little and is long enough to be interrupted in the middle.
const LONG: [&str; 10] = [
    "--set",
    "train.epochs=150",
    "--set",
    "train.val_every=75",
    "--set",
    "train.log_every=50",
    "--set",
    "checkpoint.every_epochs=0",
    // A shell may send SIGHUP a second time, and each signal saves a checkpoint.
    "--set",
    "checkpoint.keep=100",
];
const STEPS: u64 = 150 * common::STEPS_PER_EPOCH;

fn arguments<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    common::tiny(&[&LONG[..], &["--run-dir", "run"], extra].concat())
}

/// Trains an undisturbed run and returns its last state.
fn undisturbed(folder: &Path) -> EngineState {
    let whole = common::tiny(&[&LONG[..], &["--run-dir", "whole"]].concat());
    common::run(folder, &whole).expect(0, "the undisturbed run");
    common::newest_state(&folder.join("whole"))
}

/// Returns the id of the process that writes a run.
fn writer_of(run: &Path) -> u32 {
    let lock = fs::read_to_string(run.join("lock")).expect("the run is locked");
    let number: String =
        lock.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    number.parse().expect("its number")
}

fn until_finished(run: &Path) {
    common::until("the run ends", || !common::events_of(run, "finished").is_empty());
}

/// Returns whether a process is running. A zombie, which only waits for its exit code to be collected, is not.
fn lives(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn until_gone(process: u32) {
    common::until("the process ends", || !lives(process));
}

/// Returns the CPU time, in ticks, of the threads with this name, or of the main thread if the name is empty.
fn ticks(process: u32, name: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| {
        let main = task.file_name().to_str() == Some(&process.to_string());
        let text = fs::read_to_string(task.path().join("stat")).ok()?;
        let (own, rest) = text.rsplit_once(')')?;
        let wanted = if name.is_empty() { main } else { own.ends_with(name) };
        let fields: Vec<u64> = rest.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        wanted.then(|| fields[12] + fields[13])
    });
    stats.sum()
}

/// Fails unless the screen's thread uses next to no CPU once the terminal is left, while the trainer goes on.
fn assert_screen_is_idle(process: u32, run: &Path, what: &str) {
    common::until("the terminal is left", || run.join("output.log").exists());
    let newest =
        || common::events_of(run, "step").last().map_or(0, |e| e["step"].as_u64().unwrap_or(0));
    let (step, screen, trainer) = (newest(), ticks(process, ""), ticks(process, "trainer"));
    common::until("a good part of the run has passed", || newest() > step + 800 || !lives(process));
    let (screen, trainer) = (ticks(process, "") - screen, ticks(process, "trainer") - trainer);
    assert!(screen <= 2 + trainer / 10, "{what}: the screen used {screen} of {trainer} ticks");
}

/// Fails unless the hangup was noticed in the middle of the run and a checkpoint was saved at once.
fn assert_saved_at(run: &Path, by: &str, what: &str) {
    let events = common::events(run);
    let noticed = events.iter().position(|event| event["event"] == "obeyed" && event["by"] == by);
    let noticed = noticed.unwrap_or_else(|| panic!("{what}: the log says {by}"));
    assert_eq!(events[noticed]["command"], "checkpoint", "{what}");
    let saved = events[..noticed].iter().rfind(|event| event["event"] == "checkpoint_saved");
    let step = saved.expect("a checkpoint is saved at once")["step"].as_u64().expect("a number");
    assert!(step > 0 && step < STEPS, "{what}: saved at step {step}, in the middle");
    assert!(common::checkpoint_at(run, step).exists(), "{what}: the checkpoint is there");
}

#[test]
fn a_dropped_line_costs_no_step_however_the_program_was_started() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let expected = undisturbed(temp.path());
    for mode in [&[][..], &["--no-ui"]] {
        for style in STYLES {
            let what = format!("{style:?} {mode:?}");
            let folder = temp.path().join(format!("{style:?}{}", mode.len()));
            fs::create_dir(&folder).expect("writable");
            let run = folder.join("run");
            let mut line = Line::start(&folder, &arguments(mode), style, true);
            common::until_step(&run, "step", 300);
            let process = writer_of(&run);
            line.hang_up();
            assert_screen_is_idle(process, &run, &what);
            until_finished(&run);
            until_gone(process);
            common::assert_finished(&run, "completed");
            assert_saved_at(&run, "hangup", &what);
            common::assert_same_state(&common::newest_state(&run), &expected, &what);
            let output = fs::read_to_string(run.join("output.log")).expect("lines go on there");
            assert!(output.contains("finished at") && !output.contains('\x1b'), "{what}: {output}");
            assert!(!output.contains("panicked"), "{what}: {output}");
        }
    }
}

#[test]
fn a_hangup_can_end_the_run_instead() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    for (number, mode) in [&[][..], &["--no-ui"]].into_iter().enumerate() {
        let folder = temp.path().join(number.to_string());
        fs::create_dir(&folder).expect("writable");
        let run = folder.join("run");
        let extra = [mode, &["--on-hangup", "stop"], &common::ENDLESS].concat();
        let mut line = Line::start(&folder, &arguments(&extra), Style::ChildOfShell, true);
        common::until_step(&run, "step", 300);
        let process = writer_of(&run);
        line.hang_up();
        until_gone(process);
        common::assert_finished(&run, "stopped");
        let step = common::events_of(&run, "finished")[0]["step"].as_u64().expect("a number");
        assert!(common::checkpoint_at(&run, step).exists());
    }
}

#[test]
fn detaching_gives_the_shell_back_and_the_run_goes_on() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let expected = undisturbed(temp.path());
    let folder = temp.path();
    let run = folder.join("run");
    let mut line = Line::start(folder, &arguments(&[]), Style::InteractiveJob, true);
    common::until_step(&run, "step", 300);
    let process = writer_of(&run);
    line.write(b"q");
    common::until("the box is there", || line.text().contains("leave?"));
    line.write(b"d");
    common::until("it says how to come back", || line.text().contains("simmim-tui attach run"));
    line.write(b"echo the prompt is $((6 * 7))\n");
    common::until("the shell answers", || line.text().contains("the prompt is 42"));
    line.write(b"exit\n");
    line.child().wait().expect("the shell ends");
    line.hang_up();
    assert_screen_is_idle(process, &run, "detached");
    until_finished(&run);
    until_gone(process);
    assert_saved_at(&run, "detaching", "detached");
    let hangups = common::events(&run).into_iter().filter(|event| event["by"] == "hangup");
    assert_eq!(hangups.count(), 0, "the end of the shell is no hangup any more");
    common::assert_same_state(&common::newest_state(&run), &expected, "detached");
}

#[test]
fn a_run_can_start_in_the_background() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let expected = undisturbed(temp.path());
    let run = temp.path().join("run");
    let ended = common::run(temp.path(), &arguments(&["--detach"])).expect(0, "the start");
    assert!(ended.stdout.contains("back to it: simmim-tui attach run"), "{ended:?}");
    let process = writer_of(&run);
    assert!(lives(process), "it goes on");
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it is running");
    let session = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(4));
    assert_eq!(session, Some(process.to_string().as_str()), "in a session of its own");
    until_finished(&run);
    until_gone(process);
    common::assert_same_state(&common::newest_state(&run), &expected, "in the background");
}

#[test]
fn a_start_in_the_background_that_fails_says_why_with_its_code() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let wrong = arguments(&["--detach", "--set", "train.epochs=0"]);
    let ended = common::run(temp.path(), &wrong).expect(2, "a wrong setting");
    assert!(ended.stderr.contains("train.epochs is 0"), "{ended:?}");
    assert!(!temp.path().join("run").exists());
}

#[test]
fn a_terminal_that_takes_nothing_holds_up_neither_the_run_nor_its_end() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    for (number, mode) in [&[][..], &["--no-ui"]].into_iter().enumerate() {
        let folder = temp.path().join(number.to_string());
        fs::create_dir(&folder).expect("writable");
        let run = folder.join("run");
        // Without a screen, one line for each step soon fills the terminal's buffer.
        let extra = [mode, &common::ENDLESS, &["--set", "train.log_every=1"]].concat();
        let mut line = Line::start(&folder, &arguments(&extra), Style::SessionLeader, false);
        common::until_step(&run, "step", 3000);
        let process = writer_of(&run);
        rustix::process::kill_process(pid(process), Signal::TERM).expect("it is running");
        until_gone(process);
        common::assert_finished(&run, "stopped");
        let code = line.child().wait().expect("it ends").code();
        assert_eq!(code, Some(0), "{mode:?}");
    }
}

#[test]
fn a_killed_launcher_is_a_hangup() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let run = temp.path().join("run");
    let mut line = Line::start(temp.path(), &arguments(&[]), Style::SessionLeader, true);
    common::until_step(&run, "step", 300);
    let process = writer_of(&run);
    line.child().kill().expect("it is running");
    line.child().wait().expect("it ends");
    thread::sleep(Duration::from_millis(10));
    until_finished(&run);
    until_gone(process);
    assert_saved_at(&run, "hangup", "without a launcher");
}

/// Starts an endless run at a shell prompt; returns its terminal line, run directory and process.
fn at_a_prompt(folder: &Path) -> (Line, PathBuf, u32) {
    let run = folder.join("run");
    let endless = arguments(&common::ENDLESS);
    let line = Line::start(folder, &endless, Style::InteractiveJob, true);
    common::until_step(&run, "step", 300);
    let process = writer_of(&run);
    (line, run, process)
}

fn pid(process: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(process as i32).expect("a process")
}

#[test]
fn a_signal_to_the_whole_group_counts_once() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    for signal in [Signal::TERM, Signal::INT, Signal::USR1] {
        let folder = temp.path().join(format!("{signal:?}"));
        fs::create_dir(&folder).expect("writable");
        let run = folder.join("run");
        let endless = [&common::ENDLESS[..], &["--set", "train.batch_size=64"]].concat();
        let mut line = Line::start(&folder, &arguments(&endless), Style::SessionLeader, true);
        common::until_step(&run, "step", 50);
        let group = pid(line.child().id());
        rustix::process::kill_process_group(group, signal).expect("both are running");
        assert_eq!(line.child().wait().expect("it ends").code(), Some(0), "{signal:?}");
        common::assert_finished(&run, "stopped");
        let step = common::events_of(&run, "finished")[0]["step"].as_u64().expect("a number");
        assert!(common::checkpoint_at(&run, step).exists(), "{signal:?}: saved at {step}");
    }
}

#[test]
fn a_sighup_on_a_living_terminal_gives_it_back_and_the_run_goes_on() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (line, run, process) = at_a_prompt(temp.path());
    rustix::process::kill_process(pid(process), Signal::HUP).expect("it is running");
    common::until("the screen is left", || line.text().contains("\x1b[?1049l"));
    line.write(b"echo the prompt is $((6 * 7))\n");
    common::until("the shell answers", || line.text().contains("the prompt is 42"));
    assert!(lives(process), "it goes on");
    // A second SIGHUP finds no terminal to give back, so it saves a checkpoint.
    rustix::process::kill_process(pid(process), Signal::HUP).expect("it is running");
    common::until("it saves", || {
        common::events_of(&run, "obeyed").iter().any(|event| event["by"] == "SIGHUP")
    });
    common::run(temp.path(), &["ctl", "run", "stop"]).expect(0, "the end");
    until_gone(process);
}

#[test]
fn a_stopped_process_comes_back_with_its_screen() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (line, run, process) = at_a_prompt(temp.path());
    let group = rustix::process::getpgid(Some(pid(process))).expect("it is running");
    rustix::process::kill_process_group(group, Signal::STOP).expect("both are running");
    common::until("the shell has the terminal", || line.text().contains("Stopped"));
    let entered = line.text().matches("\x1b[?1049h").count();
    line.write(b"fg\n");
    common::until("the screen is there again", || {
        line.text().matches("\x1b[?1049h").count() > entered
    });
    line.write(b"q");
    common::until("keys are heard", || line.text().contains("leave?"));
    line.write(b"s");
    until_finished(&run);
    common::until("a key leaves the finished run", || {
        line.write(b"q");
        thread::sleep(Duration::from_millis(50));
        !lives(process)
    });
}

#[test]
fn a_start_in_the_background_that_fails_late_is_told_too() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let run = temp.path().join("run");
    fs::create_dir(&run).expect("writable");
    std::os::unix::fs::symlink("/nowhere/at/all", run.join("events.jsonl")).expect("writable");
    let extra = ["--detach", "--run-dir", "run", "--notify", "echo $SIMMIM_EVENT >> told"];
    let ended = common::run_tiny(temp.path(), &extra).expect(1, "there can be no log");
    assert!(ended.stderr.contains("cannot write run/events.jsonl"), "{ended:?}");
    assert!(!ended.stdout.contains("goes on in the background"), "{ended:?}");
    let told = fs::read_to_string(temp.path().join("told")).expect("the command was called");
    assert_eq!(told.trim(), "failed");
}
