//! Lists the image files below a folder, and counts what is left out.

use super::DataError;
use super::decode::FORMATS;
use super::listing::{KeptLists, join, joined};
use super::names::Names;
use super::parallel::in_parallel_many;
use crate::shown;
use crate::text::count::Count;
use image::ImageFormat;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use walkdir::{DirEntry, WalkDir};

/// Endings of files that are taken for images without a look. What they are is decided when they are read.
const IMAGES: [&str; 14] = [
    "jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp", "png", "apng", "webp", "tif", "tiff", "bmp",
    "dib", "gif",
];
/// Endings of copies and of downloads that aren't finished.
const UNFINISHED: [&str; 8] =
    ["bak", "old", "orig", "tmp", "temp", "part", "partial", "crdownload"];
/// After so many files of an unknown ending that are no images, the others of that ending aren't looked at.
const LOOKS: usize = 64;
/// Entries that are looked at to find out whether there are images in a folder.
const GLANCE: usize = 10_000;
/// Endings and folders that a note names.
const NAMED: usize = 8;

/// What was found below a folder.
pub(super) struct Scanned {
    /// Names of files in folders relative to the root, sorted by path; one empty name if the root is a file itself.
    pub files: Names,
    pub left_out: LeftOut,
}

/// What was found and can't be used.
#[derive(Default)]
pub(super) struct LeftOut {
    /// Number of files by their ending; an empty one stands for none.
    endings: BTreeMap<String, usize>,
    /// Folders that can't be read, with the reason.
    folders: BTreeSet<String>,
}

impl LeftOut {
    /// Adds what another scan left out.
    pub fn add(&mut self, other: Self) {
        for (ending, count) in other.endings {
            *self.endings.entry(ending).or_default() += count;
        }
        self.folders.extend(other.folders);
    }

    /// Says what is left out, one line each.
    pub fn notes(&self) -> Vec<String> {
        self.files().into_iter().chain(self.unreadable()).collect()
    }

    /// Counts the files by ending, most frequent first.
    pub fn files(&self) -> Option<String> {
        let total: usize = self.endings.values().sum();
        let mut endings: Vec<_> = self.endings.iter().collect();
        endings.sort_by_key(|&(_, &count)| std::cmp::Reverse(count));
        let name = |(ending, count): &(&String, &usize)| match ending.as_str() {
            "" => format!("{count} without ending"),
            ending => format!("{count} .{ending}"),
        };
        let mut names: Vec<String> = endings.iter().take(NAMED).map(name).collect();
        let rest: usize = endings.iter().skip(NAMED).map(|&(_, &count)| count).sum();
        if rest > 0 {
            names.push(format!("{rest} others"));
        }
        let files = if total == 1 { "1 file is" } else { "files are" };
        let count = if total == 1 { String::new() } else { format!("{total} ") };
        let what = format!("{count}{files} left out, not a {FORMATS} image by ending or content");
        (total > 0).then(|| format!("{what}: {}", names.join(", ")))
    }

    fn unreadable(&self) -> Option<String> {
        let count = self.folders.len();
        let mut names: Vec<String> = self.folders.iter().take(NAMED).cloned().collect();
        if count > NAMED {
            names.push(format!("{} more", count - NAMED));
        }
        let what = if count == 1 { "1 folder".to_owned() } else { format!("{count} folders") };
        let verb = if count == 1 { "is" } else { "are" };
        (count > 0)
            .then(|| format!("{what} can't be read and {verb} left out: {}", names.join("; ")))
    }
}

/// Lists the images below `root`. A folder below it that can't be read is left out.
///
/// # Errors
/// Returns an error if `root` itself is missing or can't be read.
pub(super) fn scan(root: &Path, lists: &KeptLists) -> Result<Scanned, DataError> {
    // Looking at the root first tells a missing folder from an empty one.
    let metadata = std::fs::metadata(root).map_err(|error| DataError::io(root, error))?;
    if metadata.is_file() {
        let mut files = Names::default();
        let group = files.add_group(b"");
        files.push(group, b"");
        return Ok(Scanned { files, left_out: LeftOut::default() });
    }
    let mut tree = lists.list(root)?;
    let folders = std::mem::take(&mut tree.unreadable);
    let mut left_out = LeftOut { folders, ..LeftOut::default() };
    let taken = images_among(root, &tree.others(), &mut left_out);
    Ok(Scanned { files: tree.into_images(&taken), left_out })
}

/// What is known of the files of one unknown ending.
#[derive(Default)]
struct Ending {
    looks: usize,
    /// Whether one of them was an image.
    found: bool,
}

