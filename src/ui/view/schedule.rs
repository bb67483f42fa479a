//! The learning rate of a whole run, by the function that trains.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget;

use super::canvas::{Canvas, Pen};
use super::chart::{format_step, gutter, multiples, nice_step, x_ticks};
use super::loss::draw_labels;
use crate::terminal::colors::ColorDepth;
use crate::ui::app::App;
use crate::ui::series::{Bucket, XAxis, column_of};
use crate::ui::theme::Theme;

/// Past and future learning rates with the end of the warm-up and the step that the run is at. No border.
pub struct ScheduleChart<'a> {
    /// Learning rate of a step, counted from 0.
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
    pub fn of(app: &'a App) -> Option<Self> {
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
        let (left, header) = (gutter(area.width), u16::from(area.height >= 3));
        let axis = u16::from(area.height >= 2);
        let labels = u16::from(area.height >= 5);
        let plot = Rect {
            x: area.x + left,
            y: area.y + header,
            width: area.width - left,
            height: area.height - header - axis - labels,
        };
        let mut canvas =
            Canvas::new(usize::from(plot.width), usize::from(plot.height), 2, self.ascii);
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
        self.draw_canvas(&canvas, plot, buf);
        if left > 0 {
            let places: Vec<_> = multiples(0.0, top, nice_step(0.0, top))
                .map(|rate| (plot.y + (row(rate) / canvas.dots.1) as u16, rate))
                .collect();
            self.draw_levels(&places, plot, buf);
        }
        if axis > 0 {
            self.draw_axis(plot, labels > 0, left > 0, buf);
        }
        let here = self.column(self.step, canvas.width) as u16;
        let rate = (self.lr)(self.step.min(self.total_steps - 1));
        let cell = &mut buf[(plot.x + here, plot.y + (row(rate) / canvas.dots.1) as u16)];
        cell.set_char('@').set_style(self.theme.focus());
        if header > 0 {
            self.draw_header(Rect { height: 1, ..area }, rate, peak, buf);
        }
    }
}

impl ScheduleChart<'_> {
    fn column(&self, step: u64, columns: usize) -> usize {
        let (step, end) = (step.min(self.total_steps), self.total_steps as f64);
        column_of(step as f64, (0.0, end), columns).unwrap_or(0)
    }

    /// Rates of each dot column at its first, middle and last step; the peak after the warm-up is always among them.
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

    fn draw_canvas(&self, canvas: &Canvas, plot: Rect, buf: &mut Buffer) {
        let mono = self.theme.depth == ColorDepth::Mono;
        let past = Pen { glyph: self.ascii.then_some('*'), style: self.theme.lr() };
        let future = Pen { glyph: (self.ascii || mono).then_some('.'), style: self.theme.dim() };
        for row in 0..canvas.height {
            for column in 0..canvas.width {
                let (pen, bits) = match [PAST, FUTURE].map(|one| canvas.bits(one, column, row)) {
                    [0, 0] => continue,
                    [0, bits] => (future, bits),
                    [_, bits] => (past, bits),
                };
                let cell = &mut buf[(plot.x + column as u16, plot.y + row as u16)];
                cell.set_char(pen.draw(bits)).set_style(pen.style);
            }
        }
    }

    fn draw_levels(&self, places: &[(u16, f64)], plot: Rect, buf: &mut Buffer) {
        let (line, tick) = if self.ascii { ("|", "+") } else { ("│", "┤") };
        let (x, dim) = (plot.x - 1, self.theme.dim());
        for y in plot.top()..plot.bottom() {
            buf.set_string(x, y, line, dim);
        }
        let mut taken = u16::MAX;
        for &(y, rate) in places {
            if y != taken {
                let label = if rate > 0.0 { format!("{rate:.1e}") } else { "0".to_owned() };
                buf.set_stringn(x - 7, y, format!("{label:>7}"), 7, dim);
                buf.set_string(x, y, tick, dim);
                taken = y;
            }
        }
    }

    /// The axis with `w` at the end of the warm-up and an arrow at the run's step.
    fn draw_axis(&self, plot: Rect, labels: bool, corner: bool, buf: &mut Buffer) {
        let (y, dim) = (plot.bottom(), self.theme.dim());
        let [line, edge, tick, here] =
            if self.ascii { ["-", "+", "+", "^"] } else { ["─", "└", "┬", "▲"] };
        for x in plot.left()..plot.right() {
            buf.set_string(x, y, line, dim);
        }
        if corner {
            buf.set_string(plot.x - 1, y, edge, dim);
        }
        let width = usize::from(plot.width);
        if labels {
            let ticks = x_ticks((0.0, self.total_steps as f64), width, XAxis::Step);
            let row = Rect { y: y + 1, height: 1, ..plot };
            for column in draw_labels(&ticks, row, dim, buf) {
                buf.set_string(plot.x + column as u16, y, tick, dim);
            }
            if corner {
                buf.set_string(plot.x - 8, y + 1, "step", dim);
            }
        }
        if (1..self.total_steps).contains(&self.warmup_steps) {
            let column = plot.x + self.column(self.warmup_steps, width) as u16;
            for row in plot.top()..plot.bottom() {
                let cell = &mut buf[(column, row)];
                if cell.symbol() == " " {
                    cell.set_char(if self.ascii { ':' } else { '┊' }).set_style(dim);
                }
            }
            buf.set_string(column, y, "w", self.theme.lr());
        }
        let column = plot.x + self.column(self.step, width) as u16;
        buf.set_string(column, y, here, self.theme.focus());
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
        let mut left = 0;
        for (text, style) in parts {
            if left + text.len() > usize::from(row.width) {
                break;
            }
            buf.set_string(row.x + left as u16, row.y, &text, style);
            left += text.len() + 2;
        }
    }
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
