//! Fits a file's tensors onto the configured model.

use super::ImportError;
use super::file::ForeignWeights;
use super::found::FoundModel;
use super::resample::resample;
use crate::config::{Config, Position};
use crate::model::shapes::RELATIVE_TABLE;
use crate::model::state::{HostTensor, NamedTensors};

/// Returns the model's weights, and notes on what was done to the file's.
///
/// Weights come from the file where it has them. A mask token or head that the file lacks stays as in `fresh`.
///
/// # Errors
/// Returns an error if a tensor is missing or has the wrong shape, which [`FoundModel::of`] has ruled out for a model of
/// the same sizes.
pub(super) fn fit(
    foreign: &ForeignWeights,
    config: &Config,
    fresh: NamedTensors,
) -> Result<(NamedTensors, Vec<String>), ImportError> {
    let unusable =
        |reason: String| Err(ImportError::Unusable { path: foreign.path.clone(), reason });
    let mut notes = Vec::new();
    let mut weights = NamedTensors::new();
    for (name, own) in fresh {
        let shape = own.shape.clone();
        let tensor = match (name.as_str(), foreign.tensors.get(&name)) {
            ("encoder.pos_embed", Some(_)) if config.model.position == Position::Sincos => own,
            ("encoder.pos_embed", Some(theirs)) => {
                positions(theirs, &foreign.found, config, &mut notes)
            }
            (RELATIVE_TABLE, Some(theirs)) => {
                // The rows after those of the patches belong to the class token.
                let data = theirs.data.get(..own.data.len()).unwrap_or_default().to_vec();
                HostTensor { shape: own.shape.clone(), data }
            }
            (_, Some(theirs)) => theirs.clone(),
            ("mask_token" | "head.weight" | "head.bias", None) => {
                notes.push(format!("{name} is new"));
                own
            }
            (_, None) if name.ends_with("attn.qkv.bias") => {
                let zeros = vec![0.0; own.data.len()];
                HostTensor { shape: own.shape.clone(), data: zeros }
            }
            (_, None) => return unusable(format!("{name} is missing")),
        };
        if tensor.shape != shape {
            return unusable(format!(
                "{name} has shape {:?}, the model needs {shape:?}",
                tensor.shape
            ));
        }
        weights.insert(name, tensor);
    }
    Ok((weights, notes))
}

/// Returns the positions of the patches alone, on the configured grid.
fn positions(
    theirs: &HostTensor,
    found: &FoundModel,
    config: &Config,
    notes: &mut Vec<String>,
) -> HostTensor {
    let rows = &theirs.data[found.prefix() * found.dim..];
    let side = config.model.image_size / config.model.patch_size;
    let data = if side == found.side() {
        rows.to_vec()
    } else {
        let from = found.side();
        notes.push(format!("positions interpolated from {from}x{from} to {side}x{side} patches"));
        resample(rows, from, side, found.dim)
    };
    HostTensor { shape: vec![1, side * side, found.dim], data }
}
