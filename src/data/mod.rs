//! Turns files of images into batches of bytes.
//!
//! [`open`] finds out what `data.path` holds and returns a training and a validation [`Source`]. The
//! [`loader`] turns a source into batches on its own threads. No stage keeps the state of a random
//! generator: seed and batch number alone decide what a batch holds.

pub(crate) mod augment;
mod braces;
mod cache;
pub(crate) mod check;
mod cifar;
mod class_union;
pub(crate) mod decode;
mod detect;
mod encoded;
mod error;
mod exif;
mod fashion;
mod fingerprint;
mod folder;
pub(crate) mod gauge;
mod idx;
pub(crate) mod indices;
mod jpeg_end;
mod labelled_dataset;
mod list;
mod listing;
pub mod loader;
pub(crate) mod member_names;
mod names;
pub(crate) mod order;
mod packed;
mod parallel;
mod parquet;
mod parts;
mod photos;
pub(crate) mod repack;
mod scan;
mod shard_order;
pub(crate) mod shard_writer;
mod shards;
pub(crate) mod split;
mod stl;
mod worker;

#[cfg(test)]
pub(crate) mod fixtures;

pub use cache::Budget as CacheBudget;
pub use error::{DataError, ImageError};
pub use fingerprint::{DataChange, Fingerprint, ListedData};
pub use labelled_dataset::open_labelled;
pub use listing::{KeptLists, list_anew};
pub(crate) use parquet::silence_library;

use crate::config::{DataConfig, DataFormat, TruncatedImages};
use crate::shown;
use crate::text::count::Count;
use image::RgbImage;
use split::SplitParts;
use std::path::Path;
use std::sync::Arc;

/// A list of images that threads share.
pub type Source = Arc<dyn ImageSource>;

/// A list of images that can be read in any order from many threads.
pub trait ImageSource: Send + Sync {
    /// Returns the number of images.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what messages call an image: its path, or `file#index`.
    fn name(&self, index: usize) -> String;

    /// Returns the class of an image as an index into [`Dataset::classes`], or `None` if it has no label.
    fn label(&self, index: usize) -> Option<u32>;

    /// Reads and decodes an image.
    ///
    /// # Errors
    /// Returns an error if the file can't be read or isn't a valid image.
    fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError>;

    /// Reads the bytes of an image as they are stored, or returns `None` if they are of no image format.
    fn encoded(&self, _index: usize) -> Option<Result<Vec<u8>, ImageError>> {
        None
    }

    /// Returns what is wrong with an image that has been read all the same.
    fn flaw(&self, _index: usize) -> Option<ImageError> {
        None
    }

    /// Returns what identifies an image inside its data set, wherever the data set is stored. The choice
    /// of validation images depends on it.
    fn key(&self, index: usize) -> String {
        self.name(index)
    }

    /// Returns the size of an image's file, or 0 if the image is no file of its own. Another size means another image.
    fn bytes(&self, _index: usize) -> u64 {
        0
    }

    /// Returns what messages call the place that the images come from.
    fn origin(&self) -> String {
        "the image source".to_owned()
    }

    /// Returns the index of the first image of each shard, ascending from 0: images that are stored one after the other.
    /// It is empty if every image is stored by itself.
    fn shards(&self) -> Vec<usize> {
        Vec::new()
    }
}

/// Training and validation images with their class names.
pub struct Dataset {
    pub train: Source,
    pub val: Source,
    /// Names of the classes of both sources. Empty if the data has no labels.
    pub classes: Vec<String>,
    /// What the data is, for people. For example "171 train + 44 val CC0 photos (embedded)".
    pub description: String,
    /// What people should know before they train on it, one line each.
    pub notes: Vec<String>,
    /// Whether the validation images are a share of the images that was split off.
    pub val_split_off: bool,
    /// The memory for decoded images of both sources.
    pub cache: CacheBudget,
}

/// One part of a data set, with a numbering of classes of its own.
pub(crate) struct Part {
    pub source: Source,
    /// Names of the classes.
    pub classes: Vec<String>,
}

/// What a format module found under a path.
pub(crate) struct Opened {
    pub train: Part,
    /// The validation set, if the data has one.
    pub val: Option<Part>,
    /// The kind of images for [`Dataset::description`], for example "CIFAR-10 images".
    pub kind: &'static str,
    /// Whether reading an image means to decode it, which makes a cache worthwhile.
    pub decodes: bool,
    /// As [`Dataset::notes`].
    pub notes: Vec<String>,
}

