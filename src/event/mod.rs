//! The contract between the trainer and its front ends, in both directions: plain data, no tensors.
//!
//! Every event is also one line of `events.jsonl`, so the names of its fields and variants are a file format. A figure
//! that is NaN or infinite is written as `null`.

mod foreign;
pub(crate) mod line;
mod lost;
pub(crate) mod number;
pub mod state;
mod validation;

use crate::text::units;
use serde::{Deserialize, Serialize};

pub use validation::{UsualImages, Validation, Work, WorkProgress};

/// An event with its wall-clock time: one line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Seconds since 1970-01-01 UTC.
    pub time: f64,
    #[serde(flatten)]
    pub event: Event,
}

impl Stamped {
    /// Stamps an event with the present time.
    pub fn now(event: Event) -> Self {
        Self { time: now(), event }
    }
}

/// A receiver of every event. It is called on the trainer's thread, so it must neither block nor fail.
pub trait Listener: Send {
    /// Receives an event. `log_end` is the offset in `events.jsonl` behind everything that is logged so far.
    fn hear(&mut self, stamped: &Stamped, log_end: u64);
}

/// What the trainer reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Training begins or goes on. The steps that it does not keep ([`Started::keeps`]) are done again.
    Started(Started),
    Phase {
        phase: Phase,
    },
    /// A log period is over.
    Step(StepReport),
    /// The validation images were passed through the model; in pre-training with their fixed masks.
    Validated(Validation),
    /// A validation or an evaluation is under way. This is sent to those who listen and never logged.
    Progress(WorkProgress),
    /// The encoder's features were judged on labelled images.
    Evaluated(Evaluated),
    /// Pictures of validation images were written.
    Preview(PreviewFile),
    CheckpointSaved {
        step: u64,
        /// Relative to the run directory.
        path: String,
        bytes: u64,
        /// Whether it has the lowest validation loss so far; for a classifier, the highest accuracy.
        best: bool,
    },
    /// An order was carried out. A stop is reported when the trainer accepts it, before the run ends.
    Obeyed(Order),
    /// A condition needs attention, or no longer does.
    Alarm(Alarm),
    /// A line for the log.
    Log {
        level: Level,
        message: String,
    },
    /// The run ended in order. No event of the same process follows.
    Finished(Finished),
}

/// How a process begins to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// Optimizer steps that the weights have behind them.
    pub step: u64,
    pub total_steps: u64,
    pub steps_per_epoch: u64,
    /// Rounded up where the run ends within an epoch.
    pub epochs: u64,
    pub warmup_steps: u64,
    /// Number of weights, trained and fixed.
    pub parameters: u64,
    pub device: String,
    /// Precision of matrix products: fp32, tf32 or bf16. Empty in the logs of earlier releases.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub precision: String,
    pub data: String,
    #[serde(default, skip_serializing_if = "is_usual")]
    pub task: TaskKind,
    pub resumed: bool,
    pub version: String,
}

impl Started {
    /// Returns the start of a small run, for tests.
    #[cfg(test)]
    pub fn sample(step: u64) -> Self {
        Self {
            step,
            total_steps: 9,
            steps_per_epoch: 3,
            epochs: 3,
            warmup_steps: 0,
            parameters: 1,
            device: String::new(),
            precision: String::new(),
            data: String::new(),
            task: TaskKind::default(),
            resumed: step > 0,
            version: String::new(),
        }
    }

    /// Returns the length of the run in epochs for people: `80`, or `0.20` where it ends within one.
    pub fn epochs_text(&self) -> String {
        units::epochs(self.total_steps, self.steps_per_epoch)
    }

    /// Returns the device with its precision, for people.
    pub fn computes_on(&self) -> String {
        if self.precision.is_empty() {
            return self.device.clone();
        }
        format!("{}, {}", self.device, self.precision)
    }
}

/// What a run trains its model for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// To predict the pixels of hidden patches.
    #[default]
    Pretraining,
    /// To predict the class of each image.
    Classification,
}

