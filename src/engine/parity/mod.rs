//! Comparison with values that PyTorch computed: `simmim-tui parity FILE`.
//!
//! The file is in the safetensors format. It has the model's parameters, one batch, and what PyTorch made of it; the
//! metadata key `config` gives shapes and hyper-parameters. The tolerances are those that correct fp32 code meets, or
//! correct TF32 code where a GPU may compute 32-bit products in TF32.

mod classifier;

use super::device::{self, Device, precision::Effective};
use super::layer_decay::LayerDecay;
use super::learner::LearnerConfig;
use super::schedule::Schedule;
use super::{Engine, EngineState, Guard, MicroBatch, Target};
use crate::config::{
    LARGEST_RELATIVE_GRID, LossConfig, LossKind, OptimizerConfig, Position, Precision, ScheduleKind,
};
use crate::model::ModelShape;
use crate::model::mask::HostMask;
use crate::model::patch::{Normalization, Pixels, pixel_offsets};
use crate::model::shapes::NamedShapes;
use crate::model::state::{HostTensor, NamedTensors, StateError};
use crate::model::tensors::{self, TensorFile, TensorFileError, TensorHeader};
use serde::Deserialize;
use std::path::Path;
use thiserror::Error;

/// Why a parity file can't be used. A difference in values is not such an error but a [`Group`] out of tolerance.
#[derive(Debug, Error)]
pub enum ParityError {
    #[error(transparent)]
    File(#[from] TensorFileError),
    #[error("parity file: metadata key `config`: {0}")]
    Config(String),
    #[error("parity file: {0}")]
    Weights(#[from] StateError),
}

/// The largest error of one group of values.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub name: &'static str,
    /// The absolute error, or the error relative to the largest entry of the tensor that it occurs in.
    pub error: f64,
    pub tolerance: f64,
    /// The tensor with the largest error.
    pub at: String,
}

impl Group {
    pub fn passes(&self) -> bool {
        // Not `error > tolerance`, which lets NaN pass.
        self.error <= self.tolerance
    }
}

#[derive(Debug, Deserialize)]
struct FileConfig {
    image_size: Size,
    patch_size: usize,
    embed_dim: usize,
    depth: usize,
    heads: usize,
    mlp_ratio: f64,
    batch: usize,
    #[serde(default)]
    layer_scale: Option<f64>,
    #[serde(default)]
    position: Option<Position>,
    optimizer: FileOptimizer,
    schedule: FileSchedule,
}

impl FileConfig {
    /// Returns height and width of an image.
    fn sides(&self) -> [usize; 2] {
        match self.image_size {
            Size::Square(side) => [side, side],
            Size::Rectangle(size) => size,
        }
    }

