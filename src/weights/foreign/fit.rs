//! Fits a file's tensors onto the configured model.

use super::ImportError;
use super::found::FoundModel;
use super::names::ForeignWeights;
use super::resample::resample;
use crate::config::{Config, Position};
use crate::model::state::{HostTensor, NamedTensors};

/// How many names an error lists.
const LISTED: usize = 4;

/// Returns the model's weights, and notes on what was done to the file's.
///
/// Weights come from the file where it has them. A mask token or head that the file lacks stays as in `fresh`.
///
/// # Errors
/// Returns an error if a tensor is missing, has the wrong shape, or belongs to nothing in the model.
pub(super) fn fit(
    foreign: &ForeignWeights,
    found: &FoundModel,
    config: &Config,
    fresh: NamedTensors,
) -> Result<(NamedTensors, Vec<String>), ImportError> {
    let unusable =
        |reason: String| Err(ImportError::Unusable { path: foreign.path.clone(), reason });
    let surplus: Vec<_> =
        foreign.tensors.keys().filter(|name| !fresh.contains_key(*name)).cloned().collect();
    if !surplus.is_empty() {
        let more = surplus.len().saturating_sub(LISTED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let listed = surplus[..surplus.len().min(LISTED)].join(", ");
        return unusable(format!(
            "nothing in this model corresponds to {listed}{more}: only plain pre-norm Vision Transformers can be read"
        ));
    }
    let mut notes = Vec::new();
    let mut weights = NamedTensors::new();
    for (name, own) in fresh {
        let shape = own.shape.clone();
        let tensor = match (name.as_str(), foreign.tensors.get(&name)) {
            ("encoder.pos_embed", Some(_)) if config.model.position == Position::Sincos => own,
            ("encoder.pos_embed", Some(theirs)) => positions(theirs, found, config, &mut notes),
            ("encoder.rel_pos_bias.relative_position_bias_table", Some(theirs)) => {
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
        if tensor.data.iter().any(|value| !value.is_finite()) {
            return unusable(format!("{name} holds figures that are no numbers"));
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
    let rows = &theirs.data[found.prefix * found.dim..];
    let side = config.model.image_size / config.model.patch_size;
    let data = if side == found.side {
        rows.to_vec()
    } else {
        let from = found.side;
        notes.push(format!("positions interpolated from {from}x{from} to {side}x{side} patches"));
        resample(rows, from, side, found.dim)
    };
    HostTensor { shape: vec![1, side * side, found.dim], data }
}
