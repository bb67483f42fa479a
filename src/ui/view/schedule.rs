//! The chart of the learning rate over a whole run, by the function that training uses.

use super::axes::{Axes, draw_parts};
use super::canvas::{Canvas, Pen};
use super::numbers::{format_step, multiples, nice_step};
use crate::terminal::colors::ColorDepth;
use crate::ui::app::App;
use crate::ui::series::{Bucket, XAxis, column_of};
use crate::ui::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget;

/// The past and future learning rates, with the end of the warm-up and the step that the run is at. The chart fills
/// its area and draws no border.
pub(super) struct ScheduleChart<'a> {
    /// The learning rate of a step, counted from 0.
    pub lr: &'a dyn Fn(u64) -> f64,
    /// Length of the run, in optimizer steps.
    pub total_steps: u64,
    pub warmup_steps: u64,
    /// The step that comes next.
    pub step: u64,
    pub theme: Theme,
    /// Only ASCII characters.
    pub ascii: bool,
}

const FUTURE: usize = 0;
const PAST: usize = 1;

impl<'a> ScheduleChart<'a> {
    /// Returns `None` until the run has told how long it is.
    pub(super) fn of(app: &'a App) -> Option<Self> {
        let started = app.state.started.as_ref()?;
        Some(Self {
            lr: app.lr.as_ref(),
            total_steps: started.total_steps,
            warmup_steps: started.warmup_steps,
            step: app.state.last_step.as_ref().map_or(started.step, |report| report.step),
            theme: app.theme(),
            ascii: app.ascii,
        })
    }
}

impl Widget for ScheduleChart<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(buf.area);
        if area.is_empty() {
            return;
        }
        if self.total_steps == 0 {
            let width = usize::from(area.width);
            buf.set_stringn(area.x, area.y, "no steps to run", width, self.theme.dim());
            return;
        }
        let axes = Axes::new(area, self.theme, self.ascii);
        let plot = axes.plot;
        let (width, height) = (usize::from(plot.width), usize::from(plot.height));
        let mut canvas = Canvas::new(width, height, 2, self.ascii);
        let rates = self.rates(canvas.width * canvas.dots.0);
        let peak = rates.iter().flatten().map(|rate| rate.max).fold(0.0, f64::max);
        let top = if peak > 0.0 { peak } else { 1.0 };
        let rows = canvas.height * canvas.dots.1;
        let row = |rate: f64| {
            let share = (1.0 - rate / top).clamp(0.0, 1.0);
            (share * (rows - 1) as f64).round() as usize
        };
        canvas.curve(FUTURE, &rates, row);
        let passed = self.column(self.step, rates.len()) + 1;
        canvas.curve(PAST, &rates[..passed.min(rates.len())], row);
        canvas.draw(plot, |column, row| self.topmost(&canvas, column, row), buf);
        let levels = multiples(0.0, top, nice_step(0.0, top));
        axes.draw_levels(levels.map(|rate| (row(rate) / canvas.dots.1, label(rate))), buf);
        self.draw_line(&axes, buf);
        let here = self.column(self.step, canvas.width) as u16;
        let rate = (self.lr)(self.step.min(self.total_steps - 1));
        let cell = &mut buf[(plot.x + here, plot.y + (row(rate) / canvas.dots.1) as u16)];
        cell.set_char('@').set_style(self.theme.focus());
        if let Some(header) = axes.header {
            self.draw_header(header, rate, peak, buf);
        }
    }
}

