//! Fresh weights, drawn on the host from the seed of the run, so that they are the same for every backend.
//!
//! They follow the official ViT of `SimMIM`:
//! - Linear layers, patch projection and mask token are normal with standard deviation 0.02, cut at one deviation.
//! - The two projections that end a residual branch are then divided by √(2 · number of the block, from 1).
//! - Norms start at one, biases and relative tables at zero.
//! - The head is uniform in ±1/√fan-in, as PyTorch's own layers are.
//!
//! The head of a classifier is normal with standard deviation 2e-5, as in BEiT and MAE, so that all classes start out
//! equally likely. A learned position, which the official ViT leaves at zero, is normal with standard deviation 0.02 as in
//! timm.

use super::ModelShape;
use super::state::NamedTensors;
use crate::config::Position;
use crate::rng::{self, Purpose};
use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};
use rayon::prelude::*;

/// Standard deviation of most weights.
const STD: f32 = 0.02;
/// Standard deviation of the weights of a classifier's head.
const CLASSIFIER_STD: f32 = 2e-5;

/// Overwrites `tensors`, which have the names and shapes of a model, with fresh weights. Each tensor has random numbers of
/// its own, so several threads may draw them.
pub fn initialize(tensors: &mut NamedTensors, shape: &ModelShape, seed: u64) {
    let all: Vec<_> = tensors.iter_mut().enumerate().collect();
    all.into_par_iter().for_each(|(number, (name, tensor))| {
        let mut rng = rng::stream(seed, Purpose::Init, number as u64, 0);
        draw(name, &mut tensor.data, shape, &mut rng);
    });
}

/// Draws the fresh weights of one tensor.
fn draw(name: &str, data: &mut [f32], shape: &ModelShape, rng: &mut impl rand::Rng) {
    if name.contains("norm") {
        data.fill(if name.ends_with("weight") { 1.0 } else { 0.0 });
    } else if name.ends_with("gamma") {
        data.fill(shape.layer_scale as f32);
    } else if name == "head.weight" && shape.classes.is_some() {
        data.fill_with(|| cut_normal(rng) * CLASSIFIER_STD);
    } else if name.starts_with("head") && shape.classes.is_none() {
        let bound = (shape.dim as f32).sqrt().recip();
        data.fill_with(|| rng.random_range(-bound..bound));
    } else if name.ends_with("bias") || name.ends_with("bias_table") {
        data.fill(0.0);
    } else if name.ends_with("pos_embed") {
        if shape.position == Position::Learned {
            data.fill_with(|| normal(rng) * STD);
        }
    } else {
        let scale = STD / branch_divisor(name);
        data.fill_with(|| cut_normal(rng) * scale);
    }
}

/// Returns √(2 · number of the block, from 1) for a projection that ends a residual branch, else 1.
fn branch_divisor(name: &str) -> f32 {
    let ends_branch = name.ends_with("attn.proj.weight") || name.ends_with("mlp.fc2.weight");
    let block = name.split('.').nth(2).and_then(|number| number.parse::<u16>().ok());
    match block {
        Some(block) if ends_branch => (2.0 * (f32::from(block) + 1.0)).sqrt(),
        _ => 1.0,
    }
}

/// Draws a standard normal number.
fn normal(rng: &mut impl rand::Rng) -> f32 {
    StandardNormal.sample(rng)
}

/// Draws a standard normal number until one lies within one deviation.
fn cut_normal(rng: &mut impl rand::Rng) -> f32 {
    loop {
        let value = normal(rng);
        if value.abs() <= 1.0 {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::HostTensor;

    fn drawn(name: &str) -> Vec<f32> {
        drawn_for(name, None)
    }

    fn drawn_for(name: &str, classes: Option<usize>) -> Vec<f32> {
        let model = crate::config::ModelConfig::default();
        let shape = ModelShape { classes, ..ModelShape::new(&model) };
        let zeros = HostTensor { shape: vec![10_000], data: vec![0.0; 10_000] };
        let mut tensors = NamedTensors::from([(name.to_owned(), zeros)]);
        initialize(&mut tensors, &shape, 7);
        tensors.remove(name).expect("there").data
    }

    fn largest(values: &[f32]) -> f32 {
        values.iter().fold(0.0, |m, v| m.max(v.abs()))
    }

    #[test]
    fn linear_weights_are_cut_and_branch_ends_are_smaller_in_deeper_blocks() {
        let plain = largest(&drawn("encoder.blocks.3.attn.qkv.weight"));
        assert!((0.0199..=0.02).contains(&plain), "{plain}");
        let deep = largest(&drawn("encoder.blocks.3.mlp.fc2.weight"));
        assert!((deep - 0.02 / 8.0_f32.sqrt()).abs() < 1e-4, "{deep}");
        let head = largest(&drawn("head.weight"));
        assert!((head - 192.0_f32.sqrt().recip()).abs() < 1e-3, "{head}");
    }

    #[test]
    fn a_classifier_starts_with_all_classes_alike() {
        let weight = drawn_for("head.weight", Some(10));
        let spread = largest(&weight);
        assert!((1.99e-5..=2e-5).contains(&spread), "{spread}");
        assert!(drawn_for("head.bias", Some(10)).iter().all(|&v| v.to_bits() == 0));
        let encoder = "encoder.blocks.1.attn.proj.weight";
        assert_eq!(drawn_for(encoder, Some(10)), drawn(encoder), "the encoder is the same");
    }

    #[test]
    fn norms_start_at_one_and_biases_at_zero() {
        assert!(drawn("encoder.norm.weight").iter().all(|&v| v.to_bits() == 1.0_f32.to_bits()));
        for name in
            ["encoder.norm.bias", "encoder.blocks.0.attn.qkv.bias", "encoder.patch_embed.proj.bias"]
        {
            assert!(drawn(name).iter().all(|&v| v.to_bits() == 0), "{name}");
        }
    }
}
