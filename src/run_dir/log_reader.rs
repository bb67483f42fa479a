//! `events.jsonl` read piece by piece while another process may write it.

use super::event_log::end_of_last_line;
use crate::event::Stamped;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Bytes that one call reads, unless a line is longer.
const CHUNK: usize = 64 << 10;
/// A longer line is no event.
const LONGEST_LINE: usize = 8 << 20;

/// A place in an event log. Lines before it were handed out, or skipped because they are no events.
///
/// Only whole lines are kept from one look at the file to the next: what follows the last line feed may be cut off and
/// written anew by a run that is resumed.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    /// Closed at each end of the file: network file systems show news only to those who open it anew.
    file: Option<File>,
    /// Device and inode, to notice another log under the same name.
    identity: Option<(u64, u64)>,
    /// Offset of the next line in the file.
    offset: u64,
    /// Whole lines from `offset` on.
    lines: Vec<u8>,
    /// How much of `lines` is done.
    done: usize,
    chunk: usize,
    /// Inside of a line that is too long.
    overlong: bool,
    skipped: u64,
}

/// What a look at the log gives.
#[derive(Debug, PartialEq)]
pub enum NextEvent {
    Event(Box<Stamped>),
    /// Nothing yet; there is more to read.
    More,
    /// All whole lines were read, or the file can't be read now.
    End,
}

impl LogReader {
    /// Starts at `offset`, the begin of a line. The file need not exist yet.
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

    /// Offset of the next line in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Lines that were no events.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Goes on behind what was learnt in another way, at the begin of a line.
    pub fn skip_to(&mut self, offset: u64) {
        let ahead = offset.saturating_sub(self.offset) as usize;
        if self.done + ahead <= self.lines.len() {
            self.done += ahead;
        } else {
            self.forget();
            self.overlong = false;
        }
        self.offset = self.offset.max(offset);
    }

    /// Reads at most one chunk and parses at most one line.
    pub fn look(&mut self) -> NextEvent {
        let rest = &self.lines[self.done..];
        if let Some(length) = rest.iter().position(|&byte| byte == b'\n') {
            let parsed = serde_json::from_slice(&rest[..length]);
            self.done += length + 1;
            self.offset += length as u64 + 1;
            return parsed.map_or_else(|_| self.skip(), NextEvent::Event);
        }
        self.forget();
        self.read().unwrap_or_else(|_| self.end()) // there may be more luck the next time
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

    fn forget(&mut self) {
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
            return Ok(self.leave_line(full));
        }
        if let Some(last) = self.lines.iter().rposition(|&byte| byte == b'\n') {
            self.lines.truncate(last + 1);
            self.chunk = CHUNK;
            return Ok(NextEvent::More);
        }
        self.forget();
        if !full {
            return Ok(self.end());
        }
        self.overlong = self.chunk >= LONGEST_LINE;
        self.chunk = if self.overlong { CHUNK } else { self.chunk * 2 };
        Ok(NextEvent::More)
    }

    /// Looks for the end of a line that is too long.
    fn leave_line(&mut self, full: bool) -> NextEvent {
        let end = self.lines.iter().position(|&byte| byte == b'\n');
        let passed = end.map_or(self.lines.len(), |end| end + 1);
        self.forget();
        self.offset += passed as u64;
        self.overlong = end.is_none();
        match end {
            Some(_) => self.skip(),
            None if full => NextEvent::More,
            None => self.end(),
        }
    }

    fn open(&mut self) -> io::Result<File> {
        if !self.path.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into()); // opening a pipe would wait for its other end
        }
        let mut file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        let identity = Some((metadata.dev(), metadata.ino()));
        if self.identity.is_some() && self.identity != identity {
            self.offset = 0; // another run took its place
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

    /// Messages up to the end, in a bounded number of steps.
    fn drain(reader: &mut LogReader) -> Vec<String> {
        let mut messages = Vec::new();
        for _ in 0..100_000 {
            match reader.look() {
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
        // The old file lives until the new one is there, so that they can't have the same inode.
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
        assert_eq!(reader.look(), NextEvent::More);
        for target in [3, 4, 1500] {
            reader.skip_to(ends[target]);
            let found =
                std::iter::repeat_with(|| reader.look()).find(|found| *found != NextEvent::More);
            let Some(NextEvent::Event(stamped)) = found else { panic!("an event") };
            assert_eq!(stamped.event, log(&(target + 1).to_string()));
        }
        reader.skip_to(ends[2]);
        assert_eq!(reader.offset(), ends[1501], "never back");
    }
}
