//! Reads what a run directory says about its run. This is quick however long the log is.

use super::EVENTS;
use super::owner::{self, Liveness, Owner, liveness};
use crate::event::state::RunState;
use crate::event::{Event, Level, Phase, Reason, Stamped, now};
use crate::files;
use crate::shown;
use crate::text::units::span;
use serde::Serialize;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Bytes at the end of the log in which every event is read.
const TAIL: u64 = 256 << 10;
/// Bytes at the end of the log in which every event but a step is read. Validations, alarms and the like are rare.
const RARE: u64 = 16 << 20;
/// Bytes at the beginning of a longer log that are read to learn how the run started.
const HEAD: u64 = 64 << 10;

/// How a run has ended, according to its log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ending {
    /// There is no end after the newest start: the run goes on, or its process is gone without having logged an end.
    #[default]
    None,
    /// The run ended in order.
    Finished(Reason),
    /// The run failed. The text says why.
    Failed(String),
}

impl Ending {
    /// Takes in the next event of the log. An end holds until the next start, as earlier releases could log an alarm or a
    /// phase after it.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Finished(finished) => *self = Self::Finished(finished.reason),
            Event::Log { level: Level::Error, message } => *self = Self::Failed(message.clone()),
            Event::Started(_) => *self = Self::None,
            _ => {}
        }
    }
}

/// A run at a glance.
#[derive(Debug, Clone)]
pub struct Digest {
    pub root: PathBuf,
    /// Its phase and figures. A log longer than `RARE` is read in part, so the best validation loss may be missed.
    pub run: RunState,
    pub ending: Ending,
    pub liveness: Liveness,
    /// The process that wrote the run last, or writes it now.
    pub owner: Option<Owner>,
    /// Seconds since the newest event, never negative. `None` if there is no event.
    pub age_s: Option<f64>,
}

/// One run in the output for programs.
#[derive(Debug, Serialize)]
pub struct RunRow {
    pub path: String,
    pub state: String,
    pub step: u64,
    pub total_steps: u64,
    pub loss: Option<f32>,
    /// The lowest of the run.
    pub val_loss: Option<f64>,
    /// The highest of the run, if it trains a classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    pub age_s: Option<f64>,
    /// Why the run failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub owner: Option<OwnerRow>,
}

/// The process of a run in the output for programs.
#[derive(Debug, Serialize)]
pub struct OwnerRow {
    pub pid: u32,
    pub host: String,
    /// Whether the process is running.
    pub alive: bool,
}

/// Reads a run directory. What can't be read there is left out.
pub fn digest(root: &Path) -> Digest {
    // The process is looked at before the log. So if it is gone, the log has everything that it wrote.
    let liveness = liveness(root);
    let mut digest = Digest {
        root: root.to_owned(),
        run: RunState::default(),
        ending: Ending::None,
        liveness,
        owner: Owner::read(root),
        age_s: None,
    };
    digest.read_log(&root.join(EVENTS));
    digest
}

impl Digest {
    /// Takes in the events of the parts of the log that are read.
    fn read_log(&mut self, path: &Path) {
        let Ok(file) = files::open(path) else { return };
        let len = file.metadata().map_or(0, |metadata| metadata.len());
        let rare = len.saturating_sub(RARE);
        if rare > 0 {
            for line in lines(&read(&file, 0, HEAD.min(rare))).filter(|line| !is_step(line)) {
                self.apply(line, |event| matches!(event, Event::Started(_) | Event::Validated(_)));
            }
        }
        let bytes = read(&file, rare, len - rare);
        let mut left = bytes.len() as u64;
        for line in lines(&bytes) {
            if left <= TAIL || !is_step(line) {
                self.apply(line, |_| true);
            }
            left = left.saturating_sub(line.len() as u64 + 1);
        }
        if self.run.time > 0.0 {
            self.age_s = Some((now() - self.run.time).max(0.0)); // a clock may have been set back
        }
    }

    fn apply(&mut self, line: &[u8], counts: impl Fn(&Event) -> bool) {
        let Ok(stamped) = serde_json::from_slice::<Stamped>(line) else { return };
        if counts(&stamped.event) {
            self.run.apply(&stamped);
            self.ending.take(&stamped.event);
        }
    }

    /// Returns one word for what the run is doing, with its host if that is another one, or for how it ended.
    pub fn state(&self) -> String {
        let word = match (&self.ending, &self.liveness) {
            (Ending::Finished(reason), _) => reason.name(),
            (Ending::Failed(_), _) => "failed",
            (Ending::None, Liveness::Gone) => "dead",
            (Ending::None, Liveness::Local(_) | Liveness::Remote(_)) => self.phase(),
        };
        match &self.liveness {
            Liveness::Remote(owner) if self.is_going_on() => format!("{word}@{}", owner.host),
            _ => word.to_owned(),
        }
    }

