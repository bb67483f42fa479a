//! The directory of one run.
//!
//! ```text
//! RUN/config.toml      the resolved configuration
//! RUN/events.jsonl     every event, one JSON object a line, append-only
//! RUN/checkpoints/     step-NNNNNNNN.safetensors and best.safetensors
//! RUN/previews/        step-NNNNNNNN.png
//! RUN/lock             locked by the process that writes the run, and names that process
//! RUN/control.sock     the socket on which that process takes orders
//! ```

pub(crate) mod digest;
pub(crate) mod event_log;
mod hold;
pub mod log_reader;
pub(crate) mod owner;
mod trust;

use crate::config::{Config, file};
use crate::files;
use crate::shown;
use crate::text::shell::for_shell;
use hold::Hold;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

pub use digest::{Digest, digest};
pub use event_log::EventLog;
pub use log_reader::LogReader;
pub use owner::{Heartbeat, Liveness, Owner, liveness};
pub use trust::Trust;

/// Name of the event log in a run directory.
pub const EVENTS: &str = "events.jsonl";
/// Name of the folder of pictures in a run directory.
const PREVIEWS: &str = "previews";
/// Bytes of the largest picture that is believed to be a preview.
const LARGEST_PREVIEW: u64 = 64 << 20;
/// The modes of the directories of a run, and of those above that are made on the way, where a group may be at work.
const OURS: u32 = 0o755;
const ABOVE: u32 = 0o775;

/// What can be wrong with a run directory.
#[derive(Debug, Error)]
pub enum RunDirError {
    #[error("cannot {what} {path}: {source}{}", advice(.source), path = shown::path(.path))]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{path} holds a run already: continue it with --resume {resume}, or choose another --run-dir",
        path = shown::path(.path),
        resume = for_shell(.path)
    )]
    Occupied { path: PathBuf },
    #[error(
        "{path} is written by another process{owner}: stop it first, or choose another --run-dir",
        path = shown::path(.path)
    )]
    Locked { path: PathBuf, owner: String },
    #[error(
        "{path} was taken by another process{owner} while this one trained, as its lock was removed: this one stops",
        path = shown::path(.path)
    )]
    Taken { path: PathBuf, owner: String },
    #[error("{path} is another run now: this one, which was moved or removed, stops", path = shown::path(.path))]
    Replaced { path: PathBuf },
    #[error("no run at {path}: --resume takes a run directory or a checkpoint file", path = shown::path(.path))]
    NotFound { path: PathBuf },
    #[error("{path} is in use as a file: --run-dir takes a directory", path = shown::path(.path))]
    NotADirectory { path: PathBuf },
    #[error(
        "{path} belongs to another user (uid {owner}), who could change what this run reads and writes: choose another \
         --run-dir, or insist with --trust-run-dir",
        path = shown::path(.path)
    )]
    Foreign { path: PathBuf, owner: u32 },
    #[error(
        "{path} can be written by other users (mode {mode:04o}), who could change what this run reads and writes: take \
         that away with `chmod go-w {shell}`, choose another --run-dir, or insist with --trust-run-dir",
        path = shown::path(.path),
        shell = for_shell(.path)
    )]
    Shared { path: PathBuf, mode: u32 },
}

impl RunDirError {
    /// Whether another run directory would do, rather than another disk or another try.
    pub fn is_wrong_place(&self) -> bool {
        let Self::Io { source, .. } = self else { return true };
        // Not all of the system's words for a bad path have a kind of their own: the name of a folder may be too long,
        // or its links may go round in circles.
        let odd = [Errno::NAMETOOLONG, Errno::LOOP].map(|errno| Some(errno.raw_os_error()));
        odd.contains(&source.raw_os_error())
            || matches!(
                source.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::AlreadyExists
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::Unsupported
            )
    }
}

/// Returns what the user can do about a system error, as the end of a sentence, or nothing for an uncommon one.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "; free some space, then start it again, with --resume if it had begun"
        }
        io::ErrorKind::QuotaExceeded => {
            "; your share of the disk is used up: free some, then start it again, with --resume if it had begun"
        }
        io::ErrorKind::FileTooLarge => {
            "; raise the limit on the size of files (ulimit -f), then start it again, with --resume if it had begun"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "; choose a --run-dir that you may write"
        }
        _ => "",
    }
}

/// How long a resume waits for a lock that another process still holds, and how often it looks.
const LOCK_WAIT: Duration = Duration::from_millis(1500);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// An open run directory. It is locked until this value is dropped or the process ends.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    hold: Arc<Hold>,
}

