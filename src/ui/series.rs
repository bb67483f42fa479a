//! A metric over a run as plain data, with smoothing, search and thinning for the charts. Nothing here draws.

use crate::event::StepReport;
use std::cell::{Ref, RefCell};
use std::ops::Range;

/// One value of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Optimizer step.
    pub step: f64,
    /// Seconds of training elapsed.
    pub time: f64,
    /// The value, in the metric's own unit; may be NaN or infinite.
    pub value: f64,
}

impl Point {
    /// Returns the coordinate on `axis`, in steps or seconds.
    pub fn x(&self, axis: XAxis) -> f64 {
        match axis {
            XAxis::Step => self.step,
            XAxis::Time => self.time,
        }
    }
}

/// What a chart's horizontal axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XAxis {
    /// Optimizer steps.
    #[default]
    Step,
    /// Seconds of training elapsed.
    Time,
}

/// Points in the order of their steps and times.
#[derive(Debug, Clone, Default)]
pub struct Series {
    points: Vec<Point>,
    smooth: RefCell<Average>,
}

impl Series {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a point. It replaces all points from its step on, because a resumed run repeats steps and the later
    /// value counts. A time before that of the last point becomes that time. A point without a finite place is left
    /// out.
    pub fn push(&mut self, mut point: Point) {
        if !point.step.is_finite() || !point.time.is_finite() {
            return;
        }
        if self.last().is_some_and(|last| last.step >= point.step) {
            let keep = self.points.partition_point(|known| known.step < point.step);
            self.shorten(keep);
        }
        if let Some(last) = self.last() {
            point.time = point.time.max(last.time);
        }
        self.points.push(point);
    }

    /// Appends the loss of every step of a report. The time of the report is spread evenly over them.
    pub fn push_losses(&mut self, report: &StepReport) {
        let first = report.step - (report.losses.len() as u64).min(report.step);
        let old = self.last().map_or(0.0, |point| point.time);
        let count = report.losses.len() as f64;
        for (i, &loss) in report.losses.iter().enumerate() {
            let share = (i + 1) as f64 / count;
            self.push(Point {
                step: (first + i as u64 + 1) as f64,
                time: old + (report.elapsed_s - old) * share,
                value: f64::from(loss),
            });
        }
    }

    /// Forgets every point after `step`, as a resumed run has lost it.
    pub fn truncate_after(&mut self, step: f64) {
        self.shorten(self.points.partition_point(|point| point.step <= step));
    }

    fn shorten(&mut self, length: usize) {
        if length < self.points.len() {
            self.points.truncate(length);
            *self.smooth.get_mut() = Average::default();
        }
    }

    pub fn len(&self) -> usize {
        self.points.len()
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    pub fn last(&self) -> Option<&Point> {
        self.points.last()
    }

    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Returns the point whose step or time is nearest to `x`.
    pub fn nearest(&self, x: f64, axis: XAxis) -> Option<&Point> {
        self.nearest_index(x, axis).map(|index| &self.points[index])
    }

    /// Returns the index in [`Self::points`] of the point nearest to `x`.
    pub fn nearest_index(&self, x: f64, axis: XAxis) -> Option<usize> {
        let after = self.points.partition_point(|point| point.x(axis) < x);
        let before = after.checked_sub(1);
        match (before, self.points.get(after)) {
            (None, None) => None,
            (None, Some(_)) => Some(after),
            (Some(before), None) => Some(before),
            (Some(before), Some(next)) => {
                let nearer = x - self.points[before].x(axis) <= next.x(axis) - x;
                Some(if nearer { before } else { after })
            }
        }
    }

    /// Returns [`smoothed`] of all points. The values are kept, so that the next call with the same `beta` only adds
    /// those of new points. Drop the result before asking for another `beta`.
    pub fn smoothed(&self, beta: f64) -> Ref<'_, [f64]> {
        if let Ok(mut cache) = self.smooth.try_borrow_mut() {
            if cache.beta.to_bits() != beta.to_bits() {
                *cache = Average { beta, ..Average::default() };
            }
            cache.extend(&self.points);
        }
        Ref::map(self.smooth.borrow(), |cache| cache.values.as_slice())
    }
}

/// Returns what a chart of `series` covers on `axis`: from the start of the run to the newest point, at least 1.
pub fn extent(series: &[&Series], axis: XAxis) -> (f64, f64) {
    let newest = series.iter().filter_map(|one| one.last()).map(|point| point.x(axis));
    (0.0, newest.fold(1.0, f64::max))
}