    /// Returns whether a process trains the run and has logged no end.
    pub fn is_going_on(&self) -> bool {
        self.liveness != Liveness::Gone && self.ending == Ending::None
    }

    fn phase(&self) -> &'static str {
        match self.run.phase {
            None | Some(Phase::Starting) => "starting",
            Some(Phase::Compiling) => "compiling",
            Some(Phase::Running) => "running",
            Some(Phase::Paused) => "paused",
            Some(Phase::Evaluating) => "validating",
            Some(Phase::Saving) => "saving",
            Some(Phase::Stopping) => "stopping",
        }
    }

    /// Says how a run that no process trains has ended: "it ended 3h05m ago (stopped at step 120)".
    pub fn describe_end(&self) -> String {
        let ago = self.age_s.map_or("some time".to_owned(), span);
        let step = self.run.step();
        match &self.ending {
            Ending::Finished(reason) => {
                format!("it ended {ago} ago ({} at step {step})", reason.name())
            }
            Ending::Failed(why) => {
                format!("it failed {ago} ago at step {step}: {}", shown::line(why))
            }
            Ending::None => describe_gone(&self.root, self.run.time, step),
        }
    }

    /// Returns the run for the output for programs.
    pub fn row(&self) -> RunRow {
        let finite = |value: f64| value.is_finite().then_some(value);
        let report = self.run.last_step.as_ref();
        let alive = self.liveness != Liveness::Gone;
        RunRow {
            path: shown::text(&self.root),
            state: self.state(),
            step: self.run.step(),
            total_steps: self.run.total_steps(),
            loss: report.map(|report| report.loss).filter(|loss| loss.is_finite()),
            val_loss: self.best_val_loss().and_then(finite),
            accuracy: self.best_accuracy(),
            age_s: self.age_s,
            error: match &self.ending {
                Ending::Failed(why) => Some(why.clone()),
                Ending::None | Ending::Finished(_) => None,
            },
            owner: self.owner.as_ref().map(|owner| OwnerRow {
                pid: owner.pid,
                host: owner.host.clone(),
                alive,
            }),
        }
    }

    /// Returns the lowest validation loss. The last event of a run has it even if the log was read in part.
    pub fn best_val_loss(&self) -> Option<f64> {
        let logged = self.run.finished.as_ref().and_then(|finished| finished.best_val_loss);
        logged.or(self.run.best_val_loss)
    }

    /// Returns the highest accuracy, if the run trains a classifier.
    pub fn best_accuracy(&self) -> Option<f64> {
        let logged = self.run.finished.as_ref().and_then(|finished| finished.best_accuracy);
        logged.or(self.run.best_accuracy)
    }
}

/// Says what is known about a run whose process is gone without having logged an end: "process 4711 ended without a
/// word; last sign of life 3h05m ago (step 120)". `time` is that of the newest event, in seconds since 1970.
pub fn describe_gone(root: &Path, time: f64, step: u64) -> String {
    let beat = owner::last_beat(root).and_then(|beat| beat.duration_since(UNIX_EPOCH).ok());
    let last = beat.map_or(0.0, |beat| beat.as_secs_f64()).max(time);
    let ago = span((now() - last).max(0.0));
    match Owner::read(root) {
        Some(owner) => {
            let who = owner.describe();
            format!("{who} ended without a word; last sign of life {ago} ago (step {step})")
        }
        None => format!("its process is not known; last sign of life {ago} ago (step {step})"),
    }
}

/// Reads a part of a file, as far as that is possible.
fn read(file: &File, from: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], from + filled as u64) {
            Ok(0) | Err(_) => break,
            Ok(read) => filled += read,
        }
    }
    bytes.truncate(filled);
    bytes
}

/// Returns the lines without their line feeds. The first and the last one may be incomplete.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&byte| byte == b'\n')
}

