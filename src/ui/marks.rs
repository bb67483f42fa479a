//! The marks under the loss chart: checkpoints, resumed runs and alarms.

use super::series::XAxis;

/// Something that happened at a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Optimizer step.
    pub step: f64,
    /// Seconds of training elapsed.
    pub time: f64,
    pub kind: MarkKind,
    /// What happened, in one line.
    pub text: String,
}

impl Mark {
    pub fn x(&self, axis: XAxis) -> f64 {
        match axis {
            XAxis::Step => self.step,
            XAxis::Time => self.time,
        }
    }
}

/// What a mark stands for. In the same column, a later kind of this list hides an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkKind {
    Checkpoint,
    Resume,
    Alarm,
}
