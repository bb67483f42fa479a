//! Images in, uint8 batches out.
//!
//! [`open`] finds what `data.path` holds and gives a training and a validation [`Source`]; the
//! [`loader`] turns a source into batches on its own threads. No stage keeps a random state: the
//! batch number alone decides what a batch holds.

pub(crate) mod augment;
mod cache;
mod cifar;
mod class_union;
pub(crate) mod decode;
mod detect;
mod error;
mod fashion;
mod folder;
mod idx;
mod labelled_dataset;
pub mod loader;
mod order;
mod packed;
mod photos;
pub(crate) mod split;
mod stl;
mod worker;

#[cfg(test)]
pub(crate) mod fixtures;

pub use error::{DataError, ImageError};
pub use labelled_dataset::{LabelledDataset, open_labelled};

use crate::config::{DataConfig, DataFormat};
use image::RgbImage;
use std::path::Path;
use std::sync::Arc;

/// A shared list of images.
pub type Source = Arc<dyn ImageSource>;

/// A list of images that can be read in any order from many threads.
pub trait ImageSource: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Path, or `file#index`, for messages.
    fn name(&self, index: usize) -> String;

    /// Class number, an index into [`Dataset::classes`]; `None` where the data says nothing.
    fn label(&self, index: usize) -> Option<u32>;

    /// The decoded image.
    ///
    /// # Errors
    /// The file can't be read or isn't a valid image.
    fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError>;

    /// What identifies the image inside its data set wherever that lies; decides the split.
    fn key(&self, index: usize) -> String {
        self.name(index)
    }

    /// Where all the images come from, for messages.
    fn origin(&self) -> String {
        "the image source".to_owned()
    }
}

/// Training and validation images with their class names.
pub struct Dataset {
    pub train: Source,
    pub val: Source,
    /// Names of the labels of both sources; empty for unlabelled data.
    pub classes: Vec<String>,
    /// For example "171 train + 44 val CC0 photos (embedded)".
    pub description: String,
}

/// One part of a data set with its own class numbering.
pub(crate) struct Part {
    pub source: Source,
    pub classes: Vec<String>,
}

/// What a format module found under a path.
pub(crate) struct Opened {
    pub train: Part,
    /// The validation set that the data brings along.
    pub val: Option<Part>,
    /// Kind of images for the description, for example "CIFAR-10 images".
    pub kind: &'static str,
    /// Whether reading costs a decode, so that a cache pays.
    pub decodes: bool,
}

/// Opens the data that `config` names.
///
/// # Errors
/// Missing or unreadable path, no images, a binary file of the wrong size or content, or a path
/// whose format isn't recognised.
pub fn open(config: &DataConfig) -> Result<Dataset, DataError> {
    let fashion = config.format == DataFormat::FashionMnistMini;
    let embedded = config.format == DataFormat::Photos
        || fashion
        || (config.format == DataFormat::Auto && config.path.is_none());
    let (opened, format) = match (&config.path, embedded) {
        // Photos are what is trained on when nothing is said; whoever names this set and a path means one of them.
        (Some(path), _) if fashion => return Err(DataError::PathUnused { path: path.clone() }),
        (None, _) if fashion => (fashion::open()?, DataFormat::Auto),
        (_, true) => (photos::open(), DataFormat::Auto),
        (Some(path), false) => {
            let format = detect::resolve(config.format, path)?;
            (open_as(format, path, config.format == DataFormat::Auto)?, format)
        }
        (None, false) => return Err(DataError::PathNeeded { format: config.format }),
    };
    let place = match &config.path {
        Some(path) if !embedded => format!(" from {}", path.display()),
        _ => " (embedded)".to_owned(),
    };
    let budget = cache::Budget::mebibytes(config.cache_mib);
    let cached = |part: Part, decodes: bool| Part {
        source: if decodes { budget.wrap(part.source) } else { part.source },
        ..part
    };
    let Opened { train, val, kind, decodes } = opened;
    let val = match &config.val_path {
        None => val.map(|part| cached(part, decodes)),
        Some(path) => {
            let other = open_as(detect::resolve(format, path)?, path, format == DataFormat::Auto)?;
            // A data set with its own two parts lends its validation part, anything else is taken whole.
            Some(cached(other.val.unwrap_or(other.train), other.decodes))
        }
    };
    let train = cached(train, decodes);
    let own_validation = val.is_some();
    let (train, val, classes) = if let Some(val) = val {
        class_union::unify(train, val)
    } else {
        let (rest, held_out) = split::split(&train.source, config.val_fraction);
        (rest, held_out, train.classes)
    };
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
    let split_text = if own_validation { "" } else { ", val split off" };
    let description = format!(
        "{} train + {} val {kind}{place}{classes_text}{split_text}",
        train.len(),
        val.len()
    );
    Ok(Dataset { train, val, classes, description })
}

/// Checks that a source has an image that can be read, so that a run doesn't start on rubbish.
///
/// # Errors
/// None can be read.
pub fn check_readable(source: &Source) -> Result<(), DataError> {
    let mut last = None;
    for index in 0..source.len() {
        match worker::guarded_read(source, index) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    let (origin, count) = (source.origin(), source.len());
    Err(match last {
        Some(last) => DataError::AllUnreadable { origin, count, last },
        None => DataError::Empty { place: origin, looked_for: "images".to_owned() },
    })
}

/// Opens `path` as `format`; `guessed` widens the message about an empty folder.
fn open_as(format: DataFormat, path: &Path, guessed: bool) -> Result<Opened, DataError> {
    match format {
        DataFormat::Photos => Ok(photos::open()),
        DataFormat::FashionMnistMini => fashion::open(),
        DataFormat::Cifar10 => cifar::open(path, &cifar::CIFAR10),
        DataFormat::Cifar100 => cifar::open(path, &cifar::CIFAR100),
        DataFormat::Stl10 => stl::open(path),
        DataFormat::Idx => idx::open(path),
        DataFormat::Folder | DataFormat::Auto => folder::open(path).map_err(|error| match error {
            DataError::Empty { place, .. } if guessed => {
                DataError::Empty { place, looked_for: detect::LOOKED_FOR.to_owned() }
            }
            other => other,
        }),
    }
}

#[cfg(test)]
mod tests;
