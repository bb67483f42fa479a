//! One validated configuration for a run.
//!
//! The layers are: built-in default < TOML file < `--set key=value` < dedicated flags. [`file`] merges
//! them; [`Config::validate`] is the only gate, so every other module may rely on the ranges below.

pub mod eval;
pub mod file;
pub mod finetune;

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub use eval::EvalConfig;
pub use file::ConfigError;
pub use finetune::FinetuneConfig;

/// Everything that decides what a run computes. Saved in the run directory and in each checkpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub model: ModelConfig,
    pub mask: MaskConfig,
    pub loss: LossConfig,
    pub data: DataConfig,
    pub train: TrainConfig,
    pub optimizer: OptimizerConfig,
    pub schedule: ScheduleConfig,
    pub checkpoint: CheckpointConfig,
    pub alarms: AlarmConfig,
    pub eval: EvalConfig,
    /// Makes the run one of classification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finetune: Option<FinetuneConfig>,
}

/// The Vision Transformer: sizes in pixels (images, patches) and channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Side of the square input image, pixels.
    pub image_size: usize,
    /// Side of a square patch, pixels; divides `image_size`.
    pub patch_size: usize,
    /// Width of the token embedding.
    pub embed_dim: usize,
    /// Number of encoder blocks.
    pub depth: usize,
    /// Attention heads; divides `embed_dim`.
    pub heads: usize,
    /// Hidden width of the MLP as a multiple of `embed_dim`.
    pub mlp_ratio: f64,
    pub position: Position,
    /// Initial `LayerScale` value; 0 leaves `LayerScale` out.
    pub layer_scale: f64,
    /// Drop-path rate of the last block; it rises linearly from 0 at the first.
    pub drop_path: f64,
}

/// How a token knows its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// Learned absolute embedding, added after masking.
    Learned,
    /// Fixed 2-D sine-cosine embedding.
    Sincos,
    /// Relative position bias on the attention logits, shared by all blocks.
    Relative,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskConfig {
    /// Side of a mask unit, pixels; a multiple of `model.patch_size` that divides `model.image_size`.
    pub unit: usize,
    /// Share of units that are hidden; the count per image is rounded up.
    pub ratio: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    pub kind: LossKind,
    /// Where smooth-L1 turns from quadratic to linear.
    pub beta: f64,
    /// Predict each patch after subtracting its mean and dividing by its standard deviation.
    pub normalize_targets: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    L1,
    Mse,
    SmoothL1,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Folder or file with training images; unset = the embedded CC0 photos.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Validation images; unset = `val/` beside `train/`, the format's own test set, or a split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_path: Option<PathBuf>,
    pub format: DataFormat,
    /// Share of images kept for validation when the data has no validation set.
    pub val_fraction: f64,
    /// Per-channel mean (R, G, B) of images scaled to 0..1.
    pub mean: [f32; 3],
    /// Per-channel standard deviation (R, G, B) of images scaled to 0..1.
    pub std: [f32; 3],
    /// Area of a random crop as a share of the image, smallest and largest.
    pub crop_scale: [f64; 2],
    /// Width / height of a random crop, smallest and largest.
    pub crop_ratio: [f64; 2],
    /// Probability of a horizontal flip.
    pub flip: f64,
    /// Loader threads.
    pub workers: usize,
    /// Batches prepared ahead of the step.
    pub prefetch: usize,
    /// Memory bound of the decoded-image cache, MiB; 0 = no cache.
    pub cache_mib: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataFormat {
    /// Decide by what the path holds.
    Auto,
    /// The CC0 photos inside the binary.
    Photos,
    /// The part of Fashion-MNIST inside the binary: 5000 + 1000 grey images of ten classes.
    FashionMnistMini,
    /// Any tree of jpg, png and webp files; the first folder level is the label.
    Folder,
    Cifar10,
    Cifar100,
    Stl10,
    Idx,
}

impl DataFormat {
    /// Returns what the configuration calls the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Photos => "photos",
            Self::FashionMnistMini => "fashion-mnist-mini",
            Self::Folder => "folder",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Stl10 => "stl10",
            Self::Idx => "idx",
        }
    }
}

