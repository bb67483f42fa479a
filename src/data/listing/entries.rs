//! The entries of one folder that matter, sorted by name, as bytes: in memory as in the index on the disk.
//!
//! An entry is its kind (one byte), the length of its name (two bytes, little-endian), and the name.

use super::super::parallel::in_parallel_many;
use super::super::scan::{is_image_name, is_visible_name};
use super::stamp::{FolderStamp, Looker};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes before a name.
const HEAD: usize = 3;
/// Folders that links point into of which one folder keeps the times. Links into more are looked at each time.
const TARGETS: usize = 64;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file with the name of an image, or a link of such a name to a file in one of the folder's targets. It stays one
    /// as long as folder and target have the same times.
    Image = 0,
    /// A file of another name. What it is depends on its content.
    Other = 1,
    Folder = 2,
    /// Any other link. What it is depends on what it points at, which may change at any time.
    Link = 3,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Image, Self::Other, Self::Folder, Self::Link]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What was read of a folder.
#[derive(Default)]
pub(super) struct Read {
    pub entries: Vec<u8>,
    /// Folders that links to images point into, as the links spell them.
    pub targets: Vec<(Vec<u8>, FolderStamp)>,
    /// Whether equal stamps of all targets mean that the links are the same images.
    pub lasting: bool,
}

/// Returns the entry at an offset, and the offset of the next one. Returns `None` at the end, and if there is no valid
/// entry.
pub(super) fn entry(entries: &[u8], at: usize) -> Option<(Kind, &[u8], usize)> {
    let head = entries.get(at..at.checked_add(HEAD)?)?;
    let length = usize::from(u16::from_le_bytes([head[1], head[2]]));
    let end = at + HEAD + length;
    Some((Kind::of(head[0])?, entries.get(at + HEAD..end)?, end))
}

/// Returns whether bytes that come from a disk are whole entries with possible names, ascending.
pub(super) fn are_valid(entries: &[u8]) -> bool {
    let (mut at, mut last): (usize, &[u8]) = (0, b"");
    while let Some((_, name, next)) = entry(entries, at) {
        if name <= last || name.contains(&b'/') || name == b"." || name == b".." {
            return false;
        }
        (at, last) = (next, name);
    }
    at == entries.len()
}

fn append(entries: &mut Vec<u8>, kind: Kind, name: &[u8]) {
    let name = &name[..name.len().min(usize::from(u16::MAX))]; // file systems end at 255
    entries.push(kind as u8);
    entries.extend((name.len() as u16).to_le_bytes());
    entries.extend(name);
}

/// Lists a folder. An error in the middle ends the list, which then doesn't last.
///
/// # Errors
/// If the folder can't be listed at all.
pub(super) fn read(folder: &Path, looker: &Looker) -> io::Result<Read> {
    let (mut entries, mut offsets, mut links) = (Vec::new(), Vec::new(), Vec::new());
    let mut whole = true;
    for entry in std::fs::read_dir(folder)? {
        let Some((name, kind)) =
            entry.ok().and_then(|entry| Some((entry.file_name(), entry.file_type().ok()?)))
        else {
            whole = false;
            continue;
        };
        if !is_visible_name(&name) {
            continue;
        }
        let kind = match kind {
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_symlink() => Kind::Link,
            kind if !kind.is_file() => continue,
            _ if is_image_name(Path::new(&name)) => Kind::Image,
            _ => Kind::Other,
        };
        if kind == Kind::Link && is_image_name(Path::new(&name)) {
            links.push(entries.len());
        }
        offsets.push(entries.len());
        append(&mut entries, kind, name.as_bytes());
    }
    let (targets, lasting) = settle(folder, looker, &mut entries, &links);
    offsets.sort_unstable_by(|&one, &other| name_at(&entries, one).cmp(name_at(&entries, other)));
    let mut sorted = Vec::with_capacity(entries.len());
    for at in offsets {
        let end = at + HEAD + name_at(&entries, at).len();
        sorted.extend_from_slice(&entries[at..end]);
    }
    Ok(Read { entries: sorted, targets, lasting: whole && lasting })
}

fn name_at(entries: &[u8], at: usize) -> &[u8] {
    entry(entries, at).map_or(&[], |(_, name, _)| name)
}

