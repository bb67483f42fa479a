//! Writes `events.jsonl`. The log is append-only and each write is of whole lines, so a kill loses at most the last line.
//!
//! It is synced before each checkpoint is put in place, so that after a power cut no checkpoint knows more than the log.

use super::hold::identity;
use super::{LOCK_RETRY, LOCK_WAIT, RunDirError, sync_dir};
use crate::event::Stamped;
use crate::files;
use crate::shown;
use rustix::io::Errno;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes that are copied at once.
const PIECE: usize = 64 << 10;

/// The open log, held by the one process that writes the run.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: File,
    /// Offset behind the last whole line.
    len: u64,
    /// How many of these bytes are known to be on the disk.
    synced: u64,
    /// Whether there may be a part of a line behind `len`, which could not be cut off.
    torn: bool,
    /// Whether the file has to be opened again, because its file system has forgotten it.
    stale: bool,
    /// Whether the file is locked.
    locked: bool,
}

impl EventLog {
    /// Opens or creates the log. An incomplete last line, left by a kill or a full disk, is cut off.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        Self::open_with(path, false)
    }

    /// Like [`Self::open`], and locks the file, so that no second process writes to it even where the run's lock file was
    /// removed. A process that has just ended may hold it for some milliseconds more: that is waited for.
    ///
    /// # Errors
    /// Also if another process has locked the file.
    pub(crate) fn open_alone(path: &Path) -> Result<Self, RunDirError> {
        Self::open_with(path, true)
    }

    fn open_with(path: &Path, alone: bool) -> Result<Self, RunDirError> {
        let io = |source| RunDirError::Io { what: "write", path: path.to_owned(), source };
        let new = !path.exists();
        let file = files::open_log(path).map_err(io)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        if alone && !lock(&file) {
            let (path, owner) = (folder.to_owned(), String::new());
            return Err(RunDirError::Locked { path, owner });
        }
        if new {
            sync_dir(folder).map_err(io)?;
        }
        let path = path.to_owned();
        let (len, synced, torn, stale, locked) = (0, 0, false, false, alone);
        let mut log = Self { path, file, len, synced, torn, stale, locked };
        log.len = end_of_last_line(&mut log.file).map_err(io)?;
        log.file.set_len(log.len).map_err(io)?;
        Ok(log)
    }

    /// Appends an event. When this returns, the operating system has the line, so it is kept if the process is killed.
    ///
    /// # Errors
    /// If the line can't be written whole. A part that was written is removed again, at the latest before the next line.
    pub fn append(&mut self, stamped: &Stamped) -> Result<(), RunDirError> {
        self.append_all(std::slice::from_ref(stamped)).map(|_| ())
    }

    /// Appends events, all or none. Returns the offsets behind their lines.
    ///
    /// # Errors
    /// As for [`Self::append`].
    pub(crate) fn append_all(&mut self, events: &[Stamped]) -> Result<Vec<u64>, RunDirError> {
        let (mut lines, mut ends) = (String::new(), Vec::new());
        for event in events {
            lines += &serde_json::to_string(event).unwrap_or_default();
            lines.push('\n');
            ends.push(self.len + lines.len() as u64);
        }
        let written = self.mend().and_then(|()| self.file.write_all(lines.as_bytes()));
        if let Err(source) = written {
            return Err(self.take_back(self.len, source));
        }
        self.len += lines.len() as u64;
        Ok(ends)
    }

    /// Like [`Self::append_all`], and when this returns, the whole log is on the disk.
    ///
    /// # Errors
    /// If the events can't be written and synced. They aren't in the log then.
    pub(crate) fn append_durably(&mut self, events: &[Stamped]) -> Result<Vec<u64>, RunDirError> {
        let before = self.len;
        let ends = self.append_all(events)?;
        if let Err(source) = self.sync_data() {
            return Err(self.take_back(before, source));
        }
        Ok(ends)
    }

    /// Cuts the log after a write that failed.
    fn take_back(&mut self, len: u64, source: io::Error) -> RunDirError {
        self.len = len;
        self.synced = self.synced.min(len);
        self.torn = self.file.set_len(len).is_err(); // the first error is the one to report
        self.stale = source.raw_os_error() == Some(Errno::STALE.raw_os_error());
        RunDirError::Io { what: "write", path: self.path.clone(), source }
    }

    /// Makes the file end behind the last whole line.
    fn mend(&mut self) -> io::Result<()> {
        if self.stale {
            let file = files::open_log(&self.path)?;
            let mut last = [0];
            let at = self.len.saturating_sub(1);
            if self.len > 0 && (file.read_at(&mut last, at)? == 0 || last[0] != b'\n') {
                return Err(Errno::STALE.into()); // it isn't the log, or not all of it
            }
            // The lock belongs to the descriptor that is given up, if its file system still knows that one.
            let _ = self.file.unlock();
            if self.locked && !lock(&file) {
                return Err(Errno::STALE.into());
            }
            (self.file, self.stale, self.torn) = (file, false, true);
        }
        if self.torn {
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Brings every line to the disk. Returns at once if all are there already.
    ///
    /// # Errors
    /// If the system can't do it. It can be tried again.
    pub(crate) fn sync(&mut self) -> Result<(), RunDirError> {
        let synced = self.mend().and_then(|()| self.sync_data());
        synced.map_err(|source| RunDirError::Io { what: "write", path: self.path.clone(), source })
    }

    fn sync_data(&mut self) -> io::Result<()> {
        if self.synced == self.len {
            return Ok(());
        }
        if let Err(error) = self.file.sync_data() {
            // Systems count what could not be written as written. The next attempt has to write it once more.
            let _ = self.write_again(); // the first error is the one to report
            return Err(error);
        }
        self.synced = self.len;
        Ok(())
    }

    /// Writes what may not be on the disk over itself.
    fn write_again(&self) -> io::Result<()> {
        // A file that is open for appending can't be written in the middle.
        let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let file = File::options().write(true).open(link)?;
        self.pieces(self.synced, |at, bytes| file.write_all_at(bytes, at))
    }

    /// Calls `each` with the log's bytes from `at` on, piece by piece.
    fn pieces(
        &self,
        mut at: u64,
        mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut bytes = vec![0; PIECE];
        while at < self.len {
            let piece = PIECE.min((self.len - at) as usize);
            self.file.read_exact_at(&mut bytes[..piece], at)?;
            each(at, &bytes[..piece])?;
            at += piece as u64;
        }
        Ok(())
    }

    /// Looks whether the log has its name. If its file was removed or replaced, it is put back with all that it has; what
    /// was in its place is renamed to end in `.abandoned`. Returns whether it was put back.
    ///
    /// # Errors
    /// If it can't be put back at the moment.
    pub(crate) fn keep(&mut self) -> Result<bool, RunDirError> {
        let io = |source| RunDirError::Io { what: "write", path: self.path.clone(), source };
        let own = self.file.metadata().map_err(io)?;
        match fs::symlink_metadata(&self.path) {
            Ok(found) if identity(&found) == identity(&own) => return Ok(false),
            Ok(_) => drop(files::set_aside(&self.path, "abandoned").map_err(io)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        self.file = self.put_back().map_err(io)?;
        (self.synced, self.torn, self.stale) = (self.len, false, false);
        Ok(true)
    }

    /// Copies the log from its open file: the system makes no new name for a file that has none.
    fn put_back(&self) -> io::Result<File> {
        let (temporary, file) = files::make_temporary(&self.path, files::open_new_log)?;
        let put = self.copy_to(&file).and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = put {
            let _ = fs::remove_file(&temporary); // the first error is the one to report
            return Err(error);
        }
        sync_dir(self.path.parent().unwrap_or(Path::new(".")))?;
        Ok(file)
    }

    fn copy_to(&self, mut file: &File) -> io::Result<()> {
        if self.locked && !lock(file) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.pieces(0, |_, bytes| file.write_all(bytes))?;
        file.sync_all()
    }

    /// Returns the offset behind the last line.
    pub fn end(&self) -> u64 {
        self.len
    }
}

/// Locks a log; waits a little for whoever holds it. A file system without locks has none for the run either.
fn lock(file: &File) -> bool {
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) | Err(TryLockError::Error(_)) => return true,
            Err(TryLockError::WouldBlock) if start.elapsed() > LOCK_WAIT => return false,
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
        }
    }
}

