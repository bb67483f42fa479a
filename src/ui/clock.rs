//! The clock of a run: how long it has trained.

use crate::event::{Event, Phase, Stamped};

/// The seconds of training without pauses. The clock runs on between reports.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Clock {
    /// Seconds of training up to `since`, or in all while the clock stands still.
    worked_s: f64,
    /// When the clock began to run, in seconds since 1970-01-01 UTC; `None` while it stands still.
    since: Option<f64>,
    /// Whether this process has ended a step. Loading and compiling before that are no training.
    going: bool,
}

impl Clock {
    /// Sets the clock to this much training, standing still, as at the begin of a process.
    pub(super) fn restart(&mut self, worked_s: f64) {
        *self = Self { worked_s, ..Self::default() };
    }

    pub(super) fn stop(&mut self, time: f64) {
        self.worked_s = self.read(time);
        self.since = None;
    }

    /// Returns the seconds of training at a time.
    pub(super) fn read(&self, time: f64) -> f64 {
        self.worked_s + self.since.map_or(0.0, |since| (time - since).max(0.0))
    }

    /// Takes in an event: a report sets the clock, a pause stops it.
    pub(super) fn apply(&mut self, stamped: &Stamped, paused: bool) {
        match &stamped.event {
            Event::Step(report) => {
                self.worked_s = report.elapsed_s;
                self.since = (!paused).then_some(stamped.time);
                self.going = true;
            }
            Event::Phase { phase: Phase::Paused } => self.stop(stamped.time),
            // The pause goes on while a checkpoint is saved in it.
            Event::Phase { phase: Phase::Saving } => {}
            Event::Phase { .. } if self.going => {
                self.since.get_or_insert(stamped.time);
            }
            Event::Finished(finished) => self.restart(finished.elapsed_s),
            _ => {}
        }
    }
}
