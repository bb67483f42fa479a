//! What crosses the line between trainer and front ends, in both directions: plain data, no tensors.
//!
//! Every event is also one line of `events.jsonl`, so the names below are a file format.

use serde::{Deserialize, Serialize};

/// An event with its wall-clock time, as it stands in `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Seconds since 1970-01-01 UTC.
    pub time: f64,
    #[serde(flatten)]
    pub event: Event,
}

/// News from the trainer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Training begins or goes on. Steps after `step` in earlier lines were lost and are done again.
    Started(Started),
    Phase {
        phase: Phase,
    },
    /// One log period.
    Step(StepReport),
    /// A pass over the validation images with their fixed masks.
    Validated(Validation),
    /// Pictures of validation images were written.
    Preview(PreviewFile),
    CheckpointSaved {
        step: u64,
        /// Relative to the run directory.
        path: String,
        bytes: u64,
        /// Whether it has the lowest validation loss so far.
        best: bool,
    },
    /// A line for the log.
    Log {
        level: Level,
        message: String,
    },
    /// The last event of a run that ended in order.
    Finished(Finished),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// Optimizer steps done before.
    pub step: u64,
    pub total_steps: u64,
    pub steps_per_epoch: u64,
    pub epochs: u64,
    pub warmup_steps: u64,
    /// Trained and fixed weights.
    pub parameters: u64,
    pub device: String,
    pub data: String,
    pub resumed: bool,
    pub version: String,
}

/// What the trainer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Starting,
    /// The first step on this device: kernels are compiled and tuned.
    Compiling,
    Running,
    Paused,
    Evaluating,
    Saving,
    Stopping,
}

/// Figures of the steps since the last report; `step` is the newest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Optimizer steps done.
    pub step: u64,
    /// Epochs done, with the share of the current one.
    pub epoch: f64,
    /// Mean loss over the period.
    pub loss: f32,
    /// Loss of each step of the period, oldest first; ends with `step`.
    pub losses: Vec<f32>,
    /// Learning rate of the newest step.
    pub lr: f64,
    /// Largest gradient norm of the period, before clipping.
    pub grad_norm: f32,
    /// Training images per second over the period; pauses, validation and saving don't count.
    pub images_per_s: f64,
    /// Share of the period's time in which the trainer waited for the loader, 0 to 1.
    pub data_wait: f64,
    /// Where the time of this session went.
    pub spent: TimeSplit,
    /// Seconds to the end, with validations and checkpoints to come.
    pub eta_s: f64,
    /// Seconds of training so far without pauses, over all resumes.
    pub elapsed_s: f64,
}

/// Seconds by activity, since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TimeSplit {
    pub data_wait: f64,
    pub compute: f64,
    pub validation: f64,
    pub saving: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    pub step: u64,
    pub epoch: f64,
    pub val_loss: f64,
    /// Decibels over hidden pixels in 0..1, mean over images.
    pub psnr: f64,
    /// Structural similarity of image and reconstruction, mean over images.
    pub ssim: f64,
    pub images: u64,
    pub best: bool,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewFile {
    pub step: u64,
    /// PNG relative to the run directory: a row per image, columns original, masked, reconstructed (visible patches
    /// pasted in), raw output.
    pub path: String,
    /// Side of a picture, pixels.
    pub image: u32,
    /// Whole factor by which the PNG is enlarged.
    pub scale: u32,
    /// Decibels, per image.
    pub psnr: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Info,
    Warning,
    Error,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub step: u64,
    pub reason: Reason,
    /// Lowest validation loss of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_val_loss: Option<f64>,
    pub elapsed_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Completed,
    /// Stopped by a command or a signal; saved.
    Stopped,
}

/// Orders to the trainer: absolute, so that repeating one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    Pause,
    Resume,
    Checkpoint,
    /// Save and end.
    Stop,
}

/// Seconds since 1970-01-01 UTC.
pub fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_comes_back_from_its_line() {
        let events = [
            Event::Phase { phase: Phase::Compiling },
            Event::Step(StepReport {
                step: 7,
                epoch: 1.4,
                loss: 0.1,
                losses: vec![0.3, 0.1],
                lr: 1e-3,
                grad_norm: 2.5,
                images_per_s: 70.25,
                data_wait: 0.01,
                spent: TimeSplit { data_wait: 0.5, compute: 9.0, validation: 1.0, saving: 0.1 },
                eta_s: 10.0,
                elapsed_s: 20.0,
            }),
            Event::Log { level: Level::Warning, message: "a \"quoted\" line".to_owned() },
            Event::Finished(Finished {
                step: 9,
                reason: Reason::Completed,
                best_val_loss: None,
                elapsed_s: 1.5,
            }),
        ];
        for event in events {
            let stamped = Stamped { time: 1_795_441_968.594_311, event };
            let line = serde_json::to_string(&stamped).expect("plain data");
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(value["time"].as_f64(), Some(stamped.time), "{line}");
            let back: Stamped = serde_json::from_str(&line).expect(&line);
            assert_eq!(back, stamped);
        }
    }
}
