//! Why a run failed.

use crate::data::DataError;
use crate::model::state::StateError;
use crate::run_dir::RunDirError;
use crate::shown;
use crate::weights::checkpoint::CheckpointError;
use rustix::io::Errno;
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

    /// Returns the file that couldn't be written, and why, if that may change: most errors of the system do, as disks have
    /// room again, servers come back and folders are put back in place. Others never go away by waiting: what the system
    /// or the file system doesn't know how to do at all, and content that is wrong.
    pub(super) fn passing(&self) -> Option<(&Path, &io::Error)> {
        let (Self::RunDir(RunDirError::Io { path, source, .. })
        | Self::Checkpoint(CheckpointError::Write { path, source })) = self
        else {
            return None;
        };
        let hopeless = [
            Errno::BADF,
            Errno::FAULT,
            Errno::INVAL,
            Errno::NAMETOOLONG,
            Errno::NOSYS,
            Errno::OPNOTSUPP,
        ];
        let passes = match source.raw_os_error() {
            Some(code) => !hopeless.iter().any(|errno| errno.raw_os_error() == code),
            None => source.kind() == io::ErrorKind::WriteZero,
        };
        passes.then_some((path.as_path(), source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_may_change_and_wrong_content_never_does() {
        let error = |source: io::Error| {
            let (what, path) = ("write", PathBuf::from("f"));
            TrainError::from(RunDirError::Io { what, path, source })
        };
        for errno in [
            Errno::IO,
            Errno::STALE,
            Errno::AGAIN,
            Errno::MFILE,
            Errno::ROFS,
            Errno::ACCESS,
            Errno::NOENT,
            Errno::INTR,
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::FBIG,
            Errno::NOTCONN,
            Errno::HOSTDOWN,
            Errno::ISDIR,
        ] {
            assert!(error(errno.into()).passing().is_some(), "{errno:?}");
        }
        for errno in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::BADF] {
            assert!(error(errno.into()).passing().is_none(), "{errno:?}");
        }
        assert!(error(io::Error::other("a shape is wrong")).passing().is_none());
        let taken = RunDirError::Taken { path: PathBuf::from("run"), owner: String::new() };
        assert!(TrainError::from(taken).passing().is_none());
    }
}
