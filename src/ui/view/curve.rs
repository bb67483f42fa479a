//! A curve of a chart, and the scale that gives its values their rows.

use super::canvas::Canvas;
use crate::ui::chart_view::ChartView;
use crate::ui::series::{Bucket, Point, bucketed_by, column_of};

/// Gives levels their dot rows. A level is a value, or its decimal logarithm on a logarithmic axis.
pub(super) struct Scale {
    pub low: f64,
    pub high: f64,
    pub rows: usize,
}

impl Scale {
    pub(super) fn row(&self, level: f64) -> usize {
        let share = ((self.high - level) / (self.high - self.low)).clamp(0.0, 1.0);
        (share * (self.rows - 1) as f64).round() as usize
    }
}

/// The values of a curve in the visible range as levels, one bucket a dot column, and the lines that lead out of it.
pub(super) struct Curve {
    pub buckets: Vec<Option<Bucket>>,
    /// The lines to the points outside the visible range, each from one (x, level) to another.
    pub ends: Vec<[(f64, f64); 2]>,
}

impl Curve {
    pub(super) fn new(
        points: &[Point],
        value: impl Fn(usize) -> f64,
        (range, columns): ((f64, f64), usize),
        view: &ChartView,
    ) -> Self {
        let (log, axis) = (view.log_y, view.axis);
        // NaN and infinity are kept because the chart marks them.
        let shown = |value: &f64| !log || *value > 0.0 || !value.is_finite();
        let kept = |index: usize| Some(value(index)).filter(shown);
        let level = |value: f64| if log { value.log10() } else { value };
        let mut buckets = bucketed_by(points, kept, range, columns, axis);
        for bucket in buckets.iter_mut().flatten() {
            bucket.min = level(bucket.min);
            bucket.max = level(bucket.max);
            bucket.last = level(bucket.last);
        }
        let first = points.partition_point(|point| point.x(axis) < range.0);
        let after = points.partition_point(|point| point.x(axis) <= range.1);
        let mut ends = Vec::new();
        let last = if after > first { after } else { 0 };
        for right in [first, last] {
            if right == 0 || right >= points.len() {
                continue;
            }
            let [from, to] = [right - 1, right]
                .map(|index| (points[index].x(axis), kept(index).map_or(f64::NAN, level)));
            let at = |x: f64| {
                let x = x.clamp(range.0, range.1);
                (x, from.1 + (to.1 - from.1) * (x - from.0) / (to.0 - from.0))
            };
            let line = [at(from.0), at(to.0)];
            if line.iter().all(|end| end.1.is_finite()) {
                ends.push(line);
            }
        }
        Self { buckets, ends }
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, layer: usize, range: (f64, f64), scale: &Scale) {
        canvas.curve(layer, &self.buckets, |level| scale.row(level));
        for line in &self.ends {
            let [from, to] = line.map(|(x, level)| {
                (column_of(x, range, self.buckets.len()).unwrap_or(0), scale.row(level))
            });
            canvas.line(layer, from, to);
        }
    }

    pub(super) fn drawn(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter().flatten().filter(|bucket| bucket.is_finite())
    }

    pub(super) fn end_levels(&self) -> impl Iterator<Item = f64> {
        self.ends.iter().flatten().map(|end| end.1)
    }
}
