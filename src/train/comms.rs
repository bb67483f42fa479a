//! The run's connection to everybody who watches or steers it: events go out, orders come in, time is measured.

use super::emitter::Emitter;
use super::error::TrainError;
use super::meter::{Activity, Meter};
use super::orders::Orders;
use super::watchdog::Pulse;
use crate::data::ImageError;
use crate::event::{Alarm, AlarmKind, Event, Level, Phase, Stamped, Work, WorkProgress};
use crate::shown;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Shortest and longest time between two attempts to write what couldn't be written.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// Attempts after the first one where nobody may wait for long.
const FEW_TRIES: usize = 2;
/// Time between two reports of how far a validation is.
const PROGRESS: Duration = Duration::from_millis(500);

/// How long the run tries to write what can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// The first error counts: nothing is lost before the training begins.
    None,
    /// Until it works. After a Stop there are only a few more attempts.
    UntilStopped,
    /// A few times, when the run has ended.
    FewTries,
}

/// A write that is waited for.
struct Trouble {
    kind: AlarmKind,
    /// The phase from before, to be restored once it works again.
    before: Phase,
}

/// What all parts of the trainer share to talk to the outside. It waits where an event or a file can't be written, and tries
/// again.
pub(super) struct Comms {
    pub(super) orders: Orders,
    pub(super) meter: Meter,
    emitter: Arc<Emitter>,
    pulse: Arc<Pulse>,
    phase: Phase,
    /// When this phase began, or when its progress was told last.
    told: Instant,
    /// Names of images that can't be read; each is reported once.
    unreadable: BTreeSet<String>,
    /// Names of images that were taken with a flaw; each is reported once.
    flawed: BTreeSet<String>,
    patience: Patience,
    trouble: Option<Trouble>,
    /// Whether events go to the listeners alone, because the log has failed for good.
    unlogged: bool,
}

impl Comms {
    pub(super) fn new(emitter: Arc<Emitter>, orders: Orders, meter: Meter, step: u64) -> Self {
        Self {
            orders,
            meter,
            emitter,
            pulse: Arc::new(Pulse::new(step)),
            phase: Phase::Starting,
            told: Instant::now(),
            unreadable: BTreeSet::new(),
            flawed: BTreeSet::new(),
            patience: Patience::None,
            trouble: None,
            unlogged: false,
        }
    }

    pub(super) fn emitter(&self) -> &Arc<Emitter> {
        &self.emitter
    }

    pub(super) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Writes an event to the log and sends it to the listeners.
    pub(super) fn emit(&mut self, event: Event) -> Result<(), TrainError> {
        if self.unlogged {
            self.emitter.send_unlogged(Stamped::now(event));
            return Ok(());
        }
        // An event that is kept waiting comes after the end of the wait: nothing follows the last one.
        self.persist(|comms| comms.try_to_emit(Some(&event)))
    }

    /// Logs that a wait is over, if there was one, together with an event.
    fn try_to_emit(&mut self, event: Option<&Event>) -> Result<(), TrainError> {
        let over = self.trouble.as_ref().map(|trouble| self.over(trouble)).into_iter().flatten();
        let events: Vec<Stamped> = over.chain(event.cloned()).map(Stamped::now).collect();
        self.emitter.emit(&events)?;
        if let Some(trouble) = self.trouble.take() {
            self.pulse.enter(trouble.before);
        }
        Ok(())
    }

    /// Sends an event to the listeners alone.
    pub(super) fn tell(&self, event: Event) {
        self.emitter.tell(&Stamped::now(event));
    }

    /// Emits a line for people.
    pub(super) fn log(&mut self, level: Level, message: String) -> Result<(), TrainError> {
        self.emit(Event::Log { level, message })
    }

    /// Emits that the run is in another phase now.
    pub(super) fn enter(&mut self, phase: Phase) -> Result<(), TrainError> {
        (self.phase, self.told) = (phase, Instant::now());
        self.pulse.enter(phase);
        self.emit(Event::Phase { phase })
    }

    /// Emits a warning for each image that was not known to be unreadable or flawed.
    pub(super) fn note_faulty(&mut self, faulty: &[ImageError]) -> Result<(), TrainError> {
        for error in faulty {
            let (known, what) = if error.taken {
                (&mut self.flawed, "incomplete image taken")
            } else {
                (&mut self.unreadable, "unreadable image skipped")
            };
            if known.insert(error.name.clone()) {
                let message = format!("{what} ({} so far): {error}", known.len());
                self.log(Level::Warning, message)?;
            }
        }
        Ok(())
    }

    /// Returns how many different images could not be read.
    pub(super) fn unreadable_images(&self) -> usize {
        self.unreadable.len()
    }

    /// Shows the watchdog that work goes on; `step` optimizer steps are done.
    pub(super) fn beat(&self, step: u64) {
        self.pulse.beat(step);
    }

    /// Returns whether work that takes long, as a validation does, shall go on: only a Stop cuts it short, other orders
    /// wait in the queue. To be asked between its batches.
    pub(super) fn goes_on(&mut self, step: u64) -> bool {
        self.beat(step);
        !self.orders.stop_asked()
    }

