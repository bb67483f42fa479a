//! Where the lists of large trees are kept.

use super::index::{self, ENDING, Index};
use super::stamp::Looker;
use super::{Tree, list};
use crate::data::DataError;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Images of a tree whose list is worth to be kept. A smaller one is listed as fast as an index is read.
const WORTH: usize = 10_000;

/// Whether the user has asked for new lists.
static ANEW: AtomicBool = AtomicBool::new(false);

/// Makes this process list every folder again and write its list anew, as the command line asks for.
pub fn list_anew() {
    ANEW.store(true, Ordering::Relaxed);
}

/// The folder for lists.
pub struct KeptLists {
    /// `None` if the user has no cache folder: nothing is kept then.
    pub(super) folder: Option<PathBuf>,
    /// Fewest images of a tree that is kept.
    pub(super) worth: usize,
    pub(super) anew: bool,
    /// As [`Looker::margin`].
    pub(super) margin: Option<Duration>,
}

impl KeptLists {
    /// Returns the lists of this user.
    pub fn of_user() -> Self {
        let folder = dirs::cache_dir().map(|cache| cache.join("simmim-tui/lists"));
        Self { folder, worth: WORTH, anew: ANEW.load(Ordering::Relaxed), margin: None }
    }

    /// Returns the folder that they are in, whether it exists or not.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Returns the number of lists and the bytes that they take.
    pub fn size(&self) -> (usize, u64) {
        let entries = self.folder.iter().filter_map(|folder| fs::read_dir(folder).ok());
        let lists = entries
            .flatten()
            .flatten()
            .filter(|entry| entry.path().extension() == Some(OsStr::new(ENDING)));
        let sizes = lists.filter_map(|entry| entry.metadata().ok()).map(|found| found.len());
        sizes.fold((0, 0), |(lists, bytes), size| (lists + 1, bytes + size))
    }

    /// Lists the files below a folder, with what is known of it, and keeps what will be of use at the next start.
    ///
    /// # Errors
    /// If the folder itself can't be listed.
    pub(in crate::data) fn list(&self, root: &Path) -> Result<Tree, DataError> {
        // The index knows the tree by its path without links, so that a link that points elsewhere has another index.
        let real = root.canonicalize().ok();
        let place = self.folder.as_ref().zip(real);
        let place = place.map(|(folder, real)| (index::path(folder, &real), real));
        let known = place.as_ref().filter(|_| !self.anew);
        let known = known.and_then(|(file, real)| Index::read(file, real));
        let had_one = known.is_some();
        let looker = Looker::new(self.margin);
        let tree = list(root, known, &looker)?;
        if let Some((file, real)) = place {
            let large = tree.images() >= self.worth;
            if large && (!had_one || tree.has_news()) {
                // A cache folder that can't be written means a slower start next time.
                let _ = index::write(&file, &real, &tree.kept());
            } else if !large && (had_one || self.anew) {
                let _ = fs::remove_file(&file);
            }
        }
        Ok(tree)
    }

    #[cfg(test)]
    pub(super) fn at(folder: &Path, anew: bool) -> Self {
        let margin = Some(super::tests::MARGIN);
        Self { folder: Some(folder.to_owned()), worth: 1, anew, margin }
    }
}
