//! What happened at a step, as marks under the loss chart.

use super::series::XAxis;

/// Something that happened at a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Optimizer step.
    pub step: f64,
    /// Seconds of training elapsed.
    pub time: f64,
    pub kind: MarkKind,
    /// What it was, in a line.
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

/// Later kinds hide earlier ones in the same column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkKind {
    Checkpoint,
    Resume,
    Alarm,
}
