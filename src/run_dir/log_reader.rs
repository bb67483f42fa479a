//! Reads `events.jsonl` piece by piece, while another process may write it.

use super::event_log::end_of_last_line;
use crate::event::Stamped;
use crate::files;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Bytes that one call reads, unless a line is longer.
const CHUNK: usize = 64 << 10;
/// Bytes of the longest line that can be an event.
const LONGEST_LINE: usize = 8 << 20;

/// A place in an event log. Lines before it have been handed out, or skipped because they are not events.
///
/// Only whole lines are kept in memory between two calls. What follows the last line feed is read again, because a run
/// that is resumed cuts an incomplete line off and writes another one in its place.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    /// The open file. It is closed whenever its end is reached, because network file systems show what was appended only
    /// after the file is opened again.
    file: Option<File>,
    /// Device and inode, which tell another log under the same name.
    identity: Option<(u64, u64)>,
    /// Offset of the next line in the file.
    offset: u64,
    /// Whole lines; those from `done` on begin at `offset` in the file.
    lines: Vec<u8>,
    /// How many bytes of `lines` have been handed out.
    done: usize,
    /// Bytes that the next read asks for. It grows while a line does not fit.
    chunk: usize,
    /// Whether `offset` is inside of a line that is too long.
    overlong: bool,
    skipped: u64,
}

/// What a call of [`LogReader::next_event`] gives.
#[derive(Debug, PartialEq)]
pub enum NextEvent {
    Event(Box<Stamped>),
    /// There is no event yet, but more of the log can be read at once.
    More,
    /// All whole lines have been read, or the file can't be read at the moment.
    End,
}

