//! What is known of one archive: where its images are and what they are called. It is kept in the cache folder.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// What the label of an image is that has none.
pub(super) const NO_LABEL: u32 = u32::MAX;
/// What a file of an index begins with. Its last two digits are the version.
const MAGIC: &[u8; 8] = b"SIMTAR01";
/// Places in one archive that are named as damaged.
const MOST_DAMAGES: usize = 100;

/// A label as it stands in an archive, and whether it comes from a `.txt` member, which may be a caption.
pub(super) type LabelText = (String, bool);

/// The images of one archive, in the order of their offsets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ShardIndex {
    /// Offset of each image in the archive.
    pub offsets: Vec<u64>,
    /// Size of each image in bytes.
    pub sizes: Vec<u32>,
    /// Index in `texts` of each image's label, or [`NO_LABEL`].
    pub labels: Vec<u32>,
    /// Where the name of each image ends in `names`.
    pub name_ends: Vec<u32>,
    /// The names of all images.
    pub names: Vec<u8>,
    /// The labels that occur.
    pub texts: Vec<LabelText>,
    pub remarks: Remarks,
}

/// What people should know of an archive.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remarks {
    /// What is damaged, by offset.
    pub damages: Vec<(u64, String)>,
    /// How many places are damaged that `damages` has no room for.
    pub more_damages: usize,
    /// How often something came up, with the first example.
    pub counts: BTreeMap<String, (usize, String)>,
    /// Number of members of other kinds.
    pub kinds: BTreeMap<String, usize>,
    /// Number of `.txt` members that can't be classes.
    pub captions: usize,
}

impl Remarks {
    pub fn damaged(&mut self, at: u64, text: String) {
        if self.damages.len() < MOST_DAMAGES {
            self.damages.push((at, text));
        } else {
            self.more_damages += 1;
        }
    }

    /// Counts one more of `what`.
    pub fn count(&mut self, what: &str, example: impl FnOnce() -> String) {
        if let Some((count, _)) = self.counts.get_mut(what) {
            *count += 1;
        } else {
            self.counts.insert(what.to_owned(), (1, example()));
        }
    }

    /// Counts a member that is neither an image nor a label.
    pub fn left_out(&mut self, kind: String) {
        *self.kinds.entry(kind).or_default() += 1;
    }

    pub fn captions(&mut self, count: usize) {
        self.captions += count;
    }
}

/// What a file of an index says before the images.
#[derive(Serialize, Deserialize)]
struct Head {
    stamp: ShardStamp,
    images: usize,
    names: usize,
    texts: Vec<LabelText>,
    remarks: Remarks,
}

/// What tells an archive from any other, and from itself before a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShardStamp {
    path: Vec<u8>,
    size: u64,
    /// Times of the last change of the content and of anything, seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl ShardStamp {
    pub fn of(path: &Path, metadata: &Metadata) -> Self {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Self {
            path: path.as_os_str().as_bytes().to_vec(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The folder in which indices are kept.
pub(super) struct KeptIndices {
    folder: Option<PathBuf>,
}

impl KeptIndices {
    /// Returns those of the user's cache folder. Without one, nothing is kept.
    pub fn of_user() -> Self {
        Self { folder: dirs::cache_dir().map(|folder| folder.join("simmim-tui").join("shards")) }
    }

    #[cfg(test)]
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()) }
    }

    fn file(&self, stamp: &ShardStamp) -> Option<PathBuf> {
        let name = format!("{:032x}.idx", xxh3_128(&stamp.path));
        self.folder.as_ref().map(|folder| folder.join(name))
    }

    /// Returns the index of an archive if a sound one is there and the archive hasn't changed since.
    pub fn load(&self, stamp: &ShardStamp) -> Option<ShardIndex> {
        from_bytes(&fs::read(self.file(stamp)?).ok()?, stamp)
    }

    /// Keeps an index. Where that can't be, the next start lists the archive again.
    pub fn store(&self, stamp: &ShardStamp, index: &ShardIndex) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let (Some(file), Some(folder)) = (self.file(stamp), &self.folder) else { return };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = file.with_extension(format!("{}-{number}.tmp", std::process::id()));
        let write = || -> io::Result<()> {
            fs::create_dir_all(folder)?;
            fs::write(&temporary, to_bytes(stamp, index)?)?;
            fs::rename(&temporary, &file)
        };
        if write().is_err() {
            // What is left of it has no use, and there may be nothing.
            let _ = fs::remove_file(&temporary);
        }
    }
}

fn to_bytes(stamp: &ShardStamp, index: &ShardIndex) -> io::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct HeadOf<'a> {
        stamp: &'a ShardStamp,
        images: usize,
        names: usize,
        texts: &'a [LabelText],
        remarks: &'a Remarks,
    }
    let ShardIndex { offsets, sizes, labels, name_ends, names, texts, remarks } = index;
    let head = HeadOf { stamp, images: offsets.len(), names: names.len(), texts, remarks };
    let head = serde_json::to_vec(&head)?;
    let mut body = (head.len() as u64).to_le_bytes().to_vec();
    body.extend(head);
    body.extend(offsets.iter().flat_map(|offset| offset.to_le_bytes()));
    for numbers in [sizes, labels, name_ends] {
        body.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    body.extend(names);
    Ok([MAGIC.as_slice(), &xxh3_64(&body).to_le_bytes(), &body].concat())
}

fn from_bytes(bytes: &[u8], stamp: &ShardStamp) -> Option<ShardIndex> {
    let (sum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    if xxh3_64(body) != u64::from_le_bytes(*sum) {
        return None;
    }
    let (length, rest) = body.split_first_chunk::<8>()?;
    let (head, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let Head { stamp: listed, images, names: name_bytes, texts, remarks } =
        serde_json::from_slice(head).ok()?;
    let (offsets, rest) = rest.split_at_checked(images.checked_mul(8)?)?;
    let (sizes, rest) = rest.split_at_checked(images.checked_mul(4)?)?;
    let (labels, rest) = rest.split_at_checked(images.checked_mul(4)?)?;
    let (name_ends, names) = rest.split_at_checked(images.checked_mul(4)?)?;
    let numbers = |bytes: &[u8]| -> Vec<u32> {
        bytes.as_chunks::<4>().0.iter().map(|&chunk| u32::from_le_bytes(chunk)).collect()
    };
    let offsets: Vec<u64> =
        offsets.as_chunks::<8>().0.iter().map(|&chunk| u64::from_le_bytes(chunk)).collect();
    let (sizes, labels, name_ends) = (numbers(sizes), numbers(labels), numbers(name_ends));
    let known = |label: u32| label == NO_LABEL || (label as usize) < texts.len();
    let sound = listed == *stamp
        && names.len() == name_bytes
        && name_ends.is_sorted()
        && name_ends.last().is_none_or(|&end| end as usize == names.len())
        && labels.iter().copied().all(known);
    let names = names.to_vec();
    sound.then_some(ShardIndex { offsets, sizes, labels, name_ends, names, texts, remarks })
}
