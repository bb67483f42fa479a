//! The clock of a run.

use crate::event::{Event, Phase, Stamped};

/// Seconds of training, pauses left out, going on between reports.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Clock {
    /// Up to `since`.
    worked_s: f64,
    /// Since when it runs, seconds since 1970-01-01 UTC; it stands still in a pause.
    since: Option<f64>,
    /// This process has ended a step: loading and compiling don't count.
    going: bool,
}

impl Clock {
    /// A process begins after this much training.
    pub(super) fn restart(&mut self, worked_s: f64) {
        *self = Self { worked_s, ..Self::default() };
    }

    pub(super) fn stop(&mut self, time: f64) {
        self.worked_s = self.read(time);
        self.since = None;
    }

    /// Seconds of training at a time.
    pub(super) fn read(&self, time: f64) -> f64 {
        self.worked_s + self.since.map_or(0.0, |since| (time - since).max(0.0))
    }

    /// Reports set it, pauses stop it.
    pub(super) fn apply(&mut self, stamped: &Stamped, paused: bool) {
        match &stamped.event {
            Event::Step(report) => {
                self.worked_s = report.elapsed_s;
                self.since = (!paused).then_some(stamped.time);
                self.going = true;
            }
            Event::Phase { phase: Phase::Paused } => self.stop(stamped.time),
            // Saving in a pause doesn't end it.
            Event::Phase { phase: Phase::Saving } => {}
            Event::Phase { .. } if self.going => {
                self.since.get_or_insert(stamped.time);
            }
            Event::Finished(finished) => self.restart(finished.elapsed_s),
            _ => {}
        }
    }
}
