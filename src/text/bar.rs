//! Progress of long work outside the screen, on standard error; nothing where that is no terminal.

use crate::terminal::unicode::has_unicode;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal as _, stderr};

/// A bar on one line, gone when it is dropped.
pub struct Bar(ProgressBar);

impl Bar {
    /// `what` is being done to `total` things.
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

    /// That many of them are done.
    pub fn set(&self, done: usize) {
        self.0.set_position(done as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
