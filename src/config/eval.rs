//! Evaluations on labelled images while training.

use super::{ConfigError, within};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the weights are judged by every so often. None of it changes what is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Epochs between evaluations; 0 = none.
    pub every: usize,
    /// Labelled images, or `fashion-mnist-mini` for the built-in ones; unset = the run's own data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Training images, and test images, at most.
    pub limit: usize,
    /// Neighbours of the k-NN.
    pub neighbours: usize,
    /// Whether a linear probe is fitted too.
    pub probe: bool,
    /// Blocks behind the features; 0 = all, and the final norm.
    pub layer: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self { every: 0, path: None, limit: 2000, neighbours: 20, probe: true, layer: 0 }
    }
}

impl EvalConfig {
    /// `depth` is that of the model.
    ///
    /// # Errors
    /// The first value out of its range.
    pub fn validate(&self, depth: usize) -> Result<(), ConfigError> {
        within("eval.every", self.every, 0, 1_000_000)?;
        within("eval.limit", self.limit, 10, 10_000_000)?;
        within("eval.neighbours", self.neighbours, 1, 1000)?;
        within("eval.layer", self.layer, 0, depth)
    }
}
