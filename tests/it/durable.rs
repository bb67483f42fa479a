//! A disk that fails: every write that matters is tried again and costs no step, the log is as durable as the weights,
//! and files and folders that go away while a run goes on are noticed.

use crate::common::fault::Fault;
use crate::common::{self, ENDLESS, Ended, Reader, Running};
use rustix::io::Errno;
use serde_json::Value;
use simmim_tui::engine::EngineState;
use simmim_tui::weights::checkpoint;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// A run of 42 steps with a checkpoint after each 14.
fn arguments<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    let often = ["--set", "train.log_every=7", "--set", "checkpoint.every_steps=14", "--no-ui"];
    common::tiny(&[&often[..], extra].concat())
}

/// The state at the end of that run where no disk fails, and its log.
fn unbroken() -> &'static (EngineState, Vec<Value>) {
    static UNBROKEN: OnceLock<(EngineState, Vec<Value>)> = OnceLock::new();
    UNBROKEN.get_or_init(|| {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = temp.path().join("run");
        common::run(temp.path(), &arguments(&["--run-dir", "run"])).expect(0, "the unbroken run");
        (common::newest_state(&run), common::events(&run))
    })
}

/// Fails unless a run is whole: its end is logged last, each line of its log is an event, and its weights are those of a
/// run on a sound disk.
fn assert_whole(run: &Path, what: &str) {
    common::assert_finished(run, "completed");
    common::assert_same_state(&common::newest_state(run), &unbroken().0, what);
    let steps: Vec<_> =
        common::events_of(run, "step").iter().map(|step| step["step"].clone()).collect();
    assert_eq!(steps, [1, 7, 14, 21, 28, 35, 42], "{what}: each step is logged once");
    let hidden = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    let left: Vec<_> = common::names(run).into_iter().filter(hidden).collect();
    assert!(left.is_empty(), "{what}: nothing is left over: {left:?}");
}

/// Returns whether each alarm of a kind that is logged began and was over.
fn alarms(run: &Path, kind: &str) -> Vec<bool> {
    let alarms = common::events_of(run, "alarm").into_iter();
    let alarms = alarms.filter(|alarm| alarm["kind"] == kind);
    alarms.map(|alarm| alarm["active"].as_bool().expect("a truth value")).collect()
}

fn state_of(folder: &Path, run: &str) -> String {
    let listed = common::run(folder, &["runs", "--json", run]).expect(0, "runs").stdout;
    let row: Value = serde_json::from_str(&listed).expect("one row");
    row["state"].as_str().expect("a word").to_owned()
}

#[test]
fn the_operation_that_is_named_fails_as_it_is_told() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let Some(fault) = Fault::new("config.toml", "open,write,truncate", 2, "faults") else { return };
    let record = folder.join("record");
    let fault = fault.error(Errno::NOSPC).short(5).times(2).log(&record);
    let ended = fault.start(folder, &arguments(&["--run-dir", "run"])).end();
    assert!(ended.expect(1, "a full disk").stderr.contains("No space left"));
    let record = fs::read_to_string(record).expect("a record");
    let lines: Vec<Vec<&str>> = record.lines().map(|line| line.split('\t').collect()).collect();
    let brief: Vec<(&str, bool)> = lines.iter().map(|line| (line[1], line[3] == "1")).collect();
    let opened = ("open", false);
    assert_eq!(brief[..3], [opened, ("write", true), ("write", true)], "short, then the error");
    assert_eq!((lines[1][2], lines[1][5].len(), lines[1][6].len()), ("5", 1, 10), "5 bytes at 0");
    assert_eq!(lines[2][2], "-28", "the rest has the error");

    let fault = Fault::new("/while", "mkdir", 1, "faults").expect("the library is there");
    let broken = folder.join("broken");
    let fault = fault.until_removed(&broken);
    let arguments = arguments(&["--run-dir", "while"]);
    fault.start(folder, &arguments).end().expect(1, "as long as the file is there");
    fs::remove_file(broken).expect("there");
    fault.start(folder, &arguments).end().expect(0, "and no longer");
}