impl RunDir {
    /// Makes the directory of a new run and locks it.
    ///
    /// # Errors
    /// If the directory holds a run, is locked, or can't be written.
    pub fn create(root: &Path) -> Result<Self, RunDirError> {
        Self::create_with(root, Trust::Checked)
    }

    /// Like [`Self::create`], with a choice of whose directory it may be.
    ///
    /// # Errors
    /// As for [`Self::create`].
    pub fn create_with(root: &Path, trust: Trust) -> Result<Self, RunDirError> {
        if root.is_file() {
            return Err(RunDirError::NotADirectory { path: root.to_owned() });
        }
        if root.is_dir() {
            trust.check(root)?;
        }
        if holds_run(root) {
            // If the run is being written, that is the more useful message.
            lock(root, || false)?;
            return Err(RunDirError::Occupied { path: root.to_owned() });
        }
        make_durable(root, make_dir)?;
        trust.check(root)?; // another process may have made it in the meantime
        let run = Self::own(root, || false)?;
        if holds_run(root) {
            // Another process made and finished a run here between the check above and the lock.
            return Err(RunDirError::Occupied { path: root.to_owned() });
        }
        run.make_folders(trust)?;
        Ok(run)
    }

    /// Makes `PARENT/NAME-001`, or the directory with the next free number.
    ///
    /// # Errors
    /// As for [`Self::create`].
    pub fn create_numbered(parent: &Path, name: &str) -> Result<Self, RunDirError> {
        make_durable(parent, |parent| make_above(parent).map_err(uncreated(parent)))?;
        for number in 1_u32.. {
            let root = parent.join(format!("{name}-{number:03}"));
            match uninterrupted(|| DirBuilder::new().mode(OURS).create(&root)) {
                Ok(()) => return Self::create(&root),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => {
                    return Err(RunDirError::Io { what: "create", path: root, source });
                }
            }
        }
        unreachable!("4 billion runs in one directory")
    }

    /// Opens the directory of a run that is to be resumed, and locks it. A process that has just reported its end, or that
    /// is about to start another program, may hold the lock for some milliseconds more: that is waited for.
    ///
    /// # Errors
    /// If there is no such directory, it is locked, or it can't be written.
    pub fn open(root: &Path) -> Result<Self, RunDirError> {
        Self::open_with(root, Trust::Checked)
    }

    /// Like [`Self::open`], with a choice of whose directory it may be.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_with(root: &Path, trust: Trust) -> Result<Self, RunDirError> {
        if !root.is_dir() {
            return Err(RunDirError::NotFound { path: root.to_owned() });
        }
        trust.check(root)?;
        let start = Instant::now();
        let run = Self::own(root, || {
            std::thread::sleep(LOCK_RETRY);
            start.elapsed() < LOCK_WAIT
        })?;
        run.make_folders(trust)?;
        for folder in [root.to_owned(), run.checkpoints(), run.previews()] {
            remove_temporaries(&folder);
        }
        Ok(run)
    }

    fn make_folders(&self, trust: Trust) -> Result<(), RunDirError> {
        for folder in [self.checkpoints(), self.previews()] {
            make_dir(&folder)?;
            trust.check(&folder)?;
        }
        Ok(())
    }

    /// Takes the lock and writes into it who this process is. `again` is as for [`lock`].
    fn own(root: &Path, mut again: impl FnMut() -> bool) -> Result<Self, RunDirError> {
        // Where the lock was removed while its process goes on, the log is still locked.
        while event_log::is_held(&root.join(EVENTS)) {
            if !again() {
                return Err(RunDirError::Locked { path: root.to_owned(), owner: written_by(root) });
            }
        }
        let lock = lock(root, again)?;
        let owned = Owner::me().write(&lock).and_then(|()| Hold::new(root, lock));
        let hold = owned.map_err(|source| RunDirError::Io {
            what: "write",
            path: owner::path(root),
            source,
        })?;
        Ok(Self { root: root.to_owned(), hold: Arc::new(hold) })
    }

    /// Makes sure that the directory is in its place and still this process's own. A lock or a folder for checkpoints
    /// that was removed is made again; returns whether the lock was.
    ///
    /// # Errors
    /// If the directory isn't there at the moment, can't be written, or was taken by another process or another run.
    pub fn keep(&self) -> Result<bool, RunDirError> {
        let made = self.hold.keep()?;
        for folder in [self.checkpoints(), self.previews()] {
            if !folder.is_dir() {
                make_durable(&folder, make_dir)?;
            }
        }
        Ok(made)
    }

    /// Fails if [`Self::keep`] or the heartbeat found that another process or another run has taken the directory.
    pub(crate) fn check(&self) -> Result<(), RunDirError> {
        self.hold.check()
    }

    /// Returns where the directory is now, if it was moved away from its path.
    pub(crate) fn moved_to(&self) -> Option<PathBuf> {
        self.hold.moved_to()
    }

    /// Returns the heartbeat for the thread that shows viewers on other hosts that this process is running.
    pub fn heartbeat(&self) -> Heartbeat {
        Heartbeat(Arc::downgrade(&self.hold))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    pub fn previews(&self) -> PathBuf {
        self.root.join(PREVIEWS)
    }

    pub fn config_path(&self) -> PathBuf {
        config_path(&self.root)
    }

    pub fn events_path(&self) -> PathBuf {
        self.root.join(EVENTS)
    }

    /// Saves the resolved configuration.
    ///
    /// # Errors
    /// If the file can't be written. An older file is then left as it was.
    pub fn write_config(&self, config: &Config) -> Result<(), RunDirError> {
        let path = self.config_path();
        write_atomic(&path, file::to_toml(config).as_bytes()).map_err(|source| RunDirError::Io {
            what: "write",
            path,
            source,
        })
    }
}