/// Returns whether the task is pre-training, which a log leaves out.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_usual(task: &TaskKind) -> bool {
    *task == TaskKind::Pretraining
}

/// What the trainer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Starting,
    /// The first step on this device, which may have to load or compile kernels for it.
    Compiling,
    Running,
    Paused,
    Evaluating,
    Saving,
    Stopping,
}

/// Figures of a log period: the steps since the last report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Optimizer steps done: the number of the period's last step.
    pub step: u64,
    /// Epochs done, including the fraction of the current one.
    pub epoch: f64,
    /// Mean loss over the period, not counting steps that were skipped.
    #[serde(deserialize_with = "number::or_nan")]
    pub loss: f32,
    /// Loss of each step of the period, oldest first. The last one belongs to `step`.
    #[serde(deserialize_with = "number::all_or_nan")]
    pub losses: Vec<f32>,
    /// Learning rate of the newest step.
    pub lr: f64,
    /// Largest gradient norm of the period, before clipping.
    #[serde(deserialize_with = "number::or_nan")]
    pub grad_norm: f32,
    /// Training images per second over the period, not counting pauses, validation and saving.
    pub images_per_s: f64,
    /// Share of the period's time in which the trainer waited for the loader, 0 to 1.
    pub data_wait: f64,
    /// Where the time since the start of the process went.
    pub spent: TimeSplit,
    /// Seconds to the end of the run, including the validations and checkpoints to come.
    pub eta_s: f64,
    /// Seconds of training so far without pauses, over all processes of the run.
    pub elapsed_s: f64,
}

#[cfg(test)]
impl StepReport {
    /// Returns the report of a period that ends with `step`, for tests.
    pub fn sample(step: u64) -> Self {
        Self {
            step,
            epoch: 0.0,
            loss: 1.0,
            losses: vec![1.0],
            lr: 0.1,
            grad_norm: 1.0,
            images_per_s: 1.0,
            data_wait: 0.0,
            spent: TimeSplit::default(),
            eta_s: 1.0,
            elapsed_s: 1.0,
        }
    }
}

/// Seconds by activity since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TimeSplit {
    pub data_wait: f64,
    pub compute: f64,
    pub validation: f64,
    pub saving: f64,
}

/// Accuracies on labelled images. Front ends show whatever metrics there are, in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    pub step: u64,
    pub epoch: f64,
    pub metrics: Vec<Metric>,
    /// What the same methods reach without this training, for example on raw pixels. These are the same at every step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baselines: Vec<Metric>,
    pub seconds: f64,
}

/// One figure of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Name for people, for example "k-NN 20". It also names the metric's curve.
    pub name: String,
    /// Share of images, 0 to 1.
    #[serde(deserialize_with = "number::or_nan")]
    pub value: f64,
    /// Standard error of `value`, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<f64>,
    /// The 95 % interval of `value` by Wilson, 0 to 1, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
}

impl Metric {
    /// Returns a figure without an interval, as earlier releases wrote them.
    #[cfg(test)]
    pub fn bare(name: &str, value: f64, stderr: Option<f64>) -> Self {
        Self { name: name.to_owned(), value, stderr, interval: None }
    }

    /// Returns the figure for people: `k-NN 20 81.3 [79.4, 83.0] %`, with its interval. The logs of earlier releases have
    /// only the standard error, which follows `plus_minus`.
    pub fn text(&self, plus_minus: &str) -> String {
        let percent = self.value * 100.0;
        let error = match (self.interval, self.stderr) {
            (Some([low, high]), _) => format!(" [{:.1}, {:.1}]", low * 100.0, high * 100.0),
            // All images right, or none: an error of 0 would be wrong.
            (None, Some(error)) if error > 0.0 => format!(" {plus_minus} {:.1}", error * 100.0),
            (None, _) => String::new(),
        };
        format!("{} {percent:.1}{error} %", self.name)
    }
}

