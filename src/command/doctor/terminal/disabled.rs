//! Builds without the screen say so.

use crate::command::doctor::{Finding, Verdict};

pub fn look() -> Vec<Finding> {
    let why = "this build was made without the feature tui";
    vec![Finding::new("terminal", "screen", Verdict::Note, "none: plain lines", why)]
}