    /// Returns the shape of the described model, whose weights have the shapes `weights`.
    fn shape(&self, weights: &NamedShapes) -> Result<ModelShape, ParityError> {
        let [height, width] = self.sides();
        let Self { patch_size: patch, embed_dim: dim, heads, depth, mlp_ratio: ratio, .. } = *self;
        Sizes { height, width, patch, dim, heads, depth, ratio, batch: self.batch }.check()?;
        let scaled = weights.contains_key("encoder.blocks.0.ls1.gamma");
        let learned = weights.contains_key("encoder.pos_embed");
        let position = if learned { Position::Learned } else { Position::Relative };
        let shape = ModelShape {
            grid: [height / self.patch_size, width / self.patch_size],
            patch: self.patch_size,
            dim: self.embed_dim,
            depth: self.depth,
            heads: self.heads,
            hidden: (self.embed_dim as f64 * self.mlp_ratio) as usize,
            position: self.position.unwrap_or(position),
            layer_scale: self.layer_scale.unwrap_or(if scaled { 1.0 } else { 0.0 }),
            classes: None,
        };
        check_weights(&shape, weights)?;
        Ok(shape)
    }
}

/// Checks that a file holds the weights that it describes. This also keeps absurd sizes from being allocated: the weights
/// are there, so they fit into memory.
fn check_weights(shape: &ModelShape, weights: &NamedShapes) -> Result<(), ParityError> {
    let found: usize = weights.values().map(|shape| shape.iter().product::<usize>()).sum();
    let wanted = shape.parameters();
    if found as u64 != wanted {
        let text = format!("describes a model of {wanted} weights, the file has {found}");
        return Err(ParityError::Config(text));
    }
    if shape.position == Position::Relative
        && shape.grid.iter().any(|&side| side > LARGEST_RELATIVE_GRID)
    {
        let text =
            format!("more than {LARGEST_RELATIVE_GRID} patches a side, with relative positions");
        return Err(ParityError::Config(text));
    }
    Ok(shape.check(weights)?)
}

/// The sizes that a file describes.
struct Sizes {
    height: usize,
    width: usize,
    patch: usize,
    dim: usize,
    heads: usize,
    depth: usize,
    ratio: f64,
    batch: usize,
}

impl Sizes {
    /// Checks that each is possible, and that they fit together.
    fn check(&self) -> Result<(), ParityError> {
        let Self { height, width, patch, dim, heads, depth, ratio, batch } = *self;
        if !(1..=8192).contains(&dim)
            || !(1..=1024).contains(&depth)
            || !(0.01..=64.0).contains(&ratio)
            || !(1..=4096).contains(&height)
            || !(1..=4096).contains(&width)
            || batch == 0
        {
            return Err(ParityError::Config("sizes are zero or beyond all models".to_owned()));
        }
        let divides = |part: usize, whole: usize| part > 0 && whole.is_multiple_of(part);
        if !divides(patch, height) || !divides(patch, width) || !divides(heads, dim) {
            return Err(ParityError::Config(format!(
                "{height}x{width} pixels, patch {patch}, width {dim}, {heads} heads don't fit together"
            )));
        }
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Square(usize),
    Rectangle([usize; 2]),
}

#[derive(Debug, Deserialize)]
struct FileOptimizer {
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    clip_grad_norm: f64,
}

#[derive(Debug, Deserialize)]
struct FileSchedule {
    base_lr: f64,
    warmup_lr: f64,
    min_lr: f64,
    warmup_steps: u64,
    total_steps: u64,
}

/// Runs every comparison that the file has values for, on `device` in fp32 or what the device makes of it.
///
/// # Errors
/// If the file can't be read, is incomplete, or its weights don't fit the described model.
pub fn check(path: &Path, device: &Device) -> Result<Vec<Group>, ParityError> {
    check_in(path, device, Effective::of(Precision::Fp32, device).precision)
}

/// Like [`check`], in a precision that the device has.
///
/// # Errors
/// See [`check`].
pub fn check_in(
    path: &Path,
    device: &Device,
    precision: Precision,
) -> Result<Vec<Group>, ParityError> {
    check_with(path, Tolerances::of(precision), |config| {
        device::engine(device, LearnerConfig { precision, ..config })
    })
}

/// The largest errors that are accepted, by what is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerances {
    predictions: f64,
    losses: f64,
    gradients: f64,
    step_losses: f64,
    step_norms: f64,
    weights: f64,
    /// Those of a classifier, whose loss is larger and whose steps are smaller.
    class_losses: f64,
    class_weights: f64,
}

impl Tolerances {
    /// Returns the tolerances of a precision. Those of fp32 are some hundred times the errors of this program's operations.
    /// Those of tf32 are three to five times the errors with products of 16-bit floats that have the precision of TF32, and
    /// those of bf16 as many times the errors with activations of bf16. The gradient of L1 is a sign, so gradients jump. Adam's
    /// first step has the rate's size whatever the gradient's, so one near zero moves its weight by up to twice the rate.
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::Fp32 => Self {
                predictions: 1e-4,
                losses: 1e-5,
                gradients: 1e-4,
                step_losses: 1e-4,
                step_norms: 1e-4,
                weights: 1e-3,
                class_losses: 1e-5,
                class_weights: 2e-5,
            },
            Precision::Tf32 => Self {
                predictions: 5e-3,
                losses: 3e-5,
                gradients: 8e-3,
                step_losses: 3e-4,
                step_norms: 5e-2,
                weights: 1e-2,
                class_losses: 3e-4,
                class_weights: 6e-3,
            },
            Precision::Bf16 => Self {
                predictions: 3e-2,
                losses: 4e-4,
                gradients: 4e-1,
                step_losses: 2e-3,
                step_norms: 1e-1,
                weights: 2e-2,
                class_losses: 1e-3,
                class_weights: 1.2e-2,
            },
        }
    }
}

