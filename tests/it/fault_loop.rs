//! The n-th file operation of a run fails, and of a resume, for n from 1 until a run passes untouched, as SQLite does it.
//!
//! Whatever fails, however it fails: the program ends with a code of its own, a resume ends with the weights of an
//! unbroken run, and the log tells of every step once. An error that passes costs no step.
//!
//! `SIMMIM_FAULTS=all` tries each n with each error, which takes a quarter of an hour; otherwise some are tried, in a few seconds.

use crate::common::fault::Fault;
use crate::common::{self, Running};
use rustix::io::Errno;
use simmim_tui::engine::EngineState;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How an operation fails: with which error, how often in a row, and after how many bytes of a write.
#[derive(Debug, Clone, Copy)]
struct Failure {
    error: Errno,
    times: i64,
    short: Option<u64>,
}

const fn once(error: Errno) -> Failure {
    Failure { error, times: 1, short: None }
}

const FAILURES: [Failure; 12] = [
    once(Errno::IO),
    once(Errno::NOSPC),
    once(Errno::STALE),
    once(Errno::AGAIN),
    once(Errno::MFILE),
    Failure { times: 2, ..once(Errno::IO) },
    Failure { times: 2, ..once(Errno::NOSPC) },
    Failure { times: -1, ..once(Errno::IO) },
    Failure { times: -1, ..once(Errno::NOSPC) },
    Failure { short: Some(3), ..once(Errno::IO) },
    Failure { short: Some(7), ..once(Errno::NOSPC) },
    Failure { short: Some(1), times: 2, ..once(Errno::STALE) },
];

/// Distance of the operations that are tried where not all are. The failures differ from one to the next.
const STRIDE: u64 = 2;
/// Processes at a time. Most of them wait for the pause before another attempt.
const AT_ONCE: usize = 8;
/// Operations that the program does before a failed write becomes something to wait for: its first event, that is.
const OPERATIONS: &str = "open,write,sync,rename,link,unlink,mkdir,truncate";

/// What is started with faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    NewRun,
    /// A run that was killed at step 30 of 42, with its newest checkpoint at step 28.
    Resume,
}

/// What all cases share: the state of the unbroken run, and a run that was killed.
struct Stage {
    expected: EngineState,
    killed: tempfile::TempDir,
}

fn settings<'a>() -> Vec<&'a str> {
    common::tiny(&["--set", "train.log_every=7", "--set", "checkpoint.every_steps=14", "--no-ui"])
}

impl Stage {
    fn new() -> Option<Self> {
        let unbroken = tempfile::tempdir().expect("a temporary folder");
        let start = [&settings()[..], &["--run-dir", "run"]].concat();
        common::run(unbroken.path(), &start).expect(0, "the unbroken run");
        let expected = common::newest_state(&unbroken.path().join("run"));
        let killed = tempfile::tempdir().expect("a temporary folder");
        // The folder of the third checkpoint's temporary file is the first thing that is made for it.
        let kill = Fault::new("step-00000042", "open", 1, "the n-th fault")?.kill();
        let ended = kill.start(killed.path(), &start).end();
        assert_eq!(ended.code, None, "killed before the last checkpoint: {ended:?}");
        Some(Self { expected, killed })
    }

    /// Returns a folder to start in.
    fn folder(&self, kind: Kind) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        if kind == Kind::Resume {
            common::copy(&self.killed.path().join("run"), &folder.path().join("run"));
        }
        folder
    }

    /// Runs one case. Returns whether the fault was reached.
    fn try_out(&self, kind: Kind, nth: u64, failure: Failure) -> bool {
        let what = format!("{kind:?}, operation {nth}, {failure:?}");
        let temp = self.folder(kind);
        let folder = temp.path();
        let record = folder.join("record");
        let path = folder.canonicalize().expect("there").join("run").display().to_string();
        let mut fault = Fault::new(&path, OPERATIONS, nth, &what).expect("it was built before");
        fault = fault.error(failure.error).times(failure.times).log(&record);
        if let Some(bytes) = failure.short {
            fault = fault.short(bytes);
        }
        let place = if kind == Kind::NewRun { "--run-dir" } else { "--resume" };
        let arguments = [&settings()[..], &[place, "run"]].concat();
        let process = fault.start(folder, &arguments);
        let ended = end(process, &record, failure, &what);
        assert!(!ended.stderr.contains("panicked"), "{what}: {ended:?}");
        let code = ended.code.unwrap_or_else(|| panic!("{what}: it was killed by a signal"));
        assert!((0..=2).contains(&code), "{what}: {ended:?}");
        let lines = fs::read_to_string(&record).expect("a record");
        let reached = lines.lines().any(|line| line.split('\t').nth(3) == Some("1"));
        let begun = begun_at(&lines);
        if code != 0 {
            let last = ended.stderr.lines().last().unwrap_or_default();
            assert!(last.starts_with("simmim-tui: "), "{what}: {ended:?}");
            let waits = failure.times > 0 && begun.is_some_and(|begun| nth > begun);
            assert!(!waits, "{what}: an error that passes ends no run; {ended:?}");
            go_on(folder, &what);
        }
        let run = folder.join("run");
        common::assert_same_state(&common::newest_state(&run), &self.expected, &what);
        common::run(folder, &["check", "run"]).expect(0, &what);
        common::assert_finished(&run, "completed");
        reached
    }
}

