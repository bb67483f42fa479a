//! The accuracy chart, over the same steps or time as the loss: a curve for each metric that evaluations measured, and
//! dashed lines for what the same methods reach without training.

use super::axes::{Axes, draw_parts, note};
use super::canvas::{Canvas, Pen};
use super::curve::{Curve, Scale};
use super::numbers::{format_step, multiples, nice_step};
use crate::terminal::colors::ColorDepth;
use crate::ui::app::App;
use crate::ui::chart_view::{ChartView, Extent};
use crate::ui::metrics::Metrics;
use crate::ui::series::{Point, Series, column_of};
use crate::ui::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget;

/// The accuracy chart. It fills its area and draws no border. The top row names the curves with their values at the
/// cursor, or their last ones.
pub(super) struct AccuracyChart<'a> {
    pub metrics: &'a Metrics,
    /// The range of all data, the same as for the loss.
    pub extent: Extent,
    pub view: &'a ChartView,
    pub theme: Theme,
    /// Only ASCII characters.
    pub ascii: bool,
}

impl<'a> AccuracyChart<'a> {
    pub(super) fn of(app: &'a App) -> Self {
        Self {
            metrics: &app.metrics,
            extent: app.extent(),
            view: &app.chart,
            theme: app.theme(),
            ascii: app.ascii,
        }
    }
}

impl Widget for AccuracyChart<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(buf.area);
        if area.is_empty() {
            return;
        }
        if self.metrics.is_empty() {
            note(buf, area, "no evaluation yet", self.theme.dim());
            return;
        }
        let axes = Axes::new(area, self.theme, self.ascii);
        let (plot, range) = (axes.plot, self.view.window(self.extent));
        let curves = self.metrics.curves();
        let (width, height) = (usize::from(plot.width), usize::from(plot.height));
        let mut canvas = Canvas::new(width, height, curves.len() + 1, self.ascii);
        if let Some(scale) = self.scale(range, height * canvas.dots.1) {
            for baseline in self.metrics.baselines().iter().filter(|known| known.value.is_finite())
            {
                let row = scale.row(baseline.value);
                // Two cells of line and two without.
                let dash = 2 * canvas.dots.0;
                (0..width * canvas.dots.0)
                    .filter(|x| (x / dash).is_multiple_of(2))
                    .for_each(|x| canvas.dot(0, (x, row)));
            }
            // A logarithmic scale is for the loss only: accuracies are shares.
            let mut view = self.view.clone();
            view.log_y = false;
            for (index, (_, series)) in curves.iter().enumerate() {
                let points = series.points();
                let columns = (range, width * canvas.dots.0);
                let curve = Curve::new(points, |point| points[point].value, columns, &view);
                curve.draw(&mut canvas, index + 1, range, &scale);
            }
            axes.draw_levels(levels(&scale, canvas.dots.1), buf);
            canvas.draw(plot, |column, row| self.topmost(&canvas, column, row), buf);
            self.draw_points(range, &scale, canvas.dots.1, plot, buf);
        } else {
            note(buf, plot, "no finite value", self.theme.dim());
        }
        axes.draw_line(range, self.view.axis, buf);
        axes.draw_cursor(self.view, range, buf);
        if let Some(header) = axes.header {
            self.draw_header(header, buf);
        }
    }
}

impl AccuracyChart<'_> {
    fn visible<'a>(
        &'a self,
        series: &'a Series,
        range: (f64, f64),
    ) -> impl Iterator<Item = &'a Point> {
        let inside = move |point: &&Point| (range.0..=range.1).contains(&point.x(self.view.axis));
        series.points().iter().filter(inside)
    }

    /// Returns a scale for the visible values and the baselines that never goes beyond 0 and 1.
    fn scale(&self, range: (f64, f64), rows: usize) -> Option<Scale> {
        let seen = self.metrics.curves().iter().flat_map(|(_, series)| self.visible(series, range));
        let last = self.metrics.curves().iter().filter_map(|(_, series)| series.last());
        let values = seen.chain(last).map(|point| point.value);
        let values = values.chain(self.metrics.baselines().iter().map(|known| known.value));
        let start = (f64::INFINITY, f64::NEG_INFINITY);
        let finite = values.filter(|value| value.is_finite());
        let (low, high) = finite.fold(start, |(low, high), v| (low.min(v), high.max(v)));
        if !low.is_finite() || rows == 0 {
            return None;
        }
        // A minimum height keeps noise in a flat curve from filling the chart.
        let middle = f64::midpoint(low, high);
        let (low, high) = (low.min(middle - 0.025), high.max(middle + 0.025));
        let grid = nice_step(low, high) / 2.0;
        let (low, high) = ((low / grid).floor() * grid, (high / grid).ceil() * grid);
        let inside =
            |value: f64| if (0.0..=1.0).contains(&middle) { value.clamp(0.0, 1.0) } else { value };
        Some(Scale { low: inside(low), high: inside(high), rows })
    }

    /// Returns how a curve looks. Without colours it is drawn in its letter, which the top row explains.
    fn pen(&self, index: usize) -> Pen {
        let plain = self.ascii || self.theme.depth == ColorDepth::Mono;
        let letter = char::from_u32('a' as u32 + (index % 26) as u32);
        Pen { glyph: letter.filter(|_| plain), style: self.theme.metric(index) }
    }

    /// Returns what is seen in a cell. The first curve lies on top and the baselines at the bottom.
    fn topmost(&self, canvas: &Canvas, column: usize, row: usize) -> Option<(Pen, u8)> {
        let layers = (1..=self.metrics.curves().len()).chain([0]);
        let mut found = layers.map(|layer| (layer, canvas.bits(layer, column, row)));
        let (layer, bits) = found.find(|(_, bits)| *bits > 0)?;
        let pen = match layer {
            0 => Pen { glyph: self.ascii.then_some('-'), style: self.theme.dim() },
            layer => self.pen(layer - 1),
        };
        Some((pen, bits))
    }

    /// Draws each evaluation as a point if there is room between them.
    fn draw_points(
        &self,
        range: (f64, f64),
        scale: &Scale,
        dots: usize,
        plot: Rect,
        buf: &mut Buffer,
    ) {
        let width = usize::from(plot.width);
        for (index, (_, series)) in self.metrics.curves().iter().enumerate().rev() {
            if self.visible(series, range).count() * 3 > width.max(3) {
                continue;
            }
            let pen = self.pen(index);
            for point in self.visible(series, range).filter(|point| point.value.is_finite()) {
                let Some(column) = column_of(point.x(self.view.axis), range, width) else {
                    continue;
                };
                let row = scale.row(point.value) / dots;
                let cell = &mut buf[(plot.x + column as u16, plot.y + row as u16)];
                cell.set_char(pen.glyph.unwrap_or('o')).set_style(pen.style);
            }
        }
    }

    /// Draws the names and values of the curves, then those of the baselines, as far as there is room.
    fn draw_header(&self, row: Rect, buf: &mut Buffer) {
        let cursor = self.view.cursor();
        let x = cursor.unwrap_or(f64::MAX);
        let percent = |value: f64| {
            if value.is_finite() { format!("{:.1}%", 100.0 * value) } else { "NaN".to_owned() }
        };
        let mut parts: Vec<(String, Style)> = Vec::new();
        for (index, (name, series)) in self.metrics.curves().iter().enumerate() {
            let Some(point) = series.nearest(x, self.view.axis) else { continue };
            let pen = self.pen(index);
            let mut text = format!("{} {name} {}", pen.glyph.unwrap_or('o'), percent(point.value));
            if cursor.is_some() && index == 0 {
                text.push('@');
                text.push_str(&format_step(point.step, 1.0));
            }
            parts.push((text, pen.style));
        }
        let dashes = if self.ascii { "- -" } else { "╌╌" };
        parts.extend(self.metrics.baselines().iter().map(|known| {
            (format!("{dashes} {} {}", known.name, percent(known.value)), self.theme.dim())
        }));
        draw_parts(parts, row, buf);
    }
}

