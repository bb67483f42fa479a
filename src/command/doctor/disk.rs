//! Whether runs can be kept in a folder. Everything that a run does there is done once, in a folder of its own.

use super::{Finding, Verdict, cuda};
use crate::control::socket;
use crate::data::KeptLists;
use crate::run_dir::advice;
use crate::shown;
use crate::text::units::bytes;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) const AREA: &str = "disk";
/// Approximate size of a checkpoint of the default run, in bytes.
const SAMPLE: usize = 32 << 20;
/// Checkpoints for which a default run needs room.
const CHECKPOINTS: u64 = 4;
/// Rate of a synced write below which checkpoints are slow, in bytes per second.
const SLOW: f64 = 10e6;

/// Tries out the folder for runs, and the one for compiled kernels.
pub(super) fn look(runs: &Path) -> Vec<Finding> {
    let place = existing(runs);
    let mut findings = vec![space(&place)];
    match Trial::new(&place) {
        Ok(trial) => findings.extend([trial.write(), trial.lock(), trial.socket()]),
        Err(error) => {
            let found = format!("{} can't be written", shown::path(&place));
            let why = format!("{error}{}", advice(&error));
            findings.push(Finding::new(AREA, "runs", Verdict::Failure, found, why));
        }
    }
    findings.push(lists(&KeptLists::of_user()));
    findings.extend(cuda::cache());
    findings
}

/// Says where the lists of large folders of images are.
fn lists(lists: &KeptLists) -> Finding {
    let Some(folder) = lists.folder() else {
        let why = "neither XDG_CACHE_HOME nor HOME is set: large folders of images are listed at each start";
        return Finding::new(AREA, "lists", Verdict::Note, "no user cache folder", why);
    };
    let unwritable = match folder.ancestors().find(|path| path.exists()) {
        Some(file) if !file.is_dir() => Some(format!("{} is no folder", shown::path(file))),
        _ => Trial::new(&existing(folder)).err().map(|error| error.to_string()),
    };
    if let Some(why) = unwritable {
        let found = format!("{} can't be written", shown::path(folder));
        let why = format!("{why}: large folders of images are listed at each start");
        return Finding::new(AREA, "lists", Verdict::Note, found, why);
    }
    let (count, size) = lists.size();
    let what = match count {
        0 => "none yet".to_owned(),
        1 => format!("1 of {}", bytes(size)),
        count => format!("{count}, {} together", bytes(size)),
    };
    let why = format!(
        "what folders of 10,000 images and more hold, kept for the next start: {what}; --relist makes one anew, and the \
         folder can be removed at any time"
    );
    Finding::new(AREA, "lists", Verdict::Good, shown::path(folder).to_string(), why)
}

/// Returns the folder itself, or the nearest one above it that exists.
pub(super) fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    found.to_owned()
}

fn space(place: &Path) -> Finding {
    let Ok(found) = rustix::fs::statvfs(place) else {
        let why = "the file system doesn't say how much is free";
        return Finding::new(AREA, "space", Verdict::Note, "unknown", why);
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let need = CHECKPOINTS * SAMPLE as u64;
    let state = if free < need { Verdict::Failure } else { Verdict::Good };
    let why = format!("at {}; a default run keeps up to {}", shown::path(place), bytes(need));
    Finding::new(AREA, "space", state, format!("{} free", bytes(free)), why)
}

/// A folder in which things are tried out. It is removed on drop.
pub(super) struct Trial {
    parent: PathBuf,
    folder: PathBuf,
}

impl Trial {
    pub fn new(parent: &Path) -> io::Result<Self> {
        let folder = parent.join(format!(".simmim-tui-doctor-{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Self { parent: parent.to_owned(), folder })
    }

    /// Writes a file as checkpoints are written: under a temporary name, synced, then renamed.
    fn write(&self) -> Finding {
        let begin = Instant::now();
        let path = self.folder.join("sample.tmp");
        let result = File::create(&path)
            .and_then(|mut file| {
                file.write_all(&vec![0x5a; SAMPLE])?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&path, self.folder.join("sample")));
        let seconds = begin.elapsed().as_secs_f64();
        let rate = SAMPLE as f64 / seconds;
        match result {
            Ok(()) => {
                let state = if rate < SLOW { Verdict::Warning } else { Verdict::Good };
                let found = format!("runs can be kept in {}", shown::path(&self.parent));
                let why = format!(
                    "{} written, synced and renamed in {:.0} ms: what the run waits for at each checkpoint of that size",
                    bytes(SAMPLE as u64),
                    1e3 * seconds
                );
                Finding::new(AREA, "runs", state, found, why)
            }
            Err(error) => {
                let found = format!("a file in {} can't be written", shown::path(&self.parent));
                let why = format!("{error}{}", advice(&error));
                Finding::new(AREA, "runs", Verdict::Failure, found, why)
            }
        }
    }

    fn lock(&self) -> Finding {
        let path = self.folder.join("lock");
        match File::create(&path).and_then(|file| file.try_lock().map_err(Into::into)) {
            Ok(()) => {
                let why = "a run that is written by one process is safe from a second one";
                Finding::new(AREA, "lock", Verdict::Good, "files can be locked", why)
            }
            Err(error) => {
                let why = format!("{error}: a run needs a lock, choose a --run-dir elsewhere");
                Finding::new(AREA, "lock", Verdict::Failure, "files can't be locked", why)
            }
        }
    }

    fn socket(&self) -> Finding {
        match socket::listen(&self.folder) {
            Ok((listener, identity)) => {
                drop(listener);
                socket::remove(&self.folder, identity);
                let found = "attach and ctl can steer runs here";
                Finding::new(
                    AREA,
                    "socket",
                    Verdict::Good,
                    found,
                    "the file system has Unix sockets",
                )
            }
            Err(error) => {
                let found = "attach can only watch, ctl won't work";
                let why =
                    format!("no Unix socket in the run directory ({error}); steer with signals");
                Finding::new(AREA, "socket", Verdict::Warning, found, why)
            }
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder); // a folder that stays does no harm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_tried_out_and_left_as_it_was() {
        let folder = tempfile::tempdir().expect("temp folder");
        let deep = folder.path().join("not/yet/there");
        let findings = look(&deep);
        let states: Vec<_> = findings.iter().map(|finding| (finding.name, finding.state)).collect();
        for name in ["space", "runs", "lock", "socket"] {
            assert!(states.contains(&(name, Verdict::Good)), "{findings:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_a_failure_with_advice() {
        // Not even root may make folders there.
        let findings = look(Path::new("/proc/self/runs"));
        let runs = findings.iter().find(|finding| finding.name == "runs").expect("looked at");
        assert_eq!(runs.state, Verdict::Failure, "{runs:?}");
        assert!(!runs.why.is_empty());
    }
}
