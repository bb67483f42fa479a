//! Writes the weights of the whole model: what a checkpoint has under `model.`, without the state of the optimizer and
//! the position in the data.

use super::target::Destination;
use super::timm::about;
use crate::error::Error;
use crate::model::tensors;
use crate::weights::locate::Weights;
use std::io::Write as _;

/// Writes `--format safetensors`. Returns the number of tensors.
///
/// # Errors
/// Returns an error if the file can't be written.
pub(super) fn write(weights: &Weights, target: &Destination) -> Result<usize, Error> {
    let named = &weights.checkpoint.engine.weights;
    target.write(|out| out.write_all(&tensors::to_bytes(named, &about(weights))?))?;
    Ok(named.len())
}
