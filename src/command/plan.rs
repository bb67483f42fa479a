//! The run before you pay: steps, schedule, parameters, memory.

use super::args::ConfigArgs;
use super::prepare;
use crate::config::{Config, Precision};
use crate::engine::schedule::Schedule;
use crate::error::Error;
use crate::model::ModelShape;
use crate::model::mask::MaskGenerator;
use crate::text::chart;
use crate::text::say::say;
use crate::text::units::bytes;
use crate::train::RunLength;
use std::fmt::Write as _;
use std::io::{stderr, stdout};

/// Prints what a run would take.
///
/// # Errors
/// Configuration or data.
pub fn run(args: &ConfigArgs) -> Result<(), Error> {
    let mut config = prepare::config(args)?;
    let (data, notice) = prepare::open_data(&mut config)?;
    if let Some(notice) = notice {
        say(&mut stderr(), &format!("warning: {notice}"));
    }
    let plan = Plan::new(&config, data.train.len());
    say(&mut stdout(), plan.text(&config, &data.description).trim_end());
    Ok(())
}

const CHART: (usize, usize) = (60, 8);
/// Bytes of a 32-bit float.
const FLOAT: u64 = 4;

/// What a run will take.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub extent: RunLength,
    pub schedule: Schedule,
    pub parameters: u64,
    pub patches: usize,
    pub target: PredictedTarget,
    pub memory: Memory,
}

/// What the model shall tell of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PredictedTarget {
    /// The pixels of so many hidden patches.
    Hidden(usize),
    /// Its class, of so many.
    Class(usize),
}

/// Bytes, estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Weights, gradients and two moments, 32-bit floats in every precision.
    pub state: u64,
    /// What the backward pass of one micro-batch keeps.
    pub activations: u64,
}

impl Plan {
    pub fn new(config: &Config, images: usize) -> Self {
        let shape = ModelShape::of(config);
        let extent = RunLength::new(config, images);
        let parameters = shape.parameters();
        Self {
            schedule: Schedule::new(config, extent.steps_per_epoch),
            extent,
            parameters,
            patches: shape.patches(),
            target: match shape.classes {
                None => PredictedTarget::Hidden(
                    MaskGenerator::new(&config.mask, &shape, 0).hidden_per_image(),
                ),
                Some(classes) => PredictedTarget::Class(classes),
            },
            memory: Memory { state: parameters * 4 * 4, activations: activations(&shape, config) },
        }
    }

    /// Rows per image that the head gets.
    pub fn head_rows(&self) -> usize {
        match self.target {
            PredictedTarget::Hidden(hidden) => hidden,
            PredictedTarget::Class(_) => 1,
        }
    }

    /// The plan as text.
    pub fn text(&self, config: &Config, data: &str) -> String {
        let Self { extent, schedule, memory, .. } = self;
        let mut out = String::new();
        let mut line = |text: String| {
            let _ = writeln!(out, "{text}"); // writing to a string can't fail
        };
        let model = &config.model;
        line(format!("data        {data}"));
        line(format!(
            "model       {} px, patch {}, width {}, depth {}, {} heads: {:.2} M parameters",
            model.image_size,
            model.patch_size,
            model.embed_dim,
            model.depth,
            model.heads,
            self.parameters as f64 / 1e6
        ));
        line(match self.target {
            PredictedTarget::Hidden(hidden) => format!(
                "mask        {hidden} of {} patches per image hidden ({:.0} %), units of {} px",
                self.patches,
                100.0 * hidden as f64 / self.patches as f64,
                config.mask.unit
            ),
            PredictedTarget::Class(classes) => {
                let finetune = config.finetune.as_ref();
                let from = finetune.and_then(|finetune| finetune.from.as_ref());
                let from =
                    from.map_or("fresh weights".to_owned(), |from| from.display().to_string());
                format!("classifier  {classes} classes, encoder from {from}")
            }
        });
        line(format!(
            "steps       {} = {} epochs x {} steps, {} images each ({} x {} accumulated)",
            extent.total_steps,
            config.train.epochs,
            extent.steps_per_epoch,
            config.images_per_step(),
            config.train.batch_size,
            config.train.accumulation
        ));
        line(format!(
            "memory      about {}: {} weights, gradients and moments, {} activations{}",
            bytes(memory.state.saturating_add(memory.activations)),
            bytes(memory.state),
            bytes(memory.activations),
            if config.train.activation_checkpointing { ", checkpointed" } else { "" }
        ));
        line(match (config.train.precision, config.train.device.as_str()) {
            (Precision::Fp32, _) | (_, "cpu") => "precision   fp32".to_owned(),
            (precision, _) => format!("precision   {precision} on a CUDA device, fp32 on the CPU"),
        });
        line(format!(
            "schedule    {}, peak {:.3e} after {} warm-up steps from {:.3e}, last {:.3e}",
            format!("{:?}", schedule.kind).to_lowercase(),
            schedule.base_lr,
            schedule.warmup_steps,
            schedule.warmup_lr,
            schedule.lr(extent.total_steps - 1)
        ));
        // Enough samples to show every milestone, few enough for a run of any length.
        let samples = extent.total_steps.min(6000);
        let rates: Vec<f64> =
            (0..samples).map(|i| schedule.lr(i * extent.total_steps / samples)).collect();
        for row in chart::draw(&rates, CHART.0, CHART.1, |rate| format!("{rate:.1e}")) {
            line(format!("  {row}"));
        }
        let end = extent.total_steps.to_string();
        line(format!("  {:>8} 0{end:>width$} step", "", width = CHART.0 - 1));
        out
    }
}

