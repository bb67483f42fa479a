//! Weights from elsewhere as a starting point: `--init FILE`, and the `import` command.
//!
//! ```text
//! FILE ─ foreign: what it is, our names ─▶ found: its sizes ─▶ fit: onto the configured model ─▶ weights of step 0
//! ```

use super::found::FoundModel;
use super::names::Foreign;
use crate::config::Config;
use crate::engine::device::{self, Device};
use crate::engine::learner::LearnerConfig;
use crate::model::state::NamedTensors;
use crate::model::tensors::TensorFileError;
use crate::text::shell::for_shell;
use crate::weights::checkpoint::CheckpointError;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why weights can't be used.
#[derive(Debug, Error)]
pub enum ImportError {
    #[error(transparent)]
    File(#[from] TensorFileError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "{path} is a PyTorch file: convert it with `simmim-tui import --converter | python3 - {} {}` (needs torch and \
         safetensors), then take {to}",
        for_shell(.path),
        for_shell(.to)
    )]
    PyTorch { path: PathBuf, to: PathBuf },
    #[error("{path}: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("{path} holds another model: {differences}; what fits: {sets}")]
    Differs { path: PathBuf, differences: String, sets: String },
}

/// Weights for step 0 of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// All that the model has: what the file lacks is drawn from the seed.
    pub weights: NamedTensors,
    /// What they are and what was done to them, for the log.
    pub notice: String,
}

/// Reads weights and fits them onto the configured model.
///
/// # Errors
/// The file can't be read, is no Vision Transformer of this kind, or one of other sizes.
pub fn start(path: &Path, config: &Config) -> Result<Start, ImportError> {
    onto(&Foreign::read(path)?, config)
}

/// Fits weights that are read already onto the configured model.
///
/// # Errors
/// They are no Vision Transformer of this kind, or one of other sizes.
pub fn onto(foreign: &Foreign, config: &Config) -> Result<Start, ImportError> {
    let found = FoundModel::of(foreign)?;
    found.check(foreign, config)?;
    let fresh = device::engine(&Device::Cpu, LearnerConfig::new(config)).state().weights;
    let (weights, mut notes) = super::fit::fit(foreign, &found, config, fresh)?;
    notes.splice(0..0, foreign.notes.iter().cloned());
    if found.heads.is_none() {
        let heads = config.model.heads;
        notes.push(format!("its heads are not in the file, {heads} are taken as configured"));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(": {}", notes.join("; ")) };
    let notice = format!("starting from {} in {}{notes}", foreign.kind, foreign.path.display());
    Ok(Start { weights, notice })
}
