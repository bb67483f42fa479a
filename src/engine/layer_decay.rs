//! Layer-wise learning-rate decay: the lower layers of a pre-trained encoder are general already and move less.
//!
//! Layers are counted as in BEiT (Bao et al. 2021) and the official SimMIM: the embedding is layer 0, block i is layer
//! i + 1, and the final norm, the head and the relative bias that all blocks share are layer depth + 1.

/// Learning-rate factors by parameter name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerDecay {
    /// The factor from one layer to the one below; 1 gives all the same rate.
    pub factor: f64,
    /// The number of encoder blocks.
    pub depth: usize,
}

impl LayerDecay {
    /// Gives all layers the same rate.
    pub fn off(depth: usize) -> Self {
        Self { factor: 1.0, depth }
    }

    /// Returns `factor^(depth + 1 − layer)` for the parameter of this name.
    pub fn scale(&self, name: &str) -> f64 {
        let above = (self.depth + 1).saturating_sub(self.layer(name));
        self.factor.powi(above as i32)
    }

    /// Returns the layer of a parameter, from 0 for the embedding to depth + 1.
    pub fn layer(&self, name: &str) -> usize {
        let last = self.depth + 1;
        let inside = name.strip_prefix("encoder.").unwrap_or(name);
        if let Some(block) = inside.strip_prefix("blocks.") {
            let number = block.split('.').next().and_then(|number| number.parse::<usize>().ok());
            return number.map_or(last, |number| (number + 1).min(last));
        }
        let embeds = ["patch_embed", "pos_embed", "mask_token"];
        if embeds.iter().any(|part| inside.starts_with(part)) { 0 } else { last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, FinetuneConfig, Position};
    use crate::engine::device::{self, Device};
    use crate::engine::learner::LearnerConfig;

    #[test]
    fn every_parameter_of_the_model_has_the_factor_of_its_layer() {
        for position in [Position::Learned, Position::Relative] {
            let mut config = Config::default();
            config.model.depth = 3;
            config.model.embed_dim = 12;
            config.model.position = position;
            config.model.layer_scale = 0.1;
            config.finetune = Some(FinetuneConfig {
                layer_decay: 0.5,
                classes: ["a", "b"].map(str::to_owned).to_vec(),
                ..FinetuneConfig::default()
            });
            let learner = LearnerConfig::new(&config);
            let decay = learner.layer_decay;
            for name in device::engine(&Device::Cpu, learner).state().weights.keys() {
                let expected = match name.as_str() {
                    "encoder.pos_embed" => 0.0625,
                    name if name.starts_with("encoder.patch_embed.") => 0.0625,
                    name if name.starts_with("encoder.blocks.0.") => 0.125,
                    name if name.starts_with("encoder.blocks.1.") => 0.25,
                    name if name.starts_with("encoder.blocks.2.") => 0.5,
                    "encoder.norm.weight" | "encoder.norm.bias" | "head.weight" | "head.bias" => {
                        1.0
                    }
                    name if name.starts_with("encoder.rel_pos_bias.") => 1.0,
                    other => panic!("{other} belongs to no layer"),
                };
                assert!((decay.scale(name) - expected).abs() < 1e-15, "{name}");
            }
        }
    }

    #[test]
    fn without_decay_the_rate_keeps_its_bits() {
        let off = LayerDecay::off(12);
        for name in ["mask_token", "encoder.blocks.0.norm1.bias", "head.weight"] {
            assert_eq!((1e-3 * off.scale(name)).to_bits(), 1e-3_f64.to_bits());
        }
    }
}
