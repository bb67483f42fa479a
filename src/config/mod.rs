//! The configuration of a run.
//!
//! It has four layers, each above the one before: built-in defaults, TOML file, `--set key=value`, dedicated flags.
//! [`mod@file`] merges them. Every configuration passes [`Config::validate`], so all other code relies on its ranges.

mod eval;
pub mod file;
mod finetune;
mod length;
pub(crate) mod path_text;
mod val;
mod validate;

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub use eval::EvalConfig;
pub use file::ConfigError;
pub use finetune::FinetuneConfig;
pub use val::ValConfig;

/// The most patches along a side of the image with relative positions. The bias of all pairs of patches grows with the
/// fourth power of this, and is 64 MiB a head here.
pub const LARGEST_RELATIVE_GRID: usize = 64;

/// Everything that decides what a run computes. It is saved in the run directory and in each checkpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub model: ModelConfig,
    pub mask: MaskConfig,
    pub loss: LossConfig,
    pub data: DataConfig,
    pub train: TrainConfig,
    pub val: ValConfig,
    pub optimizer: OptimizerConfig,
    pub schedule: ScheduleConfig,
    pub checkpoint: CheckpointConfig,
    pub alarms: AlarmConfig,
    pub eval: EvalConfig,
    /// If set, the run trains a classifier.
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

/// How a token gets its position.
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

/// Which patches are hidden from the encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskConfig {
    /// Side of a mask unit, pixels; a multiple of `model.patch_size` that divides `model.image_size`.
    pub unit: usize,
    /// Share of units that are hidden; their number per image is rounded up.
    pub ratio: f64,
}

/// How a reconstruction is compared with the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    pub kind: LossKind,
    /// Error at which smooth L1 changes from quadratic to linear.
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

/// Where images come from, and how they are augmented and loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Directory or file with training images, or a list of them; unset = the embedded CC0 photos.
    #[serde(with = "path_text::optional", skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Validation images; unset = `val/` beside `train/`, the format's own test set, or a split.
    #[serde(with = "path_text::optional", skip_serializing_if = "Option::is_none")]
    pub val_path: Option<PathBuf>,
    pub format: DataFormat,
    /// What becomes of files that end in the middle of the picture.
    pub truncated: TruncatedImages,
    /// Share of images kept for validation if the data has no validation set.
    pub val_fraction: f64,
    /// Per-channel mean (R, G, B) of images scaled to 0..1.
    pub mean: [f32; 3],
    /// Per-channel standard deviation (R, G, B) of images scaled to 0..1.
    pub std: [f32; 3],
    /// Smallest and largest area of a random crop, as a share of the image.
    pub crop_scale: [f64; 2],
    /// Smallest and largest width / height of a random crop.
    pub crop_ratio: [f64; 2],
    /// Probability of a horizontal flip.
    pub flip: f64,
    /// In which order training images are read.
    pub shuffle: Shuffle,
    /// Images among which the next one is drawn with `shuffle = "shards"`.
    pub buffer: usize,
    /// Number of loader threads; 0 = a run finds it by itself.
    pub workers: usize,
    /// Batches that are prepared ahead of the step.
    pub prefetch: usize,
    /// The most memory of the cache of decoded images, MiB; 0 = no cache.
    pub cache_mib: usize,
}

/// What becomes of image files that end in the middle of the picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TruncatedImages {
    /// They count as unreadable.
    #[default]
    Skip,
    /// They are taken, with grey where the picture is missing, and a warning names them.
    Accept,
}

/// In which order training images are read. Every image comes up once an epoch in either.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shuffle {
    /// All images at random.
    #[default]
    Full,
    /// Shards at random, and the images of some of them at random: what is read lies side by side.
    Shards,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataFormat {
    /// Determined by what is at the path.
    Auto,
    /// The CC0 photos embedded in the binary.
    Photos,
    /// The part of Fashion-MNIST embedded in the binary: 5000 + 1000 grey images of ten classes.
    FashionMnistMini,
    /// Any tree of image files. The first directory level is the label.
    Folder,
    Cifar10,
    Cifar100,
    Stl10,
    Idx,
    /// Tar archives as `WebDataset` has them.
    Tar,
    /// A column of encoded images, as the hub of Hugging Face ships them.
    Parquet,
    /// A text file of paths, or a table with a column of them.
    List,
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
            Self::Tar => "tar",
            Self::Parquet => "parquet",
            Self::List => "list",
        }
    }
}

impl DataConfig {
    /// Returns the same settings for other images: those at `path` or, if there is no such path, the built-in images
    /// whose format has this name.
    #[must_use]
    pub fn with_images(&self, path: &Path) -> Self {
        let (path, format) = match built_in(path) {
            Some(format) => (None, format),
            None => (Some(path.to_owned()), DataFormat::Auto),
        };
        Self { path, format, val_path: None, ..self.clone() }
    }

    /// Replaces a path that is the name of built-in images by their format, so that nobody takes it for a path later.
    fn resolve_built_in(&mut self) {
        let Some(format) = self.path.as_deref().and_then(built_in) else { return };
        if self.format == DataFormat::Auto || self.format == format {
            // The photos are what a run without a path has: another --data on a resume finds no format in its way.
            let default = format == DataFormat::Photos;
            self.format = if default { DataFormat::Auto } else { format };
            self.path = None;
        }
    }
}