/// Takes the lock of a run without changing the contents of the lock file. While another process holds it, `again` waits
/// and says whether to try once more.
fn lock(root: &Path, mut again: impl FnMut() -> bool) -> Result<File, RunDirError> {
    let path = owner::path(root);
    // The file is not truncated, because it names the last process that wrote the run.
    let lock = files::open_own(&path).map_err(|source| RunDirError::Io {
        what: "write",
        path: path.clone(),
        source,
    })?;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if again() => {}
            Err(TryLockError::WouldBlock) => {
                return Err(RunDirError::Locked { path: root.to_owned(), owner: written_by(root) });
            }
            Err(TryLockError::Error(source)) => {
                return Err(RunDirError::Io { what: "lock", path, source });
            }
        }
    }
}

/// Returns the process that writes a run in brackets, if it is known.
fn written_by(root: &Path) -> String {
    Owner::read(root).map(|owner| format!(" ({})", owner.describe())).unwrap_or_default()
}

/// Returns the path of a run's configuration.
pub fn config_path(root: &Path) -> PathBuf {
    root.join("config.toml")
}

/// Returns whether a directory is that of a run.
pub fn holds_run(root: &Path) -> bool {
    root.join(EVENTS).exists() || config_path(root).exists()
}

/// Does what the system may break off for a signal's sake, as network file systems do, until it isn't.
pub(crate) fn uninterrupted<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const MOST: u32 = 100;
    for _ in 1..MOST {
        match work() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
    work()
}

