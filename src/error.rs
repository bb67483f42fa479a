//! Everything that ends the program early, with the exit code for it.

use crate::config::ConfigError;
use crate::control::follow::FollowError;
use crate::control::order::CtlError;
use crate::data::DataError;
use crate::engine::device::DeviceError;
use crate::engine::parity::ParityError;
use crate::eval::EvalDataError;
use crate::exit;
use crate::run_dir::RunDirError;
use crate::shown;
use crate::text::say::UnwrittenOutput;
use crate::train::{FailureKind, TrainError};
use crate::weights::checkpoint::CheckpointError;
use crate::weights::foreign::ImportError;
use crate::weights::locate::WeightsError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// What ended the program. The message is one line.
#[derive(Debug, Error)]
pub enum Error {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Parity(#[from] ParityError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Ctl(#[from] CtlError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    EvalData(#[from] EvalDataError),
    #[error("{0}")]
    Failed(String),
    #[error(transparent)]
    Unwritten(#[from] UnwrittenOutput),
    #[error("cannot write {path}: {source}", path = shown::path(.path))]
    Output { path: PathBuf, source: io::Error },
    #[error("parity: {failed} of {groups} groups exceed their tolerance")]
    PastTolerance { failed: usize, groups: usize },
    #[error("{failures} of the above would make a run fail")]
    Unwell { failures: usize },
    #[error("{failures} of the above {} not sound", if *.failures == 1 { "is" } else { "are" })]
    Unsound { failures: usize },
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("the device failed: {0}")]
    DeviceFailed(String),
}

impl Error {
    /// Returns a function that wraps errors of the system, for `map_err`: `what` is what they made impossible.
    pub(crate) fn system(what: &'static str) -> impl Fn(io::Error) -> Self + Copy {
        move |source| Self::System { what, source }
    }

    /// Returns the code that the program ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Config(_)
            | Self::Data(_)
            | Self::Follow(FollowError::NotARun { .. })
            | Self::Device(_)
            | Self::Parity(_)
            | Self::Import(_)
            | Self::Checkpoint(CheckpointError::Foreign { .. })
            | Self::Weights(
                WeightsError::NoRun { .. }
                | WeightsError::NoCheckpoint { .. }
                | WeightsError::Config(_)
                | WeightsError::Checkpoint(CheckpointError::Foreign { .. }),
            )
            | Self::EvalData(_) => exit::USAGE,
            Self::Train(error) => run_exit_code(Err(error.kind())),
            Self::RunDir(error) if error.is_wrong_place() => exit::USAGE,
            Self::RunDir(_)
            | Self::Checkpoint(_)
            | Self::Weights(WeightsError::Checkpoint(_) | WeightsError::State { .. })
            | Self::Failed(_)
            | Self::Follow(FollowError::Unreadable { .. })
            | Self::Ctl(_)
            | Self::PastTolerance { .. }
            | Self::Unwell { .. }
            | Self::Unsound { .. }
            | Self::Unwritten(_)
            | Self::Output { .. }
            | Self::System { .. }
            | Self::DeviceFailed(_) => exit::FAILED,
        }
    }
}

/// Returns the exit code of a run that ended in this way.
pub fn run_exit_code(ended: Result<(), FailureKind>) -> u8 {
    match ended {
        Ok(()) => 0,
        Err(FailureKind::NotANumber) => exit::NOT_A_NUMBER,
        Err(FailureKind::Other) => exit::FAILED,
    }
}