/// Returns the format of the built-in images of this name. A file or folder of that name goes first.
pub(crate) fn built_in(path: &Path) -> Option<DataFormat> {
    let named = [DataFormat::Photos, DataFormat::FashionMnistMini];
    named.into_iter().find(|format| path.as_os_str() == format.name() && !path.exists())
}

/// How long and in which way a run trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training images; unset if `steps` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// Optimizer steps of the run, in the place of `epochs`. It ends at exactly this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Images per forward pass.
    pub batch_size: usize,
    /// Forward passes per optimizer step.
    pub accumulation: usize,
    /// Largest global norm of the gradients, to which they are clipped; 0 = no clipping.
    pub grad_clip: f64,
    pub seed: u64,
    /// File with the weights that a new run starts from; unset = fresh weights from the seed.
    #[serde(with = "path_text::optional", skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Which network of that file, if it holds several, as `student`; unset = the teacher, target or averaged one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_network: Option<String>,
    /// `auto`, `cpu` or `cuda[:N]`.
    pub device: String,
    pub precision: Precision,
    /// Whether only the inputs of the blocks are kept and each block is computed again in the backward pass. This takes
    /// less memory and more time.
    pub activation_checkpointing: bool,
    /// Optimizer steps between log lines.
    pub log_every: usize,
    /// Epochs between validations; unset if `val_every_steps` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_every: Option<usize>,
    /// Optimizer steps between validations, in the place of `val_every`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_every_steps: Option<usize>,
    /// Validation images that are reconstructed as PNG after each validation.
    pub previews: usize,
}

/// The format to which the operands of matrix products are rounded, those of attention included.
///
/// Weights, norms, softmax, the residual stream, the loss, gradients and the optimizer are 32-bit floats in every
/// precision. The module `engine::device::precision` knows which precisions a device supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Operands are not rounded.
    Fp32,
    /// Operands are rounded to 10 bits of mantissa, by tensor cores that take 32-bit floats.
    Tf32,
    /// Operands are rounded to 7 bits of mantissa. Those that are kept take half of the memory.
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

/// The optimizer, `AdamW` (Loshchilov & Hutter 2019). 1-D parameters, the mask token and the position embedding are not
/// decayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    pub betas: [f64; 2],
    pub eps: f64,
    pub weight_decay: f64,
}

/// The learning rate over a run.
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
    /// Length of the warm-up, which is never more than half of the run; unset if `warmup_steps` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_epochs: Option<f64>,
    /// The same in optimizer steps, in the place of `warmup_epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<usize>,
    /// Epochs at which a multistep schedule multiplies the rate by `gamma`.
    pub milestones: Vec<f64>,
    pub gamma: f64,
    /// Whether all rates are multiplied by (batch size x accumulation) / 512, as in the official code.
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

/// When checkpoints are saved, and how many are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Epochs between checkpoints; 0 = none by epoch.
    pub every_epochs: usize,
    /// Optimizer steps between checkpoints; 0 = none by step.
    pub every_steps: usize,
    /// How many of the most recent checkpoints are kept beside the best one.
    pub keep: usize,
}

/// When an alarm is raised. Only `on_nan` can change what is computed, and only after a bad step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmConfig {
    /// What to do after a step whose loss or gradient norm is NaN or infinite.
    pub on_nan: OnNan,
    /// Alarm if the loss is this many robust standard deviations above the median of the last steps; 0 = off.
    pub loss_spike: f64,
    /// Alarm if the logarithm of the gradient norm is this many robust standard deviations above the median of the last
    /// steps; 0 = off.
    pub gradient_jump: f64,
    /// Alarm if steps wait for images during this share of the time, over three log periods; 0 = off.
    pub data_wait: f64,
    /// Alarm if no step ends for this many seconds; 0 = off.
    pub stall_s: u64,
    /// Alarm at this temperature of the GPU, degrees Celsius; 0 = a little below the one at which the driver slows it
    /// down.
    pub gpu_celsius: u32,
}

/// What to do after a bad step. Every policy but `ignore` skips its update, so the weights stay good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnNan {
    /// Save the weights from before the step and end with exit code 3.
    Stop,
    /// Pause until someone resumes or stops the run.
    Pause,
    /// Go on with the next batch. Stop after a hundred bad steps in a row.
    Skip,
    /// Apply the update as if nothing had happened.
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
            truncated: TruncatedImages::Skip,
            val_fraction: 0.1,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            crop_scale: [0.67, 1.0],
            crop_ratio: [3.0 / 4.0, 4.0 / 3.0],
            flip: 0.5,
            shuffle: Shuffle::Full,
            buffer: 10_000,
            workers: 0,
            prefetch: 4,
            cache_mib: 512,
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: Some(80),
            steps: None,
            batch_size: 32,
            accumulation: 1,
            grad_clip: 5.0,
            seed: 0,
            init: None,
            init_network: None,
            device: "auto".to_owned(),
            precision: Precision::Fp32,
            activation_checkpointing: false,
            log_every: 5,
            val_every: Some(5),
            val_every_steps: None,
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
            warmup_epochs: Some(4.0),
            warmup_steps: None,
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
    /// Returns how many images one optimizer step consumes.
    pub fn images_per_step(&self) -> usize {
        self.train.batch_size * self.train.accumulation
    }
}

/// Returns how many units of an image are hidden: `ceil(ratio · units)`, as in the official `SimMIM` mask generator.
pub fn masked_units(units: usize, ratio: f64) -> usize {
    (ratio * units as f64).ceil() as usize
}