#[test]
fn a_passing_error_of_any_write_costs_no_step() {
    let errors = [
        Errno::IO,
        Errno::STALE,
        Errno::AGAIN,
        Errno::MFILE,
        Errno::ROFS,
        Errno::ACCESS,
        Errno::NOSPC,
        Errno::INTR,
    ];
    let places = [
        ("events.jsonl", "write", 12),
        ("events.jsonl", "sync", 1),
        ("step-00000028", "open", 1),
        ("step-00000028", "write", 1),
        ("step-00000028", "sync", 1),
        ("step-00000028", "rename", 1),
        (".best.safetensors", "rename", 1),
        ("checkpoints", "sync", 4),
    ];
    for (number, (path, operation, nth)) in places.into_iter().enumerate() {
        for error in [errors[number % errors.len()], errors[(number + 3) % errors.len()]] {
            let what = format!("{error:?} at {operation} of {path}");
            let temp = tempfile::tempdir().expect("a temporary folder");
            let record = temp.path().join("record");
            let Some(fault) = Fault::new(path, operation, nth, &what) else { return };
            let fault = fault.error(error).log(&record);
            let ended = fault.start(temp.path(), &arguments(&["--run-dir", "run"])).end();
            let ended = ended.expect(0, &what);
            let record = fs::read_to_string(record).expect("a record");
            assert!(
                record.lines().any(|line| line.split('\t').nth(3) == Some("1")),
                "{what}: {record}"
            );
            let run = temp.path().join("run");
            assert_whole(&run, &what);
            if error != Errno::INTR {
                let kind = if error == Errno::NOSPC { "disk_full" } else { "cannot_write" };
                assert_eq!(alarms(&run, kind), [true, false], "{what}: {ended:?}");
            }
        }
    }
}

#[test]
fn a_picture_that_cannot_be_written_is_a_warning() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let what = "pictures";
    let Some(fault) = Fault::new("/previews/", "write", 1, what) else { return };
    let fault = fault.times(-1);
    let ended = fault.start(temp.path(), &arguments(&["--run-dir", "run"])).end().expect(0, what);
    assert!(ended.stderr.contains("goes on without these pictures"), "{ended:?}");
    let run = temp.path().join("run");
    assert_whole(&run, what);
    assert_eq!(alarms(&run, "cannot_write"), [true; 0]);
}

#[test]
fn a_run_whose_checkpoint_cannot_be_written_waits_with_an_alarm_until_it_can() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let Some(fault) = Fault::new("step-00000028", "open", 1, "a lasting error") else { return };
    let broken = folder.join("broken");
    let fault = fault.error(Errno::ROFS).until_removed(&broken);
    let mut process = fault.start(folder, &arguments(&["--run-dir", "run"]));
    process.until_warned("ALARM: cannot write");
    let status = common::run(folder, &["ctl", "run", "status"]).expect(0, "the status");
    for part in ["ALARM cannot write", "paused", "Read-only file system"] {
        assert!(status.stdout.contains(part), "{part}: {status:?}");
    }
    fs::remove_file(broken).expect("there");
    let ended = process.end().expect(0, "it can be written again");
    assert!(ended.stderr.contains("over: cannot write"), "{ended:?}");
    assert_whole(&folder.join("run"), "the run that waited");
}

#[test]
fn a_log_that_fails_for_good_still_saves_a_checkpoint_at_a_stop() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let at_21 = |event: &Value| event["event"] == "step" && event["step"] == 21;
    let line = 1 + unbroken().1.iter().position(at_21).expect("it is logged") as u64;
    let Some(fault) = Fault::new("events.jsonl", "write", line, "a failing log") else { return };
    let mut process = fault.times(-1).start(folder, &arguments(&["--run-dir", "run"]));
    process.until_warned("ALARM: cannot write");
    process.signal("TERM");
    let ended = process.end().expect(1, "the log can't be written");
    let last = ended.stderr.lines().last().expect("an error");
    assert!(last.starts_with("simmim-tui: cannot write run/events.jsonl"), "{ended:?}");
    let saved =
        ended.stderr.lines().find(|line| line.contains("is saved as run/checkpoints/step-"));
    assert!(saved.is_some(), "{ended:?}");
    let run = folder.join("run");
    let newest = checkpoint::list(&run.join("checkpoints")).expect("readable").pop();
    let step = checkpoint::load(&newest.expect("a checkpoint")).expect("sound").meta.step;
    assert_eq!(step, 21, "no step is lost");
    common::run(folder, &["--resume", "run", "--no-ui"]).expect(0, "on a sound disk it goes on");
    common::assert_same_state(&common::newest_state(&run), &unbroken().0, "the resumed run");
    common::assert_finished(&run, "completed");
}

