//! The `plan` command: steps, schedule, parameters and memory of a run that hasn't been started.

use super::args::ConfigArgs;
use super::memory::{MemoryNeed, Operations};
use super::speed::RunSpeed;
use super::{encoder, prepare};
use crate::config::{Config, Precision};
use crate::data::Dataset;
use crate::data::check::{Checked, check};
use crate::engine::schedule::Schedule;
use crate::error::Error;
use crate::model::ModelShape;
use crate::model::mask::MaskGenerator;
use crate::process::memory::free;
use crate::shown;
use crate::text::chart;
use crate::text::say::tell_all;
use crate::text::units::{self, bytes};
use crate::train::{self, RunLength};
use std::time::Duration;

/// Columns and rows of the chart of learning rates.
const CHART: (usize, usize) = (60, 8);
/// The chart is drawn from at most this many steps: enough to show every milestone, few enough for a run of any length.
const SAMPLES: u64 = 6000;
/// The time for reading images, and that for images which are so many that it would not suffice by far.
const CHECK: Duration = Duration::from_secs(2);
const CHECK_MANY: Duration = Duration::from_millis(200);
const MANY: usize = 100_000;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Measure the step on the device, also where that takes seconds or opens a GPU
    #[arg(long)]
    pub measure: bool,
}

/// Prints what a run would take.
///
/// # Errors
/// If the configuration or the data can't be used.
pub fn run(args: &PlanArgs) -> Result<(), Error> {
    args.config.lists.apply();
    let mut config = prepare::config(&args.config)?;
    let data = prepare::open_data(&mut config)?;
    encoder::warn(&prepare::notes(&config, &data));
    tell_faulty(&data);
    let plan = Plan::new(&config, data.train.len());
    // Images of which none can be read have been told of.
    let speed = RunSpeed::measure(&config, &data, &plan, args.measure).ok();
    let images = plan.length.total_steps * config.images_per_step() as u64;
    let speed = speed.map(|speed| speed.lines(images)).unwrap_or_default();
    let validation = train::validation_note(&config.val, &data.val);
    let validation =
        validation.map(|note| format!("validation  {}", note.replacen("validations are ", "", 1)));
    Ok(tell_all(plan.lines(&config, &data.description, speed).into_iter().chain(validation))?)
}

/// Prints which images can't be read. Of a large data set only as many are read as a little time suffices for.
fn tell_faulty(data: &Dataset) {
    let many = data.train.len() + data.val.len() > MANY;
    let time = if many { CHECK_MANY } else { CHECK };
    let Checked { looked_at, images, faulty } = check(data, time);
    let unreadable = faulty.iter().filter(|error| !error.taken).count();
    if unreadable > 0 {
        let all = if looked_at < images { " that were looked at" } else { "" };
        let text = if unreadable == images {
            format!("none of the {images} images can be read: a run would be refused")
        } else {
            format!("{unreadable} of {looked_at} images{all} can't be read, a run skips them")
        };
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
    memory: MemoryNeed,
}

/// What the model predicts of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PredictedTarget {
    /// The pixels of this many hidden patches.
    Hidden(usize),
    /// One of this many classes.
    Class(usize),
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
            memory: MemoryNeed::new(config, Operations::of(config)),
        }
    }

    /// Returns the rows per image that go through the head.
    pub(super) fn head_rows(&self) -> usize {
        match self.target {
            PredictedTarget::Hidden(hidden) => hidden,
            PredictedTarget::Class(_) => 1,
        }
    }

    /// Returns whether a run on the CPU would not find the memory that it needs here.
    pub(super) fn lacks_memory(&self) -> bool {
        self.memory.lack(free()).is_some()
    }

    /// Returns the plan as lines for people. Those of `speed` stand before the schedule.
    fn lines(&self, config: &Config, data: &str, speed: Vec<String>) -> Vec<String> {
        let mut lines = vec![
            format!("data        {data}"),
            self.model_line(config),
            self.target_line(config),
            self.steps_line(config),
            self.memory_line(config),
        ];
        lines.extend(self.here_lines(config));
        lines.push(match (config.train.precision, config.train.device.as_str()) {
            (Precision::Fp32, _) | (_, "cpu") => "precision   fp32".to_owned(),
            (precision, _) => {
                format!("precision   {precision} on a CUDA device, fp32 on the CPU")
            }
        });
        lines.extend(speed);
        lines.extend(self.schedule_lines());
        lines
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
                    from.map_or("fresh weights".to_owned(), |from| shown::path(from).to_string());
                format!("classifier  {classes} classes, encoder from {from}")
            }
        }
    }

    fn steps_line(&self, config: &Config) -> String {
        let RunLength { steps_per_epoch, total_steps } = self.length;
        let epochs = units::epochs(total_steps, steps_per_epoch);
        let times = if total_steps.is_multiple_of(steps_per_epoch) { "x" } else { "of" };
        format!(
            "steps       {total_steps} = {epochs} epochs {times} {steps_per_epoch} steps, {} images each ({} x {} \
             accumulated)",
            config.images_per_step(),
            config.train.batch_size,
            config.train.accumulation
        )
    }

    fn memory_line(&self, config: &Config) -> String {
        let MemoryNeed { state, activations, .. } = self.memory;
        format!(
            "memory      about {}: {} weights, gradients and moments, {} activations{}",
            bytes(self.memory.total()),
            bytes(state),
            bytes(activations),
            if config.train.activation_checkpointing { ", checkpointed" } else { "" }
        )
    }

    /// Returns whether a run on the CPU finds the memory that it needs here. Of GPUs nothing is known before the start.
    fn here_lines(&self, config: &Config) -> Vec<String> {
        let Some(free) = free().filter(|_| Operations::of(config) == Operations::Fused) else {
            return Vec::new();
        };
        let mut lines = vec![format!("            {} are free {}", bytes(free.bytes), free.limit)];
        if self.memory.lack(Some(free)).is_some() {
            lines
                .push("            TOO LITTLE: the run is refused here without --force".to_owned());
        }
        lines
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
    fn the_text_names_what_matters() {
        let config = Config::default();
        let text = Plan::new(&config, 171).lines(&config, "171 photos", Vec::new()).join("\n");
        for part in
            ["400 = 80 epochs x 5 steps", "40 of 64 patches", "20 warm-up steps", "171 photos"]
        {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        let mut short = config;
        (short.train.epochs, short.train.steps) = (None, Some(12));
        let text = Plan::new(&short, 171).lines(&short, "171 photos", Vec::new()).join("\n");
        for part in ["12 = 2.40 epochs of 5 steps", "6 warm-up steps", " 12 step"] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}
