//! Who writes a run, and whether that process is running.
//!
//! `RUN/lock` contains one JSON line about the process that holds the lock. The modification time of the file is that
//! process's heartbeat. The file stays when the process ends. Only a writer ever takes the lock: if viewers took it, a
//! run that starts at that moment would fail.

use super::RunDirError;
use super::hold::Hold;
use crate::files;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, Weak};
use std::time::{Duration, SystemTime};

/// A process on another host counts as gone once its heartbeat is older than this. Network file systems show times up
/// to a minute late.
const SILENCE: Duration = Duration::from_mins(2);

/// A process that writes a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub pid: u32,
    /// Name of the host; empty if not known.
    #[serde(default)]
    pub host: String,
    /// Start of the process in clock ticks since the boot of its host; 0 if not known.
    #[serde(default)]
    pub started: u64,
    /// Identifier of the boot of the host, which changes with each boot; empty if not known.
    #[serde(default)]
    pub boot: String,
    /// Identifier of the PID namespace, in which a process number means one process; empty if not known. Each container
    /// has its own namespace.
    #[serde(default)]
    pub pid_space: String,
}

/// What is known about the process behind a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Liveness {
    /// The process is running on this system.
    Local(Owner),
    /// The process runs on another host or in another container, according to its heartbeat.
    Remote(Owner),
    /// No process writes the run.
    Gone,
}

impl Owner {
    /// Returns this process as an owner.
    pub fn me() -> Self {
        Self::of(std::process::id())
    }

    /// Returns a process of this system as an owner.
    pub fn of(pid: u32) -> Self {
        let started = stat(pid).map_or(0, |stat| stat.started);
        Self { pid, started, ..Self::here().clone() }
    }

    /// Returns an owner with the identifiers of this system and no process.
    fn here() -> &'static Self {
        static HERE: OnceLock<Owner> = OnceLock::new();
        HERE.get_or_init(|| {
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
            Self {
                pid: 0,
                host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
                started: 0,
                boot: boot.trim().to_owned(),
                pid_space: space.to_string_lossy().into_owned(),
            }
        })
    }

    /// Reads which process held the lock of a run last. Returns `None` if that is not known.
    pub fn read(root: &Path) -> Option<Self> {
        let mut text = String::new();
        files::open(&path(root)).ok()?.take(4096).read_to_string(&mut text).ok()?;
        let line = text.lines().next()?.trim();
        // Earlier releases wrote only the process number.
        let bare = || line.parse().ok().map(|pid| Self { pid, ..Self::unknown() });
        serde_json::from_str(line).ok().or_else(bare)
    }

    fn unknown() -> Self {
        let (host, boot, pid_space) = (String::new(), String::new(), String::new());
        Self { pid: 0, host, started: 0, boot, pid_space }
    }

    /// Writes the owner into the lock file, which this process must hold.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, lock: &File) -> io::Result<()> {
        let mut line = serde_json::to_string(self)?;
        line.push('\n');
        // The length is set last, so that readers, who use the first line only, never find the file empty.
        lock.write_all_at(line.as_bytes(), 0)?;
        lock.set_len(line.len() as u64)
    }

    /// Returns "process 4711", with its host unless that is this one.
    pub fn describe(&self) -> String {
        if self.host.is_empty() || self.host == Self::here().host {
            format!("process {}", self.pid)
        } else {
            format!("process {} on host {}", self.pid, self.host)
        }
    }

    /// Returns whether the process number is valid in `place`, or `None` if the process is from an earlier boot.
    fn is_of(&self, place: &Self) -> Option<bool> {
        let same =
            |mine: &str, theirs: &str| mine.is_empty() || theirs.is_empty() || mine == theirs;
        if !same(&self.host, &place.host) {
            return Some(false);
        }
        same(&self.boot, &place.boot).then(|| same(&self.pid_space, &place.pid_space))
    }

    /// Returns whether the process is running here; a later process with the same number does not count.
    fn runs(&self) -> bool {
        match stat(self.pid) {
            Some(stat) => !stat.ended && (self.started == 0 || stat.started == self.started),
            None => exists(self.pid),
        }
    }

    /// Returns what is known about the process, as seen from `place`. `silent_for` is the age of its heartbeat.
    fn liveness(self, place: &Self, silent_for: Duration) -> Liveness {
        match self.is_of(place) {
            Some(true) if self.runs() => Liveness::Local(self),
            Some(false) if silent_for < SILENCE => Liveness::Remote(self),
            _ => Liveness::Gone,
        }
    }
}

