//! Why a run failed.

use crate::data::DataError;
use crate::model::state::StateError;
use crate::run_dir::RunDirError;
use crate::shown;
use crate::weights::checkpoint::CheckpointError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a run failed.
#[derive(Debug, Error)]
pub enum TrainError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("checkpoint {path} doesn't fit the model: {source}", path = shown::path(.path))]
    State { path: PathBuf, source: StateError },
    #[error(
        "the loss or its gradient is not a number at step {step}; {course}: the update was left out, the weights from \
         before it are saved (--on-nan skip leaves such steps out, if they are rare); {way}"
    )]
    NotFinite { step: u64, course: String, way: String },
    #[error(
        "the loss or its gradient was not a number in {count} steps in a row, up to step {step}; {course}: their \
         updates were left out, the weights from before them are saved; {way}"
    )]
    TooManyBadSteps { step: u64, count: u64, course: String, way: String },
    #[error(
        "a weight is not a number at step {step}; {course}: the run is stopped without saving; {way}"
    )]
    BadWeights { step: u64, course: String, way: String },
    #[error("the device failed: {0}")]
    Device(String),
    #[error("the trainer panicked: {0}")]
    Panic(String),
}

/// The kinds of failure that the program tells apart by its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// A loss, a gradient or a weight is not a number.
    NotANumber,
    /// Everything else.
    Other,
}

impl TrainError {
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::NotFinite { .. } | Self::TooManyBadSteps { .. } | Self::BadWeights { .. } => {
                FailureKind::NotANumber
            }
            _ => FailureKind::Other,
        }
    }

    /// Returns the file that couldn't be written, and why, if there is no more room for it: the disk or the user's share
    /// of it is full, or the system allows no larger file.
    pub(super) fn full_disk(&self) -> Option<(&Path, io::ErrorKind)> {
        let (Self::RunDir(RunDirError::Io { path, source, .. })
        | Self::Checkpoint(CheckpointError::Write { path, source })) = self
        else {
            return None;
        };
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        full.then_some((path.as_path(), source.kind()))
    }
}