impl DataConfig {
    /// The same treatment of other images: those at `path`, or built-in ones by the name of their format where there is
    /// no such path.
    #[must_use]
    pub fn with_images(&self, path: &Path) -> Self {
        let built_in =
            [("photos", DataFormat::Photos), ("fashion-mnist-mini", DataFormat::FashionMnistMini)];
        let named = built_in.iter().find(|(name, _)| path.as_os_str() == *name && !path.exists());
        let (path, format) = match named {
            Some(&(_, format)) => (None, format),
            None => (Some(path.to_owned()), DataFormat::Auto),
        };
        Self { path, format, val_path: None, ..self.clone() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    pub epochs: usize,
    /// Images per forward pass.
    pub batch_size: usize,
    /// Forward passes per optimizer step.
    pub accumulation: usize,
    /// Global gradient-norm limit; 0 = no clipping.
    pub grad_clip: f64,
    pub seed: u64,
    /// Weights that a new run starts from; unset = fresh ones from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// `auto`, `cpu` or `cuda[:N]`.
    pub device: String,
    pub precision: Precision,
    /// Keep the inputs of the blocks alone and run each block again in the backward pass: less memory, more time.
    pub activation_checkpointing: bool,
    /// Optimizer steps between log lines.
    pub log_every: usize,
    /// Epochs between validations.
    pub val_every: usize,
    /// Validation images that are reconstructed as PNG after each validation.
    pub previews: usize,
}

/// What operands of matrix products, attention's among them, are rounded to. Weights, norms, softmax, the residual stream,
/// loss, gradients and optimizer are 32-bit floats in each of them. See [`crate::engine::device::precision`] for what a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Not at all.
    Fp32,
    /// To 10 bits after the point, by tensor cores that take 32-bit floats.
    Tf32,
    /// To 7 bits after the point; half of the memory for what is kept of them.
    Bf16,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}

/// `AdamW` (Loshchilov & Hutter 2019); 1-D parameters, mask token and position embedding are not decayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    pub betas: [f64; 2],
    pub eps: f64,
    pub weight_decay: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    pub kind: ScheduleKind,
    /// Peak learning rate before batch scaling.
    pub base_lr: f64,
    /// Learning rate of step 0, before batch scaling.
    pub warmup_lr: f64,
    /// Learning rate at the end of the cosine, before batch scaling.
    pub min_lr: f64,
    /// Length of the warm-up; never more than half of the run.
    pub warmup_epochs: f64,
    /// Multistep: epochs at which the rate is multiplied by `gamma`.
    pub milestones: Vec<f64>,
    pub gamma: f64,
    /// Multiply all rates by (batch size x accumulation) / 512, as the official code does.
    pub scale_by_batch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    Cosine,
    Multistep,
    Constant,
}

impl std::fmt::Display for ScheduleKind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Cosine => "cosine",
            Self::Multistep => "multistep",
            Self::Constant => "constant",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Epochs between checkpoints; 0 = none by epoch.
    pub every_epochs: usize,
    /// Optimizer steps between checkpoints; 0 = none by step.
    pub every_steps: usize,
    /// Most recent checkpoints that are kept beside the best one.
    pub keep: usize,
}

/// When an alarm is raised. None of it changes what is computed but `on_nan`, and that after a bad step only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmConfig {
    /// What follows a step whose loss or gradient norm is NaN or infinite.
    pub on_nan: OnNan,
    /// A loss this many robust standard deviations above the median of the last steps; 0 = off.
    pub loss_spike: f64,
    /// The same for the logarithm of the gradient norm; 0 = off.
    pub gradient_jump: f64,
    /// Share of the time that steps wait for images, over three log periods; 0 = off.
    pub data_wait: f64,
    /// Seconds without the end of a step; 0 = off.
    pub stall_s: u64,
    /// Temperature of the GPU, degrees Celsius; 0 = a little below where the driver slows it down.
    pub gpu_celsius: u32,
}

/// Policies for a bad step. In all but `ignore` its update is left out, so the weights stay good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnNan {
    /// Save the weights from before the step and end with exit code 3.
    Stop,
    /// Wait for someone to resume or stop.
    Pause,
    /// Go on with the next batch; stop after a hundred bad steps in a row.
    Skip,
    /// Make the update as if nothing had happened.
    Ignore,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            image_size: 64,
            patch_size: 8,
            embed_dim: 192,
            depth: 6,
            heads: 3,
            mlp_ratio: 4.0,
            position: Position::Learned,
            layer_scale: 0.0,
            drop_path: 0.0,
        }
    }
}

