//! Weights that other programs wrote, as a starting point: `--init FILE`, and the `import` command.
//!
//! ```text
//! FILE ─ names: what it is, our names ─▶ found: its sizes ─▶ fit: onto the configured model ─▶ weights of step 0
//! ```
//! `names` and `found` see the header alone: a file that is no whole Vision Transformer is refused before its numbers
//! are read. `file` reads them.

pub(crate) mod file;
mod fit;
pub(crate) mod found;
mod grid;
mod names;
mod networks;
mod resample;

use crate::config::Config;
use crate::engine::device::{self, Device};
use crate::engine::learner::LearnerConfig;
use crate::model::state::NamedTensors;
use crate::model::tensors::TensorFileError;
use crate::shown;
use crate::text::shell::for_shell;
use crate::weights::checkpoint::CheckpointError;
use file::ForeignWeights;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Weights for step 0 of a run, fitted onto the configured model.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedWeights {
    /// Everything that the model has. What the file lacks is drawn from the seed.
    pub weights: NamedTensors,
    /// What the file is and what was done to its weights, for the log.
    pub notice: String,
}

impl FittedWeights {
    /// Reads a weights file and fits it onto the configured model.
    ///
    /// # Errors
    /// Returns an error if the file can't be read, is no Vision Transformer of this kind, or has other sizes.
    pub fn read(path: &Path, config: &Config) -> Result<Self, ImportError> {
        Self::fit(&ForeignWeights::read(path, config.train.init_network.as_deref())?, config)
    }

    /// Fits weights that were read already onto the configured model.
    ///
    /// # Errors
    /// Returns an error if they have other sizes.
    pub fn fit(foreign: &ForeignWeights, config: &Config) -> Result<Self, ImportError> {
        let found = &foreign.found;
        found.check(foreign, config)?;
        let fresh = device::engine(&Device::Cpu, LearnerConfig::new(config)).state().weights;
        let (weights, mut notes) = fit::fit(foreign, config, fresh)?;
        notes.splice(0..0, foreign.notes.iter().cloned());
        if found.heads.is_none() {
            let heads = config.model.heads;
            notes.push(format!("its heads are not in the file, {heads} are taken as configured"));
        }
        let notes =
            if notes.is_empty() { String::new() } else { format!(": {}", notes.join("; ")) };
        let notice =
            format!("starting from {} in {}{notes}", foreign.kind, shown::path(&foreign.path));
        Ok(Self { weights, notice })
    }
}

/// Returns the first few names, and how many there are.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Why the weights of another program can't be used.
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
        for_shell(.to),
        path = shown::path(.path),
        to = shown::path(.to)
    )]
    PyTorch { path: PathBuf, to: PathBuf },
    #[error("{path}: {reason}", path = shown::path(.path))]
    Unusable { path: PathBuf, reason: String },
    #[error("{path} holds another model: {differences}; what fits: {sets}", path = shown::path(.path))]
    Differs { path: PathBuf, differences: String, sets: String },
}
