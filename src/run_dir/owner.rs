//! Who writes a run, and whether that process lives.
//!
//! `RUN/lock` holds one JSON line about the process that holds the lock, and its time of modification is that process's
//! heartbeat. The file stays when the process ends. Nobody but a writer ever takes the lock: a look at a run must not
//! make a run that starts just then fail.

use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, Weak};
use std::time::{Duration, SystemTime};

/// On another host a heartbeat older than this means death. Network file systems show times a minute late.
const SILENCE: Duration = Duration::from_mins(2);

/// A process that writes a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub pid: u32,
    /// Empty when not known, as in the next three.
    #[serde(default)]
    pub host: String,
    /// Start of the process in clock ticks since the boot of its host; 0 when not known.
    #[serde(default)]
    pub started: u64,
    /// Changes with each boot of the host.
    #[serde(default)]
    pub boot: String,
    /// Within it a process number means one process: containers have their own.
    #[serde(default)]
    pub pid_space: String,
}

/// What is known of the process behind a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Liveness {
    /// It lives on this system.
    Local(Owner),
    /// It lives, by its heartbeat, on another host or in another container.
    Remote(Owner),
    /// There is none.
    Gone,
}

impl Owner {
    /// This process.
    pub fn me() -> Self {
        Self::of(std::process::id())
    }

    /// A process of this system.
    pub fn of(pid: u32) -> Self {
        let started = stat(pid).map_or(0, |stat| stat.started);
        Self { pid, started, ..Self::here().clone() }
    }

    /// This system, as part of an owner.
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

    /// Whoever held the lock of this run last; `None` where that isn't known.
    pub fn read(root: &Path) -> Option<Self> {
        let path = path(root);
        if !path.metadata().ok()?.is_file() {
            return None; // opening a pipe would wait for its other end
        }
        let mut text = String::new();
        File::open(path).ok()?.take(4096).read_to_string(&mut text).ok()?;
        let line = text.lines().next()?.trim();
        // Earlier releases wrote the bare number.
        let bare = || line.parse().ok().map(|pid| Self { pid, ..Self::unknown() });
        serde_json::from_str(line).ok().or_else(bare)
    }

    fn unknown() -> Self {
        let (host, boot, pid_space) = (String::new(), String::new(), String::new());
        Self { pid: 0, host, started: 0, boot, pid_space }
    }

    /// Puts it into the lock file, which must be held by this process.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, lock: &File) -> io::Result<()> {
        let mut line = serde_json::to_string(self)?;
        line.push('\n');
        // The length comes last: readers, who take the first line, never find it empty.
        lock.write_all_at(line.as_bytes(), 0)?;
        lock.set_len(line.len() as u64)
    }

    /// "process 4711", and on which host unless it is this one.
    pub fn describe(&self) -> String {
        if self.host.is_empty() || self.host == Self::here().host {
            format!("process {}", self.pid)
        } else {
            format!("process {} on host {}", self.pid, self.host)
        }
    }

    /// Whether its process number means something to `place`; `None` when it is of an earlier boot.
    fn is_of(&self, place: &Self) -> Option<bool> {
        let same =
            |mine: &str, theirs: &str| mine.is_empty() || theirs.is_empty() || mine == theirs;
        if !same(&self.host, &place.host) {
            return Some(false);
        }
        same(&self.boot, &place.boot).then(|| same(&self.pid_space, &place.pid_space))
    }

    /// Whether a process of this number runs here that is no later one of the same number.
    fn runs(&self) -> bool {
        match stat(self.pid) {
            Some(stat) => !stat.ended && (self.started == 0 || stat.started == self.started),
            None => exists(self.pid),
        }
    }

    /// What is known of it, as seen from `place`, given the age of its heartbeat.
    fn liveness(self, place: &Self, silent_for: Duration) -> Liveness {
        match self.is_of(place) {
            Some(true) if self.runs() => Liveness::Local(self),
            Some(false) if silent_for < SILENCE => Liveness::Remote(self),
            _ => Liveness::Gone,
        }
    }
}

/// Whether a process trains this run, without a touch of its lock.
///
/// On this system the process itself is asked for, so jumps of the clock don't matter; on another one its heartbeat
/// decides.
pub fn liveness(root: &Path) -> Liveness {
    let Some(owner) = Owner::read(root) else { return Liveness::Gone };
    let Some(beat) = last_beat(root) else { return Liveness::Gone };
    // A beat from the future comes from a clock that is ahead: it is fresh.
    owner.liveness(Owner::here(), beat.elapsed().unwrap_or_default())
}

/// When the process behind a run showed its last sign of life.
pub fn last_beat(root: &Path) -> Option<SystemTime> {
    path(root).metadata().ok()?.modified().ok()
}

pub(super) fn path(root: &Path) -> PathBuf {
    root.join("lock")
}

/// Shows that the process lives; works on a full disk. It doesn't hold the lock.
#[derive(Debug, Clone)]
pub struct Heartbeat(pub(super) Weak<File>);

impl Heartbeat {
    /// To be called every few seconds; does nothing once the run folder is closed.
    pub fn beat(&self) {
        if let Some(lock) = self.0.upgrade() {
            let _ = lock.set_modified(SystemTime::now()); // only viewers on other hosts would miss it
        }
    }
}

/// A line of `/proc/PID/stat`.
struct Stat {
    /// Dead, but not yet collected by its parent.
    ended: bool,
    /// Clock ticks since boot.
    started: u64,
}

/// `None` where there is no such process or the system doesn't show it.
fn stat(pid: u32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in brackets, with anything in it.
    let fields: Vec<_> = line.get(line.rfind(')')? + 1..)?.split_whitespace().collect();
    let ended = matches!(*fields.first()?, "Z" | "X");
    Some(Stat { ended, started: fields.get(19)?.parse().ok()? })
}

fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().filter(|&pid| pid > 0).and_then(Pid::from_raw);
    pid.is_some_and(|pid| {
        // One that may not be signalled belongs to another user and lives.
        matches!(test_kill_process(pid), Ok(()) | Err(rustix::io::Errno::PERM))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_dir::RunDir;

    /// A folder whose lock was left by `owner`, with a heartbeat of this age.
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
        // The file stays, and this process lives on.
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
        let heart = run.heartbeat();
        let old = SystemTime::now() - Duration::from_hours(1);
        let lock = File::options().write(true).open(path(temp.path())).expect("there");
        lock.set_modified(old).expect("settable");
        heart.beat();
        assert!(last_beat(temp.path()).expect("a time") > old + Duration::from_mins(30));
        drop(run);
        RunDir::open(temp.path()).expect("the lock is free");
        lock.set_modified(old).expect("settable");
        heart.beat();
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