/// Returns whether a line is the event of a step, without parsing it: the kind stands at its beginning, behind the time.
fn is_step(line: &[u8]) -> bool {
    const KIND: &[u8] = b"\"event\":\"step\"";
    line[..line.len().min(64)].windows(KIND.len()).any(|window| window == KIND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Alarm, AlarmKind, Finished, Started, StepReport, Validation};
    use crate::run_dir::{EventLog, RunDir};
    use std::io::Write as _;

    fn step(step: u64) -> Event {
        Event::Step(StepReport {
            epoch: 0.5,
            loss: 1.0 / step as f32,
            losses: vec![0.5; 20],
            ..StepReport::sample(step)
        })
    }

    fn started(step: u64) -> Event {
        Event::Started(Started { total_steps: 1_000_000, ..Started::sample(step) })
    }

    fn validated(step: u64, val_loss: f64) -> Event {
        Event::Validated(Validation {
            step,
            epoch: 1.0,
            val_loss,
            psnr: None,
            ssim: None,
            accuracy: None,
            images: 1,
            of: None,
            usual: None,
            best: true,
            seconds: 1.0,
        })
    }

    fn alarm(kind: AlarmKind) -> Event {
        Event::Alarm(Alarm { kind, active: true, step: 1, message: String::new() })
    }

    fn finished(step: u64, reason: Reason) -> Event {
        Event::Finished(Finished {
            step,
            reason,
            best_val_loss: Some(0.25),
            best_accuracy: None,
            elapsed_s: 1.0,
        })
    }

    /// Makes a run with these events, whose process is gone.
    fn left_behind(events: Vec<Event>) -> tempfile::TempDir {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::create(temp.path()).expect("a new run");
        let mut log = EventLog::open(&run.events_path()).expect("writable");
        for event in events {
            log.append(&Stamped::now(event)).expect("written");
        }
        drop(run);
        let lock = File::options().write(true).open(owner::path(temp.path())).expect("there");
        let gone = Owner { started: 1, boot: "an earlier one".to_owned(), ..Owner::me() };
        gone.write(&lock).expect("written");
        temp
    }

    #[test]
    fn the_state_is_how_a_run_ended_or_the_phase_of_a_process_that_is_running() {
        let phase = |phase| Event::Phase { phase };
        let error = Event::Log { level: Level::Error, message: "no more disk".to_owned() };
        let gone = |mut events: Vec<Event>| {
            events.insert(0, started(0));
            digest(left_behind(events).path())
        };
        assert_eq!(gone(vec![]).state(), "dead");
        assert_eq!(gone(vec![phase(Phase::Running), step(7)]).state(), "dead");
        assert_eq!(gone(vec![finished(9, Reason::Completed)]).state(), "finished");
        let stopped = gone(vec![step(7), finished(8, Reason::Stopped)]);
        assert_eq!(stopped.state(), "stopped");
        assert_eq!(stopped.describe_end(), "it ended 0s ago (stopped at step 8)");
        assert_eq!(gone(vec![step(7), error.clone()]).state(), "failed");
        // Earlier releases could log something after the end.
        for late in [phase(Phase::Stopping), alarm(AlarmKind::DiskFull)] {
            assert_eq!(gone(vec![error.clone(), late.clone()]).state(), "failed");
            let end = gone(vec![step(7), finished(8, Reason::Completed), late]);
            assert_eq!(end.state(), "finished");
            assert!(end.describe_end().contains("(finished at step"), "{}", end.describe_end());
        }
        // A resume forgets how it ended.
        assert_eq!(gone(vec![error, started(7)]).state(), "dead");

        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::create(temp.path()).expect("a new run");
        let mut log = EventLog::open(&run.events_path()).expect("writable");
        assert_eq!(digest(temp.path()).state(), "starting");
        log.append(&Stamped::now(phase(Phase::Evaluating))).expect("written");
        assert_eq!(digest(temp.path()).state(), "validating");
        let lock = File::options().write(true).open(owner::path(temp.path())).expect("there");
        let far = Owner { host: "node7".to_owned(), ..Owner::me() };
        far.write(&lock).expect("written");
        assert_eq!(digest(temp.path()).state(), "validating@node7");
    }

    #[test]
    fn a_huge_log_is_read_in_part_and_still_known_well() {
        let mut events = vec![started(0), validated(0, 0.9)];
        let steps: u64 = 60_000;
        for number in 1..=steps {
            events.push(step(number));
            if number == steps / 2 {
                events.extend([validated(number, 0.3), alarm(AlarmKind::DiskLow)]);
            }
        }
        let temp = left_behind(events);
        let log = temp.path().join("events.jsonl");
        let mut file = File::options().append(true).open(&log).expect("there");
        file.write_all(b"garbage\n{\"time\":1,\"ev").expect("written");
        assert!(log.metadata().expect("there").len() > RARE + HEAD, "it is huge");
        let digest = digest(temp.path());
        assert_eq!((digest.run.step(), digest.run.total_steps()), (steps, 1_000_000));
        assert_eq!(digest.best_val_loss(), Some(0.3));
        assert_eq!(digest.run.first_val_loss, Some(0.9));
        assert_eq!(digest.run.alarms.len(), 1);
        assert_eq!(digest.row().state, "dead");
    }

    #[test]
    fn foreign_directories_and_wrong_clocks_do_no_harm() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let root = temp.path().join("events.jsonl");
        std::fs::create_dir(&root).expect("a folder where a log is expected");
        assert_eq!(digest(temp.path()).state(), "dead");
        assert_eq!(digest(&root).age_s, None);
        std::fs::remove_dir(&root).expect("removable");
        let future = "{\"time\":99999999999,\"event\":\"phase\",\"phase\":\"running\"}\n";
        std::fs::write(&root, future).expect("writable");
        let digest = digest(temp.path());
        assert_eq!(digest.age_s, Some(0.0));
        assert!(digest.describe_end().contains("last sign of life 0s ago (step 0)"));
    }
}