/// Returns the number of the operation with which the training began, `None` if it didn't. Until then nothing is lost, and
/// an error is told at once.
fn begun_at(record: &str) -> Option<u64> {
    const PHASES: [&str; 2] = ["\"phase\":\"evaluating\"", "\"phase\":\"compiling\""];
    let phases = PHASES
        .map(|phase| phase.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat());
    let mut lines = record.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let begins = |line: &Vec<&str>| {
        let bytes = line.get(6).filter(|_| line[1] == "write" && line[4].ends_with("events.jsonl"));
        bytes.is_some_and(|bytes| phases.iter().any(|phase| bytes.contains(phase.as_str())))
    };
    lines.find(begins).and_then(|line| line[0].parse().ok())
}

/// Waits for the end of a process. One whose disk fails for ever waits for ever, and is stopped.
fn end(mut process: Running, record: &Path, failure: Failure, what: &str) -> common::Ended {
    if failure.times < 0 {
        let mut stopped = false;
        common::until(&format!("{what}: the program ends"), || {
            let waits = || {
                let lines = fs::read_to_string(record).unwrap_or_default();
                lines.lines().filter(|line| line.split('\t').nth(3) == Some("1")).count() > 2
            };
            if !stopped && waits() && !process.has_ended() {
                process.signal("TERM");
                stopped = true;
            }
            thread::sleep(Duration::from_millis(20));
            process.has_ended()
        });
    }
    process.end()
}

/// Goes on with a run on a sound disk, or starts it anew where it hasn't begun.
fn go_on(folder: &Path, what: &str) {
    let run = folder.join("run");
    let begun = run.join("config.toml").exists() || run.join("events.jsonl").exists();
    let place = if begun { "--resume" } else { "--run-dir" };
    common::run(folder, &[&settings()[..], &[place, "run"]].concat()).expect(0, what);
}

/// Tries `stride` apart, until a run passes untouched. Returns the number of cases.
fn every_nth(stage: &Stage, kind: Kind, stride: u64, failures: &[Failure]) -> usize {
    let cases = AtomicUsize::new(0);
    let next = Mutex::new((1, 0_usize, false));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let (nth, turn) = {
                        let mut next = next.lock().expect("no case has failed");
                        if next.2 {
                            return;
                        }
                        let taken = (next.0, next.1);
                        next.0 += stride;
                        next.1 += 1;
                        taken
                    };
                    let all = stride == 1;
                    let chosen =
                        if all { failures } else { &failures[turn % failures.len()..][..1] };
                    for &failure in chosen {
                        cases.fetch_add(1, Ordering::Relaxed);
                        if !stage.try_out(kind, nth, failure) {
                            next.lock().expect("no case has failed").2 = true;
                            return;
                        }
                    }
                }
            });
        }
    });
    cases.into_inner()
}

#[test]
fn whichever_operation_fails_a_run_ends_with_the_right_weights_and_a_whole_log() {
    let Some(stage) = Stage::new() else { return };
    let all = std::env::var("SIMMIM_FAULTS").is_ok_and(|value| value == "all");
    let begin = Instant::now();
    for kind in [Kind::NewRun, Kind::Resume] {
        let cases = every_nth(&stage, kind, if all { 1 } else { STRIDE }, &FAILURES);
        println!("{kind:?}: {cases} cases, {:.0} s", begin.elapsed().as_secs_f64());
        assert!(cases > 8, "{kind:?}: {cases}");
    }
}
