//! Comparison of a classifier with values that PyTorch computed: logits, label smoothing, layer-wise learning rates. The
//! metadata of such a file has `classes`.

use super::{
    ErrorScale, Group, Make, ParityError, Sizes, Tolerances, absolute, check_weights, compare,
    drop_key_bias, plain_learner, relative,
};
use crate::config::{OptimizerConfig, Position};
use crate::engine::layer_decay::LayerDecay;
use crate::engine::learner::LearnerConfig;
use crate::engine::{Engine, EngineState, MicroBatch, Target};
use crate::model::ModelShape;
use crate::model::patch::Pixels;
use crate::model::state::NamedTensors;
use crate::model::tensors::{TensorFile, TensorHeader};
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

impl ClassifierFile {
    /// Returns the shape of the described model.
    fn shape(&self) -> Result<ModelShape, ParityError> {
        let Self { image_size: side, patch_size: patch, embed_dim: dim, heads, depth, .. } = *self;
        let (ratio, batch) = (self.mlp_ratio, self.batch);
        Sizes { height: side, width: side, patch, dim, heads, depth, ratio, batch }.check()?;
        if !(1..=1_000_000).contains(&self.classes) {
            return Err(ParityError::Config(format!("a head of {} classes", self.classes)));
        }
        Ok(ModelShape {
            grid: [side / patch; 2],
            patch,
            dim,
            depth,
            heads,
            hidden: (dim as f64 * ratio) as usize,
            position: Position::Learned,
            layer_scale: 0.0,
            classes: Some(self.classes),
        })
    }
}

/// Runs every comparison of a classifier's file.
///
/// # Errors
/// See [`super::check`].
pub(super) fn check(
    header: TensorHeader,
    config: &str,
    tolerances: Tolerances,
    make: &Make<'_>,
) -> Result<Vec<Group>, ParityError> {
    let config: ClassifierFile =
        serde_json::from_str(config).map_err(|error| ParityError::Config(error.to_string()))?;
    let shape = config.shape()?;
    check_weights(&shape, &header.shapes_with_prefix("param."))?;
    let file = header.all()?;
    let images = file.get("images")?;
    if images.shape != [config.batch, 3, config.image_size, config.image_size] {
        return Err(ParityError::Config(format!("doesn't fit images {:?}", images.shape)));
    }
    let steps = file.get("step_losses")?.data.len();
    if config.steps != steps as u64 {
        let text = format!("describes {} steps, the file has {steps}", config.steps);
        return Err(ParityError::Config(text));
    }
    let labels: Vec<u32> = file.get("labels")?.data.iter().map(|&label| label as u32).collect();
    if labels.len() != config.batch || labels.iter().any(|&l| l as usize >= config.classes) {
        return Err(ParityError::Config(format!("doesn't fit labels {labels:?}")));
    }
    let weights = file.with_prefix("param.");
    let case = ClassifierCase { file: &file, config, shape, weights, tolerances };
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
