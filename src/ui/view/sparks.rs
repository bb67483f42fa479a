//! A sparkline: one metric on one row.

use super::numbers::format_value;
use crate::ui::series::{Point, Series};
use crate::ui::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;

/// A label, the latest points as bars between their least and greatest value, and the last value. It fills one row.
pub(super) struct Spark<'a> {
    pub label: &'a str,
    /// The unit of the value, which is shown after it.
    pub unit: &'a str,
    pub series: &'a Series,
    pub theme: Theme,
    /// Only ASCII characters.
    pub ascii: bool,
}

/// The cells of the label, the same for all so that rows align.
const LABEL: usize = 10;
/// The cells of the value.
const VALUE: usize = 7;
/// The cells of the unit.
const UNIT: usize = 6;
/// The least number of bars that are drawn.
const LEAST_BARS: usize = 4;
/// The points in one bar of a long series.
const POINTS_PER_BAR: usize = 4;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_BARS: [char; 6] = ['_', '.', '-', '=', '*', '#'];

impl Widget for Spark<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(buf.area);
        if area.is_empty() {
            return;
        }
        let width = usize::from(area.width);
        let last = self.series.last();
        let text = last.map_or_else(|| "-".to_owned(), |point| format_value(point.value));
        let finite = last.is_none_or(|point| point.value.is_finite());
        let style = if finite { Theme::text() } else { self.theme.error() };
        // A narrow row gives up the bars first, then the label, then the unit.
        let unit = if width >= VALUE + 1 + UNIT { UNIT + 1 } else { 0 };
        let label = if width >= LABEL + 1 + VALUE + unit { LABEL + 1 } else { 0 };
        let bars = width.saturating_sub(label + VALUE + unit + 1);
        let at = |cells: usize| area.x + cells as u16;
        if label > 0 {
            buf.set_stringn(area.x, area.y, self.label, LABEL, self.theme.dim());
        }
        let mut left = label;
        if bars >= LEAST_BARS {
            self.draw_bars(Rect { x: at(label), width: bars as u16, height: 1, ..area }, buf);
            left += bars + 1;
        }
        let text = format!("{text:>0$}", VALUE.min(width));
        buf.set_stringn(at(left), area.y, text, width - left, style);
        if unit > 0 {
            let x = left + VALUE + 1;
            buf.set_stringn(at(x), area.y, self.unit, (width - x).min(UNIT), self.theme.dim());
        }
    }
}

impl Spark<'_> {
    /// Draws the bars. Each shows the one of its values that is farthest from the median, so that neither a peak nor a
    /// dip is lost.
    fn draw_bars(&self, row: Rect, buf: &mut Buffer) {
        let columns = usize::from(row.width);
        let points = self.series.points();
        let every = if points.len() <= columns { 1 } else { POINTS_PER_BAR };
        // Groups start at fixed points, so that a bar keeps its height while the row moves on.
        let groups = points.len().div_ceil(every);
        let window = &points[groups.saturating_sub(columns) * every..];
        let mut values: Vec<f64> =
            window.iter().map(|point| point.value).filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = match values[..] {
            [low, .., high] => (low, high),
            [only] => (only, only),
            [] => (0.0, 0.0),
        };
        let middle = values.get(values.len() / 2).copied().unwrap_or_default();
        let far = |point: &&Point| (point.value - middle).abs();
        let steps: &[char] = if self.ascii { &ASCII_BARS } else { &BARS };
        let top = steps.len() - 1;
        for (x, group) in (row.left()..row.right()).zip(window.chunks(every)) {
            let cell = &mut buf[(x, row.y)];
            let extreme = group.iter().max_by(|a, b| far(a).total_cmp(&far(b)));
            if group.iter().any(|point| !point.value.is_finite()) {
                cell.set_char('!').set_style(self.theme.error());
            } else if let Some(extreme) = extreme {
                let share = (extreme.value - low) / (high - low);
                // A constant has no share and gets half the height.
                let share = if share.is_finite() { share } else { 0.5 };
                let level = ((share * top as f64).round() as usize).min(top);
                cell.set_char(steps[level]).set_style(self.theme.train());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::colors::ColorDepth;

    fn series(values: impl IntoIterator<Item = f64>) -> Series {
        let mut series = Series::new();
        for (step, value) in values.into_iter().enumerate() {
            series.push(Point { step: step as f64, time: step as f64, value });
        }
        series
    }

    fn draw(series: &Series, width: u16, ascii: bool) -> String {
        let mut buf = Buffer::empty(Rect::new(0, 0, width, 1));
        let theme = Theme { depth: ColorDepth::Mono };
        Spark { label: "throughput", unit: "img/s", series, theme, ascii }
            .render(buf.area, &mut buf);
        (0..width).map(|x| buf[(x, 0)].symbol().to_owned()).collect()
    }

    #[test]
    fn a_line_has_label_bars_last_value_and_unit() {
        let line = draw(&series((0..8).map(f64::from)), 40, false);
        assert_eq!(line, "throughput ▁▂▃▄▅▆▇█        7.0000 img/s ");
        let line = draw(&series((0..6).map(f64::from)), 40, true);
        assert_eq!(line, "throughput _.-=*#          5.0000 img/s ");
        assert!(draw(&series([]), 40, true).ends_with("      - img/s "));
    }

    #[test]
    fn peaks_dips_and_nan_survive_and_a_constant_is_half_high() {
        for odd in [9.0, -9.0, f64::NAN] {
            let mut values = vec![1.0; 1000];
            values[961] = odd;
            let line = draw(&series(values), 60, true);
            let expected = if odd.is_nan() { '!' } else { ['_', '#'][usize::from(odd > 0.0)] };
            assert_eq!(line.matches(expected).count(), 1, "{line}");
        }
        assert!(draw(&series([3.0; 5]), 40, false).contains("▅▅▅▅▅"));
    }

    #[test]
    fn any_width_and_any_values_are_drawn() {
        let odd = [f64::NAN, f64::INFINITY, -1e300, 1e300, 0.0, 5e-324];
        for width in 0..120 {
            for length in [0, 1, 2, 6, 500] {
                let values = (0..length).map(|index| odd[(index * 7 + index / 6) % odd.len()]);
                draw(&series(values), width, length % 2 == 0);
            }
        }
    }
}
