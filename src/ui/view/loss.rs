//! The loss chart: training and validation loss over the same steps or time, with earlier runs behind them.

use super::axes::{Axes, note};
use super::canvas::{Canvas, Pen};
use super::curve::{Curve, Scale};
use super::numbers::{multiples, nice_step, tick_label};
use super::readout::Place;
use crate::terminal::colors::ColorDepth;
use crate::ui::app::App;
use crate::ui::chart_view::ChartView;
use crate::ui::marks::{Mark, MarkKind};
use crate::ui::overlay::{Overlay, extent_with};
use crate::ui::series::{Series, column_of};
use crate::ui::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;

/// The loss chart. It fills its area and draws no border. The top row has the values at the cursor, or the last ones;
/// the line under the plot has the marks; the upper right corner has the names and values of the earlier runs.
pub(super) struct LossChart<'a> {
    pub train: &'a Series,
    pub val: &'a Series,
    pub overlays: &'a [Overlay],
    pub marks: &'a [Mark],
    pub view: &'a ChartView,
    pub theme: Theme,
    /// Only ASCII characters.
    pub ascii: bool,
}

/// The layers of the live run. After them come the training and the validation loss of each earlier run in turn.
const RAW: usize = 0;
const TRAIN: usize = 1;
const VAL: usize = 2;

impl<'a> LossChart<'a> {
    pub(super) fn of(app: &'a App) -> Self {
        Self {
            train: &app.train,
            val: &app.val,
            overlays: app.overlays_shown(),
            marks: &app.marks,
            view: &app.chart,
            theme: app.theme(),
            ascii: app.ascii,
        }
    }
}

impl Widget for LossChart<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(buf.area);
        if area.is_empty() {
            return;
        }
        let live = [self.train, self.val];
        if live.iter().all(|series| series.is_empty()) && self.overlays.is_empty() {
            note(buf, area, "no data yet", self.theme.dim());
            return;
        }
        let axes = Axes::new(area, self.theme, self.ascii);
        let plot = axes.plot;
        let extent = extent_with(&live, self.overlays, self.view.axis);
        let range = self.view.window(extent);
        let layers = VAL + 1 + 2 * self.overlays.len();
        let (width, height) = (usize::from(plot.width), usize::from(plot.height));
        let mut canvas = Canvas::new(width, height, layers, self.ascii);
        let curves = self.curves(range, canvas.width * canvas.dots.0);
        if let Some(scale) = self.scale(&curves, canvas.height * canvas.dots.1) {
            for (layer, curve) in curves.iter().enumerate() {
                curve.draw(&mut canvas, layer, range, &scale);
            }
            let levels = self.ticks(&scale).into_iter();
            let dots = canvas.dots.1;
            axes.draw_levels(levels.map(|(level, label)| (scale.row(level) / dots, label)), buf);
            canvas.draw(plot, |column, row| self.topmost(&canvas, column, row), buf);
            self.draw_points(range, &scale, canvas.dots.1, plot, buf);
            self.draw_clipped(&curves[..=VAL], &scale, canvas.dots.0, plot, buf);
        } else {
            let text = if self.view.log_y { "no loss above 0" } else { "no finite loss" };
            note(buf, plot, text, self.theme.dim());
        }
        axes.draw_cursor(self.view, range, buf);
        axes.draw_line(range, self.view.axis, buf);
        axes.draw_name(self.view.axis, buf);
        if let Some(line) = axes.line {
            self.draw_marks(range, Rect { y: line, height: 1, ..plot }, buf);
            self.draw_nan(&curves[..=VAL], canvas.dots.0, Rect { y: line, height: 1, ..plot }, buf);
        }
        let place = self.view.cursor().map(|x| {
            let column = (range.1 - range.0) / f64::from(plot.width.max(1));
            Place { x, live: x <= extent.newest + column / 2.0, slack: column / 2.0 }
        });
        if let Some(header) = axes.header {
            self.draw_header(place, header, buf);
        }
        self.draw_legend(place, plot, buf);
    }
}

