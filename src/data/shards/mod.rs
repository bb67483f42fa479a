//! Shards as `WebDataset` has them: tar archives in which members of one key make a sample, an image and its class.
//!
//! Where the images are is listed once, and kept in the cache folder. They are then read by position, so that their order
//! is as free as that of files.

mod files;
mod find;
mod index;
mod labels;
mod samples;
mod walk;

use super::encoded::{Decoding, EncodedImages};
use super::{DataError, Opened, Part, decode};
use crate::config::TruncatedImages;
use crate::shown;
use crate::text::bar::Bar;
use crate::text::say::say;
use files::OpenShards;
use index::{KeptIndices, NO_LABEL, Remarks, ShardIndex, ShardStamp};
use labels::{Classes, LabelCounts};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{IsTerminal as _, stderr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

pub(super) use find::{is_file_of, is_folder_of, is_pattern};

/// Damaged places, and kinds of members, that notes name.
const NAMED: usize = 8;
/// How often people are told how far listing is.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The images of some shards, in the order of the shards.
struct ShardImages {
    root: PathBuf,
    shards: Vec<OneShard>,
    offsets: Vec<u64>,
    sizes: Vec<u32>,
    labels: Vec<u32>,
    /// Where the name of each image ends in those of its shard.
    name_ends: Vec<u32>,
    files: OpenShards,
    /// As [`have_distinct_names`].
    distinct: bool,
}

struct OneShard {
    /// Relative to the folder of all.
    path: PathBuf,
    /// Number of its first image.
    first: usize,
    /// The names of all of its images.
    names: Box<[u8]>,
}

/// Opens shards: one, a folder, or a pattern in braces. Those that are called `train` and `val` are two parts.
///
/// # Errors
/// Returns an error if shards are missing, unreadable or compressed, or if a part has no image.
pub(crate) fn open(path: &Path, truncated: TruncatedImages) -> Result<Opened, DataError> {
    open_with(path, truncated, &KeptIndices::of_user())
}

fn open_with(
    path: &Path,
    truncated: TruncatedImages,
    indices: &KeptIndices,
) -> Result<Opened, DataError> {
    let found = find::find(path)?;
    let mut notes = found.notes;
    let of_train = found.train.len();
    let files: Vec<PathBuf> =
        found.train.into_iter().chain(found.val.iter().flatten().cloned()).collect();
    let mut listed = list(&found.root, &files, indices)?;
    let classes = Classes::of(listed.iter(), &class_folders(&found.root, &files))?;
    let mut counts = LabelCounts::default();
    for shard in &mut listed {
        classes.apply(shard, &mut counts);
        counts.captions += shard.remarks.captions;
    }
    let damage = damages(&found.root, &files, &listed);
    notes.extend(damage.iter().cloned());
    notes.extend(remarks(&files, &listed));
    notes.extend(classes.notes(&counts));
    let distinct = have_distinct_names(&listed);
    let val_listed = listed.split_off(of_train);
    let part = |files: &[PathBuf], listed: Vec<ShardIndex>| -> Result<Part, DataError> {
        let images = ShardImages::new(&found.root, files, listed, distinct);
        if images.len() == 0 {
            let mut looked_for = vec!["jpg, jpeg, png, webp, tif, bmp and gif members".to_owned()];
            looked_for.extend(damage.iter().cloned());
            return Err(DataError::empty(path, looked_for.join("; ")));
        }
        let source = Arc::new(Decoding::new(images, truncated));
        Ok(Part { source, classes: classes.names.clone() })
    };
    let train = part(&files[..of_train], listed)?;
    let val = found.val.is_some().then(|| part(&files[of_train..], val_listed)).transpose()?;
    Ok(Opened { train, val, kind: "images in tar shards", decodes: true, notes })
}

/// Returns the folders in which classes.txt may lie: those of the shards, and those above, as `train/` and `val/` of a
/// set may be opened one by one.
fn class_folders(root: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders = vec![root.to_owned()];
    for file in files {
        let folder = root.join(file).parent().map(Path::to_owned).unwrap_or_default();
        if folders.last() != Some(&folder) && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    if let Some(above) =
        std::path::absolute(root).ok().and_then(|root| root.parent().map(Path::to_owned))
    {
        folders.push(above);
    }
    folders
}

/// Returns the index of each shard. Those that aren't kept yet are listed on several threads.
fn list(
    root: &Path,
    files: &[PathBuf],
    indices: &KeptIndices,
) -> Result<Vec<ShardIndex>, DataError> {
    // Threads mostly wait for the disk.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (2 * cores).clamp(4, 32).min(files.len());
    let (next, images) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let listed: Mutex<Vec<Option<ShardIndex>>> = Mutex::new(files.iter().map(|_| None).collect());
    let (told, done) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let told = told.clone();
            scope.spawn(|| {
                let told = told;
                while let Some((number, file)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    files.get(number).map(|file| (number, file))
                } {
                    let result = list_one(&root.join(file), indices, &images);
                    let result = result.map(|index| {
                        // A thread that panics can't leave the list half changed.
                        listed.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(index);
                    });
                    let failed = result.is_err();
                    // Nobody waits any more once another thread has failed.
                    if told.send(result).is_err() || failed {
                        return;
                    }
                }
            });
        }
        drop(told);
        let waited = wait(&done, files.len(), &images);
        if waited.is_err() {
            next.store(files.len(), Ordering::Relaxed);
        }
        waited
    })?;
    let listed = listed.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(listed.into_iter().map(Option::unwrap_or_default).collect())
}