/// A file of reconstructed validation images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewFile {
    pub step: u64,
    /// Path of a PNG, relative to the run directory. It has one row per image and four columns: original, masked,
    /// reconstructed (with the visible patches pasted in), raw output.
    pub path: String,
    /// Side of one picture, pixels, before enlargement.
    pub image: u32,
    /// Whole factor by which the pictures in the PNG are enlarged.
    pub scale: u32,
    /// Peak signal-to-noise ratio of each image, dB.
    #[serde(deserialize_with = "number::all_or_nan")]
    pub psnr: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// How a run ended in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub step: u64,
    pub reason: Reason,
    /// Lowest validation loss of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_val_loss: Option<f64>,
    /// Highest accuracy of the run. Absent where the model predicts no class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_accuracy: Option<f64>,
    pub elapsed_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// All steps were done.
    Completed,
    /// A command or a signal stopped the run, which was saved first.
    Stopped,
}

impl Reason {
    /// Returns the state of a run that ended for this reason, in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "finished",
            Self::Stopped => "stopped",
        }
    }

    /// Returns what happened to the run, as a sentence about it begins.
    pub fn in_full(self) -> &'static str {
        match self {
            Self::Completed => "finished",
            Self::Stopped => "stopped and saved",
        }
    }
}

/// A condition that needs attention. It is reported when it begins and when it is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    pub kind: AlarmKind,
    /// Whether the condition holds. `false` ends the alarm of this kind.
    pub active: bool,
    pub step: u64,
    /// What was observed, which limit it exceeds, and what is done about it.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// The loss or the gradient norm of a step is NaN or infinite.
    NotFinite,
    /// The loss is far above its recent values.
    LossSpike,
    /// The gradient norm is far above its recent values.
    GradientJump,
    /// No step has ended for a long time.
    Stalled,
    /// Steps wait for the loader.
    SlowLoader,
    /// There is little space left for checkpoints.
    DiskLow,
    /// A write failed for lack of space.
    DiskFull,
    /// A write failed for another reason.
    CannotWrite,
    /// The run directory, its lock or its log is not where it belongs.
    FilesLost,
    GpuHot,
}

impl AlarmKind {
    /// Returns the name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFinite => "not a number",
            Self::LossSpike => "loss spike",
            Self::GradientJump => "gradient jump",
            Self::Stalled => "stalled",
            Self::SlowLoader => "slow loader",
            Self::DiskLow => "disk nearly full",
            Self::DiskFull => "disk full",
            Self::CannotWrite => "cannot write",
            Self::FilesLost => "files lost",
            Self::GpuHot => "GPU too hot",
        }
    }
}

/// An order and who gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub command: Command,
    /// Who gave it, for the log: "the screen", "SIGUSR2", "hangup", "process 4711".
    pub by: String,
}

impl Order {
    pub fn new(command: Command, by: impl Into<String>) -> Self {
        Self { command, by: by.into() }
    }
}

/// What the trainer can be told to do. Each command names a state rather than a change, so repeating one has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    Pause,
    Resume,
    Checkpoint,
    /// Save a checkpoint and end.
    Stop,
}

impl Command {
    /// Returns the name for people, which is also the one on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Checkpoint => "checkpoint",
            Self::Stop => "stop",
        }
    }
}

