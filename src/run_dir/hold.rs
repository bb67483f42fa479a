//! Holds on to a run directory: whether it is still there, and still this process's own. Files may be removed or replaced
//! while a run goes on, and whole folders moved.

use super::owner::{self, Owner};
use super::{RunDirError, holds_run};
use crate::files;
use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

/// Device and inode of a file, which no other file has while this one is open.
pub(super) fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The lock of a run directory, and the directory itself, both open.
#[derive(Debug)]
pub(super) struct Hold {
    root: PathBuf,
    files: Mutex<HeldFiles>,
    /// Another process has the directory (false), or another run its path (true). That can't change any more.
    lost: OnceLock<bool>,
    /// Whether the lock was made again since [`Self::mended`] was asked: whoever looks first may not be who tells of it.
    mended: AtomicBool,
}

#[derive(Debug)]
struct HeldFiles {
    folder: File,
    lock: File,
}

impl Hold {
    pub(super) fn new(root: &Path, lock: File) -> io::Result<Self> {
        let files = Mutex::new(HeldFiles { folder: File::open(root)?, lock });
        Ok(Self {
            root: root.to_owned(),
            files,
            lost: OnceLock::new(),
            mended: AtomicBool::new(false),
        })
    }

    fn files(&self) -> MutexGuard<'_, HeldFiles> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews the time of the lock file.
    pub(super) fn beat(&self) {
        let _ = self.files().lock.set_modified(SystemTime::now()); // only viewers on other hosts would miss it
    }

    /// Fails if the directory was found to be taken.
    pub(super) fn check(&self) -> Result<(), RunDirError> {
        self.lost.get().map_or(Ok(()), |&replaced| Err(self.why_lost(replaced)))
    }

    fn why_lost(&self, replaced: bool) -> RunDirError {
        if replaced {
            return RunDirError::Replaced { path: self.root.clone() };
        }
        let owner = Owner::read(&self.root).filter(|owner| *owner != Owner::me());
        let owner = owner.map(|owner| format!(" ({})", owner.describe())).unwrap_or_default();
        RunDirError::Taken { path: self.root.clone(), owner }
    }

    /// Notes that somebody else is there. They have this process's own directory if that is the one at the path.
    fn lose(&self, files: &HeldFiles) -> RunDirError {
        let own = fs::metadata(&self.root).is_ok_and(|root| is(&root, &files.folder));
        self.why_lost(*self.lost.get_or_init(|| !own))
    }

    fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> RunDirError {
        move |source| RunDirError::Io { what, path: path.to_owned(), source }
    }

    /// Looks whether the directory is in its place with the lock that this process holds. A lock file that was removed or
    /// damaged is made again. Returns whether it was.
    ///
    /// # Errors
    /// If the directory isn't there at the moment, if the lock can't be made again, or if another process or another run
    /// has taken the place; the last two can't change any more.
    pub(super) fn keep(&self) -> Result<bool, RunDirError> {
        self.check()?;
        let mut files = self.files();
        let root = fs::metadata(&self.root).map_err(Self::failed("find", &self.root))?;
        let path = owner::path(&self.root);
        match fs::symlink_metadata(&path) {
            Ok(found) if is(&found, &files.lock) => Ok(false),
            Ok(_) => self.mend(Self::adopt, &mut files),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Self::failed("find", &path)(error))
            }
            Err(_) if is(&root, &files.folder) => self.mend(Self::make, &mut files),
            Err(_) if holds_run(&self.root) => Err(self.lose(&files)),
            // Another folder is there, as the place where a disk is mounted: the run's own may come back.
            Err(error) => Err(Self::failed("find", &path)(error)),
        }
    }

    fn mend(
        &self,
        how: impl Fn(&Self, &mut HeldFiles) -> Result<(), RunDirError>,
        files: &mut HeldFiles,
    ) -> Result<bool, RunDirError> {
        how(self, files)?;
        self.mended.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// Takes the lock file that is there in place of the one that this process has locked, unless it is another's: a copy
    /// of the folder has this process's name in it.
    fn adopt(&self, held: &mut HeldFiles) -> Result<(), RunDirError> {
        let path = owner::path(&self.root);
        if Owner::read(&self.root).is_some_and(|owner| owner != Owner::me()) {
            return Err(self.lose(held));
        }
        let lock = files::open_own(&path).map_err(Self::failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.lose(held)),
            Err(TryLockError::Error(error)) => return Err(Self::failed("lock", &path)(error)),
        }
        Owner::me().write(&lock).map_err(Self::failed("write", &path))?;
        let folder = File::open(&self.root).map_err(Self::failed("open", &self.root))?;
        *held = HeldFiles { folder, lock };
        Ok(())
    }

    /// Makes the lock file again. It is locked before it has its name, so that nobody else can lock it first.
    fn make(&self, held: &mut HeldFiles) -> Result<(), RunDirError> {
        let path = owner::path(&self.root);
        let failed = Self::failed("write", &path);
        let (temporary, lock) = files::new_temporary(&path, files::OURS).map_err(&failed)?;
        let placed = lock.try_lock().map_err(io::Error::from).and_then(|()| {
            Owner::me().write(&lock)?;
            // A link never replaces a file, as a rename does; but some file systems have none.
            match fs::hard_link(&temporary, &path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.exists() => {
                    fs::rename(&temporary, &path)
                }
                placed => placed,
            }
        });
        let _ = fs::remove_file(&temporary); // the first error is the one to report
        match placed {
            Ok(()) => held.lock = lock,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.adopt(held)?,
            Err(error) => return Err(failed(error)),
        }
        Ok(())
    }

    /// Returns whether the lock was made again since this was asked last.
    pub(super) fn mended(&self) -> bool {
        self.mended.swap(false, Ordering::Relaxed)
    }

    /// Returns where the directory is now, if it was moved away from its path.
    pub(super) fn moved_to(&self) -> Option<PathBuf> {
        let files = self.files();
        let link = format!("/proc/self/fd/{}", files.folder.as_raw_fd());
        let path = fs::read_link(link).ok()?;
        let there = is(&fs::metadata(&path).ok()?, &files.folder);
        let here = fs::metadata(&self.root).is_ok_and(|root| is(&root, &files.folder));
        (there && !here).then_some(path)
    }
}

