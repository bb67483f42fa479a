//! Tells whether a folder still holds the same entries, without listing them.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A folder of a local disk that was changed so shortly before it was listed may change again within the same tick of the
/// disk's clock, and its times would say nothing of that.
const LOCAL: Duration = Duration::from_secs(3);
/// The same on a network, where the times are those of another machine's clock.
const NETWORK: Duration = Duration::from_mins(1);
/// Kinds of file systems (`f_type`) by which the times of a folder change with its entries: ext2 to ext4, XFS, Btrfs,
/// tmpfs, F2FS, ZFS, bcachefs, overlayfs.
const LOCAL_KINDS: [u64; 8] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0xca45_1a4e,
    0x794c_7630,
];
/// The same on a network: NFS, Lustre, Ceph, GPFS. Others are not trusted: many FUSE file systems have no times of folders.
const NETWORK_KINDS: [u64; 4] = [0x6969, 0x0bd0_0bd0, 0x00c3_6400, 0x4750_4653];

/// What changes when entries of a folder come, go or get other names. The number of the device isn't part of it, as it
/// changes with each mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FolderStamp {
    inode: u64,
    size: u64,
    links: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Device and inode: what makes two paths the same folder while the program runs.
pub(super) type FolderId = (u64, u64);

impl FolderStamp {
    /// Numbers that a stamp is written as.
    pub const NUMBERS: usize = 7;

    pub fn numbers(&self) -> [u64; Self::NUMBERS] {
        let [(m, mn), (c, cn)] = [self.modified, self.changed];
        [self.inode, self.size, self.links, m as u64, mn as u64, c as u64, cn as u64]
    }

    pub fn from_numbers(numbers: [u64; Self::NUMBERS]) -> Self {
        let [inode, size, links, m, mn, c, cn] = numbers;
        let (modified, changed) = ((m as i64, mn as i64), (c as i64, cn as i64));
        Self { inode, size, links, modified, changed }
    }

    fn of(found: &Metadata) -> Self {
        Self {
            inode: found.ino(),
            size: found.size(),
            links: found.nlink(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Returns whether the last change is at least `margin` before `now`. Times in whole seconds are of a disk that knows
    /// no others, or were put there by a program, and never count.
    fn is_settled(&self, now: SystemTime, margin: Duration) -> bool {
        let (seconds, nanoseconds) = self.changed.max(self.modified);
        let last = Duration::new(
            u64::try_from(seconds).unwrap_or_default(),
            u32::try_from(nanoseconds).unwrap_or_default(),
        );
        let until = now.duration_since(UNIX_EPOCH).ok().and_then(|now| now.checked_sub(margin));
        self.changed.1 != 0 && until.is_some_and(|until| last < until)
    }
}

/// A folder as it was found.
pub(super) struct Found {
    pub stamp: FolderStamp,
    pub id: FolderId,
    /// Whether equal stamps mean equal entries.
    pub lasting: bool,
}

/// Looks at folders.
#[derive(Default)]
pub(super) struct Looker {
    /// The margin in the place of [`LOCAL`] and [`NETWORK`], for tests.
    margin: Option<Duration>,
    /// The margin of each device's file system, if its times are trusted.
    margins: Mutex<BTreeMap<u64, Option<Duration>>>,
}

impl Looker {
    pub fn new(margin: Option<Duration>) -> Self {
        Self { margin, ..Self::default() }
    }

    /// Opens a folder and returns what it is. Opening it makes a network file system ask its server for the newest times.
    pub fn look(&self, path: &Path) -> io::Result<Found> {
        let now = SystemTime::now();
        let folder = File::open(path)?;
        let found = folder.metadata()?;
        if !found.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let stamp = FolderStamp::of(&found);
        // A map of plain numbers is never half changed.
        let mut margins = self.margins.lock().unwrap_or_else(PoisonError::into_inner);
        let margin = *margins.entry(found.dev()).or_insert_with(|| margin(&folder));
        drop(margins);
        let margin = margin.map(|margin| self.margin.unwrap_or(margin));
        let lasting = margin.is_some_and(|margin| stamp.is_settled(now, margin));
        Ok(Found { stamp, id: (found.dev(), found.ino()), lasting })
    }
}

#[cfg(target_os = "linux")]
fn margin(folder: &File) -> Option<Duration> {
    let kind = rustix::fs::fstatfs(folder).ok()?.f_type as u64 & 0xffff_ffff;
    match kind {
        kind if LOCAL_KINDS.contains(&kind) => Some(LOCAL),
        kind if NETWORK_KINDS.contains(&kind) => Some(NETWORK),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn margin(_: &File) -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_changed_just_now_is_not_trusted() {
        let at = |changed| FolderStamp { inode: 1, size: 2, links: 3, modified: (900, 0), changed };
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        for (changed, settled) in [
            ((990, 5), true),
            ((996, 5), true),
            ((997, 0), false),
            ((997, 5), false),
            ((1000, 5), false),
            ((2000, 5), false),
            ((990, 0), false),
            ((-5, 5), true),
        ] {
            assert_eq!(at(changed).is_settled(now, LOCAL), settled, "{changed:?}");
        }
        let set_back = FolderStamp { modified: (5000, 0), ..at((990, 5)) };
        assert!(!set_back.is_settled(now, LOCAL), "a time of modification to come");
    }

    #[test]
    fn a_stamp_changes_with_entries_even_if_the_time_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let looker = Looker::default();
        let before = looker.look(dir.path()).unwrap();
        assert_eq!(before.stamp, FolderStamp::from_numbers(before.stamp.numbers()));
        assert_eq!(before.stamp, looker.look(dir.path()).unwrap().stamp);
        let modified = std::fs::metadata(dir.path()).unwrap().modified().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(dir.path().join("a.jpg"), "").unwrap();
        File::open(dir.path()).unwrap().set_modified(modified).unwrap();
        let after = looker.look(dir.path()).unwrap();
        assert_ne!(before.stamp, after.stamp);
        assert_eq!(before.id, after.id);
        assert!(!after.lasting, "changed just now");
        assert!(looker.look(&dir.path().join("a.jpg")).is_err());
    }
}