/// Returns the present time in seconds since 1970-01-01 UTC.
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
            Event::Obeyed(Order::new(Command::Checkpoint, "SIGUSR2")),
            Event::Evaluated(Evaluated {
                step: 7,
                epoch: 1.4,
                metrics: vec![
                    Metric {
                        interval: Some([0.79, 0.83]),
                        ..Metric::bare("k-NN 20", 0.81, Some(0.01))
                    },
                    Metric::bare("top-1", 0.5, None),
                ],
                baselines: vec![Metric::bare("k-NN 20, raw pixels", 0.8, None)],
                seconds: 1.5,
            }),
            Event::Alarm(Alarm {
                kind: AlarmKind::LossSpike,
                active: true,
                step: 7,
                message: "loss 9.0".to_owned(),
            }),
            Event::Log { level: Level::Warning, message: "a \"quoted\" line".to_owned() },
            Event::Finished(Finished {
                step: 9,
                reason: Reason::Completed,
                best_val_loss: None,
                best_accuracy: None,
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

    #[test]
    fn an_evaluation_needs_names_and_values_only() {
        let line = r#"{"time":1,"event":"evaluated","step":2,"epoch":1,"metrics":[{"name":"top-1","value":null}],
            "seconds":1}"#;
        let stamped: Stamped = serde_json::from_str(line).expect("an event");
        let Event::Evaluated(evaluated) = &stamped.event else { panic!("{stamped:?}") };
        assert!(evaluated.metrics[0].value.is_nan() && evaluated.baselines.is_empty());
        let again = serde_json::to_value(&stamped).expect("plain data");
        let metrics = serde_json::json!([{"name": "top-1", "value": null}]);
        assert_eq!((&again["metrics"], again.get("baselines")), (&metrics, None));
        let metric = Metric::bare("k-NN 5", 0.8126, Some(0.0041));
        assert_eq!(metric.text("±"), "k-NN 5 81.3 ± 0.4 %");
        let all = Metric::bare("k-NN 5", 1.0, Some(0.0));
        assert_eq!(all.text("±"), "k-NN 5 100.0 %", "never an error of 0");
        let all = Metric { interval: Some([0.6756, 1.0]), ..all };
        assert_eq!(all.text("±"), "k-NN 5 100.0 [67.6, 100.0] %");
    }

    #[test]
    fn a_validation_has_the_quality_of_reconstructions_or_none() {
        let line = |quality: &str| {
            format!(
                r#"{{"time":1.0,"event":"validated","step":2,"epoch":1.0,"val_loss":0.5,{quality}"images":3,"best":true,"seconds":1.0}}"#
            )
        };
        for (quality, texts) in [
            (r#""psnr":18.25,"ssim":0.5,"#, &["psnr 18.25 dB", "ssim 0.500"][..]),
            (r#""psnr":null,"ssim":null,"#, &["psnr NaN dB", "ssim NaN"][..]),
            ("", &[][..]),
        ] {
            let line = line(quality);
            let stamped: Stamped = serde_json::from_str(&line).expect("an event");
            let Event::Validated(validation) = &stamped.event else { panic!("{stamped:?}") };
            assert_eq!(validation.quality(), texts);
            assert_eq!(serde_json::to_string(&stamped).expect("plain data"), line);
        }
    }

    #[test]
    fn only_classification_says_what_it_is() {
        let line = r#"{"time":1.0,"event":"started","step":0,"total_steps":9,"steps_per_epoch":3,"epochs":3,"warmup_steps":0,"parameters":1,"device":"cpu","data":"x","resumed":false,"version":"0"}"#;
        let mut stamped: Stamped = serde_json::from_str(line).expect("an event of old");
        assert_eq!(serde_json::to_string(&stamped).expect("plain data"), line);
        if let Event::Started(started) = &mut stamped.event {
            assert_eq!(started.task, TaskKind::Pretraining);
            started.task = TaskKind::Classification;
        }
        let line = serde_json::to_string(&stamped).expect("plain data");
        assert!(line.contains(r#""task":"classification""#), "{line}");
        assert_eq!(serde_json::from_str::<Stamped>(&line).expect("an event"), stamped);
    }

    #[test]
    fn figures_that_are_no_numbers_come_back_as_such() {
        let line = r#"{"time":1,"event":"step","step":2,"epoch":1,"loss":null,"losses":[1,null],"lr":1,
            "grad_norm":null,"images_per_s":1,"data_wait":0,"spent":{"data_wait":0,"compute":0,"validation":0,
            "saving":0},"eta_s":1,"elapsed_s":1}"#;
        let stamped: Stamped = serde_json::from_str(line).expect("an event");
        let Event::Step(report) = &stamped.event else { panic!("{stamped:?}") };
        assert!(report.loss.is_nan() && report.grad_norm.is_nan());
        assert!(report.losses[0].is_finite() && report.losses[1].is_nan());
        let again = serde_json::to_value(&stamped).expect("plain data");
        assert_eq!(again["losses"], serde_json::json!([1.0, null]));
    }
}
