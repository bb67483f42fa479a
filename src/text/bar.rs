//! Progress bars for long work outside the screen, on standard error. Where that is not a terminal nothing is shown.

use crate::terminal::unicode::has_unicode;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal as _, stderr};

/// A progress bar on one line. It is erased when it is dropped.
pub struct Bar(ProgressBar);

impl Bar {
    /// Shows a bar for `total` items; `what` says what is done to them.
    pub fn new(what: &str, total: usize) -> Self {
        let utf8 = has_unicode(|name| std::env::var(name).ok());
        let target = if stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("{msg}  {wide_bar}  {pos}/{len}  {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars(if utf8 { "█▉▊▋▌▍▎▏ " } else { "=> " });
        let bar = ProgressBar::with_draw_target(Some(total as u64), target).with_style(style);
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// Shows that `done` items are done.
    pub fn set(&self, done: usize) {
        self.0.set_position(done as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
