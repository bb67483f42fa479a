//! The section `[val]`: which images validations use.

use serde::{Deserialize, Serialize};

/// How many of the validation images a validation uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValConfig {
    /// The most images; of more, the same ones are taken every time, of each class equally many as far as there are
    /// labels. The last validation of a run uses all; 0 = all of them do.
    pub images: usize,
}

impl Default for ValConfig {
    fn default() -> Self {
        Self { images: 5000 }
    }
}