/// Like [`check`], on engines that `make` returns.
///
/// # Errors
/// See [`check`].
pub fn check_with(
    path: &Path,
    tolerances: Tolerances,
    make: impl Fn(LearnerConfig) -> Box<dyn Engine>,
) -> Result<Vec<Group>, ParityError> {
    let header = tensors::header(path)?;
    let text = header.metadata.get("config").cloned().unwrap_or_default();
    let bad = |error: serde_json::Error| ParityError::Config(error.to_string());
    let value: serde_json::Value = serde_json::from_str(&text).map_err(bad)?;
    if value.get("classes").is_some() {
        return classifier::check(header, &text, tolerances, &make);
    }
    let config: FileConfig = serde_json::from_str(&text).map_err(bad)?;
    let case = Case::new(header, config, tolerances)?;
    let mut groups = case.forward(&make)?;
    groups.extend(case.gradients(&make)?);
    groups.extend(case.training(&make)?);
    Ok(groups)
}

type Make<'a> = dyn Fn(LearnerConfig) -> Box<dyn Engine> + 'a;

/// Returns a learner that adds nothing to what the reference computed: fp32, no drop path, no layer decay, no
/// normalization of the images.
fn plain_learner(shape: ModelShape, optimizer: OptimizerConfig, grad_clip: f64) -> LearnerConfig {
    LearnerConfig {
        layer_decay: LayerDecay::off(shape.depth),
        shape,
        loss: LossConfig::default(),
        label_smoothing: 0.0,
        normalization: Normalization { mean: [0.0; 3], std: [1.0; 3] },
        optimizer,
        grad_clip,
        accumulation: 1,
        drop_path: 0.0,
        seed: 0,
        guard: Guard::Host,
        precision: Precision::Fp32,
        activation_checkpointing: false,
    }
}

struct Case {
    file: TensorFile,
    config: FileConfig,
    shape: ModelShape,
    mask: HostMask,
    weights: NamedTensors,
    tolerances: Tolerances,
}

impl Case {
    fn new(
        header: TensorHeader,
        config: FileConfig,
        tolerances: Tolerances,
    ) -> Result<Self, ParityError> {
        let shape = config.shape(&header.shapes_with_prefix("param."))?;
        let file = header.all()?;
        let weights = file.with_prefix("param.");
        let mask = file.get("mask")?;
        let hidden: Vec<bool> = mask.data.iter().map(|&value| value != 0.0).collect();
        if config.batch.checked_mul(shape.patches()) != Some(hidden.len()) {
            return Err(ParityError::Config(format!(
                "batch {} with {} patches doesn't fit mask {:?}",
                config.batch,
                shape.patches(),
                mask.shape
            )));
        }
        let images = file.get("images")?;
        let [height, width] = config.sides();
        if images.shape != [config.batch, 3, height, width] {
            return Err(ParityError::Config(format!(
                "batch {} of {height}x{width} pixels doesn't fit images {:?}",
                config.batch, images.shape
            )));
        }
        let mask = HostMask { hidden, batch: config.batch };
        Ok(Self { file, config, shape, mask, weights, tolerances })
    }

