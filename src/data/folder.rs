//! Trees of image files: jpg, png, webp, tiff, bmp and gif.

use super::encoded::{Decoding, EncodedImages};
use super::listing::{KeptLists, join, joined};
use super::names::Names;
use super::scan::{LeftOut, Scanned, scan};
use super::{DataError, Opened, Part, decode, parts};
use crate::config::TruncatedImages;
use crate::shown;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is looked for, in messages.
pub(super) const LOOKED_FOR: &str = "jpg, jpeg, png and webp files, tif, bmp and gif";

/// The image files below one folder, sorted by path.
pub struct Folder {
    root: PathBuf,
    /// Names of files in folders relative to `root`.
    files: Names,
    /// Class of the files in each folder. Files that lie directly in `root` have none.
    labels: Vec<Option<u32>>,
    /// What stands before the path of a file in its key.
    prefix: PathBuf,
}

/// Opens a tree of images. A folder with `train/` and one of `val/`, `test/` and the like has two parts; of any other,
/// all images below it are one part. A single image file is a set of one.
///
/// # Errors
/// Returns an error if a folder is missing or unreadable, or if a part has no image file.
pub(crate) fn open(path: &Path, truncated: TruncatedImages) -> Result<Opened, DataError> {
    // A missing path is told from one that holds no images.
    std::fs::metadata(path).map_err(|error| DataError::io(path, error))?;
    let parts = parts::find(path)?;
    let mut left_out = LeftOut::default();
    let train = part(&parts.train, parts.prefix, truncated, &mut left_out)?;
    let val = parts.val.map(|val| part(&val, PathBuf::new(), truncated, &mut left_out));
    let val = val.transpose()?;
    let notes = parts.notes.into_iter().chain(left_out.notes()).collect();
    Ok(Opened { train, val, kind: "images", decodes: true, notes })
}

/// Lists the images below `root`. The name of the first folder on the way to an image is its class.
fn part(
    root: &Path,
    prefix: PathBuf,
    truncated: TruncatedImages,
    left_out: &mut LeftOut,
) -> Result<Part, DataError> {
    let Scanned { files, left_out: others } = scan(root, &KeptLists::of_user())?;
    if files.is_empty() {
        let mut missing = vec![LOOKED_FOR.to_owned()];
        missing.extend(others.notes());
        return Err(DataError::empty(root, missing.join("; ")));
    }
    left_out.add(others);
    let names: Vec<_> =
        (0..files.groups()).map(|group| class_name(files.group_name(group))).collect();
    let classes: Vec<String> =
        names.iter().flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let number =
        |name: &String| classes.binary_search(name).ok().and_then(|n| u32::try_from(n).ok());
    let labels = names.iter().map(|name| name.as_ref().and_then(number)).collect();
    let folder = Folder { root: root.to_owned(), files, labels, prefix };
    Ok(Part { source: Arc::new(Decoding::new(folder, truncated)), classes })
}

/// Returns the first folder of the relative path of a folder, or `None` if that is the root itself.
fn class_name(folder: &[u8]) -> Option<String> {
    let first = folder.split(|&byte| byte == b'/').next().filter(|first| !first.is_empty())?;
    Some(shown::text(Path::new(OsStr::from_bytes(first))))
}

impl Folder {
    /// Returns the path of an image relative to the root.
    fn relative(&self, index: usize) -> Option<Vec<u8>> {
        let (group, name) = self.files.get(index)?;
        Some(joined(self.files.group_name(group), name))
    }

    /// Returns the whole path of an image.
    fn path(&self, index: usize) -> Option<PathBuf> {
        // Joining an empty path would append a slash, as if the file were a folder.
        Some(join(&self.root, &self.relative(index)?))
    }
}

