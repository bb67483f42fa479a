//! Prints text for people and scripts. A reader that has closed its end of the pipe is not an error.

use serde::Serialize;
use std::io::{self, Write, stdout};

/// Prints a line and flushes it. Errors are ignored, because the reader may have closed its end.
pub fn say(out: &mut impl Write, line: &str) {
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Prints lines on standard output.
pub fn say_all(lines: impl IntoIterator<Item = String>) {
    let out = &mut stdout();
    for line in lines {
        say(out, &line);
    }
}

/// Prints a whole text on standard output, as it is.
///
/// # Errors
/// If standard output can't be written, unless its reader has closed its end.
pub(crate) fn print(text: &[u8]) -> io::Result<()> {
    let mut out = stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Returns plain data as one line of JSON.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() // plain data never fails to serialise
}