    fn engine(&self, make: &Make<'_>, kind: LossKind) -> Result<Box<dyn Engine>, ParityError> {
        let optimizer = &self.config.optimizer;
        let optimizer = OptimizerConfig {
            betas: optimizer.betas,
            eps: optimizer.eps,
            weight_decay: optimizer.weight_decay,
        };
        let plain =
            plain_learner(self.shape.clone(), optimizer, self.config.optimizer.clip_grad_norm);
        let mut engine =
            make(LearnerConfig { loss: LossConfig { kind, ..LossConfig::default() }, ..plain });
        engine.load(&EngineState { weights: self.weights.clone(), ..EngineState::default() })?;
        Ok(engine)
    }

    fn batch<'a>(&'a self, images: &'a HostTensor) -> MicroBatch<'a> {
        let target = Target::Hidden(&self.mask);
        MicroBatch { pixels: Pixels::Normalized(&images.data), target }
    }

    fn forward(&self, make: &Make<'_>) -> Result<Vec<Group>, ParityError> {
        let images = self.file.get("images")?;
        let Tolerances { predictions, losses, .. } = self.tolerances;
        let mut groups = vec![self.target(images)?];
        for (kind, name) in [(LossKind::L1, "loss_l1"), (LossKind::Mse, "loss_mse")] {
            let engine = self.engine(make, kind)?;
            let result = engine.evaluate(self.batch(images));
            if kind == LossKind::L1 {
                let expected = &self.file.get("pred")?.data;
                groups.push(absolute("pred", &result.prediction, expected, predictions));
                let features =
                    engine.features(Pixels::Normalized(&images.data), self.mask.batch, None);
                let expected = &self.file.get("features")?.data;
                groups.push(absolute("features", &features, expected, predictions));
            }
            groups.push(absolute(name, &[result.loss], &self.file.get(name)?.data, losses));
        }
        Ok(groups)
    }

    /// Compares the hidden patches of the images, in row-major order of the mask. The patches are cut on the host here; the
    /// losses tell whether the device cuts them in the same way.
    fn target(&self, images: &HostTensor) -> Result<Group, ParityError> {
        let pixels = self.shape.grid[0] * self.shape.grid[1] * self.shape.patch.pow(2);
        let n = self.shape.patches();
        let mut found = Vec::new();
        for row in self.mask.rows() {
            let (image, patch) = (row as usize / n, row as usize % n);
            found.extend(pixel_offsets(&self.shape, patch).map(|offset| {
                // The offset is into interleaved channels, the images are planes.
                images.data[(image * 3 + offset % 3) * pixels + offset / 3]
            }));
        }
        Ok(absolute("target", &found, &self.file.get("target")?.data, 1e-6))
    }

    fn gradients(&self, make: &Make<'_>) -> Result<Vec<Group>, ParityError> {
        let mut engine = self.engine(make, LossKind::L1)?;
        engine.accumulate(self.batch(self.file.get("images")?), 0);
        let expected = self.file.with_prefix("grad.");
        let tolerance = self.tolerances.gradients;
        Ok(vec![compare(
            "gradients",
            &engine.gradients(),
            &expected,
            tolerance,
            ErrorScale::Largest,
        )])
    }

