//! The index of a tree of images on the disk: which folders there were, with what in them.
//!
//! A file that is damaged, of another format or of another user counts as none. Nothing is lost with it but time, so it
//! isn't synced: after a power failure the checksum tells a half-written one.

use super::entries;
use super::stamp::FolderStamp;
use rustix::process::geteuid;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

const MAGIC: &[u8; 16] = b"simmim-tui list\n";
/// The version of the format. Another one is due, too, when other names are hidden or taken for images
/// ([`super::super::scan`]), as the index holds what was decided.
const VERSION: u32 = 1;
const SUM: usize = 16;
/// The ending of the files in the folder for lists.
pub(super) const ENDING: &str = "list";
/// A temporary file that is older than this belongs to no process any more.
const ABANDONED: Duration = Duration::from_hours(1);

/// What is known of the folders of a tree.
pub(super) struct Index {
    bytes: Vec<u8>,
    /// By path relative to the root.
    folders: HashMap<Box<[u8]>, Known>,
}

/// A folder when it was listed.
pub(super) struct Known {
    pub stamp: FolderStamp,
    /// See [`entries::Read::targets`].
    pub targets: Vec<(Vec<u8>, FolderStamp)>,
    /// Where its entries are in the bytes of the index.
    pub entries: Range<usize>,
}

/// A folder that is to be kept.
pub(super) struct KeptFolder<'a> {
    /// Relative to the root.
    pub path: &'a [u8],
    pub stamp: FolderStamp,
    pub targets: &'a [(Vec<u8>, FolderStamp)],
    pub entries: &'a [u8],
}

/// Returns the path of the index of a tree. `root` has no links in it.
pub(super) fn path(lists: &Path, root: &Path) -> PathBuf {
    lists.join(format!("{:032x}.{ENDING}", xxh3_128(root.as_os_str().as_bytes())))
}

impl Index {
    /// Reads the index of the tree at `root`. Returns `None` if there is none that can be trusted.
    pub fn read(file: &Path, root: &Path) -> Option<Self> {
        let mut open = File::open(file).ok()?;
        let found = open.metadata().ok()?;
        // A file that another user wrote, or could write, may say anything.
        if !found.is_file() || found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(found.size()).ok()?.saturating_add(1));
        open.read_to_end(&mut bytes).ok()?;
        let end = bytes.len().checked_sub(SUM)?;
        let sum: [u8; SUM] = bytes[end..].try_into().ok()?;
        if !bytes.starts_with(MAGIC) || xxh3_128(&bytes[..end]) != u128::from_le_bytes(sum) {
            return None;
        }
        let folders = Reader { bytes: &bytes[..end], at: MAGIC.len() }.folders(root)?;
        Some(Self { bytes, folders })
    }

    pub fn get(&self, folder: &[u8]) -> Option<&Known> {
        self.folders.get(folder)
    }

    pub fn len(&self) -> usize {
        self.folders.len()
    }

    pub fn entries(&self, place: Range<usize>) -> &[u8] {
        &self.bytes[place]
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn place(&mut self, length: u64) -> Option<Range<usize>> {
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        let place = self.at..end;
        self.at = end;
        (end <= self.bytes.len()).then_some(place)
    }

    fn number(&mut self) -> Option<u64> {
        let place = self.place(8)?;
        Some(u64::from_le_bytes(self.bytes[place].try_into().ok()?))
    }

    fn text(&mut self) -> Option<&[u8]> {
        let length = self.number()?;
        let place = self.place(length)?;
        Some(&self.bytes[place])
    }

    fn stamp(&mut self) -> Option<FolderStamp> {
        let mut numbers = [0; FolderStamp::NUMBERS];
        for number in &mut numbers {
            *number = self.number()?;
        }
        Some(FolderStamp::from_numbers(numbers))
    }

    fn folders(mut self, root: &Path) -> Option<HashMap<Box<[u8]>, Known>> {
        let version = self.number()?;
        if version != u64::from(VERSION) || self.text()? != root.as_os_str().as_bytes() {
            return None;
        }
        let mut folders = HashMap::new();
        for _ in 0..self.number()? {
            let path = self.text()?.into();
            let stamp = self.stamp()?;
            let mut targets = Vec::new();
            for _ in 0..self.number()? {
                let target = self.text()?.to_vec();
                targets.push((target, self.stamp()?));
            }
            let length = self.number()?;
            let entries = self.place(length)?;
            if !entries::are_valid(&self.bytes[entries.clone()]) {
                return None;
            }
            folders.insert(path, Known { stamp, targets, entries });
        }
        (self.at == self.bytes.len()).then_some(folders)
    }
}