/// Makes a directory by `make`, and syncs those that hold it and the new ones above it, so that its name outlives a power
/// cut.
fn make_durable(
    path: &Path,
    make: impl FnOnce(&Path) -> Result<(), RunDirError>,
) -> Result<(), RunDirError> {
    let new = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let new = new.count();
    make(path)?;
    for folder in path.ancestors().skip(1).take(new.max(1)) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        match sync_dir(folder) {
            // Names can be made in a folder that can't be read.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                let path = folder.to_owned();
                return Err(RunDirError::Io { what: "write", path, source: error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads a preview that an event of the run at `root` names. The name may come from anybody: it has to be that of a
/// file in the folder of previews, where no link is followed.
///
/// # Errors
/// If the path leads elsewhere, or if the file is no regular one, is too large or can't be read.
pub fn read_preview(root: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let name = preview_name(path).ok_or_else(|| {
        let text = format!("it lies outside of {PREVIEWS}/");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    files::read(&files::open_below(root, PREVIEWS, name)?, LARGEST_PREVIEW)
}

/// Returns the name of a file right in the folder of previews.
fn preview_name(path: &Path) -> Option<&OsStr> {
    let mut parts = path.components();
    match (parts.next()?, parts.next()?, parts.next()) {
        (Component::Normal(folder), Component::Normal(name), None) if folder == PREVIEWS => {
            Some(name)
        }
        _ => None,
    }
}

/// Makes a directory of a run, which nobody else may write, and those above it.
fn make_dir(path: &Path) -> Result<(), RunDirError> {
    let make = || uninterrupted(|| DirBuilder::new().mode(OURS).create(path));
    let result = match (make(), path.parent()) {
        (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => {
            make_above(above).and_then(|()| make())
        }
        (first, _) => first,
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other.map_err(uncreated(path)),
    }
}

/// Makes a directory in which runs lie, and those above it.
fn make_above(path: &Path) -> io::Result<()> {
    uninterrupted(|| DirBuilder::new().recursive(true).mode(ABOVE).create(path))
}

fn uncreated(path: &Path) -> impl FnOnce(io::Error) -> RunDirError {
    |source| RunDirError::Io { what: "create", path: path.to_owned(), source }
}

/// Removes the temporary files of atomic writes that a kill interrupted.
pub(crate) fn remove_temporaries(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if files::is_temporary(&name.to_string_lossy()) {
            let _ = fs::remove_file(entry.path()); // a file that stays does no harm
        }
    }
}

/// Writes a file so that after a crash it has either its old or its new content, never a part of it.
///
/// The content goes into a temporary file in the same directory, which is synced and renamed; then the directory is
/// synced. Only the user of this process can write the file.
///
/// # Errors
/// If any of these steps fails, or if the path is that of a device, a pipe or a socket. The temporary file is then
/// removed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomic_as(files::OURS, path, |file| file.write_all(bytes))
}

/// Like [`write_atomic`], for content that `write` produces piece by piece, and for a file outside of a run, whose mode
/// the umask decides.
///
/// # Errors
/// As for [`write_atomic`], and if `write` fails.
pub fn write_atomic_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    write_atomic_as(files::BY_UMASK, path, write)
}

fn write_atomic_as(
    mode: u32,
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    files::check_replaceable(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let (temporary, file) = files::new_temporary(path, mode)?;
    let mut file = BufWriter::new(file);
    let written = write(&mut file)
        .and_then(|()| file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all());
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = renamed {
        let _ = fs::remove_file(&temporary); // the first error is the one to report
        return Err(error);
    }
    sync_dir(folder)
}

/// Makes renames and links in a directory durable.
///
/// # Errors
/// If the directory can't be opened or synced.
pub fn sync_dir(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_let_go_while_someone_waits_is_taken() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let mut holder = Some(RunDir::create(&temp.path().join("run")).expect("a new run"));
        let root = holder.as_ref().expect("held").root().to_owned();
        let mut waits = 0;
        let taken = lock(&root, || {
            waits += 1;
            if waits == 3 {
                holder = None;
            }
            waits <= 3
        });
        assert!(taken.is_ok() && waits == 3, "{taken:?} after {waits} waits");
        assert!(lock(&root, || false).is_err(), "it is held now");
    }

    #[test]
    fn a_run_directory_is_locked_while_open_and_free_afterwards() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let root = temp.path().join("run");
        let run = RunDir::create(&root).expect("a new run");
        let text = RunDir::open(&root).expect_err("locked").to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(run);
        RunDir::open(&root).expect("free again");
    }

    #[test]
    fn a_finished_run_is_not_overwritten() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::create(temp.path()).expect("a new run");
        run.write_config(&Config::default()).expect("writable");
        drop(run);
        let error = RunDir::create(temp.path()).expect_err("occupied");
        assert!(matches!(error, RunDirError::Occupied { .. }), "{error}");
    }

    #[test]
    fn numbered_runs_take_the_next_free_number() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let names = [1, 2].map(|_| {
            let run = RunDir::create_numbered(temp.path(), "demo").expect("a new run");
            run.root().file_name().expect("a name").to_owned()
        });
        assert_eq!(names, ["demo-001", "demo-002"]);
    }

    #[test]
    fn a_failed_atomic_write_leaves_the_old_file_and_no_temporary_one() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("file");
        write_atomic(&path, b"old").expect("writable");
        let blocked = temp.path().join("folder");
        fs::create_dir_all(blocked.join("full")).expect("a folder");
        assert!(write_atomic(&blocked, b"new").is_err(), "a folder can't be replaced by a file");
        assert_eq!(fs::read(&path).expect("there"), b"old");
        assert_eq!(fs::read_dir(temp.path()).expect("there").count(), 2);
    }

    #[test]
    fn only_files_in_the_folder_of_previews_have_a_name_there() {
        for (path, name) in [
            ("previews/step-1.png", Some("step-1.png")),
            ("previews/./a", Some("a")),
            ("previews/a/b", None),
            ("previews/../a", None),
            ("previews/..", None),
            ("previews", None),
            ("./previews/a", None),
            ("../previews/a", None),
            ("/previews/a", None),
            ("checkpoints/a", None),
            ("", None),
        ] {
            assert_eq!(preview_name(Path::new(path)), name.map(OsStr::new), "{path}");
        }
    }
}
