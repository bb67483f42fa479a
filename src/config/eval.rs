//! The section `[eval]`: evaluations on labelled images during training.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How the encoder is evaluated from time to time. None of it changes what is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Epochs between evaluations; 0 = none.
    pub every: usize,
    /// Labelled images, or `fashion-mnist-mini` for the built-in ones; unset = the run's own data.
    #[serde(with = "super::path_text::optional", skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The most training images, and the most test images, that are used.
    pub limit: usize,
    /// Number of neighbours of the k-NN classifier.
    pub neighbours: usize,
    /// Whether a linear probe is trained too.
    pub probe: bool,
    /// Number of encoder blocks that the features pass through; 0 = all of them and the final norm.
    pub layer: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self { every: 0, path: None, limit: 2000, neighbours: 20, probe: true, layer: 0 }
    }
}
