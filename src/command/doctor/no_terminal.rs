//! Stands in for `terminal.rs` in builds without the screen.

use super::{Finding, Verdict};

pub(super) fn look() -> Vec<Finding> {
    let why = "this build was made without the feature tui";
    vec![Finding::new("terminal", "screen", Verdict::Note, "none: plain lines", why)]
}
