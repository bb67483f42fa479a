//! The run's connection to everybody who watches or steers it: events go out, orders come in, time is measured.

use super::emitter::Emitter;
use super::error::TrainError;
use super::meter::{Activity, Meter};
use super::orders::Orders;
use super::watchdog::Pulse;
use crate::data::ImageError;
use crate::event::{Alarm, AlarmKind, Event, Level, Phase, Stamped};
use crate::shown;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Shortest and longest time between two attempts to write to a full disk.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// What all parts of the trainer share to talk to the outside. It waits for space where a full disk stops an event or a
/// file from being written.
pub(super) struct Comms {
    pub(super) orders: Orders,
    pub(super) meter: Meter,
    emitter: Arc<Emitter>,
    pulse: Arc<Pulse>,
    phase: Phase,
    /// Names of images that can't be read; each is reported once.
    unreadable: BTreeSet<String>,
    /// Names of images that were taken with a flaw; each is reported once.
    flawed: BTreeSet<String>,
    /// Whether to wait for space on a full disk. Before and after the training itself a full disk is an error.
    waits_for_space: bool,
    /// The phase from before the disk was full, to be restored once there is space again.
    phase_before_full: Option<Phase>,
}

impl Comms {
    pub(super) fn new(emitter: Arc<Emitter>, orders: Orders, meter: Meter, step: u64) -> Self {
        Self {
            orders,
            meter,
            emitter,
            pulse: Arc::new(Pulse::new(step)),
            phase: Phase::Starting,
            unreadable: BTreeSet::new(),
            flawed: BTreeSet::new(),
            waits_for_space: false,
            phase_before_full: None,
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
        let (stamped, emitter) = (Stamped::now(event), Arc::clone(&self.emitter));
        self.retry_while_disk_full(|| Ok(emitter.emit(&stamped)?))
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
        self.phase = phase;
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

    /// From now on a full disk makes the run wait.
    pub(super) fn wait_for_space(&mut self) {
        self.waits_for_space = true;
    }

    /// From now on a full disk is an error.
    pub(super) fn fail_without_space(&mut self) {
        self.waits_for_space = false;
        self.phase_before_full = None;
    }

    /// Does `work`, which writes. When the disk is full it says so, waits until there is space, and tries again; the run
    /// loses nothing but time. A Stop ends the wait with one last attempt.
    pub(super) fn retry_while_disk_full<T>(
        &mut self,
        mut work: impl FnMut() -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        let mut wait = FIRST_RETRY;
        loop {
            let error = match work() {
                Ok(done) => {
                    self.report_space()?;
                    return Ok(done);
                }
                Err(error) => error,
            };
            let Some((path, why)) = error.full_disk().filter(|_| self.waits_for_space) else {
                return Err(error);
            };
            self.meter.lap(Activity::Other);
            if self.orders.stop_known() {
                return Err(error);
            }
            self.report_full_disk(path, why);
            self.orders.wait_to_retry(wait);
            self.meter.lap(Activity::Pause);
            wait = LAST_RETRY.min(2 * wait);
        }
    }

    /// Tells the listeners once that the disk is full. The log gets to know as soon as it can be written.
    fn report_full_disk(&mut self, path: &Path, why: ErrorKind) {
        if self.phase_before_full.is_none() {
            self.phase_before_full = Some(self.phase);
            let path = shown::path(path);
            let message = match why {
                ErrorKind::FileTooLarge => format!(
                    "{path} is larger than the limit on the size of files (ulimit -f); the run waits, and goes on when \
                     it is raised (prlimit --fsize)"
                ),
                ErrorKind::QuotaExceeded => format!(
                    "your share of the disk has no space for {path}; the run waits, and goes on when there is some"
                ),
                _ => format!("no space for {path}; the run waits, and goes on when there is some"),
            };
            for event in [self.disk_full(true, message), Event::Phase { phase: Phase::Paused }] {
                self.emitter.send_unlogged(Stamped::now(event));
            }
            self.pulse.enter(Phase::Paused);
        }
        // Where a checkpoint finds no space, some lines of the log may.
        self.emitter.flush();
    }

    /// Emits that the disk has space again, if it was full.
    fn report_space(&mut self) -> Result<(), TrainError> {
        let Some(before) = self.phase_before_full.take() else { return Ok(()) };
        let message = "there is space again, the run goes on".to_owned();
        self.emit(self.disk_full(false, message))?;
        self.enter(before)
    }

    fn disk_full(&self, active: bool, message: String) -> Event {
        let step = self.pulse.step();
        Event::Alarm(Alarm { kind: AlarmKind::DiskFull, active, step, message })
    }
}