/// Returns whether a process has the log open alone. The file need not be there.
pub(super) fn is_held(path: &Path) -> bool {
    if !path.symlink_metadata().is_ok_and(|found| found.is_file()) {
        return false; // opening a named pipe would block
    }
    let opened = File::options().read(true).append(true).open(path);
    opened.is_ok_and(|log| matches!(log.try_lock(), Err(TryLockError::WouldBlock)))
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

/// Reads all events of a log, which another process may be writing. Lines that are none, as a torn one, are passed over.
///
/// # Errors
/// If the file can't be read, or has lines and none of them is an event.
#[cfg_attr(
    not(feature = "tui"),
    allow(dead_code, reason = "only the screen and tests read a log at once")
)]
pub fn read(path: &Path) -> io::Result<Vec<Stamped>> {
    let mut events = Vec::new();
    let mut reader = BufReader::new(files::open(path)?);
    let (mut line, mut wrong) = (Vec::new(), None);
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            break; // end, or a line that is being written
        }
        match serde_json::from_slice(&line) {
            Ok(event) => events.push(event),
            Err(error) => wrong = wrong.or(Some(error)),
        }
    }
    match wrong.filter(|_| events.is_empty()) {
        None => Ok(events),
        Some(error) => {
            let text = format!("{} has no event: {error}", shown::path(path));
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
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

    fn messages(path: &Path) -> Vec<String> {
        let events = read(path).expect("readable").into_iter();
        let message = |stamped: Stamped| match stamped.event {
            Event::Log { message, .. } => message,
            other => panic!("{other:?}"),
        };
        events.map(message).collect()
    }

    #[test]
    fn a_torn_line_that_could_not_be_cut_off_is_cut_before_the_next_one() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        let mut writer = EventLog::open(&path).expect("writable");
        writer.append(&log("one")).expect("written");
        // What a short write and a failing ftruncate leave.
        writer.file.write_all(b"{\"time\":1,\"ev").expect("written");
        writer.torn = true;
        writer.append_all(&[log("two"), log("three")]).expect("written");
        assert_eq!(messages(&path), ["one", "two", "three"]);
        assert_eq!(path.metadata().expect("there").len(), writer.end());
    }

    #[test]
    fn a_torn_line_inside_is_passed_over_and_a_file_without_events_is_no_log() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        let mut writer = EventLog::open(&path).expect("writable");
        writer.append(&log("one")).expect("written");
        writer.file.write_all(b"{\"time\":1,\"ev{\"time\":2}\n").expect("written");
        let mut writer = EventLog::open(&path).expect("writable");
        writer.append(&log("two")).expect("written");
        assert_eq!(messages(&path), ["one", "two"]);
        fs::write(&path, "text\n").expect("writable");
        assert!(read(&path).expect_err("no log").to_string().contains("has no event"));
        fs::write(&path, "").expect("writable");
        assert_eq!(messages(&path), [""; 0]);
    }

    #[test]
    fn a_log_that_was_removed_or_replaced_is_put_back_whole() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        let mut writer = EventLog::open_alone(&path).expect("writable");
        let long = "x".repeat(3 * PIECE);
        writer.append(&log(&long)).expect("written");
        assert!(!writer.keep().expect("it is there"));
        fs::remove_file(&path).expect("there");
        writer.append(&log("two")).expect("written");
        assert!(writer.keep().expect("put back"));
        writer.append(&log("three")).expect("written");
        for (round, aside) in
            ["events.jsonl.abandoned", "events.jsonl.abandoned-2"].iter().enumerate()
        {
            let other = temp.path().join("other");
            fs::write(&other, format!("{round}")).expect("writable");
            fs::rename(&other, &path).expect("replaced");
            assert!(writer.keep().expect("put back"));
            let kept = fs::read_to_string(temp.path().join(aside)).expect("set aside");
            assert_eq!(kept, format!("{round}"));
        }
        writer.append(&log("four")).expect("written");
        assert_eq!(messages(&path), [&long, "two", "three", "four"]);
        assert!(matches!(EventLog::open_alone(&path), Err(RunDirError::Locked { .. })));
        drop(writer);
        EventLog::open_alone(&path).expect("free again");
    }

    #[test]
    fn a_log_whose_file_system_forgot_it_is_opened_again_if_it_is_whole() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        let mut writer = EventLog::open(&path).expect("writable");
        writer.append(&log("one")).expect("written");
        fs::copy(&path, temp.path().join("whole")).expect("a copy");
        fs::write(&path, "short\n").expect("writable");
        writer.stale = true;
        assert!(writer.append(&log("two")).is_err(), "the file has lost what it had");
        fs::rename(temp.path().join("whole"), &path).expect("movable");
        writer.stale = true;
        writer.append(&log("two")).expect("written");
        assert_eq!(messages(&path), ["one", "two"]);
    }
}
