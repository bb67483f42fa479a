//! Draws frames as the screen does.

use crate::command::bench::median;
use crate::command::bench::parts::{EVENTS, report};
use crate::event::Stamped;
use crate::terminal::colors::{ColorDepth, Detected};
use crate::ui::app::{App, Msg};
use crate::ui::view::{self, PreviewCache};
use ratatui::{Terminal, backend::TestBackend};
use std::time::Instant;

const FRAMES: u64 = 50;

/// Returns the median time of a frame of 120x40 cells, in milliseconds.
pub fn median_ms() -> Option<f64> {
    let colors = Detected { depth: ColorDepth::True, reason: String::new() };
    let mut app = App::new("bench".to_owned(), Box::new(|step| step as f64), colors, false);
    for step in 0..EVENTS {
        app.update(Msg::Event(Box::new(Stamped::now(report(5 * step + 5)))));
    }
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).ok()?;
    let mut cache = PreviewCache::default();
    let mut times = Vec::new();
    for frame in 0..FRAMES {
        app.update(Msg::Event(Box::new(Stamped::now(report(5 * (EVENTS + frame) + 5)))));
        let start = Instant::now();
        view::draw(&mut terminal, &app, &mut cache).ok()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Some(median(times))
}
