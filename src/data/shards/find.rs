//! Finds the tar shards of a data set, and which of them are for validation.

use super::super::braces::named;
use super::super::parts::{self, AssignedRoles, Role, shard_role};
use super::super::scan::{is_image_name, is_visible_name};
use super::super::{DataError, braces};
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// Endings of archives whose images can't be read by position, with what undoes it.
const COMPRESSED: [(&str, &str); 12] = [
    (".tar.gz", "gunzip"),
    (".tgz", "gunzip"),
    (".tar.zst", "unzstd"),
    (".tzst", "unzstd"),
    (".tar.bz2", "bunzip2"),
    (".tbz2", "bunzip2"),
    (".tbz", "bunzip2"),
    (".tar.xz", "unxz"),
    (".txz", "unxz"),
    (".tar.lz4", "unlz4"),
    (".tar.z", "uncompress"),
    (".tar.lzma", "unlzma"),
];
/// Entries that are looked at to find out whether a folder has shards.
const GLANCE: usize = 10_000;

/// The shards of a data set.
#[derive(Debug)]
pub(super) struct FoundShards {
    /// The folder that all paths are relative to.
    pub root: PathBuf,
    pub train: Vec<PathBuf>,
    pub val: Option<Vec<PathBuf>>,
    pub notes: Vec<String>,
}

/// Returns whether a path is a pattern and not the name of something that is there.
pub(crate) fn is_pattern(path: &Path) -> bool {
    !path.exists() && !matches!(braces::expand(path), Ok(None))
}

/// Returns whether a file is a shard: by its name, whether compressed or not, or by its first header.
pub(crate) fn is_file_of(path: &Path) -> bool {
    path.is_file() && (is_shard_name(path) || begins_like_tar(path).unwrap_or(false))
}

fn begins_like_tar(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let mut word = [0; 5];
    std::fs::File::open(path)?.read_exact_at(&mut word, 257)?;
    Ok(&word == b"ustar")
}

/// Returns whether a folder holds shards. Where there are images as well, most files decide: people keep the archive
/// that they unpacked, and a picture that shows what is in the shards.
pub(crate) fn is_folder_of(path: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    let (mut shards, mut images) = (0_usize, 0_usize);
    for entry in entries.flatten().filter(|entry| is_visible_name(&entry.file_name())) {
        shards += usize::from(is_shard_name(&entry.path()));
        images += usize::from(is_image_name(&entry.path()));
    }
    if shards == 0 && images > 0 {
        return false;
    }
    let top = shards;
    for entry in walk(path).min_depth(2).into_iter().filter_entry(is_visible).take(GLANCE).flatten()
    {
        let image = is_image_name(entry.path());
        images += usize::from(image);
        shards += usize::from(is_shard_name(entry.path()));
        // A tree of images is known by its first image.
        if top == 0 && (image || shards > 0) || images > top.max(shards) {
            break;
        }
    }
    shards > 0 && shards >= images
}

fn walk(path: &Path) -> WalkDir {
    WalkDir::new(path).follow_links(true).sort_by_file_name()
}

fn is_visible(entry: &DirEntry) -> bool {
    entry.depth() == 0 || is_visible_name(entry.file_name())
}

fn is_shard_name(path: &Path) -> bool {
    is_tar_name(path) || compressed_name(path).is_some()
}

fn is_tar_name(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tar"))
}

fn compressed_name(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    COMPRESSED.iter().find(|(ending, _)| name.ends_with(ending)).map(|&(_, undo)| undo)
}

/// Lists the shards at `path`: a file, a folder or a pattern in braces.
///
/// # Errors
/// Returns an error if there is none, if some of a pattern are missing, or if they are compressed.
pub(super) fn find(path: &Path) -> Result<FoundShards, DataError> {
    let metadata = std::fs::metadata(path);
    let (root, files, notes) = match metadata {
        Ok(metadata) if metadata.is_dir() => {
            let (files, notes) = in_folder(path, path)?;
            (path.to_owned(), files, notes)
        }
        Ok(_) => {
            let root = path.parent().map(Path::to_owned).unwrap_or_default();
            (root, path.file_name().map(PathBuf::from).into_iter().collect(), Vec::new())
        }
        Err(error) => match braces::expand(path)? {
            Some(paths) => of_pattern(path, &paths)?,
            None => return Err(DataError::io(path, error)),
        },
    };
    if let Some((file, undo)) = files.iter().find_map(|file| Some((file, compressed_name(file)?))) {
        return Err(DataError::Compressed { path: root.join(file), undo });
    }
    Ok(divide(root, files, notes))
}

/// Lists the shards below a folder, relative to `root`.
fn in_folder(folder: &Path, root: &Path) -> Result<(Vec<PathBuf>, Vec<String>), DataError> {
    let (mut files, mut compressed, mut images) = (Vec::new(), Vec::new(), 0_usize);
    for entry in walk(folder).into_iter().filter_entry(is_visible) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.loop_ancestor().is_some() => continue,
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                let source = error.into_io_error();
                return Err(DataError::io(
                    &path,
                    source.unwrap_or_else(|| std::io::ErrorKind::Other.into()),
                ));
            }
        };
        if !entry.file_type().is_file() {
            continue;
        }
        let file = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_owned();
        if is_tar_name(&file) {
            files.push(file);
        } else if compressed_name(&file).is_some() {
            compressed.push(file);
        } else {
            images += usize::from(is_image_name(&file));
        }
    }
    if files.is_empty() && compressed.is_empty() {
        return Err(DataError::empty(folder, "tar shards (.tar)"));
    }
    let mut notes = Vec::new();
    if images > 0 {
        notes.push(format!("beside the tar shards, left out: {images} image files"));
    }
    if files.is_empty() {
        files = compressed; // the caller refuses them
    } else if !compressed.is_empty() {
        notes
            .push(format!("beside the tar shards, left out as compressed: {}", named(&compressed)));
    }
    Ok((files, notes))
}

/// Lists the shards that a pattern stands for, each a file or a folder of some.
fn of_pattern(
    pattern: &Path,
    paths: &[PathBuf],
) -> Result<(PathBuf, Vec<PathBuf>, Vec<String>), DataError> {
    braces::check_there(pattern, paths)?;
    let root = braces::folder_above(pattern);
    let (mut files, mut notes) = (Vec::new(), Vec::new());
    for path in paths {
        if path.is_dir() {
            let (more, others) = in_folder(path, &root)?;
            files.extend(more);
            notes.extend(others);
        } else {
            files.push(path.strip_prefix(&root).unwrap_or(path).to_owned());
        }
    }
    Ok((root, files, notes))
}

/// Takes the shards that are called so, or lie in a folder that is, for validation.
fn divide(root: PathBuf, files: Vec<PathBuf>, mut notes: Vec<String>) -> FoundShards {
    let roles: Vec<Option<Role>> = files.iter().map(|file| shard_role(file)).collect();
    let AssignedRoles { train: wanted, val: best } =
        parts::assign(&roles.iter().copied().collect());
    let Some(best) = best else {
        return FoundShards { root, train: files, val: None, notes };
    };
    let (mut train, mut val, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for (file, role) in files.into_iter().zip(roles) {
        if role == wanted {
            train.push(file);
        } else if role == Some(best) {
            val.push(file);
        } else {
            left.push(file);
        }
    }
    if !left.is_empty() {
        let what = "beside the shards for training and validation, left out";
        notes.push(format!("{what}: {}", named(&left)));
    }
    FoundShards { root, train, val: Some(val), notes }
}