/// Makes images of links to files, with the folders that they lie in and whether these last.
fn settle(
    folder: &Path,
    looker: &Looker,
    entries: &mut [u8],
    links: &[usize],
) -> (Vec<(Vec<u8>, FolderStamp)>, bool) {
    let targets = Mutex::new(Targets { folders: Vec::new(), lasting: true });
    let is_file = |at: usize| {
        let name = name_at(entries, links[at]);
        let Ok(target) = std::fs::read_link(folder.join(OsStr::from_bytes(name))) else {
            return false;
        };
        let Some(parent) = parent_of(&target) else { return false };
        // The times of a target's folder are taken before the target is looked at: what changes later changes them.
        let known = lock(&targets).has(folder, parent, looker);
        // A link to a link may become anything, so it is no file here.
        known && std::fs::symlink_metadata(folder.join(&target)).is_ok_and(|found| found.is_file())
    };
    let files = in_parallel_many(links.len(), is_file);
    for (&link, _) in links.iter().zip(files).filter(|(_, is_file)| *is_file) {
        entries[link] = Kind::Image as u8;
    }
    let Targets { folders, lasting } = targets.into_inner().unwrap_or_else(PoisonError::into_inner);
    (folders, lasting)
}

/// The folders that links of one folder point into.
struct Targets {
    folders: Vec<(Vec<u8>, FolderStamp)>,
    lasting: bool,
}

impl Targets {
    /// Adds a folder if there is room. Returns whether its times are known.
    fn has(&mut self, folder: &Path, parent: &[u8], looker: &Looker) -> bool {
        if self.folders.iter().any(|(known, _)| known == parent) {
            return true;
        }
        if self.folders.len() == TARGETS {
            return false;
        }
        let Ok(found) = looker.look(&folder.join(OsStr::from_bytes(parent))) else { return false };
        self.lasting &= found.lasting;
        self.folders.push((parent.to_vec(), found.stamp));
        true
    }
}

fn lock(targets: &Mutex<Targets>) -> MutexGuard<'_, Targets> {
    targets.lock().unwrap_or_else(PoisonError::into_inner) // each change is one push
}

/// Returns the folder in the path that a link holds; a bare name is in the folder of the link, whose times are known.
fn parent_of(target: &Path) -> Option<&[u8]> {
    target.file_name()?;
    target.parent().map(|parent| parent.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn all(entries: &[u8]) -> Vec<(Kind, String)> {
        let (mut at, mut found) = (0, Vec::new());
        while let Some((kind, name, next)) = entry(entries, at) {
            found.push((kind, String::from_utf8_lossy(name).into_owned()));
            at = next;
        }
        found
    }

    #[test]
    fn a_folder_is_read_sorted_and_only_what_may_change_stays_a_link() {
        let (dir, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| dir.path().join(name);
        std::fs::write(far.path().join("x.jpg"), "").unwrap();
        symlink("x.jpg", far.path().join("again.jpg")).unwrap();
        std::fs::create_dir(at("m")).unwrap();
        for name in ["z.JPG", "a.png", "notes", ".hidden.jpg", "Thumbs.db"] {
            std::fs::write(at(name), "").unwrap();
        }
        symlink(far.path().join("x.jpg"), at("l-file.jpg")).unwrap();
        symlink("a.png", at("l-beside.jpg")).unwrap();
        symlink(far.path().join("again.jpg"), at("l-chain.jpg")).unwrap();
        symlink(far.path(), at("l-folder.jpg")).unwrap();
        symlink("/nowhere/x.jpg", at("l-dangling.jpg")).unwrap();
        symlink(far.path().join("x.jpg"), at("l-bare")).unwrap();
        let read = read(dir.path(), &Looker::default()).unwrap();
        let expected = [
            (Kind::Image, "a.png"),
            (Kind::Link, "l-bare"),
            (Kind::Image, "l-beside.jpg"),
            (Kind::Link, "l-chain.jpg"),
            (Kind::Link, "l-dangling.jpg"),
            (Kind::Image, "l-file.jpg"),
            (Kind::Link, "l-folder.jpg"),
            (Kind::Folder, "m"),
            (Kind::Other, "notes"),
            (Kind::Image, "z.JPG"),
        ];
        assert_eq!(all(&read.entries), expected.map(|(kind, name)| (kind, name.to_owned())));
        assert!(are_valid(&read.entries) && !read.lasting, "the target was changed just now");
    }

    #[test]
    fn bytes_that_are_no_entries_are_noticed() {
        let of = |names: &[&str]| {
            let mut entries = Vec::new();
            for name in names {
                append(&mut entries, Kind::Image, name.as_bytes());
            }
            entries
        };
        let good = of(&["a", "b"]);
        assert!(are_valid(&good) && are_valid(&[]));
        for bad in [of(&["b", "a"]), of(&["a", "a"]), of(&["../a"]), of(&[""]), of(&[".."])] {
            assert!(!are_valid(&bad));
        }
        assert!(!are_valid(&good[..good.len() - 1]));
        assert!(!are_valid(&[9, 1, 0, b'a']));
    }
}