/// Opens the data that `config` names.
///
/// # Errors
/// Returns an error if a path is missing or unreadable, if there are no images, if a binary file has a
/// wrong size or content, or if the format of a path isn't recognised.
pub fn open(config: &DataConfig) -> Result<Dataset, DataError> {
    let (opened, format, place) = open_main(config)?;
    let budget = cache::Budget::mebibytes(config.cache_mib);
    let cached = |part: Part, decodes: bool| Part {
        source: if decodes { budget.wrap(part.source) } else { part.source },
        ..part
    };
    let Opened { train, val, kind, decodes, mut notes } = opened;
    let val = match &config.val_path {
        None => val.map(|part| cached(part, decodes)),
        Some(path) => {
            let guessed = format == DataFormat::Auto;
            let other = open_as(detect::resolve(format, path)?, path, guessed, config.truncated)?;
            notes.extend(other.notes);
            // Of data with two parts, the validation set is taken. Any other is taken whole.
            Some(cached(other.val.unwrap_or(other.train), other.decodes))
        }
    };
    let train = cached(train, decodes);
    let val_split_off = val.is_none();
    let (train, val, classes) = if let Some(val) = val {
        class_union::unify(train, val)
    } else {
        let SplitParts { train: rest, val, note } =
            split::split(&train.source, config.val_fraction);
        notes.extend(note);
        (rest, val, train.classes)
    };
    notes.extend(class_union::unseen(&train, &val, &classes));
    for source in [&train, &val] {
        if source.is_empty() {
            return Err(DataError::Empty {
                place: source.origin(),
                looked_for: "images".to_owned(),
            });
        }
    }
    let classes_text = match classes.len() {
        0 | 1 => String::new(),
        count => format!(", {count} classes"),
    };
    let split_text = if val_split_off { ", val split off" } else { "" };
    let description = format!(
        "{} train + {} val {kind}{place}{classes_text}{split_text}",
        train.len(),
        val.len()
    );
    Ok(Dataset { train, val, classes, description, notes, val_split_off, cache: budget })
}

/// Opens what `data.path` holds, or the embedded set that `config` asks for. Also returns the format for
/// `data.val_path` and the place for [`Dataset::description`].
fn open_main(config: &DataConfig) -> Result<(Opened, DataFormat, String), DataError> {
    let embedded = |opened| Ok((opened, DataFormat::Auto, " (embedded)".to_owned()));
    match (config.format, &config.path) {
        // The photos are the default of every run, so a path beside them is ignored. Whoever asks for this set by name and
        // gives a path wants one of the two.
        (DataFormat::FashionMnistMini, Some(path)) => {
            Err(DataError::PathUnused { path: path.clone() })
        }
        (DataFormat::FashionMnistMini, None) => embedded(fashion::open()?),
        (DataFormat::Photos, _) | (DataFormat::Auto, None) => embedded(photos::open()),
        (format, Some(path)) => {
            let resolved = detect::resolve(format, path)?;
            let guessed = format == DataFormat::Auto;
            let opened = open_as(resolved, path, guessed, config.truncated)?;
            Ok((opened, format, format!(" from {}", shown::path(path))))
        }
        (format, None) => Err(DataError::PathNeeded { format }),
    }
}

/// Checks that at least one image of a source can be read, before a run starts on it.
///
/// # Errors
/// Returns an error if the source is empty or if none of its images can be read.
pub fn check_readable(source: &Source) -> Result<(), DataError> {
    let (mut last, mut counted) = (None, None);
    for index in 0..source.len() {
        match worker::guarded_read(source, index) {
            Ok(_) => return Ok(()),
            Err(error) => {
                let what = || format!("no image of {} can be read so far", source.origin());
                counted.get_or_insert_with(|| Count::new(what(), "tried")).add(1);
                last = Some(error);
            }
        }
    }
    let (origin, count) = (source.origin(), source.len());
    Err(match last {
        Some(last) => DataError::AllUnreadable { origin, count, last },
        None => DataError::Empty { place: origin, looked_for: "images".to_owned() },
    })
}

/// Opens `path` as `format`. `guessed` says that the format was `auto`: the message about an empty folder
/// then names the files of all formats.
fn open_as(
    format: DataFormat,
    path: &Path,
    guessed: bool,
    truncated: TruncatedImages,
) -> Result<Opened, DataError> {
    match format {
        DataFormat::Photos => Ok(photos::open()),
        DataFormat::FashionMnistMini => fashion::open(),
        DataFormat::Cifar10 => cifar::open(path, &cifar::CIFAR10),
        DataFormat::Cifar100 => cifar::open(path, &cifar::CIFAR100),
        DataFormat::Stl10 => stl::open(path),
        DataFormat::Idx => idx::open(path),
        DataFormat::Tar => shards::open(path, truncated),
        DataFormat::Parquet => parquet::open(path, truncated),
        DataFormat::List => list::open(path, truncated),
        DataFormat::Folder | DataFormat::Auto => {
            folder::open(path, truncated).map_err(|error| match error {
                DataError::Empty { place, looked_for } if guessed => {
                    let looked_for = looked_for.replace(folder::LOOKED_FOR, detect::LOOKED_FOR);
                    DataError::Empty { place, looked_for }
                }
                other => other,
            })
        }
    }
}

#[cfg(test)]
mod tests;