/// What autodiff keeps per block: the inputs of each layer, queries, keys and values, logits and their softmax, and both
/// sides of the GELU. Of these the operands of products (queries, keys, values, inputs of the four layers, softmax) take
/// half of the room in bf16. With activation checkpointing all blocks keep their input and one at a time the rest.
/// Measured peaks are within a factor of about two of it.
fn activations(shape: &ModelShape, config: &Config) -> u64 {
    let (n, dim, hidden) = (shape.patches() as u64, shape.dim as u64, shape.hidden as u64);
    let operand = match config.train.precision {
        Precision::Bf16 if config.train.device != "cpu" => 2,
        _ => FLOAT,
    };
    let per_token = (6 * dim + 2 * hidden) * FLOAT + (6 * dim + hidden) * operand;
    let per_pair = shape.heads as u64 * (2 * FLOAT + operand);
    let block = n.saturating_mul(per_token).saturating_add(per_pair.saturating_mul(n * n));
    let depth = shape.depth as u64;
    let blocks = if config.train.activation_checkpointing {
        block.saturating_add(depth.saturating_mul(n * dim * FLOAT))
    } else {
        block.saturating_mul(depth)
    };
    let ends = 4 * n * (dim + shape.patch_len() as u64) * FLOAT;
    blocks.saturating_add(ends).saturating_mul(config.train.batch_size as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Position;
    use crate::engine::device::{self, Device};
    use crate::engine::learner::LearnerConfig;

    #[test]
    fn the_parameter_count_is_that_of_the_real_model() {
        for position in [Position::Learned, Position::Sincos, Position::Relative] {
            for layer_scale in [0.0, 0.1] {
                let mut config = Config::default();
                config.model.depth = 2;
                config.model.embed_dim = 48;
                config.model.position = position;
                config.model.layer_scale = layer_scale;
                let engine = device::engine(&Device::Cpu, LearnerConfig::new(&config));
                let weights = engine.state().weights;
                let counted = weights.values().map(|tensor| tensor.data.len() as u64).sum::<u64>();
                assert_eq!(Plan::new(&config, 100).parameters, counted, "{position:?}");
            }
        }
    }

    #[test]
    fn bf16_and_checkpointing_take_less_memory_where_they_are() {
        let activations = |precision, device: &str, activation_checkpointing| {
            let mut config = Config::default();
            config.train.precision = precision;
            device.clone_into(&mut config.train.device);
            config.train.activation_checkpointing = activation_checkpointing;
            Plan::new(&config, 100).memory.activations
        };
        let whole = activations(Precision::Fp32, "auto", false);
        // Per image 64 tokens of 12·192 + 3·768 numbers and 3·3·64² pairs in 6 blocks, and both ends.
        assert_eq!(whole, 32 * 4 * (6 * (64 * (12 * 192 + 3 * 768) + 9 * 64 * 64) + 4 * 64 * 384));
        assert_eq!(activations(Precision::Tf32, "auto", false), whole);
        assert_eq!(activations(Precision::Bf16, "cpu", false), whole);
        let half = activations(Precision::Bf16, "auto", false);
        assert!((0.6..0.9).contains(&(half as f64 / whole as f64)), "{half} of {whole}");
        let checkpointed = activations(Precision::Fp32, "auto", true);
        assert!(checkpointed * 3 < whole, "{checkpointed} of {whole}");
    }

    #[test]
    fn the_text_names_what_matters() {
        let config = Config::default();
        let text = Plan::new(&config, 171).text(&config, "171 photos");
        for part in
            ["400 = 80 epochs x 5 steps", "40 of 64 patches", "20 warm-up steps", "171 photos"]
        {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }
}
