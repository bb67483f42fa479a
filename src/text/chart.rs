//! A line chart in plain text, for output that may end up in a log or an e-mail.

/// Draws `values`, one per sample from left to right, as `height` lines of up to `width` marks with an axis on the left.
/// `format` prints the labels of the axis.
pub fn draw(
    values: &[f64],
    width: usize,
    height: usize,
    format: impl Fn(f64) -> String,
) -> Vec<String> {
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bottom = values.iter().copied().fold(f64::INFINITY, f64::min).min(0.0);
    let range = if top > bottom { top - bottom } else { 1.0 };
    let columns = width.min(values.len()).max(1);
    let mut rows = vec![vec![' '; columns]; height];
    let level = |value: f64| {
        let share = (value - bottom) / range;
        height - 1 - ((share * (height - 1) as f64).round() as usize).min(height - 1)
    };
    // Every sample gets a mark, also where several share a column, so that no jump is lost.
    for (sample, &value) in values.iter().enumerate() {
        rows[level(value)][sample * columns / values.len()] = '*';
    }
    let labels: Vec<String> = (0..height)
        .map(|row| match row {
            0 => format(top),
            row if row + 1 == height => format(bottom),
            _ => String::new(),
        })
        .collect();
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    rows.iter()
        .zip(&labels)
        .map(|(row, label)| {
            let marks: String = row.iter().collect();
            format!("{label:>margin$} |{}", marks.trim_end())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_of_one_sample_is_drawn() {
        let mut values = vec![1.0; 1000];
        values[437] = 5.0;
        let lines = draw(&values, 50, 5, |v| format!("{v:.0}"));
        assert_eq!(lines.len(), 5);
        assert!(lines[0].starts_with("5 |") && lines[0].contains('*'), "{lines:?}");
        assert!(lines[4].starts_with("0 |"), "the axis starts at zero: {lines:?}");
    }
}