    /// As [`Self::goes_on`], with how far the work is: `done` of `total` images. From time to time this is told to those
    /// who listen.
    pub(super) fn gets_on(&mut self, step: u64, work: Work, done: usize, total: usize) -> bool {
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            let (done, total) = (done.min(total) as u64, total as u64);
            let progress = WorkProgress { step, work, done, total };
            self.emitter.tell(&Stamped::now(Event::Progress(progress)));
        }
        self.goes_on(step)
    }

    pub(super) fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
        self.trouble = None;
    }

    /// From now on events go to the listeners alone.
    pub(super) fn stop_logging(&mut self) {
        self.unlogged = true;
    }

    /// Brings the log to the disk.
    pub(super) fn sync_log(&self) -> Result<(), TrainError> {
        Ok(self.emitter.sync()?)
    }

    /// Does `work`, which writes. When it can't be written, the listeners are told, and it is tried again until it works:
    /// the run loses nothing but time. A Stop ends the wait after a few last attempts.
    pub(super) fn persist<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        let (mut wait, mut few) = (FIRST_RETRY, FEW_TRIES);
        loop {
            let error = match work(self) {
                Ok(done) => {
                    if self.trouble.is_some() {
                        self.persist_end_of_wait()?;
                    }
                    return Ok(done);
                }
                Err(error) => error,
            };
            let hurried = self.patience == Patience::FewTries || self.orders.stop_known();
            let over = self.patience == Patience::None || (hurried && few == 0);
            let Some((path, why)) = error.passing().filter(|_| !over) else {
                return Err(error);
            };
            self.meter.lap(Activity::Other);
            self.report_trouble(path, why);
            if hurried {
                (wait, few) = (FIRST_RETRY, few - 1);
            }
            self.orders.wait_to_retry(wait);
            self.meter.lap(Activity::Pause);
            wait = LAST_RETRY.min(2 * wait);
        }
    }

    /// Tells the listeners once that something can't be written. The log gets to know as soon as it can be written.
    fn report_trouble(&mut self, path: &Path, why: &io::Error) {
        let (kind, message) = trouble(path, why);
        let known = self.trouble.take();
        let mut events = Vec::new();
        if known.as_ref().is_none_or(|known| known.kind != kind) {
            if let Some(known) = &known {
                events.extend(self.over(known).into_iter().next());
            }
            events.push(self.alarm(kind, true, message));
        }
        if known.is_none() {
            events.push(Event::Phase { phase: Phase::Paused });
            self.pulse.enter(Phase::Paused);
        }
        let before = known.map_or(self.phase, |known| known.before);
        self.trouble = Some(Trouble { kind, before });
        for event in events {
            self.emitter.send_unlogged(Stamped::now(event));
        }
        // Where a checkpoint can't be written, some lines of the log may.
        self.emitter.flush();
    }

    /// Emits that what could not be written was written now.
    fn persist_end_of_wait(&mut self) -> Result<(), TrainError> {
        if self.unlogged {
            self.trouble = None;
            return Ok(());
        }
        // It is boxed because the wait for the log is the same wait again.
        let emit: &mut dyn FnMut(&mut Self) -> Result<(), TrainError> =
            &mut |comms| comms.try_to_emit(None);
        self.persist(emit)
    }

    /// Returns what is said at the end of a wait.
    fn over(&self, trouble: &Trouble) -> [Event; 2] {
        let message = match trouble.kind {
            AlarmKind::DiskFull => "there is space again, the run goes on",
            _ => "it can be written again, the run goes on",
        };
        [
            self.alarm(trouble.kind, false, message.to_owned()),
            Event::Phase { phase: trouble.before },
        ]
    }

    fn alarm(&self, kind: AlarmKind, active: bool, message: String) -> Event {
        Event::Alarm(Alarm { kind, active, step: self.pulse.step(), message })
    }
}

/// Returns the alarm for a file that can't be written, and its message.
fn trouble(path: &Path, why: &io::Error) -> (AlarmKind, String) {
    let path = shown::path(path);
    let full = |message| (AlarmKind::DiskFull, message);
    match why.kind() {
        ErrorKind::FileTooLarge => full(format!(
            "{path} is larger than the limit on the size of files (ulimit -f); the run waits, and goes on when it is \
             raised (prlimit --fsize)"
        )),
        ErrorKind::QuotaExceeded => full(format!(
            "your share of the disk has no space for {path}; the run waits, and goes on when there is some"
        )),
        ErrorKind::StorageFull => {
            full(format!("no space for {path}; the run waits, and goes on when there is some"))
        }
        _ => {
            let waits = "the run waits, tries again by itself, and goes on when it can be written";
            (AlarmKind::CannotWrite, format!("{path}: {why}; {waits}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_dir::{EventLog, event_log};
    use crossbeam_channel::unbounded;

    #[test]
    fn the_progress_of_a_validation_is_told_from_time_to_time_and_never_logged() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        let (sender, heard) = unbounded::<Stamped>();
        let log = EventLog::open(&path).expect("writable");
        let emitter = Arc::new(Emitter::new(log, vec![Box::new(sender)]));
        let (_orders, receiver) = unbounded();
        let mut comms = Comms::new(emitter, Orders::new(receiver), Meter::new(0.0), 7);
        comms.enter(Phase::Evaluating).expect("written");
        assert!(comms.gets_on(7, Work::Validation, 32, 900), "it has just begun");
        for done in [64, 96, 128] {
            comms.told = comms.told.checked_sub(PROGRESS).expect("the machine runs for longer");
            assert!(comms.gets_on(7, Work::Validation, done, 900));
            assert!(comms.gets_on(7, Work::Validation, done + 1, 900), "too soon to be told");
        }
        let heard: Vec<Event> = heard.try_iter().map(|stamped| stamped.event).collect();
        let told: Vec<u64> = heard
            .iter()
            .filter_map(|event| match event {
                Event::Progress(progress) => Some(progress.done),
                _ => None,
            })
            .collect();
        assert_eq!(told, [64, 96, 128]);
        assert_eq!(event_log::read(&path).expect("readable").len(), 1, "the phase alone");
    }
}