/// Returns whether a file that was found is the one that is open.
fn is(found: &Metadata, open: &File) -> bool {
    open.metadata().is_ok_and(|open| identity(&open) == identity(found))
}

#[cfg(test)]
mod tests {
    use crate::run_dir::{Owner, RunDir, RunDirError};
    use std::fs;
    use std::path::Path;

    fn run(folder: &Path) -> RunDir {
        RunDir::create(&folder.join("run")).expect("a new run")
    }

    fn taken(kept: &Result<bool, RunDirError>) {
        assert!(matches!(kept, Err(RunDirError::Taken { .. })), "{kept:?}");
    }

    #[test]
    fn a_lock_that_was_removed_or_damaged_is_made_again_and_held() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = run(temp.path());
        assert!(!run.keep().expect("whole"));
        fs::remove_file(run.root().join("lock")).expect("there");
        assert!(run.keep().expect("made again"));
        assert_eq!(Owner::read(run.root()), Some(Owner::me()));
        assert!(matches!(RunDir::open(run.root()), Err(RunDirError::Locked { .. })));
        let spoilt = run.root().join("spoilt");
        fs::write(&spoilt, "").expect("writable");
        fs::rename(spoilt, run.root().join("lock")).expect("replaced");
        assert!(run.keep().expect("taken over"));
        assert!(matches!(RunDir::open(run.root()), Err(RunDirError::Locked { .. })));
        assert!(!run.keep().expect("whole"));
        let names: Vec<_> = fs::read_dir(run.root()).expect("there").flatten().collect();
        assert_eq!(names.len(), 3, "lock, checkpoints and previews: {names:?}");
    }

    #[test]
    fn a_lock_of_another_process_ends_it_for_good() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = run(temp.path());
        fs::remove_file(run.root().join("lock")).expect("there");
        let other = Owner { pid: 1, started: 1, ..Owner::me() };
        let lock = fs::File::create(run.root().join("lock")).expect("writable");
        other.write(&lock).expect("written");
        taken(&run.keep());
        fs::remove_file(run.root().join("lock")).expect("there");
        taken(&run.keep());
        assert!(run.check().is_err());
    }

    #[test]
    fn a_folder_that_was_moved_is_waited_for_and_never_taken_for_another() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = run(temp.path());
        let away = temp.path().join("away");
        fs::rename(run.root(), &away).expect("movable");
        assert!(matches!(run.keep(), Err(RunDirError::Io { .. })));
        assert_eq!(run.moved_to(), Some(away.canonicalize().expect("there")));
        fs::create_dir(run.root()).expect("an empty folder in its place");
        assert!(matches!(run.keep(), Err(RunDirError::Io { .. })));
        fs::remove_dir(run.root()).expect("empty");
        fs::rename(&away, run.root()).expect("movable");
        assert!(!run.keep().expect("it is back"));
        assert_eq!(run.moved_to(), None);
        fs::rename(run.root(), &away).expect("movable");
        fs::create_dir(run.root()).expect("a folder");
        fs::write(run.root().join("config.toml"), "").expect("writable");
        assert!(matches!(run.keep(), Err(RunDirError::Replaced { .. })));
        assert_eq!(run.moved_to(), Some(away.canonicalize().expect("there")));
    }

    #[test]
    fn checkpoints_have_a_folder_even_if_it_was_removed() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = run(temp.path());
        fs::remove_dir(run.checkpoints()).expect("empty");
        run.keep().expect("whole");
        assert!(run.checkpoints().is_dir());
    }
}