/// A running mean with exponential weights, and its value at each point so far.
#[derive(Debug, Clone, Default)]
struct Average {
    beta: f64,
    sum: f64,
    weight: f64,
    values: Vec<f64>,
}

impl Average {
    fn extend(&mut self, points: &[Point]) {
        for point in points.iter().skip(self.values.len()) {
            if point.value.is_finite() {
                self.sum = self.beta * self.sum + (1.0 - self.beta) * point.value;
                self.weight = self.beta * self.weight + (1.0 - self.beta);
            }
            let mean = if self.weight > 0.0 { self.sum / self.weight } else { f64::NAN };
            self.values.push(mean);
        }
    }
}

/// Returns the exponential moving average, corrected for its start as Adam's moments are: its first value is that of
/// the first point. NaN and infinity don't enter: there the mean stays what it was (NaN before the first finite
/// value). A `beta` of 0 gives the finite values as they are.
pub fn smoothed(points: &[Point], beta: f64) -> Vec<f64> {
    let mut average = Average { beta, ..Average::default() };
    average.extend(points);
    average.values
}

/// The values in one column of a chart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Least finite value; NaN if there is none.
    pub min: f64,
    /// Greatest finite value; NaN if there is none.
    pub max: f64,
    /// Last finite value; NaN if there is none.
    pub last: f64,
    /// Some value was NaN or infinite.
    pub nan: bool,
}

impl Bucket {
    /// Whether there is anything to draw.
    pub fn is_finite(&self) -> bool {
        self.last.is_finite()
    }
}

/// Returns the column of `x` if `columns` divide `range`. Series, marks and the cursor all follow this rule.
pub fn column_of(x: f64, range: (f64, f64), columns: usize) -> Option<usize> {
    if columns == 0 || !(range.0..=range.1).contains(&x) {
        return None;
    }
    let share = (x - range.0) / (range.1 - range.0);
    // A range of one place gives 0 / 0.
    let share = if share.is_finite() { share } else { 0.5 };
    Some(((share * columns as f64) as usize).min(columns - 1))
}

/// Thins `values` (one per point) to the least and the greatest of each column, so that no spike is lost.
pub fn bucketed(
    points: &[Point],
    values: &[f64],
    x_range: (f64, f64),
    columns: usize,
    axis: XAxis,
) -> Vec<Option<Bucket>> {
    bucketed_by(points, |index| values.get(index).copied(), x_range, columns, axis)
}

/// Like [`bucketed`], with a function that returns the value of the point at an index. `None` leaves the point out.
pub fn bucketed_by(
    points: &[Point],
    value: impl Fn(usize) -> Option<f64>,
    x_range: (f64, f64),
    columns: usize,
    axis: XAxis,
) -> Vec<Option<Bucket>> {
    let mut buckets = vec![None; columns];
    for index in visible(points, x_range, axis) {
        let column = column_of(points[index].x(axis), x_range, columns);
        let (Some(column), Some(value)) = (column, value(index)) else {
            continue;
        };
        let bucket = buckets[column].get_or_insert(Bucket {
            min: f64::NAN,
            max: f64::NAN,
            last: f64::NAN,
            nan: false,
        });
        if value.is_finite() {
            bucket.min = bucket.min.min(value);
            bucket.max = bucket.max.max(value);
            bucket.last = value;
        } else {
            bucket.nan = true;
        }
    }
    buckets
}