/// Returns the levels with labels: the row of each and its share in percent.
fn levels(scale: &Scale, dots: usize) -> impl Iterator<Item = (usize, String)> {
    let step = nice_step(scale.low, scale.high);
    let decimals = usize::from((step * 100.0).fract() > 1e-6);
    multiples(scale.low, scale.high, step)
        .map(move |level| (scale.row(level) / dots, format!("{:>6.decimals$}%", 100.0 * level)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Evaluated, Metric};

    fn metric(name: &str, value: f64) -> Metric {
        Metric::bare(name, value, None)
    }

    fn metrics(values: &[(u64, f64, f64)]) -> Metrics {
        let mut metrics = Metrics::default();
        for &(step, knn, probe) in values {
            let evaluated = Evaluated {
                step,
                epoch: 0.0,
                metrics: vec![metric("k-NN 20", knn), metric("linear probe", probe)],
                baselines: vec![metric("k-NN 20, raw pixels", 0.8)],
                seconds: 0.0,
            };
            metrics.push(&evaluated, step as f64);
        }
        metrics
    }

    fn draw(
        metrics: &Metrics,
        width: u16,
        height: u16,
        view: &ChartView,
        ascii: bool,
    ) -> Vec<String> {
        let mut buf = Buffer::empty(Rect::new(0, 0, width, height));
        let (theme, extent) = (Theme { depth: ColorDepth::Indexed }, (0.0, 100.0).into());
        AccuracyChart { metrics, extent, view, theme, ascii }.render(buf.area, &mut buf);
        let line = |y| (0..width).map(|x| buf[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn curves_points_and_baselines_are_drawn_with_their_names() {
        let metrics = metrics(&[(0, 0.5, 0.6), (50, 0.7, 0.8), (100, 0.75, 0.9)]);
        let lines = draw(&metrics, 78, 12, &ChartView::default(), true);
        assert_eq!(
            lines[0],
            "a k-NN 20 75.0%  b linear probe 90.0%  - - k-NN 20, raw pixels 80.0%"
        );
        assert!(lines[1..10].iter().any(|line| line.contains("--  --")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("    80%+")), "{lines:#?}");
        assert!(lines[1].ends_with('b'), "the last probe is on top: {lines:#?}");
        assert!(
            lines.iter().any(|line| line.contains("50%+a")),
            "the first k-NN is lowest: {lines:#?}"
        );
    }

    #[test]
    fn the_header_tells_the_values_at_the_cursor() {
        let metrics = metrics(&[(0, 0.5, 0.6), (50, 0.7, 0.8), (100, 0.75, 0.9)]);
        let mut view = ChartView::default();
        view.cursor_move(1, 60, (0.0, 100.0));
        view.cursor_move(-32, 60, (0.0, 100.0));
        let lines = draw(&metrics, 68, 10, &view, false);
        assert!(lines[0].starts_with("o k-NN 20 70.0%@50  o linear probe 80.0%"), "{}", lines[0]);
    }

    #[test]
    fn any_size_and_any_values_are_drawn() {
        let odd = [f64::NAN, f64::INFINITY, 0.0, 1.0, -3.0, 7e9];
        for first in odd {
            for second in odd {
                let metrics = metrics(&[(0, first, second), (100, second, first)]);
                for width in [0, 1, 7, 8, 23, 24, 60] {
                    for height in 0..9 {
                        draw(&metrics, width, height, &ChartView::default(), height % 2 == 0);
                    }
                }
            }
        }
    }
}
