//! The whole model, weights only: what a checkpoint has under `model.`, without optimizer and position in the data.

use super::target::Destination;
use super::timm::about;
use crate::error::Error;
use crate::model::tensors;
use crate::weights::locate::Weights;
use std::io::Write as _;

/// Writes `--format safetensors`; returns the number of tensors.
///
/// # Errors
/// The file can't be written.
pub fn write(weights: &Weights, target: &Destination) -> Result<usize, Error> {
    let named = &weights.checkpoint.engine.weights;
    target.write(|out| out.write_all(&tensors::to_bytes(named, about(weights))?))?;
    Ok(named.len())
}