#[test]
fn a_stop_ends_the_wait_for_a_checkpoint_with_one_line() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let Some(fault) = Fault::new("step-00000028", "sync", 1, "a stop") else { return };
    let fault = fault.error(Errno::STALE).times(-1);
    let mut process = fault.start(temp.path(), &arguments(&["--run-dir", "run"]));
    process.until_warned("ALARM: cannot write");
    process.signal("TERM");
    let ended = process.end().expect(1, "it can't be saved");
    let last = ended.stderr.lines().last().expect("an error");
    assert!(last.starts_with("simmim-tui: cannot write checkpoint run/checkpoints/step-00000028"));
    common::run(temp.path(), &["--resume", "run", "--no-ui"]).expect(0, "on a sound disk");
    let run = temp.path().join("run");
    common::assert_same_state(&common::newest_state(&run), &unbroken().0, "the resumed run");
}

#[test]
fn a_failing_write_before_the_training_is_an_error_at_once() {
    for (path, operation) in [("/run", "mkdir"), ("config.toml", "sync"), ("events.jsonl", "write")]
    {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let Some(fault) = Fault::new(path, operation, 1, "the start") else { return };
        let ended = fault.start(temp.path(), &arguments(&["--run-dir", "run"])).end();
        let ended = ended.expect(1, path);
        let last = ended.stderr.lines().last().expect("an error");
        assert!(last.starts_with("simmim-tui: cannot ") && last.contains("run"), "{ended:?}");
        assert!(!ended.stderr.contains("ALARM"), "{ended:?}");
    }
}

#[test]
fn the_end_is_the_last_line_even_if_it_had_to_wait() {
    let lines = unbroken().1.len() as u64;
    // The log is synced for each of three checkpoints, then for its end.
    for (operation, nth) in [("write", lines), ("sync", 4)] {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let Some(fault) = Fault::new("events.jsonl", operation, nth, "the end") else { return };
        let fault = fault.error(Errno::NOSPC);
        let mut process = fault.start(temp.path(), &arguments(&["--run-dir", "run"]));
        process.until_warned("ALARM: disk full");
        process.end().expect(0, operation);
        assert_whole(&temp.path().join("run"), operation);
        assert_eq!(alarms(&temp.path().join("run"), "disk_full"), [true, false]);
        assert_eq!(state_of(temp.path(), "run"), "finished");
    }
}

#[test]
fn the_end_of_an_older_log_counts_whatever_was_logged_after_it() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    common::run(temp.path(), &arguments(&["--run-dir", "run"])).expect(0, "a run");
    let log = temp.path().join("run/events.jsonl");
    let late = "{\"time\":2.0,\"event\":\"phase\",\"phase\":\"stopping\"}\n";
    let text = fs::read_to_string(&log).expect("readable") + late;
    fs::write(&log, text).expect("writable");
    assert_eq!(state_of(temp.path(), "run"), "finished");
    let status = common::run(temp.path(), &["ctl", "run", "status"]).expect(0, "the status").stdout;
    assert!(status.contains("finished") && !status.contains("without a word"), "{status}");
}

#[test]
fn a_torn_line_that_could_not_be_cut_off_at_once_is_gone_before_the_next() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let Some(fault) = Fault::new("events.jsonl", "write,truncate", 12, "torn lines") else {
        return;
    };
    let record = temp.path().join("record");
    let fault = fault.short(9).error(Errno::NOSPC).times(3).log(&record);
    fault.start(temp.path(), &arguments(&["--run-dir", "run"])).end().expect(0, "a torn line");
    let record = fs::read_to_string(record).expect("a record");
    let failed: Vec<_> =
        record.lines().filter(|line| line.split('\t').nth(3) == Some("1")).collect();
    assert!(failed.iter().any(|line| line.contains("\ttruncate\t-28\t")), "{failed:?}");
    assert_whole(&temp.path().join("run"), "a torn line");
}

#[test]
fn an_interrupted_call_is_made_again() {
    for (path, operation, nth) in [("/run", "mkdir", 1), ("/run/checkpoints", "readdir", 1)] {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let Some(fault) = Fault::new(path, operation, nth, "interrupted calls") else { return };
        let fault = fault.error(Errno::INTR).times(3);
        let run = ["--run-dir", "run"];
        fault.start(temp.path(), &arguments(&run)).end().expect(0, operation);
        let resume = ["--resume", "run", "--no-ui", "--set", "train.epochs=3"];
        fault.start(temp.path(), &resume).end().expect(0, operation);
        common::assert_finished(&temp.path().join("run"), "completed");
    }
}

/// An operation of a record.
struct Recorded<'a> {
    name: &'a str,
    path: &'a str,
    more: Vec<&'a str>,
}