/// Returns the indices of the points inside `range`, both ends included.
fn visible(points: &[Point], range: (f64, f64), axis: XAxis) -> Range<usize> {
    let start = points.partition_point(|point| point.x(axis) < range.0);
    let end = points.partition_point(|point| point.x(axis) <= range.1);
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        let mut series = Series::new();
        for (index, &value) in values.iter().enumerate() {
            series.push(Point { step: index as f64, time: index as f64 * 2.0, value });
        }
        series
    }

    #[test]
    fn the_mean_is_unbiased_from_its_first_value_and_carried_over_nan() {
        let points = series(&[f64::NAN, 4.0, f64::INFINITY, 4.0, 1.0]);
        let means = smoothed(points.points(), 0.9);
        assert!(means[0].is_nan(), "nothing known yet");
        assert!(means[1..4].iter().all(|mean| (mean - 4.0).abs() < 1e-12), "{means:?}");
        let expected = (0.1 * 1.0 + 0.09 * 4.0 + 0.081 * 4.0) / (0.1 + 0.09 + 0.081);
        assert!((means[4] - expected).abs() < 1e-12, "{means:?}");
        assert_eq!(smoothed(series(&[3.0, 1.0, 2.0]).points(), 0.0), [3.0, 1.0, 2.0]);
    }

    #[test]
    fn the_kept_mean_equals_a_fresh_one_after_pushes_truncation_and_another_beta() {
        let mut growing = series(&[1.0, 5.0, 2.0]);
        for (beta, step) in [(0.9, 10.0), (0.9, 11.0), (0.6, 12.0), (0.6, 2.0), (0.6, 3.0)] {
            growing.push(Point { step, time: step, value: step });
            assert_eq!(*growing.smoothed(beta), smoothed(growing.points(), beta)[..]);
        }
        growing.truncate_after(1.0);
        growing.push(Point { step: 2.0, time: 9.0, value: 7.0 });
        assert_eq!(*growing.smoothed(0.6), smoothed(growing.points(), 0.6)[..]);
    }

    #[test]
    fn lost_steps_are_forgotten_and_repeated_steps_replace_the_old_ones() {
        let mut lost = series(&[1.0, 2.0, 3.0, 4.0]);
        lost.truncate_after(1.5);
        assert_eq!(lost.len(), 2);
        lost.push(Point { step: 1.0, time: 1.0, value: 9.0 });
        lost.push(Point { step: f64::NAN, time: 1.0, value: 9.0 });
        let steps: Vec<_> = lost.points().iter().map(|point| (point.step, point.value)).collect();
        assert_eq!(steps, [(0.0, 1.0), (1.0, 9.0)]);
        lost.push(Point { step: 2.0, time: 0.5, value: 9.0 });
        assert!(lost.points().is_sorted_by(|a, b| a.time <= b.time), "{lost:?}");
    }

    #[test]
    fn the_nearest_point_is_found_on_both_axes_and_outside() {
        let points = series(&[5.0, 6.0, 7.0]);
        for (x, axis, value) in [
            (-9.0, XAxis::Step, 5.0),
            (1.4, XAxis::Step, 6.0),
            (1.6, XAxis::Step, 7.0),
            (2.1, XAxis::Time, 6.0),
            (99.0, XAxis::Time, 7.0),
        ] {
            assert_eq!(points.nearest(x, axis).map(|point| point.value), Some(value), "{x}");
        }
        assert!(Series::new().nearest(0.0, XAxis::Step).is_none());
        assert!(points.nearest(f64::NAN, XAxis::Step).is_some());
    }

    #[test]
    fn a_spike_a_lone_point_and_a_nan_survive_thinning_of_a_million_points() {
        let mut values = vec![1.0; 1_000_000];
        values[437_123] = 50.0;
        values[700_000..720_000].fill(f64::NAN);
        values[710_000] = 2.0;
        let million = series(&values);
        for columns in [1, 7, 80, 333] {
            let all = bucketed(million.points(), &values, (0.0, 999_999.0), columns, XAxis::Step);
            let found = all.iter().flatten().any(|bucket| bucket.max > 49.0);
            assert!(found && all.iter().all(Option::is_some), "{columns}");
            assert!(all.iter().flatten().any(|bucket| bucket.nan));
        }
        let part = bucketed(million.points(), &values, (709_990.0, 710_010.0), 21, XAxis::Step);
        let drawn: Vec<_> = part.iter().flatten().filter(|bucket| bucket.is_finite()).collect();
        assert_eq!(drawn.len(), 1, "{part:?}");
        assert_eq!((drawn[0].min, drawn[0].max, drawn[0].last), (2.0, 2.0, 2.0));
    }

    #[test]
    fn odd_ranges_give_a_column_or_nothing() {
        assert_eq!(column_of(3.0, (3.0, 3.0), 9), Some(4));
        assert_eq!(column_of(3.0, (0.0, 3.0), 9), Some(8));
        assert_eq!(column_of(3.1, (0.0, 3.0), 9), None);
        assert_eq!(column_of(f64::NAN, (0.0, 3.0), 9), None);
        assert_eq!(column_of(1.0, (0.0, 3.0), 0), None);
        assert_eq!(extent(&[&Series::new()], XAxis::Step), (0.0, 1.0));
        assert_eq!(extent(&[&series(&[1.0]), &series(&[1.0; 4])], XAxis::Time), (0.0, 6.0));
    }
}