/// Returns which files of unknown endings are images by their content, and counts the others. What they hold may change
/// at any time, so they are looked at each time.
fn images_among(root: &Path, files: &Names, left_out: &mut LeftOut) -> Vec<bool> {
    if files.is_empty() {
        return Vec::new();
    }
    let counted = Count::new(
        format!("looking at files of unknown endings in {}", shown::path(root)),
        "files",
    );
    let is_image = |at: usize| {
        counted.add(1);
        let path = files.get(at).map(|(group, name)| joined(files.group_name(group), name));
        looks_like_image(&join(root, &path.unwrap_or_default()))
    };
    let ending_of = |at: usize| {
        let name = files.get(at).map_or(&b""[..], |(_, name)| name);
        ending(Path::new(OsStr::from_bytes(name)))
    };
    let mut seen: BTreeMap<String, Ending> = BTreeMap::new();
    let (mut taken, mut later) = (vec![false; files.len()], Vec::new());
    for (at, taken) in taken.iter_mut().enumerate() {
        let name = ending_of(at);
        if UNFINISHED.contains(&name.as_str()) {
            continue;
        }
        let Ending { looks, found } = seen.entry(name).or_default();
        if *found {
            later.push(at); // all of them are looked at, whatever they are
        } else if *looks < LOOKS {
            *looks += 1;
            *found = is_image(at);
            *taken = *found;
        }
    }
    for (&at, is_image) in later.iter().zip(in_parallel_many(later.len(), |at| is_image(later[at])))
    {
        taken[at] = is_image;
    }
    for at in (0..files.len()).filter(|&at| !taken[at]) {
        *left_out.endings.entry(ending_of(at)).or_default() += 1;
    }
    taken
}

/// Returns the ending of a name in lower case. One that is no usual ending counts as none.
fn ending(file: &Path) -> String {
    let ending = file.extension().and_then(OsStr::to_str).unwrap_or_default();
    let usual = ending.len() <= 12 && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if usual { ending.to_ascii_lowercase() } else { String::new() }
}

/// Returns whether a file begins like an image of a kind that nothing else is mistaken for. Raw files of cameras begin
/// like TIFF, and any text can begin like BMP.
pub(super) fn looks_like_image(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    let format = read.ok().and_then(|_| image::guess_format(&start).ok());
    matches!(
        format,
        Some(ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Gif)
    )
}

/// Returns whether there are images in a folder, as far as a glance tells.
pub(super) fn has_images(folder: &Path) -> bool {
    let entries = WalkDir::new(folder).follow_links(true).into_iter().filter_entry(is_visible);
    let mut files = entries.take(GLANCE).filter_map(Result::ok);
    files.any(|entry| {
        let (path, file) = (entry.path(), entry.file_type().is_file());
        file && (is_image_name(path) || path.extension().is_none() && looks_like_image(path))
    })
}

/// Returns whether an entry is the root or not hidden.
fn is_visible(entry: &DirEntry) -> bool {
    // The root itself may be called "." or be hidden.
    entry.depth() == 0 || is_visible_name(entry.file_name())
}

/// Returns whether a name is neither hidden nor that of a file that systems put beside images.
pub(super) fn is_visible_name(name: &OsStr) -> bool {
    let system = ["__MACOSX", "Thumbs.db", "desktop.ini"];
    !name.as_encoded_bytes().starts_with(b".")
        && !system.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Returns whether the name has the ending of an image file.
pub(super) fn is_image_name(path: &Path) -> bool {
    path.extension()
        .is_some_and(|found| IMAGES.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted_by_ending() {
        let dir = tempfile::tempdir().unwrap();
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        let jpeg = b"\xff\xd8\xff\xe0 and so on";
        for name in ["a.jpg", "b.JFIF", "c.tif", "without", "d.jpg_large", "e.dat"] {
            write(name, jpeg);
        }
        for name in ["1.avif", "2.AVIF", "3.txt", "noise", "Thumbs.db", ".hidden", "4.raw_photo"] {
            write(name, b"II*\0 or text");
        }
        write("copy.bak", jpeg);
        let Scanned { files, left_out } = scan(dir.path(), &KeptLists::of_user()).unwrap();
        let names: Vec<_> = (0..files.len()).filter_map(|at| files.get(at)).collect();
        let names: Vec<_> = names.iter().map(|(_, name)| str::from_utf8(name).unwrap()).collect();
        assert_eq!(names, ["a.jpg", "b.JFIF", "c.tif", "d.jpg_large", "e.dat", "without"]);
        let note = left_out.files().unwrap();
        assert!(note.starts_with("6 files are left out"), "{note}");
        assert!(note.ends_with(": 2 without ending, 2 .avif, 1 .bak, 1 .txt"), "{note}");
        assert_eq!(left_out.notes().len(), 1);
    }

    #[test]
    fn many_files_that_are_no_images_are_not_all_opened() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..LOOKS + 10 {
            std::fs::write(dir.path().join(format!("{number:03}.xml")), "<x/>").unwrap();
        }
        std::fs::write(dir.path().join("999.xml"), b"\xff\xd8\xff\xe0").unwrap();
        let found = scan(dir.path(), &KeptLists::of_user()).unwrap();
        assert!(found.files.is_empty(), "the last one is past the looks");
        let note = found.left_out.files().unwrap();
        assert!(note.ends_with(": 75 .xml"), "{note}");
    }
}