    fn training(&self, make: &Make<'_>) -> Result<Vec<Group>, ParityError> {
        let FileSchedule { base_lr, warmup_lr, min_lr, warmup_steps, total_steps } =
            self.config.schedule;
        let schedule = Schedule {
            kind: ScheduleKind::Cosine,
            base_lr,
            warmup_lr,
            min_lr,
            warmup_steps,
            total_steps,
            milestones: Vec::new(),
            gamma: 1.0,
        };
        let mut engine = self.engine(make, LossKind::L1)?;
        let images = self.file.get("images")?;
        let steps = self.file.get("step_lrs")?.data.len() as u64;
        let rates: Vec<f32> = (0..steps).map(|step| schedule.lr(step) as f32).collect();
        for step in 0..steps {
            engine.accumulate(self.batch(images), step);
            engine.step(schedule.lr(step));
        }
        let figures = engine.read_figures();
        let losses: Vec<f32> = figures.iter().map(|figure| figure.loss).collect();
        let norms: Vec<f32> = figures.iter().map(|figure| figure.grad_norm).collect();
        let expected = self.file.with_prefix("after10.");
        let Tolerances { step_losses, step_norms, weights, .. } = self.tolerances;
        let (mut found, mut expected) = (engine.state().weights, expected);
        for tensors in [&mut found, &mut expected] {
            for (name, tensor) in tensors {
                drop_key_bias(name, tensor);
            }
        }
        Ok(vec![
            relative("step_lrs", &rates, &self.file.get("step_lrs")?.data, 1e-6),
            relative("step_losses", &losses, &self.file.get("step_losses")?.data, step_losses),
            relative(
                "step_grad_norms",
                &norms,
                &self.file.get("step_grad_norms")?.data,
                step_norms,
            ),
            compare("after10", &found, &expected, weights, ErrorScale::Absolute),
        ])
    }
}

/// Zeroes the key third of a qkv bias. Its true gradient is zero, since softmax ignores a constant, and Adam turns its
/// rounding noise into steps, so there is nothing to compare.
fn drop_key_bias(name: &str, tensor: &mut HostTensor) {
    if name.ends_with("attn.qkv.bias") {
        let third = tensor.data.len() / 3;
        tensor.data[third..2 * third].fill(0.0);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum ErrorScale {
    Absolute,
    /// The error is relative to the largest entry of the expected tensor.
    Largest,
}

fn compare(
    name: &'static str,
    found: &NamedTensors,
    expected: &NamedTensors,
    tolerance: f64,
    scale: ErrorScale,
) -> Group {
    let mut group = Group { name, error: 0.0, tolerance, at: String::new() };
    if expected.is_empty() {
        group.error = f64::INFINITY;
        "nothing to compare with".clone_into(&mut group.at);
    }
    for (key, expected) in expected {
        let error = match found.get(key) {
            Some(found) if found.shape == expected.shape => {
                let largest = expected.data.iter().fold(0.0_f64, |m, &x| m.max(f64::from(x).abs()));
                // A gradient that is exactly zero, as that of the key bias, is noise on both sides.
                let unit = if scale == ErrorScale::Largest { largest.max(1e-6) } else { 1.0 };
                largest_error(&found.data, &expected.data) / unit
            }
            _ => f64::INFINITY,
        };
        // NaN counts as larger than everything.
        if !group.error.is_nan() && (error.is_nan() || error > group.error) {
            group.error = error;
            group.at.clone_from(key);
        }
    }
    group
}

fn absolute(name: &'static str, found: &[f32], expected: &[f32], tolerance: f64) -> Group {
    let error = largest_error(found, expected);
    Group { name, error, tolerance, at: name.to_owned() }
}

fn relative(name: &'static str, found: &[f32], expected: &[f32], tolerance: f64) -> Group {
    let ratio = |(&f, &e): (&f32, &f32)| f64::from((f - e).abs()) / f64::from(e.abs()).max(1e-12);
    let error = if found.len() == expected.len() {
        worst(found.iter().zip(expected).map(ratio))
    } else {
        f64::INFINITY
    };
    Group { name, error, tolerance, at: name.to_owned() }
}

fn largest_error(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    worst(found.iter().zip(expected).map(|(f, e)| f64::from((f - e).abs())))
}

/// Returns the largest error, where NaN counts as larger than everything.
fn worst(errors: impl Iterator<Item = f64>) -> f64 {
    errors.fold(0.0, |worst, error| if worst.is_nan() || error <= worst { worst } else { error })
}