/// Returns whether a process trains this run, without taking its lock.
///
/// On this system the process is looked up, so jumps of the clock don't matter. On another system its heartbeat decides.
pub fn liveness(root: &Path) -> Liveness {
    let Some(owner) = Owner::read(root) else { return Liveness::Gone };
    let Some(beat) = last_beat(root) else { return Liveness::Gone };
    // A heartbeat in the future comes from a clock that is ahead, and counts as fresh.
    owner.liveness(Owner::here(), beat.elapsed().unwrap_or_default())
}

/// Returns the time of the last heartbeat of the process behind a run.
pub fn last_beat(root: &Path) -> Option<SystemTime> {
    path(root).metadata().ok()?.modified().ok()
}

pub(super) fn path(root: &Path) -> PathBuf {
    root.join("lock")
}

/// Shows viewers on other hosts that this process is running. It works on a full disk, and does not keep the lock held.
#[derive(Debug, Clone)]
pub struct Heartbeat(pub(super) Weak<Hold>);

impl Heartbeat {
    /// Renews the heartbeat, which has to happen every few seconds. Does nothing once the run directory is closed.
    pub fn beat(&self) {
        if let Some(hold) = self.0.upgrade() {
            hold.beat();
        }
    }

    /// Makes sure that the directory is in its place and still this process's own. A lock that was removed is made again.
    /// Returns whether that happened since the last call, here or in [`super::RunDir::keep`].
    ///
    /// # Errors
    /// As for [`super::RunDir::keep`].
    pub fn keep(&self) -> Result<bool, RunDirError> {
        let Some(hold) = self.0.upgrade() else { return Ok(false) };
        hold.keep()?;
        Ok(hold.mended())
    }
}

/// What `/proc/PID/stat` says about a process.
struct Stat {
    /// Whether the process has ended but its parent has not collected its exit status yet.
    ended: bool,
    /// Start of the process in clock ticks since boot.
    started: u64,
}

/// Reads `/proc/PID/stat`. Returns `None` if there is no such process or the system does not show it.
fn stat(pid: u32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in brackets, which may itself contain blanks and brackets.
    let fields: Vec<_> = line.get(line.rfind(')')? + 1..)?.split_whitespace().collect();
    let ended = matches!(*fields.first()?, "Z" | "X");
    Some(Stat { ended, started: fields.get(19)?.parse().ok()? })
}

fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().filter(|&pid| pid > 0).and_then(Pid::from_raw);
    pid.is_some_and(|pid| {
        // A process that may not be signalled exists and belongs to another user.
        matches!(test_kill_process(pid), Ok(()) | Err(rustix::io::Errno::PERM))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_dir::RunDir;

    /// Makes a directory whose lock was left by `owner`, with a heartbeat of this age.
    fn left_by(owner: &Owner, age: Duration) -> tempfile::TempDir {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let lock = File::create(path(temp.path())).expect("writable");
        owner.write(&lock).expect("written");
        lock.set_modified(SystemTime::now() - age).expect("settable");
        temp
    }

    #[test]
    fn the_process_that_holds_a_run_is_here() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::create(temp.path()).expect("a new run");
        assert_eq!(Owner::read(temp.path()), Some(Owner::me()));
        assert_eq!(liveness(temp.path()), Liveness::Local(Owner::me()));
        drop(run);
        // The file stays, and this process is still running.
        assert_eq!(Owner::read(temp.path()), Some(Owner::me()));
    }

    #[test]
    fn a_shorter_owner_replaces_a_longer_one() {
        let long = Owner { host: "x".repeat(200), ..Owner::me() };
        let temp = left_by(&long, Duration::ZERO);
        let lock = File::options().write(true).open(path(temp.path())).expect("there");
        Owner::me().write(&lock).expect("written");
        assert_eq!(Owner::read(temp.path()), Some(Owner::me()));
        let text = fs::read_to_string(path(temp.path())).expect("readable");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_process_with_the_same_number_is_not_it() {
        let before = Owner { started: Owner::me().started + 1, ..Owner::me() };
        assert_eq!(liveness(left_by(&before, Duration::ZERO).path()), Liveness::Gone);
        let last_boot = Owner { boot: "another".to_owned(), ..Owner::me() };
        assert_eq!(liveness(left_by(&last_boot, Duration::ZERO).path()), Liveness::Gone);
    }

    #[test]
    fn on_another_host_or_in_a_container_the_heartbeat_decides() {
        let far = Owner { host: "elsewhere".to_owned(), boot: "b".to_owned(), ..Owner::me() };
        let boxed = Owner { pid_space: "pid:[1]".to_owned(), ..Owner::me() };
        for owner in [far, boxed] {
            let fresh = left_by(&owner, Duration::from_mins(1));
            assert_eq!(liveness(fresh.path()), Liveness::Remote(owner.clone()));
            let silent = left_by(&owner, Duration::from_mins(3));
            assert_eq!(liveness(silent.path()), Liveness::Gone);
            let lock = File::options().write(true).open(path(silent.path())).expect("there");
            lock.set_modified(SystemTime::now() + Duration::from_hours(1)).expect("settable");
            assert_eq!(liveness(silent.path()), Liveness::Remote(owner.clone()), "a clock ahead");
        }
    }

    #[test]
    fn a_heartbeat_renews_the_time_and_does_not_hold_the_lock() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::create(temp.path()).expect("a new run");
        let heartbeat = run.heartbeat();
        let old = SystemTime::now() - Duration::from_hours(1);
        let lock = File::options().write(true).open(path(temp.path())).expect("there");
        lock.set_modified(old).expect("settable");
        heartbeat.beat();
        assert!(last_beat(temp.path()).expect("a time") > old + Duration::from_mins(30));
        drop(run);
        RunDir::open(temp.path()).expect("the lock is free");
        lock.set_modified(old).expect("settable");
        heartbeat.beat();
        assert!(last_beat(temp.path()).expect("a time") <= old, "a closed run has no heartbeat");
    }

    #[test]
    fn strange_lock_files_are_no_owner() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(liveness(temp.path()), Liveness::Gone);
        for text in ["", "\n", "garbage", "{\"pid\":-1}", "{}", "99999999999999"] {
            fs::write(path(temp.path()), text).expect("writable");
            assert_eq!(Owner::read(temp.path()), None, "{text:?}");
            assert_eq!(liveness(temp.path()), Liveness::Gone, "{text:?}");
        }
        for text in ["0\n", "4294967295\n", "{\"pid\":0}\n"] {
            fs::write(path(temp.path()), text).expect("writable");
            assert_eq!(liveness(temp.path()), Liveness::Gone, "{text:?}");
        }
        fs::write(path(temp.path()), format!("{}\n", std::process::id())).expect("writable");
        assert!(
            matches!(liveness(temp.path()), Liveness::Local(_)),
            "the lock of an earlier release"
        );
        fs::remove_file(path(temp.path())).expect("removable");
        fs::create_dir(path(temp.path())).expect("a folder");
        assert_eq!(liveness(temp.path()), Liveness::Gone);
    }

    #[test]
    fn the_host_is_named_only_if_it_is_another() {
        let me = Owner::me();
        assert_eq!(me.describe(), format!("process {}", me.pid));
        let far = Owner { pid: 4711, host: "node7".to_owned(), ..me };
        assert_eq!(far.describe(), "process 4711 on host node7");
    }
}
