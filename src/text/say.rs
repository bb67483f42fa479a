//! Prints text for people and scripts. A reader that has left is no reason to fail.

use serde::Serialize;
use std::io::{self, Write, stdout};

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

/// Prints a whole text to standard output, as it is.
///
/// # Errors
/// If standard output can't be written, unless its reader has left.
pub(crate) fn print(text: &[u8]) -> io::Result<()> {
    let mut out = stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Returns plain data as one line of JSON.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() // plain data always has a form in JSON
}