#[test]
fn the_log_and_its_name_are_on_the_disk_before_a_checkpoint_has_its_name() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let operations = "open,write,sync,rename,link,unlink,mkdir,truncate";
    let Some(fault) = Fault::new("", operations, 0, "the order of writes") else { return };
    let file = temp.path().join("record");
    fault
        .log(&file)
        .start(temp.path(), &arguments(&["--run-dir", "in/run"]))
        .end()
        .expect(0, "a run");
    let record = fs::read_to_string(&file).expect("a record");
    let all: Vec<Recorded> = record
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            Recorded { name: fields[1], path: fields[4], more: fields[5..].to_vec() }
        })
        .collect();
    let last = |until: usize, name: &str, end: &str| {
        all[..until].iter().rposition(|one| one.name == name && one.path.ends_with(end))
    };
    let mut checkpoints = 0;
    for (at, one) in all.iter().enumerate() {
        if one.name == "rename" && one.more[0].contains("/checkpoints/step-") {
            let (written, synced) =
                (last(at, "write", "events.jsonl"), last(at, "sync", "events.jsonl"));
            assert!(written < synced, "checkpoint {checkpoints}: {written:?} {synced:?}");
            checkpoints += 1;
        }
    }
    assert_eq!(checkpoints, 3);
    let end = all.len();
    let finished = (last(end, "write", "events.jsonl"), last(end, "sync", "events.jsonl"));
    assert!(finished.0 < finished.1, "the end is synced, too: {finished:?}");
    let made = |name: &str, end: &str| {
        all.iter().position(|one| one.name == name && one.path.ends_with(end))
    };
    let first = |end: &str, after: usize| {
        all[after..].iter().position(|one| one.name == "sync" && one.path.ends_with(end))
    };
    let log = made("open", "/in/run/events.jsonl").expect("opened");
    assert_eq!(all[log].more[1], "new");
    let until = last(end, "write", "events.jsonl").expect("written");
    assert!(log + first("/in/run", log).expect("synced") < until);
    let named = made("mkdir", "/in/run").expect("made");
    for folder in ["/in", &temp.path().canonicalize().expect("there").display().to_string()] {
        assert!(named + first(folder, named).expect(folder) < log, "{folder} is synced");
    }
}

/// Starts a run that goes on until it is stopped, and waits until it trains.
fn endless(folder: &Path) -> Running {
    let arguments = arguments(&[&ENDLESS[..], &["--run-dir", "run"]].concat());
    let process = Running::start(folder, &arguments, Reader::All);
    common::until_step(&folder.join("run"), "checkpoint_saved", 14);
    process
}

/// Stops a run, which ends in order.
fn stop(process: Running) -> Ended {
    process.signal("TERM");
    process.end().expect(0, "a stop")
}

/// Fails unless the log has every step once, in order.
fn assert_no_step_is_missing(run: &Path) {
    let steps = common::events_of(run, "step").into_iter();
    let steps: Vec<u64> = steps.map(|step| step["step"].as_u64().expect("a number")).collect();
    let losses: u64 = common::events_of(run, "step")
        .iter()
        .map(|step| step["losses"].as_array().expect("a list").len() as u64)
        .sum();
    assert!(steps.is_sorted(), "{steps:?}");
    assert_eq!(losses, *steps.last().expect("steps"), "each step is logged once");
}

#[test]
fn a_lock_that_is_removed_is_made_again_and_lets_nobody_in() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let run = temp.path().join("run");
    let mut process = endless(temp.path());
    fs::remove_file(run.join("lock")).expect("there");
    // The log is locked, too, so that nobody gets in before it is noticed.
    let refused = common::run(temp.path(), &["--resume", "run", "--no-ui"]);
    assert!(refused.expect(2, "a second process").stderr.contains("is written by another process"));
    process.until_warned("files lost");
    process.until_warned("over: files lost");
    let refused =
        common::run(temp.path(), &["--resume", "run", "--no-ui"]).expect(2, "a second process");
    assert!(refused.stderr.contains(&format!("(process {})", process.id())), "{refused:?}");
    stop(process);
    common::assert_finished(&run, "stopped");
    assert_no_step_is_missing(&run);
    assert_eq!(alarms(&run, "files_lost"), [true, false]);
}

