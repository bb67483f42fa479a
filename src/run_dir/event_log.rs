//! Writes `events.jsonl`. The log is append-only and each write is one whole line, so a kill loses at most the last line.

use super::RunDirError;
use crate::event::Stamped;
use crate::files;
use crate::shown;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// The open log, held by the one process that writes the run.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: File,
    len: u64,
}

impl EventLog {
    /// Opens or creates the log. An incomplete last line, left by a kill or a full disk, is cut off.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let io = |source| RunDirError::Io { what: "write", path: path.to_owned(), source };
        let mut file = files::open_log(path).map_err(io)?;
        let len = end_of_last_line(&mut file).map_err(io)?;
        file.set_len(len).map_err(io)?;
        Ok(Self { path: path.to_owned(), file, len })
    }

    /// Appends an event. When this returns, the operating system has the line, so it is kept if the process is killed.
    ///
    /// # Errors
    /// If the line can't be written whole. A part that was written is removed again.
    pub fn append(&mut self, stamped: &Stamped) -> Result<(), RunDirError> {
        let mut line = serde_json::to_string(stamped).unwrap_or_default();
        line.push('\n');
        if let Err(source) = self.file.write_all(line.as_bytes()) {
            let _ = self.file.set_len(self.len); // the first error is the one to report
            return Err(RunDirError::Io { what: "write", path: self.path.clone(), source });
        }
        self.len += line.len() as u64;
        Ok(())
    }

    /// Returns the offset behind the last line.
    pub fn end(&self) -> u64 {
        self.len
    }
}

/// Returns the offset behind the last line feed.
pub(super) fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    const CHUNK: u64 = 4096;
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = vec![0; (end - start) as usize];
        file.read_exact(&mut bytes)?;
        if let Some(at) = bytes.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Reads all whole lines of a log, which another process may be writing.
///
/// # Errors
/// If the file can't be read, or a whole line is not an event; the message has its number.
#[cfg_attr(
    not(feature = "tui"),
    allow(dead_code, reason = "only the screen and tests read a log at once")
)]
pub fn read(path: &Path) -> io::Result<Vec<Stamped>> {
    let mut events = Vec::new();
    let mut reader = BufReader::new(files::open(path)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            break; // end, or a line that is being written
        }
        let event = serde_json::from_slice(&line).map_err(|error| {
            let text = format!("{} line {number}: {error}", shown::path(path));
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        events.push(event);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Level};

    fn log(message: &str) -> Stamped {
        let event = Event::Log { level: Level::Info, message: message.to_owned() };
        Stamped { time: 1.0, event }
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_the_log_goes_on() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        for torn in ["{\"time\": 1, \"ev", &"x".repeat(10_000)] {
            let mut writer = EventLog::open(&path).expect("writable");
            writer.append(&log("one")).expect("written");
            drop(writer);
            let mut file = File::options().append(true).open(&path).expect("there");
            file.write_all(torn.as_bytes()).expect("written");
            let before = read(&path).expect("readable").len();
            EventLog::open(&path).expect("writable").append(&log("two\nlines")).expect("written");
            let events = read(&path).expect("readable");
            assert_eq!(events.len(), before + 1);
            assert_eq!(events.last(), Some(&log("two\nlines")));
        }
    }
}