/// Waits until all shards are listed, and tells how far it is.
fn wait(
    done: &mpsc::Receiver<Result<(), DataError>>,
    all: usize,
    images: &AtomicUsize,
) -> Result<(), DataError> {
    let (mut shards, mut bar, mut since) = (0, None, std::time::Instant::now());
    while shards < all {
        match done.recv_timeout(Duration::from_millis(100)) {
            Ok(result) => {
                result?;
                shards += 1;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if since.elapsed() < PATIENCE {
            continue;
        }
        if stderr().is_terminal() {
            bar.get_or_insert_with(|| Bar::new("listing tar shards", all)).set(shards);
        } else {
            since = std::time::Instant::now();
            let images = images.load(Ordering::Relaxed);
            say(&mut stderr(), &format!("listing tar shards: {shards} of {all}, {images} images"));
        }
    }
    Ok(())
}

/// Returns the index of one shard.
fn list_one(
    path: &Path,
    indices: &KeptIndices,
    images: &AtomicUsize,
) -> Result<ShardIndex, DataError> {
    let io = |error| DataError::io(path, error);
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let stamp = ShardStamp::of(path, &metadata);
    if let Some(index) = indices.load(&stamp) {
        images.fetch_add(index.offsets.len(), Ordering::Relaxed);
        return Ok(index);
    }
    let mut start = [0; 8];
    let length = file.read_at(&mut start, 0).map_err(io)?;
    if let Some(undo) = compression(&start[..length]) {
        return Err(DataError::Compressed { path: path.to_owned(), undo });
    }
    let (index, whole) = samples::list(&file, metadata.len(), images);
    if whole {
        indices.store(&stamp, &index);
    }
    Ok(index)
}

/// Returns the program that undoes the compression of a file, which its beginning tells.
fn compression(start: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "gunzip"),
        (b"\x28\xb5\x2f\xfd", "unzstd"),
        (b"BZh", "bunzip2"),
        (b"\xfd7zXZ\0", "unxz"),
        (b"\x04\x22\x4d\x18", "unlz4"),
    ];
    kinds.into_iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, undo)| undo)
}

/// Says where shards are damaged.
fn damages(root: &Path, files: &[PathBuf], listed: &[ShardIndex]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut more = 0;
    for (file, index) in files.iter().zip(listed) {
        more += index.remarks.more_damages;
        for (at, text) in &index.remarks.damages {
            if notes.len() < NAMED {
                notes.push(format!("{} at offset {at}: {text}", shown::path(&root.join(file))));
            } else {
                more += 1;
            }
        }
    }
    notes.extend((more > 0).then(|| format!("{more} more places in tar shards are damaged")));
    notes
}

/// Says what was left out or is strange, over all shards.
fn remarks(files: &[PathBuf], listed: &[ShardIndex]) -> Vec<String> {
    let mut counts: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (file, ShardIndex { remarks, .. }) in files.iter().zip(listed) {
        let Remarks { counts: own, kinds: others, .. } = remarks;
        for (what, (count, example)) in own {
            let first = || match example.as_str() {
                "" => format!("in {}", shown::path(file)),
                example => format!("{example} of {}", shown::path(file)),
            };
            counts.entry(what).or_insert_with(|| (0, first())).0 += count;
        }
        for (kind, count) in others {
            *kinds.entry(kind).or_default() += count;
        }
    }
    let mut notes: Vec<String> = counts
        .into_iter()
        .map(|(what, (count, example))| format!("{count} {what} (the first: {example})"))
        .collect();
    let total: usize = kinds.values().sum();
    let mut kinds: Vec<(&str, usize)> = kinds.into_iter().collect();
    kinds.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let rest: usize = kinds.iter().skip(NAMED).map(|&(_, count)| count).sum();
    let name = |&(kind, count): &(&str, usize)| match kind {
        "" => format!("{count} without ending"),
        kind => format!("{count} .{kind}"),
    };
    let mut names: Vec<String> = kinds.iter().take(NAMED).map(name).collect();
    names.extend((rest > 0).then(|| format!("{rest} others")));
    if total > 0 {
        let what =
            "members of tar shards are left out, by what follows the first dot of their names";
        notes.push(format!("{total} {what}: {}", names.join(", ")));
    }
    notes
}