impl Default for MaskConfig {
    fn default() -> Self {
        Self { unit: 16, ratio: 0.6 }
    }
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { kind: LossKind::L1, beta: 1.0, normalize_targets: false }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            path: None,
            val_path: None,
            format: DataFormat::Auto,
            val_fraction: 0.1,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            crop_scale: [0.67, 1.0],
            crop_ratio: [3.0 / 4.0, 4.0 / 3.0],
            flip: 0.5,
            workers: 1,
            prefetch: 4,
            cache_mib: 512,
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 80,
            batch_size: 32,
            accumulation: 1,
            grad_clip: 5.0,
            seed: 0,
            init: None,
            device: "auto".to_owned(),
            precision: Precision::Fp32,
            activation_checkpointing: false,
            log_every: 5,
            val_every: 5,
            previews: 6,
        }
    }
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.05 }
    }
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Cosine,
            base_lr: 1e-3,
            warmup_lr: 1e-6,
            min_lr: 1e-5,
            warmup_epochs: 4.0,
            milestones: Vec::new(),
            gamma: 0.1,
            scale_by_batch: false,
        }
    }
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every_epochs: 10, every_steps: 0, keep: 3 }
    }
}

impl Default for AlarmConfig {
    fn default() -> Self {
        Self {
            on_nan: OnNan::Stop,
            loss_spike: 8.0,
            gradient_jump: 8.0,
            data_wait: 0.5,
            stall_s: 120,
            gpu_celsius: 0,
        }
    }
}

impl Config {
    /// Images that one optimizer step consumes.
    pub fn images_per_step(&self) -> usize {
        self.train.batch_size * self.train.accumulation
    }

    /// Checks every range and every relation between keys.
    ///
    /// # Errors
    /// The first violation, with the key, its value and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self { model, mask, loss, data, train, optimizer, schedule, checkpoint, .. } = self;
        within("model.image_size", model.image_size, 8, 2048)?;
        within("model.patch_size", model.patch_size, 1, 256)?;
        within("model.embed_dim", model.embed_dim, 4, 8192)?;
        within("model.depth", model.depth, 1, 128)?;
        within("model.heads", model.heads, 1, 128)?;
        within("model.mlp_ratio", model.mlp_ratio, 0.25, 16.0)?;
        within("model.layer_scale", model.layer_scale, 0.0, 10.0)?;
        within("model.drop_path", model.drop_path, 0.0, 0.9)?;
        divides("model.patch_size", model.patch_size, "model.image_size", model.image_size)?;
        divides("model.heads", model.heads, "model.embed_dim", model.embed_dim)?;
        if model.position == Position::Sincos && !model.embed_dim.is_multiple_of(4) {
            return Err(relation(
                "model.embed_dim",
                model.embed_dim,
                "a multiple of 4 with model.position = \"sincos\"",
            ));
        }
        divides("model.patch_size", model.patch_size, "mask.unit", mask.unit)?;
        if mask.unit == 0 || !model.image_size.is_multiple_of(mask.unit) {
            let allowed = format!("a divisor of model.image_size = {}", model.image_size);
            return Err(relation("mask.unit", mask.unit, &allowed));
        }
        within("mask.ratio", mask.ratio, 0.01, 0.99)?;
        let units = (model.image_size / mask.unit).pow(2);
        if masked_units(units, mask.ratio) >= units {
            return Err(relation(
                "mask.ratio",
                mask.ratio,
                &format!("small enough to leave one of the {units} mask units visible"),
            ));
        }
        within("loss.beta", loss.beta, 1e-6, 1e3)?;
        within("data.val_fraction", data.val_fraction, 0.0, 0.9)?;
        for (&mean, &std) in data.mean.iter().zip(&data.std) {
            within("data.mean", f64::from(mean), 0.0, 1.0)?;
            within("data.std", f64::from(std), 1e-3, 10.0)?;
        }
        span("data.crop_scale", data.crop_scale, 1e-3, 1.0)?;
        span("data.crop_ratio", data.crop_ratio, 0.1, 10.0)?;
        within("data.flip", data.flip, 0.0, 1.0)?;
        within("data.workers", data.workers, 1, 256)?;
        within("data.prefetch", data.prefetch, 1, 1024)?;
        within("data.cache_mib", data.cache_mib, 0, 1 << 24)?;
        within("train.epochs", train.epochs, 1, 1_000_000)?;
        within("train.batch_size", train.batch_size, 1, 65_536)?;
        within("train.accumulation", train.accumulation, 1, 4096)?;
        within("train.grad_clip", train.grad_clip, 0.0, 1e6)?;
        // TOML has signed 64-bit integers, so a larger seed could not be written back.
        within("train.seed", train.seed, 0, i64::MAX as u64)?;
        within("train.log_every", train.log_every, 1, 10_000)?;
        within("train.val_every", train.val_every, 1, 1_000_000)?;
        within("train.previews", train.previews, 0, 256)?;
        let pixels = 3 * model.image_size * model.image_size;
        for (key, images) in
            [("train.batch_size", train.batch_size), ("train.previews", 4 * train.previews)]
        {
            if images * pixels > MOST_PIXELS {
                let allowed = format!(
                    "small enough for {} million numbers of pixels at model.image_size = {}",
                    MOST_PIXELS / 1_000_000,
                    model.image_size
                );
                return Err(relation(key, images, &allowed));
            }
        }
        within("optimizer.betas[0]", optimizer.betas[0], 0.0, 0.999_999)?;
        within("optimizer.betas[1]", optimizer.betas[1], 0.0, 0.999_999_9)?;
        within("optimizer.eps", optimizer.eps, 1e-16, 1.0)?;
        within("optimizer.weight_decay", optimizer.weight_decay, 0.0, 10.0)?;
        within("schedule.base_lr", schedule.base_lr, 1e-12, 100.0)?;
        for (key, rate) in
            [("schedule.warmup_lr", schedule.warmup_lr), ("schedule.min_lr", schedule.min_lr)]
        {
            if !(0.0..=schedule.base_lr).contains(&rate) {
                let allowed = format!("from 0 to schedule.base_lr = {}", schedule.base_lr);
                return Err(relation(key, rate, &allowed));
            }
        }
        within("schedule.warmup_epochs", schedule.warmup_epochs, 0.0, 1e6)?;
        within("schedule.gamma", schedule.gamma, 1e-6, 1.0)?;
        if schedule.milestones.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(relation(
                "schedule.milestones",
                format!("{:?}", schedule.milestones),
                "epochs in rising order",
            ));
        }
        for &epoch in &schedule.milestones {
            within("schedule.milestones", epoch, 0.0, 1e6)?;
        }
        within("checkpoint.every_epochs", checkpoint.every_epochs, 0, 1_000_000)?;
        within("checkpoint.every_steps", checkpoint.every_steps, 0, 1_000_000_000)?;
        within("checkpoint.keep", checkpoint.keep, 1, 10_000)?;
        self.alarms.validate()?;
        self.eval.validate(model.depth)?;
        self.validate_finetune()
    }

    fn validate_finetune(&self) -> Result<(), ConfigError> {
        let Some(finetune) = &self.finetune else { return Ok(()) };
        if let Some(init) = &self.train.init {
            let allowed = "unset with [finetune]: the encoder comes from finetune.from, and `simmim-tui import` makes a \
                           checkpoint of other weights";
            return Err(relation("train.init", init.display(), allowed));
        }
        finetune.validate()
    }
}