impl EncodedImages for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, index: usize) -> String {
        shown::text(&self.path(index).unwrap_or_else(|| self.root.clone()))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(self.files.group(index)?).copied().flatten()
    }

    fn key(&self, index: usize) -> String {
        let file = self.relative(index).unwrap_or_default();
        let prefix = self.prefix.as_os_str().as_bytes();
        String::from_utf8_lossy(&joined(prefix, &file)).into_owned()
    }

    fn bytes(&self, index: usize) -> u64 {
        let file = self.path(index).and_then(|path| std::fs::metadata(path).ok());
        file.map_or(0, |file| file.len())
    }

    fn origin(&self) -> String {
        shown::text(&self.root)
    }

    fn encoded(&self, index: usize) -> Result<Vec<u8>, String> {
        decode::read_file(&self.path(index).ok_or("there is no such image")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures::{jpeg_with_orientation, pattern, write_image};
    use image::ImageFormat::{Jpeg, Png, WebP};
    use tempfile::tempdir;

    fn keys(part: &Part) -> Vec<String> {
        (0..part.source.len()).map(|i| part.source.key(i)).collect()
    }

    #[test]
    fn a_tree_is_listed_by_path_with_the_first_level_as_class() {
        let dir = tempdir().unwrap();
        let image = pattern(4, 4, 9);
        for (name, format) in [
            ("dog/b.JPG", Jpeg),
            ("dog/deep/er/a.png", Png),
            ("cat/z.WebP", WebP),
            ("cat/.hidden.png", Png),
            (".git/x.png", Png),
            ("loose.jpeg", Jpeg),
        ] {
            write_image(&dir.path().join(name), &image, format);
        }
        std::fs::write(dir.path().join("dog/notes.txt"), "text").unwrap();
        let part = open(dir.path(), TruncatedImages::Skip).unwrap().train;
        assert_eq!(keys(&part), ["cat/z.WebP", "dog/b.JPG", "dog/deep/er/a.png", "loose.jpeg"]);
        assert_eq!(part.classes, ["cat", "dog"]);
        let labels: Vec<_> = (0..4).map(|i| part.source.label(i)).collect();
        assert_eq!(labels, [Some(0), Some(1), Some(1), None]);
        for index in 0..4 {
            assert_eq!(part.source.read(index).unwrap().dimensions(), (4, 4));
        }
    }

    #[test]
    fn train_and_valid_folders_are_both_used() {
        let dir = tempdir().unwrap();
        write_image(&dir.path().join("train/a/1.png"), &pattern(4, 4, 0), Png);
        write_image(&dir.path().join("valid/b/2.png"), &pattern(4, 4, 0), Png);
        write_image(&dir.path().join("test/b/3.png"), &pattern(4, 4, 0), Png);
        let opened = open(dir.path(), TruncatedImages::Skip).unwrap();
        assert_eq!(keys(&opened.train), ["a/1.png"]);
        assert_eq!(keys(&opened.val.unwrap()), ["b/2.png"]);
        assert_eq!(opened.notes, ["beside train/ and valid/, left out: test/"]);
    }

    #[test]
    fn content_decides_and_bad_files_fail_alone() {
        let dir = tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write_image(&at("0-png-called.jpg"), &pattern(6, 5, 1), Png);
        std::fs::write(at("1-text.jpg"), "I am no picture").unwrap();
        write_image(&at("2.png"), &pattern(90, 90, 1), Png);
        let whole = std::fs::read(at("2.png")).unwrap();
        std::fs::write(at("2.png"), &whole[..whole.len() / 3]).unwrap();
        std::fs::write(at("3-turned.jpg"), jpeg_with_orientation(&pattern(24, 8, 1), 8)).unwrap();
        let source = open(dir.path(), TruncatedImages::Skip).unwrap().train.source;
        assert_eq!(source.read(0).unwrap().dimensions(), (6, 5));
        let error = source.read(1).unwrap_err();
        assert_eq!(error.name, at("1-text.jpg").display().to_string());
        assert_eq!(error.reason, "not a jpeg, png, webp, tiff, bmp or gif image");
        assert!(source.read(2).is_err());
        assert_eq!(source.read(3).unwrap().dimensions(), (8, 24));
    }

    #[test]
    fn a_truncated_jpeg_never_panics() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        write_image(&path, &pattern(64, 48, 3), Jpeg);
        let whole = std::fs::read(&path).unwrap();
        let source = open(dir.path(), TruncatedImages::Skip).unwrap().train.source;
        for length in [0, 1, 3, 20, 200, whole.len() / 2] {
            std::fs::write(&path, &whole[..length.min(whole.len())]).unwrap();
            // The decoder may fill the missing rows; what counts is one of two clean outcomes.
            match source.read(0) {
                Ok(image) => assert_eq!(image.dimensions(), (64, 48)),
                Err(error) => assert_eq!(error.name, path.display().to_string()),
            }
        }
    }

    #[test]
    fn empty_and_missing_folders_are_named() {
        let dir = tempdir().unwrap();
        let error = open(dir.path(), TruncatedImages::Skip).map(|_| ()).unwrap_err();
        assert!(matches!(error, DataError::Empty { .. }));
        assert!(error.to_string().contains(&dir.path().display().to_string()));
        let gone = dir.path().join("gone");
        let error = open(&gone, TruncatedImages::Skip).map(|_| ()).unwrap_err();
        assert!(matches!(error, DataError::Missing { path } if path == gone));
    }

    #[test]
    fn one_image_file_is_a_set_of_one() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("one.png");
        write_image(&path, &pattern(3, 3, 5), Png);
        let source = open(&path, TruncatedImages::Skip).unwrap().train.source;
        assert_eq!(source.name(0), path.display().to_string());
        assert_eq!(source.read(0).unwrap().dimensions(), (3, 3));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_loops_dangling_links_and_odd_names_do_no_harm() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;
        let (dir, other) = (tempdir().unwrap(), tempdir().unwrap());
        write_image(&other.path().join("far.png"), &pattern(4, 4, 0), Png);
        let odd = dir.path().join(OsStr::from_bytes(b"od\xffd.png"));
        write_image(&odd, &pattern(4, 4, 0), Png);
        symlink(other.path(), dir.path().join("linked")).unwrap();
        symlink(dir.path(), dir.path().join("loop")).unwrap();
        symlink("/nowhere/x", dir.path().join("z-dangling.png")).unwrap();
        let part = open(dir.path(), TruncatedImages::Skip).unwrap().train;
        assert_eq!(keys(&part), ["linked/far.png", "od\u{fffd}d.png", "z-dangling.png"]);
        assert!(part.source.read(0).is_ok() && part.source.read(1).is_ok());
        assert!(part.source.read(2).is_err());
    }
}