/// Returns whether no two images of all these shards have one name. Their keys are then those of a folder with the same
/// images, so that shards and folder are split alike, and a run may go from one to the other.
fn have_distinct_names(listed: &[ShardIndex]) -> bool {
    let mut hashes: Vec<u64> = listed
        .iter()
        .flat_map(|shard| {
            let starts = std::iter::once(0).chain(shard.name_ends.iter().copied());
            starts.zip(&shard.name_ends).map(|(start, &end)| {
                xxh3_64(shard.names.get(start as usize..end as usize).unwrap_or_default())
            })
        })
        .collect();
    hashes.sort_unstable();
    hashes.windows(2).all(|pair| pair[0] != pair[1])
}

impl ShardImages {
    fn new(root: &Path, files: &[PathBuf], listed: Vec<ShardIndex>, distinct: bool) -> Self {
        let images = listed.iter().map(|shard| shard.offsets.len()).sum();
        let mut all = Self {
            root: root.to_owned(),
            shards: Vec::with_capacity(files.len()),
            offsets: Vec::with_capacity(images),
            sizes: Vec::with_capacity(images),
            labels: Vec::with_capacity(images),
            name_ends: Vec::with_capacity(images),
            files: OpenShards::new(files.len()),
            distinct,
        };
        for (path, shard) in files.iter().zip(listed) {
            let (path, first) = (path.clone(), all.offsets.len());
            all.offsets.extend(shard.offsets);
            all.sizes.extend(shard.sizes);
            all.labels.extend(shard.labels);
            all.name_ends.extend(shard.name_ends);
            all.shards.push(OneShard { path, first, names: shard.names.into_boxed_slice() });
        }
        all
    }

    /// Returns the number of the shard that an image is in, and that shard.
    fn shard(&self, index: usize) -> Option<(usize, &OneShard)> {
        let after = self.shards.partition_point(|shard| shard.first <= index);
        let number = after.checked_sub(1).filter(|_| index < self.offsets.len())?;
        Some((number, &self.shards[number]))
    }

    /// Returns the name of an image inside its shard.
    fn member<'a>(&self, shard: &'a OneShard, index: usize) -> &'a Path {
        let start = if index == shard.first { 0 } else { self.name_ends[index - 1] as usize };
        let name = shard.names.get(start..self.name_ends[index] as usize);
        Path::new(OsStr::from_bytes(name.unwrap_or_default()))
    }
}

impl EncodedImages for ShardImages {
    fn len(&self) -> usize {
        self.offsets.len()
    }

    fn name(&self, index: usize) -> String {
        let Some((_, shard)) = self.shard(index) else { return self.origin() };
        let (file, member) = (self.root.join(&shard.path), self.member(shard, index));
        let at = self.offsets[index];
        format!("{} in {} at offset {at}", shown::text(member), shown::text(&file))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied().filter(|&label| label != NO_LABEL)
    }

    fn key(&self, index: usize) -> String {
        let Some((_, shard)) = self.shard(index) else { return String::new() };
        let member = self.member(shard, index);
        let whole = if self.distinct { member.to_owned() } else { shard.path.join(member) };
        whole.to_string_lossy().into_owned()
    }

    fn bytes(&self, index: usize) -> u64 {
        self.sizes.get(index).map_or(0, |&size| size.into())
    }

    fn origin(&self) -> String {
        match self.shards.as_slice() {
            [only] => shown::text(&self.root.join(&only.path)),
            shards => format!("{} tar shards in {}", shards.len(), shown::text(&self.root)),
        }
    }

    fn encoded(&self, index: usize) -> Result<Vec<u8>, String> {
        let (number, shard) = self.shard(index).ok_or("there is no such image")?;
        let (at, size) = (self.offsets[index], self.sizes[index]);
        decode::check_size(size.into())?;
        let path = self.root.join(&shard.path);
        let file = self.files.get(number, path).map_err(|error| error.to_string())?;
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, at).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                let end = file.metadata().map_or(0, |metadata| metadata.len());
                format!("the shard ends at {end} now: it was cut off after its images were listed")
            }
            _ => error.to_string(),
        })?;
        Ok(bytes)
    }

    fn shards(&self) -> Vec<usize> {
        self.shards.iter().map(|shard| shard.first).collect()
    }
}

#[cfg(test)]
mod tests;
