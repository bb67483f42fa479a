//! Finds out which format the data under a path has.

use super::{DataError, cifar, idx, list, parquet, scan, shards, stl};
use crate::config::DataFormat;
use std::path::Path;

/// The files that `auto` looks for in a folder, for the message when there are none.
pub const LOOKED_FOR: &str = "jpg, jpeg, png and webp files, tif, bmp and gif, data_batch_*.bin or train.bin (CIFAR binary \
     version), train_X.bin (STL-10), train-images* (IDX), *.tar (shards), *.parquet";

/// The files that `auto` knows, for the message about any other.
const FILES: &str = "an IDX images file (plain or .gz), data_batch_*.bin, train.bin, *_X.bin, a tar shard, a .parquet file, a \
     list of images (.txt, .lst, .csv, .tsv), or a jpg, png, webp, tif, bmp or gif image; unpack archives first, or set \
     data.format";

/// Returns the format to open `path` with: `format` itself, or for `auto` the first one that fits. A
/// folder without binary data files counts as a tree of images.
///
/// # Errors
/// Returns an error if there is nothing at `path`, if it may not be read, or if it is a file of no known
/// format.
pub fn resolve(format: DataFormat, path: &Path) -> Result<DataFormat, DataError> {
    // Which shards of a pattern are missing is said by the module that knows patterns.
    if shards::is_pattern(path) {
        match format {
            DataFormat::Auto if parquet::is_pattern(path) => return Ok(DataFormat::Parquet),
            DataFormat::Auto => return Ok(DataFormat::Tar),
            DataFormat::Tar | DataFormat::Parquet => return Ok(format),
            _ => {}
        }
    }
    let metadata = std::fs::metadata(path).map_err(|error| DataError::io(path, error))?;
    if format != DataFormat::Auto {
        return Ok(format);
    }
    if metadata.is_dir() {
        return Ok(folder_format(path));
    }
    file_format(path)
        .ok_or_else(|| DataError::Unknown { path: path.to_owned(), looked_for: FILES.to_owned() })
}

fn folder_format(path: &Path) -> DataFormat {
    if cifar::locate(path, &cifar::CIFAR10).is_some() {
        DataFormat::Cifar10
    } else if cifar::locate(path, &cifar::CIFAR100).is_some() {
        DataFormat::Cifar100
    } else if stl::locate(path).is_some() {
        DataFormat::Stl10
    } else if idx::is_folder_of(path) {
        DataFormat::Idx
    } else if shards::is_folder_of(path) {
        DataFormat::Tar
    } else if parquet::is_folder_of(path) {
        DataFormat::Parquet
    } else {
        DataFormat::Folder
    }
}

fn file_format(path: &Path) -> Option<DataFormat> {
    if cifar::is_file_of(path, &cifar::CIFAR10) {
        Some(DataFormat::Cifar10)
    } else if cifar::is_file_of(path, &cifar::CIFAR100) {
        Some(DataFormat::Cifar100)
    } else if stl::is_file_of(path) {
        Some(DataFormat::Stl10)
    } else if path.is_file() && (scan::is_image_name(path) || scan::looks_like_image(path)) {
        Some(DataFormat::Folder)
    } else if shards::is_file_of(path) {
        Some(DataFormat::Tar)
    } else if parquet::is_file_of(path) {
        Some(DataFormat::Parquet)
    } else if list::is_file_of(path) {
        Some(DataFormat::List)
    } else if path.is_file() && idx::is_file_of(path) {
        Some(DataFormat::Idx)
    } else {
        None
    }
}
