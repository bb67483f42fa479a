//! The checks of a configuration: the range of every key, and how keys relate to each other.

use super::{
    AlarmConfig, CheckpointConfig, Config, ConfigError, DataConfig, EvalConfig, FinetuneConfig,
    LARGEST_RELATIVE_GRID, LossConfig, MaskConfig, ModelConfig, OptimizerConfig, Position,
    ScheduleConfig, TrainConfig, masked_units,
};
use crate::shown;
use std::fmt::Display;

/// The most numbers in the pictures of one batch or preview. More can only be a typing error.
const MOST_PIXELS: usize = 2_000_000_000;
/// The most optimizer steps of a length.
const MOST_STEPS: usize = 1_000_000_000;

impl Config {
    /// Checks every range and every relation between keys.
    ///
    /// # Errors
    /// If a value is not allowed. The error names the first one, with its key and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.model.validate()?;
        self.mask.validate(&self.model)?;
        self.loss.validate()?;
        self.data.validate()?;
        self.train.validate(&self.model)?;
        within("val.images", self.val.images, 0, 1_000_000_000)?;
        self.optimizer.validate()?;
        self.schedule.validate()?;
        self.checkpoint.validate()?;
        self.alarms.validate()?;
        self.eval.validate(&self.model)?;
        let Some(finetune) = &self.finetune else { return Ok(()) };
        finetune.validate(&self.train)
    }
}

impl ModelConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        within("model.image_size", self.image_size, 8, 2048)?;
        within("model.patch_size", self.patch_size, 1, 256)?;
        within("model.embed_dim", self.embed_dim, 4, 8192)?;
        within("model.depth", self.depth, 1, 128)?;
        within("model.heads", self.heads, 1, 128)?;
        within("model.mlp_ratio", self.mlp_ratio, 0.25, 16.0)?;
        within("model.layer_scale", self.layer_scale, 0.0, 10.0)?;
        within("model.drop_path", self.drop_path, 0.0, 0.9)?;
        divides("model.patch_size", self.patch_size, "model.image_size", self.image_size)?;
        divides("model.heads", self.heads, "model.embed_dim", self.embed_dim)?;
        if self.position == Position::Sincos && !self.embed_dim.is_multiple_of(4) {
            return Err(not_allowed(
                "model.embed_dim",
                self.embed_dim,
                "a multiple of 4 with model.position = \"sincos\"",
            ));
        }
        if self.position == Position::Relative
            && self.image_size / self.patch_size > LARGEST_RELATIVE_GRID
        {
            return Err(not_allowed(
                "model.image_size",
                self.image_size,
                &format!(
                    "at most {LARGEST_RELATIVE_GRID} patches of model.patch_size = {} with model.position = \"relative\"",
                    self.patch_size
                ),
            ));
        }
        Ok(())
    }
}

impl MaskConfig {
    fn validate(&self, model: &ModelConfig) -> Result<(), ConfigError> {
        divides("model.patch_size", model.patch_size, "mask.unit", self.unit)?;
        if self.unit == 0 || !model.image_size.is_multiple_of(self.unit) {
            let allowed = format!("a divisor of model.image_size = {}", model.image_size);
            return Err(not_allowed("mask.unit", self.unit, &allowed));
        }
        within("mask.ratio", self.ratio, 0.01, 0.99)?;
        let units = (model.image_size / self.unit).pow(2);
        if masked_units(units, self.ratio) >= units {
            return Err(not_allowed(
                "mask.ratio",
                self.ratio,
                &format!("small enough to leave one of the {units} mask units visible"),
            ));
        }
        Ok(())
    }
}

impl LossConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        within("loss.beta", self.beta, 1e-6, 1e3)
    }
}

impl DataConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        within("data.val_fraction", self.val_fraction, 0.0, 0.9)?;
        for (&mean, &std) in self.mean.iter().zip(&self.std) {
            within("data.mean", f64::from(mean), 0.0, 1.0)?;
            within("data.std", f64::from(std), 1e-3, 10.0)?;
        }
        range_within("data.crop_scale", self.crop_scale, 1e-3, 1.0)?;
        range_within("data.crop_ratio", self.crop_ratio, 0.1, 10.0)?;
        within("data.flip", self.flip, 0.0, 1.0)?;
        within("data.buffer", self.buffer, 1, 100_000_000)?;
        within("data.workers", self.workers, 0, 256)?;
        within("data.prefetch", self.prefetch, 1, 1024)?;
        within("data.cache_mib", self.cache_mib, 0, 1 << 24)
    }
}

impl TrainConfig {
    fn validate(&self, model: &ModelConfig) -> Result<(), ConfigError> {
        one_of(["train.epochs", "train.steps"], [self.epochs.is_some(), self.steps.is_some()])?;
        for (key, value, most) in [
            ("train.epochs", self.epochs, 1_000_000),
            ("train.steps", self.steps, MOST_STEPS),
            ("train.val_every", self.val_every, 1_000_000),
            ("train.val_every_steps", self.val_every_steps, MOST_STEPS),
        ] {
            value.map_or(Ok(()), |value| within(key, value, 1, most))?;
        }
        within("train.batch_size", self.batch_size, 1, 65_536)?;
        within("train.accumulation", self.accumulation, 1, 4096)?;
        within("train.grad_clip", self.grad_clip, 0.0, 1e6)?;
        // TOML has signed 64-bit integers, so a larger seed could not be written back.
        within("train.seed", self.seed, 0, i64::MAX as u64)?;
        within("train.log_every", self.log_every, 1, 10_000)?;
        one_of(
            ["train.val_every", "train.val_every_steps"],
            [self.val_every.is_some(), self.val_every_steps.is_some()],
        )?;
        within("train.previews", self.previews, 0, 256)?;
        let pixels = 3 * model.image_size * model.image_size;
        for (key, images) in
            [("train.batch_size", self.batch_size), ("train.previews", 4 * self.previews)]
        {
            if images * pixels > MOST_PIXELS {
                let allowed = format!(
                    "small enough for {} million numbers of pixels at model.image_size = {}",
                    MOST_PIXELS / 1_000_000,
                    model.image_size
                );
                return Err(not_allowed(key, images, &allowed));
            }
        }
        Ok(())
    }
}

