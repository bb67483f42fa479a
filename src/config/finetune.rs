//! The section `[finetune]`: where it stands, the run trains a classifier.

use super::{ConfigError, relation, within};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Supervised classification from a pre-trained encoder, or from fresh weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// Checkpoint that the encoder's weights come from; unset = fresh weights, the baseline to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Learning rate of a layer as a share of that of the layer above; 1 = the same for all.
    pub layer_decay: f64,
    /// Share of a class's target that is spread over all classes.
    pub label_smoothing: f64,
    /// Names of the classes in the order of the head's outputs; read off the data at the start of the run.
    pub classes: Vec<String>,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self { from: None, layer_decay: 0.75, label_smoothing: 0.1, classes: Vec::new() }
    }
}

impl FinetuneConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within("finetune.layer_decay", self.layer_decay, 0.01, 1.0)?;
        within("finetune.label_smoothing", self.label_smoothing, 0.0, 0.9)?;
        if self.classes.len() == 1 {
            return Err(relation(
                "finetune.classes",
                format!("{:?}", self.classes),
                "two names or more, or none: they are read off the data",
            ));
        }
        Ok(())
    }
}