impl AlarmConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        within("alarms.loss_spike", self.loss_spike, 0.0, 1e6)?;
        within("alarms.gradient_jump", self.gradient_jump, 0.0, 1e6)?;
        within("alarms.data_wait", self.data_wait, 0.0, 1.0)?;
        within("alarms.stall_s", self.stall_s, 0, 1_000_000)?;
        within("alarms.gpu_celsius", self.gpu_celsius, 0, 150)
    }
}

/// Numbers in the pictures of one batch or sheet: more is a slip of the finger.
const MOST_PIXELS: usize = 2_000_000_000;

/// Hidden units per image: `ceil(ratio · units)`, as in the official `SimMIM` mask generator.
pub fn masked_units(units: usize, ratio: f64) -> usize {
    (ratio * units as f64).ceil() as usize
}

/// `value` in `[low, high]`; NaN is outside every range.
fn within<T>(key: &str, value: T, low: T, high: T) -> Result<(), ConfigError>
where
    T: PartialOrd + std::fmt::Display + Copy,
{
    if value >= low && value <= high {
        return Ok(());
    }
    Err(ConfigError::Value {
        key: key.to_owned(),
        value: value.to_string(),
        allowed: format!("from {low} to {high}"),
    })
}

fn span(key: &str, [low, high]: [f64; 2], min: f64, max: f64) -> Result<(), ConfigError> {
    within(&format!("{key}[0]"), low, min, max)?;
    within(&format!("{key}[1]"), high, min, max)?;
    if low > high {
        return Err(relation(&format!("{key}[1]"), high, &format!("from {key}[0] = {low} up")));
    }
    Ok(())
}

fn divides(divisor: &str, small: usize, key: &str, large: usize) -> Result<(), ConfigError> {
    if large.is_multiple_of(small) {
        return Ok(());
    }
    Err(relation(key, large, &format!("a multiple of {divisor} = {small}")))
}

fn relation(key: &str, value: impl std::fmt::Display, allowed: &str) -> ConfigError {
    ConfigError::Value {
        key: key.to_owned(),
        value: value.to_string(),
        allowed: allowed.to_owned(),
    }
}
