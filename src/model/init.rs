//! Fresh weights: the same for every backend, drawn on the host from the run's seed.
//!
//! As the official `SimMIM` ViT: normal with standard deviation 0.02 for linear layers, tokens and tables;
//! norms at one, biases at zero; patch projection and head uniform in ±1/√fan-in like PyTorch's own layers.

use super::ModelShape;
use super::state::NamedTensors;
use crate::config::Position;
use crate::rng::{self, Purpose};
use rand::RngExt as _;
use rand_distr::{Distribution as _, Normal};

const STD: f32 = 0.02;

/// Overwrites `tensors` (of a zero model, so that names and shapes are right) with fresh weights.
pub fn initialize(tensors: &mut NamedTensors, shape: &ModelShape, seed: u64) {
    for (number, (name, tensor)) in tensors.iter_mut().enumerate() {
        let mut rng = rng::stream(seed, Purpose::Init, number as u64, 0);
        let data = &mut tensor.data;
        if name.contains("norm") {
            data.fill(if name.ends_with("weight") { 1.0 } else { 0.0 });
        } else if name.ends_with("gamma") {
            data.fill(shape.layer_scale as f32);
        } else if name.contains("patch_embed") || name.starts_with("head") {
            let fan_in =
                if name.starts_with("head") { shape.dim } else { shape.patch_len() } as f32;
            let bound = fan_in.sqrt().recip();
            data.fill_with(|| rng.random_range(-bound..bound));
        } else if name.ends_with("bias") {
            data.fill(0.0);
        } else if !(name.ends_with("pos_embed") && shape.position == Position::Sincos) {
            let normal = Normal::new(0.0, STD).expect("a positive deviation");
            data.fill_with(|| normal.sample(&mut rng));
        }
    }
}
