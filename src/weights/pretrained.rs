//! The encoder of another run, from which a classifier starts.

use super::checkpoint::Checkpoint;
use crate::engine::Engine;
use crate::model::state::{NamedTensors, StateError};
use std::path::PathBuf;

/// Prefix of the names of the encoder's parameters.
/// Prefix of the names of the encoder's parameters.
const ENCODER: &str = "encoder.";

/// Encoder weights to start from.
#[derive(Debug, Clone, PartialEq)]
pub struct Pretrained {
    /// The checkpoint from which the weights come.
    pub path: PathBuf,
    weights: NamedTensors,
}

impl Pretrained {
    /// Takes the encoder of a checkpoint, without its mask token and head.
    pub fn new(path: PathBuf, checkpoint: Checkpoint) -> Self {
        let mut weights = checkpoint.engine.weights;
        weights.retain(|name, _| name.starts_with(ENCODER));
        Self { path, weights }
    }

    /// Replaces the weights of the engine's encoder. The engine keeps its head. Device sync.
    ///
    /// # Errors
    /// Returns an error if the two encoders differ in parameters or shapes. The engine is then unchanged.
    pub fn give(&self, engine: &mut dyn Engine) -> Result<(), StateError> {
        let mut state = engine.state(); // device sync
        state.weights.retain(|name, _| !name.starts_with(ENCODER));
        state.weights.extend(self.weights.clone());
        engine.load(&state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, FinetuneConfig};
    use crate::engine::device::{self, Device};
    use crate::engine::learner::LearnerConfig;
    use crate::weights::checkpoint::Meta;

    fn config(sets: &[&str]) -> Config {
        let small = ["model.image_size=16", "mask.unit=8", "model.embed_dim=12", "model.depth=2"];
        let all = small.iter().chain(sets).map(|&set| set.to_owned()).collect::<Vec<_>>();
        crate::config::file::load(None, &all).expect("valid")
    }

    #[test]
    fn the_encoder_comes_over_and_the_head_stays() {
        let pretraining = config(&["train.seed=3"]);
        let trained = device::engine(&Device::Cpu, LearnerConfig::new(&pretraining)).state();
        let meta = Meta { config: String::new(), ..Meta::start() };
        let checkpoint = Checkpoint { meta, engine: trained.clone() };
        let pretrained = Pretrained::new("step-1.safetensors".into(), checkpoint);
        let classifier = |sets: &[&str]| {
            let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
            let finetune = Some(FinetuneConfig { classes, ..FinetuneConfig::default() });
            let config = Config { finetune, ..config(sets) };
            device::engine(&Device::Cpu, LearnerConfig::new(&config))
        };
        let mut engine = classifier(&[]);
        let fresh = engine.state();
        pretrained.give(engine.as_mut()).expect("it fits");
        let state = engine.state();
        for (name, tensor) in &state.weights {
            let expected = if name.starts_with("encoder.") { &trained } else { &fresh };
            assert_eq!(tensor, &expected.weights[name], "{name}");
        }
        let differ = |name: &str| state.weights[name] != fresh.weights[name];
        assert!(differ("encoder.blocks.1.mlp.fc2.weight") && !differ("head.weight"));
        assert!(!state.weights.contains_key("mask_token"));

        let mut deeper = classifier(&["model.depth=3"]);
        let before = deeper.state();
        let error = pretrained.give(deeper.as_mut()).expect_err("a block is missing");
        assert!(error.to_string().contains("encoder.blocks.2."), "{error}");
        assert_eq!(deeper.state(), before);
    }
}
