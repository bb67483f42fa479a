//! Comparison of a classifier with values that PyTorch computed: logits, label smoothing, layer-wise learning rates. The
//! metadata of such a file has `classes`.

use super::{
    ErrorScale, Group, Make, ParityError, Tolerances, absolute, compare, drop_key_bias,
    plain_learner, relative,
};
use crate::config::{OptimizerConfig, Position};
use crate::engine::layer_decay::LayerDecay;
use crate::engine::learner::LearnerConfig;
use crate::engine::{Engine, EngineState, MicroBatch, Target};
use crate::model::ModelShape;
use crate::model::patch::Pixels;
use crate::model::state::NamedTensors;
use crate::model::tensors::TensorFile;
use serde::Deserialize;

/// The configuration that `tests/python/classifier_reference.py` writes.
#[derive(Debug, Deserialize)]
struct ClassifierFile {
    image_size: usize,
    patch_size: usize,
    embed_dim: usize,
    depth: usize,
    heads: usize,
    mlp_ratio: f64,
    classes: usize,
    batch: usize,
    label_smoothing: f64,
    layer_decay: f64,
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    clip_grad_norm: f64,
    steps: u64,
}

/// Runs every comparison of a classifier's file.
///
/// # Errors
/// See [`super::check`].
pub(super) fn check(
    file: &TensorFile,
    config: &str,
    tolerances: Tolerances,
    make: &Make<'_>,
) -> Result<Vec<Group>, ParityError> {
    let config: ClassifierFile =
        serde_json::from_str(config).map_err(|error| ParityError::Config(error.to_string()))?;
    let sizes = [config.patch_size, config.heads, config.classes, config.batch];
    let side = config.image_size.checked_div(config.patch_size).unwrap_or(0);
    let images = file.get("images")?;
    let expected = [config.batch, 3, config.image_size, config.image_size];
    if sizes.contains(&0) || side == 0 || images.shape != expected {
        return Err(ParityError::Config(format!("doesn't fit images {:?}", images.shape)));
    }
    let labels: Vec<u32> = file.get("labels")?.data.iter().map(|&label| label as u32).collect();
    if labels.len() != config.batch || labels.iter().any(|&l| l as usize >= config.classes) {
        return Err(ParityError::Config(format!("doesn't fit labels {labels:?}")));
    }
    let shape = ModelShape {
        grid: [side, side],
        patch: config.patch_size,
        dim: config.embed_dim,
        depth: config.depth,
        heads: config.heads,
        hidden: (config.embed_dim as f64 * config.mlp_ratio) as usize,
        position: Position::Learned,
        layer_scale: 0.0,
        classes: Some(config.classes),
    };
    let weights = file.with_prefix("param.");
    let found: usize = weights.values().map(|tensor| tensor.data.len()).sum();
    if found as u64 != shape.parameters() {
        let wanted = shape.parameters();
        let text = format!("describes a model of {wanted} weights, the file has {found}");
        return Err(ParityError::Config(text));
    }
    let case = ClassifierCase { file, config, shape, weights, tolerances };
    let batch =
        MicroBatch { pixels: Pixels::Normalized(&images.data), target: Target::Classes(&labels) };
    let mut groups = case.forward(batch, make)?;
    groups.extend(case.training(batch, make)?);
    Ok(groups)
}

struct ClassifierCase<'a> {
    file: &'a TensorFile,
    config: ClassifierFile,
    shape: ModelShape,
    weights: NamedTensors,
    tolerances: Tolerances,
}

impl ClassifierCase<'_> {
    fn engine(&self, make: &Make<'_>) -> Result<Box<dyn Engine>, ParityError> {
        let ClassifierFile { betas, eps, weight_decay, .. } = self.config;
        let optimizer = OptimizerConfig { betas, eps, weight_decay };
        let mut engine = make(LearnerConfig {
            label_smoothing: self.config.label_smoothing,
            layer_decay: LayerDecay { factor: self.config.layer_decay, depth: self.config.depth },
            ..plain_learner(self.shape.clone(), optimizer, self.config.clip_grad_norm)
        });
        engine.load(&EngineState { weights: self.weights.clone(), ..EngineState::default() })?;
        Ok(engine)
    }

    fn forward(&self, batch: MicroBatch<'_>, make: &Make<'_>) -> Result<Vec<Group>, ParityError> {
        let mut engine = self.engine(make)?;
        let result = engine.evaluate(batch);
        let features = engine.features(batch.pixels, self.config.batch, None);
        engine.accumulate(batch, 0);
        let expected = |name| Ok::<_, ParityError>(&self.file.get(name)?.data);
        let Tolerances { predictions, class_losses, gradients, .. } = self.tolerances;
        let slopes = self.file.with_prefix("grad.");
        Ok(vec![
            absolute("logits", &result.prediction, expected("logits")?, predictions),
            absolute("features", &features, expected("features")?, predictions),
            absolute("loss", &[result.loss], expected("loss")?, class_losses),
            compare("gradients", &engine.gradients(), &slopes, gradients, ErrorScale::Largest),
        ])
    }

    fn training(&self, batch: MicroBatch<'_>, make: &Make<'_>) -> Result<Vec<Group>, ParityError> {
        let mut engine = self.engine(make)?;
        let mut groups = Vec::new();
        for step in 0..self.config.steps {
            engine.accumulate(batch, step);
            engine.step(self.config.lr);
            if step == 0 {
                groups.push(self.weights("after1", engine.state().weights));
            }
        }
        groups.push(self.weights("after", engine.state().weights));
        let figures = engine.read_figures();
        let losses: Vec<f32> = figures.iter().map(|figure| figure.loss).collect();
        let norms: Vec<f32> = figures.iter().map(|figure| figure.grad_norm).collect();
        let expected = |name| Ok::<_, ParityError>(&self.file.get(name)?.data);
        let Tolerances { step_losses, step_norms, .. } = self.tolerances;
        groups.push(relative("step_losses", &losses, expected("step_losses")?, step_losses));
        groups.push(relative("step_grad_norms", &norms, expected("step_grad_norms")?, step_norms));
        Ok(groups)
    }

    /// Compares weights. The tolerance of fp32 is a small part of what the lowest layer moves in a step.
    fn weights(&self, name: &'static str, mut found: NamedTensors) -> Group {
        let mut expected = self.file.with_prefix(&format!("{name}."));
        for tensors in [&mut found, &mut expected] {
            for (name, tensor) in tensors {
                drop_key_bias(name, tensor);
            }
        }
        compare(name, &found, &expected, self.tolerances.class_weights, ErrorScale::Absolute)
    }
}