impl OptimizerConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        within("optimizer.betas[0]", self.betas[0], 0.0, 0.999_999)?;
        within("optimizer.betas[1]", self.betas[1], 0.0, 0.999_999_9)?;
        within("optimizer.eps", self.eps, 1e-16, 1.0)?;
        within("optimizer.weight_decay", self.weight_decay, 0.0, 10.0)
    }
}

impl ScheduleConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        within("schedule.base_lr", self.base_lr, 1e-12, 100.0)?;
        for (key, rate) in
            [("schedule.warmup_lr", self.warmup_lr), ("schedule.min_lr", self.min_lr)]
        {
            if !(0.0..=self.base_lr).contains(&rate) {
                let allowed = format!("from 0 to schedule.base_lr = {}", self.base_lr);
                return Err(not_allowed(key, rate, &allowed));
            }
        }
        let (epochs, steps) = (self.warmup_epochs, self.warmup_steps);
        one_of(
            ["schedule.warmup_epochs", "schedule.warmup_steps"],
            [epochs.is_some(), steps.is_some()],
        )?;
        epochs.map_or(Ok(()), |epochs| within("schedule.warmup_epochs", epochs, 0.0, 1e6))?;
        steps.map_or(Ok(()), |steps| within("schedule.warmup_steps", steps, 0, MOST_STEPS))?;
        within("schedule.gamma", self.gamma, 1e-6, 1.0)?;
        if self.milestones.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(not_allowed(
                "schedule.milestones",
                format!("{:?}", self.milestones),
                "epochs in rising order",
            ));
        }
        for &epoch in &self.milestones {
            within("schedule.milestones", epoch, 0.0, 1e6)?;
        }
        Ok(())
    }
}

impl CheckpointConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        within("checkpoint.every_epochs", self.every_epochs, 0, 1_000_000)?;
        within("checkpoint.every_steps", self.every_steps, 0, 1_000_000_000)?;
        within("checkpoint.keep", self.keep, 1, 10_000)
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

impl EvalConfig {
    fn validate(&self, model: &ModelConfig) -> Result<(), ConfigError> {
        within("eval.every", self.every, 0, 1_000_000)?;
        within("eval.limit", self.limit, 10, 10_000_000)?;
        within("eval.neighbours", self.neighbours, 1, 1000)?;
        within("eval.layer", self.layer, 0, model.depth)
    }
}

impl FinetuneConfig {
    fn validate(&self, train: &TrainConfig) -> Result<(), ConfigError> {
        if let Some(init) = &train.init {
            let allowed = "unset with [finetune]: the encoder comes from finetune.from, and `simmim-tui import` makes a \
                           checkpoint of other weights";
            return Err(not_allowed("train.init", shown::path(init), allowed));
        }
        within("finetune.layer_decay", self.layer_decay, 0.01, 1.0)?;
        within("finetune.label_smoothing", self.label_smoothing, 0.0, 0.9)?;
        if self.classes.len() == 1 {
            return Err(not_allowed(
                "finetune.classes",
                format!("{:?}", self.classes),
                "two names or more, or none: they are read off the data",
            ));
        }
        Ok(())
    }
}

/// Checks that `value` is in `[low, high]`. NaN is outside every range.
fn within<T>(key: &str, value: T, low: T, high: T) -> Result<(), ConfigError>
where
    T: PartialOrd + Display + Copy,
{
    if value >= low && value <= high {
        return Ok(());
    }
    Err(not_allowed(key, value, &format!("from {low} to {high}")))
}

/// Checks that a range of two values lies in `[min, max]` and is not reversed.
fn range_within(key: &str, [low, high]: [f64; 2], min: f64, max: f64) -> Result<(), ConfigError> {
    within(&format!("{key}[0]"), low, min, max)?;
    within(&format!("{key}[1]"), high, min, max)?;
    if low > high {
        return Err(not_allowed(&format!("{key}[1]"), high, &format!("from {key}[0] = {low} up")));
    }
    Ok(())
}

/// Checks that the value of `divisor`, `small`, divides the value of `key`, `large`.
fn divides(divisor: &str, small: usize, key: &str, large: usize) -> Result<(), ConfigError> {
    if large.is_multiple_of(small) {
        return Ok(());
    }
    Err(not_allowed(key, large, &format!("a multiple of {divisor} = {small}")))
}

/// Checks that exactly one of two keys has a value: both say the same in epochs and in steps.
fn one_of(keys: [&str; 2], given: [bool; 2]) -> Result<(), ConfigError> {
    if given[0] != given[1] {
        return Ok(());
    }
    let value = if given[0] { "given" } else { "unset" };
    let allowed = format!("one of {} and {}, not both and not none", keys[0], keys[1]);
    Err(not_allowed(keys[0], value, &allowed))
}

fn not_allowed(key: &str, value: impl Display, allowed: &str) -> ConfigError {
    ConfigError::Value {
        key: key.to_owned(),
        value: value.to_string(),
        allowed: allowed.to_owned(),
    }
}