/// Writes the index of a tree, for this user alone. Another process may do the same: the last one stays.
///
/// # Errors
/// If it can't be written. A previous index then stays as it was.
pub(super) fn write(file: &Path, root: &Path, folders: &[KeptFolder<'_>]) -> io::Result<()> {
    let parent = file.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    remove_abandoned(parent);
    let temporary = file.with_extension(unique_ending());
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let mut out = Summed { out: BufWriter::new(new), sum: Xxh3::new() };
    let written = write_folders(&mut out, root, folders)
        .and_then(|()| {
            let sum = out.sum.digest128();
            out.out.write_all(&sum.to_le_bytes())
        })
        .and_then(|()| out.out.flush())
        .and_then(|()| fs::rename(&temporary, file));
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Returns an ending that no other writer has. Machines that share a folder may have processes of the same number.
fn unique_ending() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{now:x}-{:x}-{count:x}.tmp", std::process::id())
}

fn write_folders(out: &mut impl Write, root: &Path, folders: &[KeptFolder<'_>]) -> io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&u64::from(VERSION).to_le_bytes())?;
    write_text(out, root.as_os_str().as_bytes())?;
    out.write_all(&(folders.len() as u64).to_le_bytes())?;
    for KeptFolder { path, stamp, targets, entries } in folders {
        write_text(out, path)?;
        write_stamp(out, stamp)?;
        out.write_all(&(targets.len() as u64).to_le_bytes())?;
        for (target, stamp) in *targets {
            write_text(out, target)?;
            write_stamp(out, stamp)?;
        }
        write_text(out, entries)?;
    }
    Ok(())
}

fn write_text(out: &mut impl Write, text: &[u8]) -> io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text)
}

fn write_stamp(out: &mut impl Write, stamp: &FolderStamp) -> io::Result<()> {
    stamp.numbers().iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))
}

/// Writes and sums up.
struct Summed<W> {
    out: W,
    sum: Xxh3,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Removes what processes have left that were killed while they wrote.
fn remove_abandoned(lists: &Path) {
    for entry in fs::read_dir(lists).into_iter().flatten().flatten() {
        let path = entry.path();
        let age = entry.metadata().and_then(|found| found.modified()).ok();
        let old = age.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > ABANDONED);
        if old && path.extension() == Some(OsStr::new("tmp")) {
            let _ = fs::remove_file(path); // what stays costs room and nothing else
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const ENTRIES: &[u8] = b"\0\x01\0a\x02\x01\0b";

    fn written(dir: &Path) -> PathBuf {
        let file = path(&dir.join("new/lists"), Path::new("/data"));
        let stamp = FolderStamp::from_numbers([1, 2, 3, 4, 5, 6, 7]);
        let targets = [(b"/far".to_vec(), FolderStamp::from_numbers([9; 7]))];
        let root = KeptFolder { path: b"", stamp, targets: &[], entries: ENTRIES };
        let inner = KeptFolder { path: b"b", stamp, targets: &targets, entries: b"" };
        write(&file, Path::new("/data"), &[root, inner]).unwrap();
        file
    }

    #[test]
    fn an_index_comes_back_and_is_for_its_user_and_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = written(dir.path());
        let index = Index::read(&file, Path::new("/data")).unwrap();
        let root = index.get(b"").unwrap();
        assert_eq!((index.len(), index.entries(root.entries.clone())), (2, ENTRIES));
        assert_eq!(index.get(b"b").unwrap().targets[0].0, b"/far");
        assert!(index.get(b"c").is_none());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert!(Index::read(&file, Path::new("/other")).is_none());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o620)).unwrap();
        assert!(Index::read(&file, Path::new("/data")).is_none(), "others may write it");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_index_of_another_user_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = written(dir.path());
        // Only root can give files away; what any other user can't do can't happen to it either.
        if std::os::unix::fs::chown(&file, Some(12345), None).is_ok() {
            assert!(Index::read(&file, Path::new("/data")).is_none());
        }
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = written(dir.path());
        let good = fs::read(&file).unwrap();
        let read = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            Index::read(&file, Path::new("/data")).is_some()
        };
        assert!(read(&good));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(!read(&bad), "byte {at}");
            assert!(!read(&good[..at]), "{at} bytes");
        }
        // The sum is right and the content is not.
        let end = good.len() - SUM;
        for at in 0..end {
            let mut bad = good[..end].to_vec();
            bad[at] ^= 0x80;
            bad.extend(xxh3_128(&bad).to_le_bytes());
            let _ = read(&bad); // some are valid; none may panic
        }
        let mut newer = good[..end].to_vec();
        newer[MAGIC.len()] += 1;
        newer.extend(xxh3_128(&newer).to_le_bytes());
        assert!(!read(&newer), "a later format");
    }

    #[test]
    fn what_killed_writers_left_is_removed_after_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let lists = dir.path().join("new/lists");
        fs::create_dir_all(&lists).unwrap();
        let at = |name: &str| lists.join(name);
        for name in ["old.1.tmp", "new.2.tmp", "old.list"] {
            let file = File::create(at(name)).unwrap();
            if name.starts_with("old") {
                file.set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
            }
        }
        written(dir.path());
        assert!(!at("old.1.tmp").exists() && at("new.2.tmp").exists() && at("old.list").exists());
    }
}