impl LogReader {
    /// Starts at `offset`, which must be the beginning of a line. The file need not exist yet.
    pub fn new(path: &Path, offset: u64) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            identity: None,
            offset,
            lines: Vec::new(),
            done: 0,
            chunk: CHUNK,
            overlong: false,
            skipped: 0,
        }
    }

    /// Returns the offset of the next line in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns how many lines were not events.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Continues at `offset`, the beginning of a line, if that lies ahead. The caller knows the events before it already.
    pub fn skip_to(&mut self, offset: u64) {
        let ahead = offset.saturating_sub(self.offset) as usize;
        if self.done + ahead <= self.lines.len() {
            self.done += ahead;
        } else {
            self.clear_lines();
            self.overlong = false;
        }
        self.offset = self.offset.max(offset);
    }

    /// Returns the next event, if there is one. A call reads at most one chunk or parses at most one line, so that it
    /// takes little time.
    pub fn next_event(&mut self) -> NextEvent {
        let rest = &self.lines[self.done..];
        if let Some(length) = rest.iter().position(|&byte| byte == b'\n') {
            let parsed = serde_json::from_slice(&rest[..length]);
            self.done += length + 1;
            self.offset += length as u64 + 1;
            return parsed.map_or_else(|_| self.skip(), NextEvent::Event);
        }
        self.clear_lines();
        self.read().unwrap_or_else(|_| self.end()) // the next call tries again
    }

    fn skip(&mut self) -> NextEvent {
        self.skipped += 1;
        NextEvent::More
    }

    fn end(&mut self) -> NextEvent {
        self.file = None;
        self.chunk = CHUNK;
        NextEvent::End
    }

    fn clear_lines(&mut self) {
        self.lines.clear();
        self.done = 0;
    }

    /// Fills `lines` with the whole lines of the next chunk.
    fn read(&mut self) -> io::Result<NextEvent> {
        if self.file.is_none() {
            self.file = Some(self.open()?);
        }
        let Some(file) = &self.file else { return Ok(NextEvent::End) };
        self.lines.resize(self.chunk, 0);
        let read = file.read_at(&mut self.lines, self.offset);
        self.lines.truncate(*read.as_ref().unwrap_or(&0));
        let full = read? == self.chunk;
        if self.overlong {
            return Ok(self.pass_overlong_line(full));
        }
        if let Some(last) = self.lines.iter().rposition(|&byte| byte == b'\n') {
            self.lines.truncate(last + 1);
            self.chunk = CHUNK;
            return Ok(NextEvent::More);
        }
        self.clear_lines();
        if !full {
            return Ok(self.end());
        }
        self.overlong = self.chunk >= LONGEST_LINE;
        self.chunk = if self.overlong { CHUNK } else { self.chunk * 2 };
        Ok(NextEvent::More)
    }

    /// Looks for the end of a line that is too long.
    fn pass_overlong_line(&mut self, full: bool) -> NextEvent {
        let end = self.lines.iter().position(|&byte| byte == b'\n');
        let passed = end.map_or(self.lines.len(), |end| end + 1);
        self.clear_lines();
        self.offset += passed as u64;
        self.overlong = end.is_none();
        match end {
            Some(_) => self.skip(),
            None if full => NextEvent::More,
            None => self.end(),
        }
    }

    fn open(&mut self) -> io::Result<File> {
        let mut file = files::open(&self.path)?;
        let metadata = file.metadata()?;
        let identity = Some((metadata.dev(), metadata.ino()));
        if self.identity.is_some() && self.identity != identity {
            self.offset = 0; // the log of another run has replaced this one
            self.overlong = false;
        } else if metadata.len() < self.offset {
            self.offset = end_of_last_line(&mut file)?;
            self.overlong = false;
        }
        self.identity = identity;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Level};
    use crate::run_dir::EventLog;
    use std::fs;
    use std::io::Write as _;

    fn log(message: &str) -> Event {
        Event::Log { level: Level::Info, message: message.to_owned() }
    }

    /// Returns the messages up to the end, in a bounded number of calls.
    fn drain(reader: &mut LogReader) -> Vec<String> {
        let mut messages = Vec::new();
        for _ in 0..100_000 {
            match reader.next_event() {
                NextEvent::Event(stamped) => match stamped.event {
                    Event::Log { message, .. } => messages.push(message),
                    other => panic!("{other:?}"),
                },
                NextEvent::More => {}
                NextEvent::End => return messages,
            }
        }
        panic!("the end is never reached");
    }

    fn append(path: &Path, bytes: &[u8]) {
        let mut file = File::options().append(true).open(path).expect("there");
        file.write_all(bytes).expect("writable");
    }

    #[test]
    fn events_come_once_as_the_log_grows_and_torn_lines_are_waited_for() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        let mut reader = LogReader::new(&path, 0);
        assert_eq!(drain(&mut reader), [""; 0], "no file yet");
        let mut writer = EventLog::open(&path).expect("writable");
        let long = "x".repeat(3 * CHUNK);
        for message in ["one", &long, "three"] {
            writer.append(&Stamped::now(log(message))).expect("written");
        }
        assert_eq!(drain(&mut reader), ["one", &long, "three"]);
        assert_eq!(reader.offset(), writer.end());
        append(&path, b"{\"time\":1,\"event\":\"log\",\"level\":\"in");
        assert_eq!(drain(&mut reader), [""; 0]);
        append(&path, b"fo\",\"message\":\"four\"}\n");
        assert_eq!(drain(&mut reader), ["four"]);
        assert_eq!(reader.skipped(), 0);
    }

    #[test]
    fn a_torn_line_that_a_resume_cuts_off_leaves_no_trace() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        EventLog::open(&path)
            .expect("writable")
            .append(&Stamped::now(log("one")))
            .expect("written");
        append(&path, b"{\"time\":1,\"event\":\"log\",\"level\":\"info\",\"mess");
        let mut reader = LogReader::new(&path, 0);
        assert_eq!(drain(&mut reader), ["one"]);
        let mut writer = EventLog::open(&path).expect("writable");
        assert_eq!(drain(&mut reader), [""; 0], "the log is shorter now");
        writer.append(&Stamped::now(log("two"))).expect("written");
        assert_eq!(drain(&mut reader), ["two"]);
        assert_eq!(reader.skipped(), 0);
    }

    #[test]
    fn garbage_is_skipped_and_counted() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        let mut writer = EventLog::open(&path).expect("writable");
        writer.append(&Stamped::now(log("one"))).expect("written");
        append(
            &path,
            b"\n\xff\xfe\0garbage\n{\"time\":1}\n[]\n{\"time\":1,\"event\":\"unheard_of\"}\n",
        );
        let mut endless = vec![b'x'; 2 * LONGEST_LINE + 7];
        endless.push(b'\n');
        append(&path, &endless);
        writer.append(&Stamped::now(log("two"))).expect("written");
        let mut reader = LogReader::new(&path, 0);
        assert_eq!(drain(&mut reader), ["one", "two"]);
        assert_eq!(reader.skipped(), 6);
        assert_eq!(reader.offset(), path.metadata().expect("there").len());
    }

    #[test]
    fn a_log_that_was_cut_or_replaced_is_followed() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        let mut writer = EventLog::open(&path).expect("writable");
        for message in ["one", "two"] {
            writer.append(&Stamped::now(log(message))).expect("written");
        }
        let mut reader = LogReader::new(&path, 0);
        assert_eq!(drain(&mut reader).len(), 2);
        let half = File::options().write(true).open(&path).expect("there");
        half.set_len(writer.end() - 5).expect("cut inside of the second line");
        assert_eq!(drain(&mut reader), [""; 0]);
        EventLog::open(&path)
            .expect("writable")
            .append(&Stamped::now(log("three")))
            .expect("written");
        assert_eq!(drain(&mut reader), ["three"]);
        // The old file is kept until the new one exists, so that they can't have the same inode.
        fs::rename(&path, temp.path().join("old")).expect("movable");
        EventLog::open(&path)
            .expect("writable")
            .append(&Stamped::now(log("new run")))
            .expect("written");
        assert_eq!(drain(&mut reader), ["new run"]);
    }

    #[test]
    fn a_place_can_be_passed_over_inside_and_outside_of_what_was_read() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        let mut writer = EventLog::open(&path).expect("writable");
        let mut ends = Vec::new();
        for number in 0..2000 {
            writer.append(&Stamped::now(log(&number.to_string()))).expect("written");
            ends.push(writer.end());
        }
        let mut reader = LogReader::new(&path, 0);
        assert_eq!(reader.next_event(), NextEvent::More);
        for target in [3, 4, 1500] {
            reader.skip_to(ends[target]);
            let found = std::iter::repeat_with(|| reader.next_event())
                .find(|found| *found != NextEvent::More);
            let Some(NextEvent::Event(stamped)) = found else { panic!("an event") };
            assert_eq!(stamped.event, log(&(target + 1).to_string()));
        }
        reader.skip_to(ends[2]);
        assert_eq!(reader.offset(), ends[1501], "never back");
    }
}
