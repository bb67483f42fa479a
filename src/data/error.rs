//! Errors of a whole data set ([`DataError`]) and of one image ([`ImageError`]).

use crate::config::DataFormat;
use crate::shown;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a data set can't be used. The message has one line.
#[derive(Debug, Error)]
pub enum DataError {
    #[error("no such file or folder: {path}; check data.path and data.val_path", path = shown::path(.path))]
    Missing { path: PathBuf },
    #[error("cannot read {path}: {source}", path = shown::path(.path))]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "data.format = {} needs data.path; leave both out to train on the embedded photos",
        format.name()
    )]
    PathNeeded { format: DataFormat },
    #[error(
        "data.format = fashion-mnist-mini is built in, data.path = {path} would not be read: leave it out, or add \
         --set data.format=auto",
        path = shown::path(.path)
    )]
    PathUnused { path: PathBuf },
    #[error("no images in {place}: looked for {looked_for}")]
    Empty { place: String, looked_for: String },
    #[error("{path} is not a known data file: looked for {looked_for}", path = shown::path(.path))]
    Unknown { path: PathBuf, looked_for: String },
    #[error(
        "{path} has the wrong size: expected {expected} bytes, found {found}; it may be truncated, fetch it again",
        path = shown::path(.path)
    )]
    Size { path: PathBuf, expected: String, found: u64 },
    #[error(
        "{missing} of the {all} shards of {pattern} are missing: {names}; fetch them, or correct the pattern in data.path \
         or data.val_path",
        pattern = shown::path(.pattern)
    )]
    MissingShards { pattern: PathBuf, missing: usize, all: usize, names: String },
    #[error(
        "{path} is compressed, and images are read by their place in a plain tar archive: unpack it first ({undo})",
        path = shown::path(.path)
    )]
    Compressed { path: PathBuf, undo: &'static str },
    #[error("{path} has unexpected content: {problem}", path = shown::path(.path))]
    Content { path: PathBuf, problem: String },
    #[error("none of the images of {origin} can be read ({count} tried); the last one: {last}")]
    AllUnreadable { origin: String, count: usize, last: ImageError },
    #[error(
        "there are no labels in {place}: a classifier needs data with a folder for each class, a list with classes, or \
         Parquet, CIFAR, STL-10 or IDX files with theirs; give it with --data"
    )]
    Unlabelled { place: String },
    #[error(
        "all training images of {place} are of the class {class:?}: a classifier needs two classes at least"
    )]
    OneClass { place: String, class: String },
    #[error("a loader thread failed: {message}")]
    Worker { message: String },
}

impl DataError {
    /// Returns the error for an I/O error at `path`.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            return Self::Missing { path: path.to_owned() };
        }
        Self::Read { path: path.to_owned(), source }
    }

    /// Returns the error for a `path` without any file of the wanted format.
    pub(crate) fn empty(path: &Path, looked_for: impl Into<String>) -> Self {
        Self::Empty { place: shown::path(path).to_string(), looked_for: looked_for.into() }
    }
}

/// What is wrong with one image. The loader goes on without it, or takes what there is of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name}: {reason}")]
pub struct ImageError {
    /// The path of the image, or `file#index`.
    pub name: String,
    pub reason: String,
    /// Whether the image is taken all the same.
    pub taken: bool,
}

impl ImageError {
    /// Returns the error of an image that can't be used.
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), reason: reason.into(), taken: false }
    }

    /// Returns the flaw of an image that is used all the same.
    pub fn flaw(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { taken: true, ..Self::new(name, reason) }
    }
}
