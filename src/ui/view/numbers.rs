//! Numbers in charts: labels at even distances, and values whose width hardly changes.

use crate::text::units::span;
use crate::ui::series::{XAxis, column_of};

/// Returns the step between labels: the greatest of 1, 2, 2.5 or 5 times a power of ten that has three multiples or
/// more in the range (five at most).
pub(super) fn nice_step(low: f64, high: f64) -> f64 {
    let power = (high - low).log10().floor();
    for power in [power, power - 1.0, power - 2.0] {
        for step in [5.0, 2.5, 2.0, 1.0].map(|digit| digit * 10_f64.powf(power)) {
            if multiples(low, high, step).count() >= 3 {
                return step;
            }
        }
    }
    (high - low) / 4.0
}

/// Returns the multiples of `step` in a range, or none if they are too many to draw.
pub(super) fn multiples(low: f64, high: f64, step: f64) -> impl Iterator<Item = f64> {
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    let sane = first.is_finite() && last - first < 1000.0;
    let count = if sane { (last - first + 1.0).max(0.0) as usize } else { 0 };
    (0..count).map(move |index| (first + index as f64) * step)
}

/// Returns a label of at most seven characters, with enough decimals for values that are `step` apart.
pub(super) fn tick_label(value: f64, step: f64) -> String {
    let power = step.log10().floor();
    let halves = if (step / 10_f64.powf(power) - 2.5).abs() < 1e-6 { 1.0 } else { 0.0 };
    let decimals = (halves - power).clamp(0.0, 8.0) as usize;
    let value = if value.abs() < step / 2.0 { 0.0 } else { value };
    let plain = format!("{value:.decimals$}");
    if plain.len() > 7 { format!("{value:.1e}") } else { plain }
}

/// Returns a measured value in five significant digits, mostly six characters wide.
pub(super) fn format_value(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return if value.is_nan() { "NaN" } else { "Inf" }.to_owned();
    }
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        return format!("{value:.1e}");
    }
    let decimals = [10.0, 100.0, 1e3, 1e4].iter().filter(|&&bound| size < bound).count();
    format!("{value:.decimals$}")
}

/// Returns a step as 950, 12.5k or 1.5M, with as many decimals as labels at a distance of `spacing` need. A step that
/// would need more than two is written in full.
pub(super) fn format_step(step: f64, spacing: f64) -> String {
    let (unit, name) = match step.abs() {
        size if size >= 1e6 => (1e6, "M"),
        size if size >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let decimals = (-(spacing / unit).log10() - 1e-9).ceil().max(0.0) as usize;
    if decimals > 2 || unit < 2.0 {
        return format!("{step:.0}");
    }
    format!("{:.decimals$}{name}", step / unit)
}

/// Returns the labels under a plot: the column of each and its text.
pub(super) fn x_ticks(range: (f64, f64), columns: usize, axis: XAxis) -> Vec<(usize, String)> {
    const TIMES: [f64; 14] = [
        1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0,
        86400.0,
    ];
    let least = (range.1 - range.0) / (columns as f64 / 12.0).max(1.0);
    let power = 10_f64.powf(least.log10().floor());
    let decimal = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
    let decimal = decimal.into_iter().find(|step| *step >= least).unwrap_or(least).max(1.0);
    let step = match axis {
        XAxis::Step => decimal,
        XAxis::Time => {
            let days = (decimal / 86400.0).ceil() * 86400.0;
            TIMES.into_iter().find(|step| *step >= least).unwrap_or(days)
        }
    };
    let place = |x: f64| {
        let text = match axis {
            XAxis::Step => format_step(x, step),
            XAxis::Time => span(x),
        };
        column_of(x, range, columns).map(|column| (column, text))
    };
    multiples(range.0, range.1, step).filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_three_to_five_and_tell_their_values_apart() {
        for (low, high) in [(0.0, 1.0), (0.31, 0.337), (-3.0, 7e9), (2.0, 2.000_01), (1e-9, 2e-9)] {
            let step = nice_step(low, high);
            let labels: Vec<_> = multiples(low, high, step).map(|v| tick_label(v, step)).collect();
            assert!((3..=5).contains(&labels.len()), "{labels:?}");
        }
        let labels: Vec<_> = multiples(0.3, 0.4, 0.025).map(|v| tick_label(v, 0.025)).collect();
        assert_eq!(labels, ["0.300", "0.325", "0.350", "0.375", "0.400"]);
    }

    #[test]
    fn numbers_are_short_and_of_stable_width() {
        let values = [0.0, 0.432_14, 9.5, 12.0, 123.456, 1234.5, 0.000_012, 2e7, f64::NAN];
        let texts = values.map(format_value);
        let expected =
            ["0.0000", "0.4321", "9.5000", "12.000", "123.46", "1234.5", "1.2e-5", "2.0e7", "NaN"];
        assert_eq!(texts, expected);
        let times = [5.0, 185.0, 7500.0, 273_600.0].map(span);
        assert_eq!(times, ["5s", "3m05s", "2h05m", "3d04h"]);
        let steps = [(950.0, 50.0), (12e3, 2e3), (12_500.0, 500.0), (1.5e6, 5e5)];
        assert_eq!(steps.map(|(x, by)| format_step(x, by)), ["950", "12k", "12.5k", "1.5M"]);
        assert_eq!(format_step(1_234_567.0, 1.0), "1234567");
        let ticks = x_ticks((0.0, 7200.0), 48, XAxis::Time);
        let texts: Vec<_> = ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["0s", "30m00s", "1h00m", "1h30m", "2h00m"]);
    }
}
