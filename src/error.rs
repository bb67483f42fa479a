//! The program's errors and its exit codes.

use crate::config::ConfigError;
use crate::control::follow::FollowError;
use crate::control::order::CtlError;
use crate::data::DataError;
use crate::engine::device::DeviceError;
use crate::engine::parity::ParityError;
use crate::run_dir::RunDirError;
use crate::train::trainer::TrainError;
use crate::weights::checkpoint::CheckpointError;
use crate::weights::foreign::start::ImportError;
use std::path::PathBuf;
use thiserror::Error;

/// Exit codes: 0 finished, or stopped and saved; the rest below.
pub mod exit {
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const NOT_A_NUMBER: u8 = 3;
    /// A second interrupt ended the process without waiting for a checkpoint.
    pub const ABORTED: u8 = 130;
}

/// What ended the program, in one line.
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
    #[cfg(feature = "tui")]
    #[error(transparent)]
    Preview(#[from] crate::command::preview::PreviewError),
    #[error("cannot write {path}: {source}")]
    Output { path: PathBuf, source: std::io::Error },
    #[error("parity: {failed} of {groups} groups exceed their tolerance")]
    PastTolerance { failed: usize, groups: usize },
    #[error("{failures} of the above would make a run fail")]
    Unwell { failures: usize },
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

impl Error {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Config(_)
            | Self::Data(_)
            | Self::Follow(FollowError::NotARun { .. })
            | Self::Device(_)
            | Self::Parity(_)
            | Self::Import(_)
            | Self::RunDir(
                RunDirError::Locked { .. }
                | RunDirError::Occupied { .. }
                | RunDirError::NotFound { .. }
                | RunDirError::NotADirectory { .. },
            ) => exit::USAGE,
            #[cfg(feature = "tui")]
            Self::Preview(error) if error.is_usage() => exit::USAGE,
            #[cfg(feature = "tui")]
            Self::Preview(_) => exit::FAILED,
            Self::Train(error) => error.exit_code(),
            Self::RunDir(RunDirError::Io { .. })
            | Self::Checkpoint(_)
            | Self::Follow(FollowError::Unreadable { .. })
            | Self::Ctl(_)
            | Self::PastTolerance { .. }
            | Self::Unwell { .. }
            | Self::Output { .. }
            | Self::System { .. } => exit::FAILED,
        }
    }
}
