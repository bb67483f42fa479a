//! The `plan` command: steps, schedule, parameters and memory of a run that hasn't been started.

use super::args::ConfigArgs;
use super::{encoder, prepare};
use crate::config::{Config, Precision};
use crate::data::Dataset;
use crate::data::check::{Checked, check};
use crate::engine::schedule::Schedule;
use crate::error::Error;
use crate::model::ModelShape;
use crate::model::mask::MaskGenerator;
use crate::text::chart;
use crate::text::say::say;
use crate::text::units::bytes;
use crate::train::RunLength;
use std::io::stdout;
use std::time::Duration;

/// Columns and rows of the chart of learning rates.
const CHART: (usize, usize) = (60, 8);
/// The chart is drawn from at most this many steps: enough to show every milestone, few enough for a run of any length.
const SAMPLES: u64 = 6000;
/// The time for reading images.
const CHECK: Duration = Duration::from_secs(2);
/// Bytes of a 32-bit float.
const FLOAT: u64 = 4;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Prints what a run would take.
///
/// # Errors
/// If the configuration or the data can't be used.
pub fn run(args: &PlanArgs) -> Result<(), Error> {
    let mut config = prepare::config(&args.config)?;
    let data = prepare::open_data(&mut config)?;
    encoder::warn(&prepare::notes(&config, &data));
    tell_faulty(&data);
    let plan = Plan::new(&config, data.train.len());
    say(&mut stdout(), &plan.text(&config, &data.description));
    Ok(())
}

/// Prints which images can't be read. Of a large data set only as many are read as a little time suffices for.
fn tell_faulty(data: &Dataset) {
    let Checked { looked_at, images, faulty } = check(data, CHECK);
    let unreadable = faulty.iter().filter(|error| !error.taken).count();
    if unreadable > 0 {
        let all = if looked_at < images { " that were looked at" } else { "" };
        let text =
            format!("{unreadable} of {looked_at} images{all} can't be read, a run skips them");
        encoder::warn(&[text]);
    }
    encoder::note_faulty(&faulty);
}

/// What a run will take.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    length: RunLength,
    schedule: Schedule,
    pub(super) parameters: u64,
    /// Patches per image.
    patches: usize,
    target: PredictedTarget,
    memory: Memory,
}

/// What the model predicts of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PredictedTarget {
    /// The pixels of this many hidden patches.
    Hidden(usize),
    /// One of this many classes.
    Class(usize),
}

/// Estimated memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    /// Weights, gradients and the optimizer's two moments, which are 32-bit floats in every precision.
    state: u64,
    /// What the backward pass of one micro-batch keeps.
    activations: u64,
}

impl Plan {
    pub(super) fn new(config: &Config, images: usize) -> Self {
        let shape = ModelShape::of(config);
        let length = RunLength::new(config, images);
        let parameters = shape.parameters();
        Self {
            schedule: Schedule::new(config, length.steps_per_epoch),
            length,
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

    /// Returns the rows per image that go through the head.
    pub(super) fn head_rows(&self) -> usize {
        match self.target {
            PredictedTarget::Hidden(hidden) => hidden,
            PredictedTarget::Class(_) => 1,
        }
    }

    /// Returns the plan as lines for people.
    fn text(&self, config: &Config, data: &str) -> String {
        let mut lines = vec![
            format!("data        {data}"),
            self.model_line(config),
            self.target_line(config),
            self.steps_line(config),
            self.memory_line(config),
            match (config.train.precision, config.train.device.as_str()) {
                (Precision::Fp32, _) | (_, "cpu") => "precision   fp32".to_owned(),
                (precision, _) => {
                    format!("precision   {precision} on a CUDA device, fp32 on the CPU")
                }
            },
        ];
        lines.extend(self.schedule_lines());
        lines.join("\n")
    }

    fn model_line(&self, config: &Config) -> String {
        let model = &config.model;
        format!(
            "model       {} px, patch {}, width {}, depth {}, {} heads: {:.2} M parameters",
            model.image_size,
            model.patch_size,
            model.embed_dim,
            model.depth,
            model.heads,
            self.parameters as f64 / 1e6
        )
    }

    fn target_line(&self, config: &Config) -> String {
        match self.target {
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
        }
    }

    fn steps_line(&self, config: &Config) -> String {
        format!(
            "steps       {} = {} epochs x {} steps, {} images each ({} x {} accumulated)",
            self.length.total_steps,
            config.train.epochs,
            self.length.steps_per_epoch,
            config.images_per_step(),
            config.train.batch_size,
            config.train.accumulation
        )
    }

    fn memory_line(&self, config: &Config) -> String {
        let Memory { state, activations } = self.memory;
        format!(
            "memory      about {}: {} weights, gradients and moments, {} activations{}",
            bytes(state.saturating_add(activations)),
            bytes(state),
            bytes(activations),
            if config.train.activation_checkpointing { ", checkpointed" } else { "" }
        )
    }

    /// Returns the schedule in figures and as a chart.
    fn schedule_lines(&self) -> Vec<String> {
        let (schedule, steps) = (&self.schedule, self.length.total_steps);
        let mut lines = vec![format!(
            "schedule    {}, peak {:.3e} after {} warm-up steps from {:.3e}, last {:.3e}",
            schedule.kind,
            schedule.base_lr,
            schedule.warmup_steps,
            schedule.warmup_lr,
            schedule.lr(steps - 1)
        )];
        let samples = steps.min(SAMPLES);
        let rates: Vec<f64> = (0..samples).map(|i| schedule.lr(i * steps / samples)).collect();
        let rows = chart::draw(&rates, CHART.0, CHART.1, |rate| format!("{rate:.1e}"));
        lines.extend(rows.into_iter().map(|row| format!("  {row}")));
        lines.push(format!("  {:>8} 0{:>width$} step", "", steps, width = CHART.0 - 1));
        lines
    }
}

/// Estimates the bytes that autodiff keeps for the backward pass of one micro-batch.
///
/// A block keeps the inputs of each layer, queries, keys and values, the logits and their softmax, and both sides of
/// the GELU. In bf16 the operands of products (queries, keys, values, inputs of the four layers, softmax) take half of
/// the room. With activation checkpointing every block keeps its input, and only one block at a time keeps the rest.
/// Measured peaks are within a factor of about two of the estimate.
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
