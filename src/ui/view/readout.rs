//! The values of the loss chart as text: those of the live run in the top row, those of earlier runs in the legend.

use super::axes::draw_parts;
use super::loss::LossChart;
use super::numbers::{format_step, format_value};
use crate::text::units::span;
use crate::ui::overlay::Overlay;
use crate::ui::series::XAxis;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use std::fmt::Write as _;

/// Where the cursor stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub x: f64,
    /// Whether the live run has come as far.
    pub live: bool,
    /// The greatest distance of a place in the same column.
    pub slack: f64,
}

/// The cells of a value in the legend, with the space before it.
const VALUE: usize = 8;
/// The cells before a name: the pen between spaces.
const SWATCH: usize = 3;
/// The least cells of a name that has a value beside it.
const LEAST_NAME: usize = 8;
/// A plot below this width has no legend.
const LEAST_PLOT: u16 = 24;

impl LossChart<'_> {
    /// Draws the values at the cursor, or the last ones, with the names of the curves, as far as there is room.
    pub(super) fn draw_header(&self, place: Option<Place>, row: Rect, buf: &mut Buffer) {
        let parts = match place {
            Some(place) if !place.live => self.ahead(place.x),
            _ => self.live_values(place),
        };
        draw_parts(parts, row, buf);
    }

    /// Returns the top row for a cursor at a place that the live run has not reached.
    fn ahead(&self, x: f64) -> Vec<(String, Style)> {
        let text = match self.view.axis {
            XAxis::Step => format!("step {}", format_step(x, 1.0)),
            XAxis::Time => span(x),
        };
        let title = self.theme.title();
        vec![(text, title), ("not reached yet".to_owned(), self.theme.dim())]
    }

    fn live_values(&self, place: Option<Place>) -> Vec<(String, Style)> {
        let (theme, axis, beta) = (self.theme, self.view.axis, self.view.beta());
        let x = place.map_or(f64::MAX, |place| place.x);
        let train = self.train.nearest_index(x, axis);
        let val = self.val.nearest(x, axis);
        let point = train.map(|index| &self.train.points()[index]);
        let mut parts: Vec<(String, Style)> = Vec::new();
        let here = point.or(val);
        if let (Some(_), Some(here)) = (place, here) {
            parts.push((format!("step {:<7}", format_step(here.step, 1.0)), theme.title()));
        }
        if let (Some(index), Some(point)) = (train, point) {
            let smooth = self.train.smoothed(beta).get(index).copied();
            let shown = if beta > 0.0 { smooth.unwrap_or(f64::NAN) } else { point.value };
            parts.push((format!("train {:<7}", format_value(shown)), theme.train()));
        }
        if let Some(val) = val {
            let step = format_step(val.step, 1.0);
            parts.push((format!("o val {:<7}@{step}", format_value(val.value)), theme.val()));
        }
        if let Some(point) = point.filter(|_| beta > 0.0) {
            parts.push((format!("raw {:<7}", format_value(point.value)), theme.train_raw()));
        }
        if let (Some(_), Some(here)) = (place, here) {
            parts.push((format!("{:<6}", span(here.time)), theme.title()));
        }
        if beta > 0.0 {
            parts.push((format!("ema {beta}"), theme.dim()));
        }
        if self.view.log_y {
            parts.push(("log".to_owned(), theme.dim()));
        }
        parts
    }

    /// Draws the names of the earlier runs in the upper right corner, with their training and validation loss at the
    /// cursor, or their last ones, as far as there is room. Of long names the end is kept.
    pub(super) fn draw_legend(&self, place: Option<Place>, plot: Rect, buf: &mut Buffer) {
        let rows = usize::from(plot.height / 3);
        if self.overlays.is_empty() || rows == 0 || plot.width < LEAST_PLOT {
            return;
        }
        let room = usize::from(plot.width) * 2 / 3;
        let longest = self.overlays.iter().map(|run| run.name.chars().count()).max();
        let wanted = SWATCH + longest.unwrap_or(0);
        let least = usize::from(room >= SWATCH + LEAST_NAME + VALUE);
        let values = (room.saturating_sub(wanted) / VALUE).clamp(least, 2);
        let width = (wanted + values * VALUE).min(room);
        let left = plot.right() - width as u16;
        let named = if rows < self.overlays.len() { rows - 1 } else { rows };
        for (index, run) in self.overlays.iter().enumerate().take(named) {
            let pen = self.overlay_pen(index);
            let line = pen.glyph.unwrap_or('━');
            let name = tail(&run.name, width - SWATCH - values * VALUE);
            let mut text = format!(" {line} {name:<0$}", width - SWATCH - values * VALUE);
            for value in self.values(run, place).into_iter().take(values) {
                let value = value.map_or("-".to_owned(), format_value);
                let _ = write!(text, " {value:>7}"); // writing to a string can't fail
            }
            buf.set_stringn(left, plot.y + index as u16, text, width, pen.style);
        }
        if let Some(more) = self.overlays.len().checked_sub(named).filter(|more| *more > 0) {
            let text = format!("{:<width$}", format!(" +{more} more"));
            buf.set_stringn(left, plot.y + named as u16, text, width, self.theme.dim());
        }
    }

    /// Returns the training and validation loss of an earlier run; there is none after its end.
    fn values(&self, run: &Overlay, place: Option<Place>) -> [Option<f64>; 2] {
        let axis = self.view.axis;
        if place.is_some_and(|place| place.x > run.end(axis) + place.slack) {
            return [None, None];
        }
        let x = place.map_or(f64::MAX, |place| place.x);
        let beta = self.view.beta();
        let train = run.train.nearest_index(x, axis).and_then(|index| {
            let raw = run.train.points()[index].value;
            if beta > 0.0 { run.train.smoothed(beta).get(index).copied() } else { Some(raw) }
        });
        [train, run.val.nearest(x, axis).map(|point| point.value)]
    }
}

/// Returns the last characters of a name, because the names of runs differ at their end.
fn tail(name: &str, most: usize) -> String {
    let count = name.chars().count();
    if count <= most {
        return name.to_owned();
    }
    let kept = most.saturating_sub(2);
    let end: String = name.chars().skip(count - kept).collect();
    format!("..{end}").chars().take(most).collect()
}
