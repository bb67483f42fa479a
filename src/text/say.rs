//! Prints text for people and scripts. Whatever is printed goes through here: a line is one line, and a terminal obeys
//! nothing in it. A reader that has closed its end of the pipe is not an error.

use crate::shown;
use serde::Serialize;
use std::io::{self, Write, stdout};
use thiserror::Error;

/// Standard output can't be written, for another reason than that its reader left.
#[derive(Debug, Error)]
#[error("cannot write standard output: {0}")]
pub struct UnwrittenOutput(#[from] io::Error);

/// Prints a line on standard error and flushes it. Errors are ignored: there is no place left to report them.
pub fn say(out: &mut impl Write, line: &str) {
    let _ = writeln!(out, "{}", shown::line(line));
    let _ = out.flush();
}

/// Prints a line on standard output and flushes it.
///
/// # Errors
/// If standard output can't be written, unless its reader has closed its end.
pub fn tell(line: &str) -> Result<(), UnwrittenOutput> {
    tell_to(&mut stdout(), line)
}

/// Like [`tell`], for any writer in the place of standard output.
///
/// # Errors
/// As [`tell`].
pub fn tell_to(out: &mut impl Write, line: &str) -> Result<(), UnwrittenOutput> {
    still_read(writeln!(out, "{}", shown::line(line)).and_then(|()| out.flush()))
}

/// Prints lines on standard output.
///
/// # Errors
/// As [`tell`].
pub fn tell_all(lines: impl IntoIterator<Item = String>) -> Result<(), UnwrittenOutput> {
    lines.into_iter().try_for_each(|line| tell(&line))
}

/// Prints a whole text on standard output, as it is: it must be this program's own, or for programs.
///
/// # Errors
/// As [`tell`].
pub fn print(text: &[u8]) -> Result<(), UnwrittenOutput> {
    let mut out = stdout();
    still_read(out.write_all(text).and_then(|()| out.flush()))
}

/// Turns the result of writing to standard output into an error, unless the reader has closed its end.
///
/// # Errors
/// As [`tell`].
pub fn still_read(written: io::Result<()>) -> Result<(), UnwrittenOutput> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Returns plain data as one line of JSON.
pub fn json(value: &impl Serialize) -> String {
    shown::json(serde_json::to_string(value).unwrap_or_default()) // plain data never fails to serialise
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A standard output that fails in one way.
    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_error_and_a_full_disk_is_one() {
        tell_to(&mut Failing(io::ErrorKind::BrokenPipe), "x").expect("nobody reads it");
        let full = tell_to(&mut Failing(io::ErrorKind::StorageFull), "x").expect_err("it is lost");
        assert!(full.to_string().starts_with("cannot write standard output: "), "{full}");
    }

    #[test]
    fn a_line_is_one_line() {
        let mut out = Vec::new();
        tell_to(&mut out, "a class\nwarning: forged\x1b[2J").expect("written");
        say(&mut out, "b\r\n");
        assert_eq!(out, b"a class\\nwarning: forged\\x1b[2J\nb\\r\\n\n");
    }
}
