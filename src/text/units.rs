//! Numbers with units, as people read them.

/// Returns a time span: `42s`, `3m05s`, `2h07m` or `3d04h`.
pub fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Returns a share, 0 to 1, as a percentage: `87.4 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Returns the length of a run in epochs: `80`, or `0.20` where it ends within one.
pub fn epochs(steps: u64, steps_per_epoch: u64) -> String {
    if steps_per_epoch == 0 || steps.is_multiple_of(steps_per_epoch) {
        return (steps / steps_per_epoch.max(1)).to_string();
    }
    format!("{:.2}", steps as f64 / steps_per_epoch as f64)
}

/// Returns a whole number with a comma between groups of three digits: `50,000`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a size: `12 B` or `3.4 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_read_well() {
        for (seconds, text) in [
            (0.4, "0s"),
            (59.6, "1m00s"),
            (185.0, "3m05s"),
            (7620.0, "2h07m"),
            (1e5, "1d03h"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(percent(0.8741), "87.4 %");
        for (number, text) in [(7, "7"), (640, "640"), (50_000, "50,000"), (1_281_167, "1,281,167")]
        {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(bytes(12), "12 B");
        assert_eq!([epochs(400, 5), epochs(1000, 5003), epochs(3, 0)], ["80", "0.20", "3"]);
        assert_eq!(bytes(3 << 20), "3.0 MiB");
    }
}
