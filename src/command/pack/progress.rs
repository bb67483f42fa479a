//! How far packing has come: a bar on a terminal, and a line now and then elsewhere.

use crate::text::bar::Bar;
use crate::text::say::say;
use crate::text::units::{bytes, span};
use std::cell::Cell;
use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

/// When the first line is printed, and the time between further ones.
const FIRST: Duration = Duration::from_secs(2);
const BETWEEN: Duration = Duration::from_secs(10);

pub(super) struct PackProgress {
    bar: Bar,
    terminal: bool,
    total: usize,
    start: Instant,
    next: Cell<Instant>,
    done: Cell<usize>,
    bytes: Cell<u64>,
}

impl PackProgress {
    /// Begins with `total` images to be packed.
    pub fn new(total: usize) -> Self {
        let start = Instant::now();
        Self {
            bar: Bar::new("packing", total),
            terminal: stderr().is_terminal(),
            total,
            start,
            next: Cell::new(start + FIRST),
            done: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    /// Counts an image of so many bytes in its shard, 0 if it was left out.
    pub fn add(&self, bytes: u64) {
        self.done.set(self.done.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
        self.bar.set(self.done.get());
    }

    /// Prints a line if it is time for one.
    pub fn tick(&self) {
        let now = Instant::now();
        if self.terminal || now < self.next.get() {
            return;
        }
        self.next.set(now + BETWEEN);
        let (done, seconds) = (self.done.get(), self.start.elapsed().as_secs_f64());
        let rate = done as f64 / seconds;
        let left = (self.total - done.min(self.total)) as f64 / rate;
        let line = format!(
            "packed {done} of {} images, {}, {rate:.0} images/s, {} left",
            self.total,
            bytes(self.bytes.get()),
            span(left)
        );
        say(&mut stderr(), &line);
    }
}