impl ScheduleChart<'_> {
    fn column(&self, step: u64, columns: usize) -> usize {
        let (step, end) = (step.min(self.total_steps), self.total_steps as f64);
        column_of(step as f64, (0.0, end), columns).unwrap_or(0)
    }

    /// Returns the rates of each dot column at its first, middle and last step. The peak after the warm-up is always
    /// among them.
    fn rates(&self, columns: usize) -> Vec<Option<Bucket>> {
        let last = self.total_steps - 1;
        let place = |share: f64| ((share * self.total_steps as f64) as u64).min(last);
        let warm = self.warmup_steps.min(last);
        let warm_column = self.column(warm, columns);
        let column = |column: usize| {
            let at = |part: f64| place((column as f64 + part) / columns as f64);
            let mut rates = vec![(self.lr)(at(0.0)), (self.lr)(at(0.5))];
            if column == warm_column {
                rates.push((self.lr)(warm));
            }
            rates.push((self.lr)(at(1.0).saturating_sub(1).max(at(0.0))));
            rates.retain(|rate| rate.is_finite());
            let max = rates.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let min = rates.iter().copied().fold(f64::INFINITY, f64::min);
            rates.last().map(|&last| Bucket { min, max, last, nan: false })
        };
        (0..columns).map(column).collect()
    }

    /// Returns what is seen in a cell. The future has all dots of the curve, and a cell that the past has reached shows
    /// them as past.
    fn topmost(&self, canvas: &Canvas, column: usize, row: usize) -> Option<(Pen, u8)> {
        let mono = self.theme.depth == ColorDepth::Mono;
        let past = Pen { glyph: self.ascii.then_some('*'), style: self.theme.lr() };
        let future = Pen { glyph: (self.ascii || mono).then_some('.'), style: self.theme.dim() };
        match [PAST, FUTURE].map(|layer| canvas.bits(layer, column, row)) {
            [0, 0] => None,
            [0, bits] => Some((future, bits)),
            [_, bits] => Some((past, bits)),
        }
    }

    /// Draws the line under the plot with `w` at the end of the warm-up and an arrow at the run's step.
    fn draw_line(&self, axes: &Axes, buf: &mut Buffer) {
        let (Some(y), plot) = (axes.line, axes.plot) else { return };
        axes.draw_line((0.0, self.total_steps as f64), XAxis::Step, buf);
        axes.draw_name(XAxis::Step, buf);
        let width = usize::from(plot.width);
        if (1..self.total_steps).contains(&self.warmup_steps) {
            let column = self.column(self.warmup_steps, width);
            let line = if self.ascii { ':' } else { '┊' };
            axes.draw_upright(column, line, self.theme.dim(), buf);
            buf.set_string(plot.x + column as u16, y, "w", self.theme.lr());
        }
        let column = plot.x + self.column(self.step, width) as u16;
        buf.set_string(column, y, if self.ascii { "^" } else { "▲" }, self.theme.focus());
    }

    fn draw_header(&self, row: Rect, rate: f64, peak: f64, buf: &mut Buffer) {
        let step = |step: u64| format_step(step as f64, 1.0);
        let total = step(self.total_steps);
        let digits = total.len();
        let parts: [(String, Style); 4] = [
            (format!("lr {rate:.2e}"), self.theme.lr()),
            (format!("step {:>digits$}/{total}", step(self.step)), self.theme.title()),
            (format!("peak {peak:.2e}"), self.theme.dim()),
            (format!("w = warm-up, {} steps", step(self.warmup_steps)), self.theme.dim()),
        ];
        draw_parts(parts, row, buf);
    }
}

fn label(rate: f64) -> String {
    if rate > 0.0 { format!("{rate:.1e}") } else { "0".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(width: u16, height: u16, chart: ScheduleChart<'_>) -> Vec<String> {
        let mut buf = Buffer::empty(Rect::new(0, 0, width, height));
        chart.render(buf.area, &mut buf);
        let row = |y| (0..width).map(|x| buf[(x, y)].symbol().to_owned()).collect();
        (0..height).map(row).collect()
    }

    fn cosine(step: u64) -> f64 {
        let warm = step as f64 / 100.0;
        let rest = (step as f64 - 100.0) / 900.0;
        2e-4 * if step < 100 { warm } else { 0.5 + 0.5 * (std::f64::consts::PI * rest).cos() }
    }

    fn chart(lr: &dyn Fn(u64) -> f64, step: u64, ascii: bool) -> ScheduleChart<'_> {
        let theme = Theme { depth: ColorDepth::Mono };
        ScheduleChart { lr, total_steps: 1000, warmup_steps: 100, step, theme, ascii }
    }

    #[test]
    fn the_whole_run_is_drawn_with_past_future_warm_up_and_the_present() {
        let rows = draw(108, 12, chart(&cosine, 500, true));
        assert!(rows[0].starts_with("lr 1.17e-4  step  500/1000  peak 2.00e-4  w = "), "{rows:#?}");
        let axis: Vec<char> = rows[10].chars().collect();
        assert_eq!((axis[8 + 10], axis[8 + 50]), ('w', '^'), "{rows:#?}");
        for row in &rows[1..10] {
            let cells: Vec<char> = row.chars().skip(8).collect();
            assert!(!cells[..50].contains(&'.') && !cells[51..].contains(&'*'), "{rows:#?}");
        }
        assert!(rows[1].contains('*') && rows[9].contains('.'), "{rows:#?}");
        assert_eq!(rows.iter().filter(|row| row.contains('@')).count(), 1);
        assert!(rows.iter().any(|row| row.starts_with(" 1.0e-4+")), "{rows:#?}");
    }

    #[test]
    fn a_peak_of_one_step_and_odd_rates_do_not_break_it() {
        let peak = |step| if step == 100 { 1.0 } else { 0.0 };
        let rows = draw(30, 8, chart(&peak, 0, true));
        assert!(rows[1][8..].contains('.'), "the peak reaches the top: {rows:#?}");
        let odd = |step: u64| [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300][step as usize % 5];
        for width in 0..40 {
            for height in 0..9 {
                for (total, step) in [(0, 0), (1, 0), (1, 9), (3, 2), (1_000_000, u64::MAX)] {
                    let (total_steps, warmup_steps) = (total, step / 2);
                    let ascii = width % 2 == 0;
                    let chart = chart(&odd, step, ascii);
                    draw(width, height, ScheduleChart { total_steps, warmup_steps, ..chart });
                }
            }
        }
    }
}
