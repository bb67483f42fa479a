//! Prints lines for people and scripts. A reader that left is no reason to fail.

use serde::Serialize;
use std::io::{Write, stdout};

/// Prints a line and flushes; errors are ignored, as the reader may have left.
pub fn say(out: &mut impl Write, line: &str) {
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Prints lines to standard output.
pub fn say_all(lines: impl IntoIterator<Item = String>) {
    let out = &mut stdout();
    for line in lines {
        say(out, &line);
    }
}

/// Returns plain data as one line of JSON.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() // plain data always has a form in JSON
}
