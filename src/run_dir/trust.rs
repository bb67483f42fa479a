//! Whose a run directory is, and who else can write it.
//!
//! Whoever can write a directory can put links, sockets and checkpoints into it, and take its files away.

use super::RunDirError;
use crate::files;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The bits of a mode that let a group or everybody write.
const GROUP: u32 = 0o020;
const EVERYBODY: u32 = 0o002;

/// Which directories a run may be written into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those of the user of this process that nobody else can write.
    #[default]
    Checked,
    /// Any: the user insists.
    Insisted,
}

impl Trust {
    /// Checks a directory that exists.
    ///
    /// # Errors
    /// If it is not to be trusted.
    pub(super) fn check(self, folder: &Path) -> Result<(), RunDirError> {
        let io = |source| RunDirError::Io { what: "read", path: folder.to_owned(), source };
        if self == Self::Insisted {
            return Ok(());
        }
        let me = rustix::process::geteuid().as_raw();
        let about = fs::metadata(folder).map_err(io)?;
        let (owner, mode) = (about.uid(), about.mode() & 0o7777);
        // Where each user has a group of the same number, nobody else is in it.
        let group = if about.gid() == me { 0 } else { GROUP };
        let others = mode & (group | EVERYBODY);
        if owner == me && others == 0 {
            return Ok(());
        }
        // Network and foreign file systems may show other owners and modes than those that a file was made with.
        let (mine, extra) = made_here(folder).unwrap_or((me, 0));
        if owner != me && owner != mine {
            return Err(RunDirError::Foreign { path: folder.to_owned(), owner });
        }
        if others & !extra != 0 {
            return Err(RunDirError::Shared { path: folder.to_owned(), mode });
        }
        Ok(())
    }
}

/// Returns the owner and the additional bits of the mode that a file of this process gets in a folder.
fn made_here(folder: &Path) -> Option<(u32, u32)> {
    const ASKED: u32 = 0o600;
    let (path, file) = files::new_temporary(&folder.join("probe"), ASKED).ok()?;
    let about = file.metadata();
    let _ = fs::remove_file(path); // it has no content, and goes when the run is opened again
    let about = about.ok()?;
    Some((about.uid(), about.mode() & 0o777 & !ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    fn check(mode: u32, owner: Option<u32>, group: Option<u32>) -> Result<(), RunDirError> {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let folder = temp.path().join("run");
        fs::create_dir(&folder).expect("writable");
        chown(&folder, owner, group).expect("permitted");
        fs::set_permissions(&folder, Permissions::from_mode(mode)).expect("permitted");
        let checked = Trust::Checked.check(&folder);
        assert_eq!(fs::read_dir(&folder).expect("there").count(), 0, "nothing is left there");
        Trust::Insisted.check(&folder).expect("whoever insists gets it");
        checked
    }

    #[test]
    fn a_directory_that_others_can_write_is_not_trusted() {
        for mode in [0o700, 0o755, 0o2755, 0o750] {
            check(mode, None, None).expect("nobody else can write");
        }
        for mode in [0o777, 0o1777, 0o757] {
            let error = check(mode, None, None).expect_err("everybody can write");
            assert!(matches!(error, RunDirError::Shared { mode: found, .. } if found == mode));
        }
    }

    #[test]
    fn directories_of_others_and_of_groups_are_not_trusted() {
        if !rustix::process::geteuid().is_root() {
            return; // only root can give files away
        }
        check(0o775, None, Some(0)).expect("the group of this user alone");
        let error = check(0o2775, None, Some(4711)).expect_err("a group can write");
        assert!(error.to_string().contains("chmod go-w"), "{error}");
        check(0o2755, None, Some(4711)).expect("a group can read");
        let error = check(0o755, Some(4711), None).expect_err("it belongs to another user");
        assert!(error.to_string().contains("another user (uid 4711)"), "{error}");
    }
}
