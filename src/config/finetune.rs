//! The section `[finetune]`. A configuration that has it trains a classifier.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Supervised classification from a pre-trained encoder, or from fresh weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// Checkpoint that the encoder's weights come from; unset = fresh weights, as a baseline to compare with.
    #[serde(with = "super::path_text::optional", skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Learning rate of a layer divided by that of the layer above; 1 = the same for all layers.
    pub layer_decay: f64,
    /// Share of the target probability that is spread evenly over all classes.
    pub label_smoothing: f64,
    /// Names of the classes in the order of the head's outputs. They are read from the data when the run starts.
    pub classes: Vec<String>,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self { from: None, layer_decay: 0.75, label_smoothing: 0.1, classes: Vec::new() }
    }
}