#[test]
fn a_log_that_is_removed_is_put_back_with_every_line() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let run = temp.path().join("run");
    let mut process = endless(temp.path());
    fs::remove_file(run.join("events.jsonl")).expect("there");
    process.until_warned("over: files lost");
    stop(process);
    assert_eq!(common::events(&run)[0]["event"], "started");
    common::assert_finished(&run, "stopped");
    assert_no_step_is_missing(&run);
    assert_eq!(state_of(temp.path(), "run"), "stopped");
}

#[test]
fn a_run_that_is_moved_away_and_back_waits_and_loses_nothing() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (run, away) = (temp.path().join("run"), temp.path().join("away"));
    let mut process = endless(temp.path());
    fs::rename(&run, &away).expect("movable");
    process.until_warned("ALARM: cannot write");
    assert!(!run.exists(), "nothing is made in its place");
    fs::rename(&away, &run).expect("movable");
    process.until_warned("over: cannot write");
    stop(process);
    common::assert_finished(&run, "stopped");
    assert_no_step_is_missing(&run);
}

#[test]
fn a_run_that_is_stopped_while_it_is_moved_saves_where_it_is() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (run, away) = (temp.path().join("run"), temp.path().join("away"));
    let mut process = endless(temp.path());
    fs::rename(&run, &away).expect("movable");
    process.until_warned("ALARM: cannot write");
    process.signal("TERM");
    let ended = process.end().expect(1, "its folder is gone");
    assert!(ended.stderr.contains("away/checkpoints/step-"), "{ended:?}");
    assert!(!run.exists());
    let logged = common::events_of(&away, "step").last().map(|step| step["step"].clone());
    let newest = checkpoint::list(&away.join("checkpoints")).expect("readable").pop();
    let saved = checkpoint::load(&newest.expect("a checkpoint")).expect("sound").meta.step;
    assert_eq!(logged, Some(saved.into()), "no step is lost");
    let more = format!("train.epochs={}", saved / common::STEPS_PER_EPOCH + 1);
    common::run(temp.path(), &["--resume", "away", "--no-ui", "--set", &more])
        .expect(0, "it goes on");
}

#[test]
fn a_run_whose_path_is_another_run_now_stops_and_leaves_that_one_alone() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let [run, away, other] = ["run", "away", "other"].map(|name| temp.path().join(name));
    common::run(temp.path(), &arguments(&["--run-dir", "other"])).expect(0, "another run");
    let process = endless(temp.path());
    let before: Vec<_> = common::contents(&other).into_values().collect();
    fs::rename(&run, &away).expect("movable");
    fs::rename(&other, &run).expect("movable");
    let ended = process.end().expect(1, "its path is another's");
    let last = ended.stderr.lines().last().expect("an error");
    assert!(last.starts_with("simmim-tui: run is another run now"), "{ended:?}");
    let after: Vec<_> = common::contents(&run).into_values().collect();
    assert_eq!(after, before, "the other run is as it was");
    let newest = checkpoint::list(&away.join("checkpoints")).expect("readable").pop();
    checkpoint::load(&newest.expect("a checkpoint")).expect("sound");
    assert_no_step_is_missing(&away);
}

#[test]
fn a_run_whose_lock_and_log_another_process_has_taken_saves_aside_and_stops() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let run = temp.path().join("run");
    let first = endless(temp.path());
    // Paused, it can't notice before the second process is there.
    first.signal("STOP");
    for file in ["lock", "events.jsonl", "control.sock"] {
        fs::remove_file(run.join(file)).expect("there");
    }
    let second = Running::start(temp.path(), &["--resume", "run", "--no-ui"], Reader::All);
    common::until_step(&run, "started", 14);
    first.signal("CONT");
    let ended = first.end().expect(1, "its folder is another's");
    let last = ended.stderr.lines().last().expect("an error");
    assert!(last.contains("was taken by another process (process "), "{ended:?}");
    let rescued = ended.stderr.lines().find(|line| line.contains("checkpoints/rescued-"));
    assert!(rescued.is_some(), "{ended:?}");
    stop(second);
    common::assert_finished(&run, "stopped");
    let aside = common::names(&run)
        .into_iter()
        .find(|path| path.display().to_string().contains("/rescued-"));
    let aside = aside.expect("a checkpoint aside");
    let step = checkpoint::load(&aside).expect("sound").meta.step;
    let more = format!("train.epochs={}", step / common::STEPS_PER_EPOCH + 1);
    let aside = aside.to_str().expect("a plain path");
    let fork = ["--resume", aside, "--run-dir", "fork", "--no-ui", "--set", &more];
    common::run(temp.path(), &fork).expect(0, "it can be gone on from");
}