impl LossChart<'_> {
    /// Returns the curves of all layers. The raw one is empty if the smoothed line is the same.
    fn curves(&self, range: (f64, f64), columns: usize) -> Vec<Curve> {
        let place = (range, columns);
        let behind = if self.view.beta() > 0.0 {
            let points = self.train.points();
            let mut behind = Curve::new(points, |index| points[index].value, place, self.view);
            behind.ends.clear();
            behind
        } else {
            Curve { buckets: vec![None; columns], ends: Vec::new() }
        };
        let mut curves = vec![behind];
        let earlier = self.overlays.iter().map(|run| (&run.train, &run.val));
        for (train, val) in [(self.train, self.val)].into_iter().chain(earlier) {
            curves.push(self.mean(train, place));
            let points = val.points();
            curves.push(Curve::new(points, |index| points[index].value, place, self.view));
        }
        curves
    }

    /// Returns the smoothed curve of a training loss.
    fn mean(&self, train: &Series, place: ((f64, f64), usize)) -> Curve {
        let (points, beta) = (train.points(), self.view.beta());
        if beta == 0.0 {
            return Curve::new(points, |index| points[index].value, place, self.view);
        }
        let smooth = train.smoothed(beta);
        let mean = |index: usize| smooth.get(index).copied().unwrap_or(f64::NAN);
        Curve::new(points, mean, place, self.view)
    }

    /// Returns a scale for the visible levels, or `None` if none is finite. Rare spikes of the training loss that would
    /// flatten all else stay above its top.
    fn scale(&self, curves: &[Curve], rows: usize) -> Option<Scale> {
        let fold = |levels: &mut dyn Iterator<Item = f64>| {
            let start = (f64::INFINITY, f64::NEG_INFINITY);
            levels.fold(start, |(low, high), level| (low.min(level), high.max(level)))
        };
        let bounds = |curve: &Curve| {
            let levels = curve.drawn().flat_map(|bucket| [bucket.min, bucket.max]);
            fold(&mut levels.chain(curve.end_levels()))
        };
        let all: Vec<(f64, f64)> = curves.iter().map(bounds).collect();
        let (mut low, _) = fold(&mut all.iter().map(|bound| bound.0));
        let (_, mut high) = fold(&mut all.iter().map(|bound| bound.1));
        if !low.is_finite() || !high.is_finite() || rows == 0 {
            return None;
        }
        let layers = || curves.iter().enumerate();
        let noisy = layers().filter(|&(layer, _)| !is_val(layer));
        let mut tops: Vec<f64> =
            noisy.flat_map(|(_, curve)| curve.drawn()).map(|bucket| bucket.max).collect();
        tops.sort_by(f64::total_cmp);
        if tops.len() >= 20 {
            let val = layers().filter(|&(layer, _)| is_val(layer)).map(|(layer, _)| all[layer].1);
            let most = val.fold(tops[(tops.len() - 1) * 19 / 20], f64::max);
            if most > low && high - low > 5.0 * (most - low) {
                high = most + 0.1 * (most - low);
            }
        }
        let size = low.abs().max(high.abs());
        if high - low <= 1e-7 * size || high - low < 1e-300 {
            let pad = if self.view.log_y { 0.1 } else { size * 0.05 };
            let pad = if pad > 0.0 { pad } else { 1.0 };
            (low, high) = (low - pad, high + pad);
        }
        // Ends on a coarse grid stay where they are while the data moves, so that fewer cells change.
        let grid = nice_step(low, high) / 4.0;
        let (low, high) = ((low / grid).floor() * grid, (high / grid).ceil() * grid);
        (low.is_finite() && high > low).then_some(Scale { low, high, rows })
    }

    /// Returns the levels that get labels: 3 to 6 of them if the plot is high enough.
    fn ticks(&self, scale: &Scale) -> Vec<(f64, String)> {
        let (low, high) = (scale.low, scale.high);
        if !self.view.log_y {
            let step = nice_step(low, high);
            return multiples(low, high, step).map(|v| (v, tick_label(v, step))).collect();
        }
        let digits: [&[f64]; 3] = [&[1.0], &[1.0, 3.0], &[1.0, 2.0, 5.0]];
        for digits in digits {
            let powers = multiples(low.floor(), high, 1.0);
            let levels = powers.flat_map(|power| digits.iter().map(move |d| power + d.log10()));
            let levels: Vec<f64> =
                levels.filter(|level| (low - 1e-9..=high + 1e-9).contains(level)).collect();
            if levels.len() >= 3 {
                let every = levels.len().div_ceil(6);
                let label = |level: f64| {
                    let power = 10_f64.powf((level + 1e-9).floor());
                    (level, tick_label(10_f64.powf(level), power))
                };
                return levels.into_iter().step_by(every).map(label).collect();
            }
        }
        let (low, high) = (10_f64.powf(low), 10_f64.powf(high));
        let step = nice_step(low, high);
        multiples(low, high, step).map(|v| (v.log10(), tick_label(v, step))).collect()
    }

    /// Returns how a layer looks. Without colours the curves differ by their characters.
    fn pen(&self, layer: usize) -> Pen {
        let plain = self.ascii || self.theme.depth == ColorDepth::Mono;
        let (glyph, style) = match layer {
            RAW => (plain.then_some('.'), self.theme.train_raw()),
            TRAIN => (self.ascii.then_some('*'), self.theme.train()),
            VAL => (plain.then_some('+'), self.theme.val()),
            behind => return self.overlay_pen((behind - VAL - 1) / 2),
        };
        Pen { glyph, style }
    }

    /// Returns how an earlier run looks. Without colours it is drawn in its number.
    pub(super) fn overlay_pen(&self, index: usize) -> Pen {
        let plain = self.ascii || self.theme.depth == ColorDepth::Mono;
        let number = char::from_digit(index.min(8) as u32 + 1, 10);
        Pen { glyph: number.filter(|_| plain), style: self.theme.overlay(index) }
    }

    /// Returns what is seen in a cell. The smoothed line hides the raw one, which would blur it, and the validation
    /// line doesn't interrupt the others. Earlier runs lie under both, their validation loss in dashes.
    fn topmost(&self, canvas: &Canvas, column: usize, row: usize) -> Option<(Pen, u8)> {
        let bits = |layer| canvas.bits(layer, column, row);
        let [raw, train, val] = [RAW, TRAIN, VAL].map(bits);
        let (layer, bits) = if val > 0 {
            (VAL, train | val)
        } else if train > 0 {
            // With so few rows only the raw line can show a spike.
            (TRAIN, if canvas.height <= 3 { raw | train } else { train })
        } else {
            let behind = VAL + 1..=VAL + 2 * self.overlays.len();
            let solid = |layer: &usize| !is_val(*layer) || column.is_multiple_of(2);
            let mut behind = behind.filter(solid).map(|layer| (layer, bits(layer)));
            behind.find(|(_, bits)| *bits > 0).or((raw > 0).then_some((RAW, raw)))?
        };
        Some((self.pen(layer), bits))
    }

    /// Draws the validation losses as points if there is room between them.
    fn draw_points(
        &self,
        range: (f64, f64),
        scale: &Scale,
        dots: usize,
        plot: Rect,
        buf: &mut Buffer,
    ) {
        let (axis, width) = (self.view.axis, usize::from(plot.width));
        let points = self.val.points();
        let first = points.partition_point(|point| point.x(axis) < range.0);
        let after = points.partition_point(|point| point.x(axis) <= range.1);
        if after <= first || (after - first) * 3 > width.max(3) {
            return;
        }
        for point in &points[first..after] {
            let level = if self.view.log_y { point.value.log10() } else { point.value };
            if let Some(column) =
                column_of(point.x(axis), range, width).filter(|_| level.is_finite())
            {
                let row = scale.row(level) / dots;
                let cell = &mut buf[(plot.x + column as u16, plot.y + row as u16)];
                cell.set_char('o').set_style(self.theme.val());
            }
        }
    }

    /// Draws `^` in the top row where values lie above it.
    fn draw_clipped(
        &self,
        curves: &[Curve],
        scale: &Scale,
        dots: usize,
        plot: Rect,
        buf: &mut Buffer,
    ) {
        for curve in curves {
            for (x, bucket) in curve.buckets.iter().enumerate() {
                if bucket.is_some_and(|bucket| bucket.max > scale.high) {
                    let cell = &mut buf[(plot.x + (x / dots) as u16, plot.y)];
                    cell.set_char('^').set_style(self.theme.warning());
                }
            }
        }
    }

    /// Draws the weightiest mark of each column on the line under the plot.
    fn draw_marks(&self, range: (f64, f64), line: Rect, buf: &mut Buffer) {
        let width = usize::from(line.width);
        let mut marks: Vec<Option<MarkKind>> = vec![None; width];
        for mark in self.marks {
            if let Some(column) = column_of(mark.x(self.view.axis), range, width) {
                marks[column] = marks[column].max(Some(mark.kind));
            }
        }
        for (x, kind) in (line.left()..line.right()).zip(marks) {
            let (glyph, style) = match kind {
                None => continue,
                Some(MarkKind::Checkpoint) => ('c', self.theme.good()),
                Some(MarkKind::Resume) => ('r', self.theme.focus()),
                Some(MarkKind::Alarm) => ('!', self.theme.warning()),
            };
            buf[(x, line.y)].set_char(glyph).set_style(style);
        }
    }

    /// Draws a sign on the line under the plot where a loss is NaN or infinite. It hides marks.
    fn draw_nan(&self, curves: &[Curve], dots: usize, line: Rect, buf: &mut Buffer) {
        let glyph = if self.ascii { '!' } else { '✗' };
        for curve in curves {
            for (x, bucket) in curve.buckets.iter().enumerate() {
                if bucket.is_some_and(|bucket| bucket.nan) {
                    let cell = &mut buf[(line.x + (x / dots) as u16, line.y)];
                    cell.set_char(glyph).set_style(self.theme.error());
                }
            }
        }
    }
}

/// Whether a layer is a validation loss.
fn is_val(layer: usize) -> bool {
    layer >= VAL && layer.is_multiple_of(2)
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
