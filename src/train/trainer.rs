//! The run loop: batches in, steps, reports, validations and checkpoints out, commands between micro-steps.

use super::emitter::Emitter;
use super::evaluate::Evaluator;
use super::health::Health;
use super::meter::{Activity, Meter};
use super::task::{self, Task};
use super::watchdog::{Pulse, Watchdog, WatchedRun};
use crate::config::Config;
use crate::data::loader::{Loader, LoaderConfig};
use crate::data::{DataError, Dataset};
use crate::engine;
use crate::engine::device::{self, Device, precision::Effective};
use crate::engine::learner::LearnerConfig;
use crate::engine::schedule::Schedule;
use crate::engine::{Engine, EngineState, Update};
use crate::eval::Labelled;
use crate::event::{Event, Finished, Level, Listener, Order, Phase, Reason, Started};
use crate::exit;
use crate::model::state::{NamedTensors, StateError};
use crate::run_dir::{EventLog, RunDir, RunDirError};
use crate::weights::best::{Best, Grade};
use crate::weights::checkpoint::{self, CheckpointError, FoundCheckpoint, Meta};
use crate::weights::pretrained::Pretrained;
use crossbeam_channel::Receiver;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Why a run failed.
#[derive(Debug, Error)]
pub enum TrainError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("checkpoint {path} doesn't fit the model: {source}")]
    State { path: PathBuf, source: StateError },
    #[error(
        "the loss or its gradient is not a number at step {step}: the update was left out, the weights from before it \
         are saved; lower schedule.base_lr and continue with --resume, or leave such steps out with --on-nan skip"
    )]
    NotFinite { step: u64 },
    #[error(
        "the loss or its gradient was not a number in {count} steps in a row, up to step {step}: their updates were left \
         out, the weights from before them are saved; lower schedule.base_lr and continue with --resume"
    )]
    TooManyBadSteps { step: u64, count: u64 },
    #[error(
        "a weight is not a number at step {step}: the run is stopped without saving; lower schedule.base_lr and \
         continue with --resume"
    )]
    BadWeights { step: u64 },
    #[error("the trainer panicked: {0}")]
    Panic(String),
}

impl TrainError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFinite { .. } | Self::TooManyBadSteps { .. } | Self::BadWeights { .. } => {
                exit::NOT_A_NUMBER
            }
            _ => exit::FAILED,
        }
    }

    /// The file that couldn't be written for lack of space.
    pub fn full_disk(&self) -> Option<&Path> {
        let (Self::RunDir(RunDirError::Io { path, source, .. })
        | Self::Checkpoint(CheckpointError::Write { path, source })) = self
        else {
            return None;
        };
        let full =
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        full.then_some(path.as_path())
    }
}

/// A run that is ready to start.
pub struct Job {
    pub config: Config,
    pub device: Device,
    pub data: Dataset,
    pub run: RunDir,
    /// What to evaluate on while training, if that is wanted.
    pub eval: Option<Labelled>,
    /// Where to go on; `None` starts from fresh weights.
    pub resume: Option<FoundCheckpoint>,
    /// Weights to start from without that; all that the model has.
    pub init: Option<NamedTensors>,
    /// What the encoder starts from instead, in a run that doesn't go on from somewhere.
    pub pretrained: Option<Pretrained>,
    /// Lines for the log, known before the start.
    pub notices: Vec<(Level, String)>,
}

/// Steps of a run over `images` training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLength {
    pub steps_per_epoch: u64,
    pub total_steps: u64,
}

impl RunLength {
    /// Whole steps only, at least one per epoch: a small set is repeated within the epoch, see the loader.
    pub fn new(config: &Config, images: usize) -> Self {
        let steps_per_epoch = (images / config.images_per_step()).max(1) as u64;
        Self { steps_per_epoch, total_steps: steps_per_epoch * config.train.epochs as u64 }
    }
}

/// The trainer: owns model, data, run folder and all counters.
pub struct Trainer {
    pub(super) config: Config,
    pub(super) data: Dataset,
    pub(super) run: RunDir,
    pub(super) engine: Box<dyn Engine>,
    pub(super) loader: Loader,
    pub(super) loader_config: LoaderConfig,
    pub(super) task: Box<dyn Task>,
    /// Trained and fixed weights.
    parameters: u64,
    pub(super) schedule: Schedule,
    pub(super) extent: RunLength,
    pub(super) emitter: Arc<Emitter>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) orders: Receiver<Order>,
    pub(super) health: Health,
    pub(super) meter: Meter,
    /// The GPU that computes.
    #[cfg(feature = "cuda")]
    gpu: Option<usize>,
    /// Micro-batches taken since the start of the run: the one counter of progress.
    pub(super) micro: u64,
    /// Step of the last report.
    pub(super) reported: u64,
    pub(super) best: Best,
    /// Step and result of the newest validation.
    pub(super) validated: Option<(u64, Grade)>,
    pub(super) evaluator: Option<Evaluator>,
    /// Step of the newest evaluation.
    pub(super) evaluated: Option<u64>,
    /// Micro-batches of the newest checkpoint in the run folder.
    pub(super) saved: Option<u64>,
    pub(super) unreadable: BTreeSet<String>,
    /// Orders that came while they could not be carried out.
    pub(super) queue: VecDeque<Order>,
    pub(super) stopping: bool,
    pub(super) phase: Phase,
    /// A step whose figures are no numbers, until it is reacted to.
    pub(super) bad_step: Option<u64>,
    /// Such steps in a row.
    pub(super) bad_steps: u64,
    /// A full disk is waited out; before the start it is an error.
    pub(super) patient: bool,
    /// The phase from before the disk was full, while it is.
    pub(super) full: Option<Phase>,
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Saves the configuration and opens the log of a run, in this order: with a log alone a resume would not know what to
/// train.
///
/// # Errors
/// The run folder can't be written.
pub(super) fn open_log(job: &Job) -> Result<EventLog, RunDirError> {
    job.run.write_config(&job.config)?;
    EventLog::open(&job.run.events_path())
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    pub finished: Finished,
    pub run: PathBuf,
    pub total_steps: u64,
    pub unreadable_images: usize,
}

impl Trainer {
    /// Builds the model, fills it from the checkpoint if there is one, and starts the loader.
    ///
    /// # Errors
    /// The checkpoint doesn't fit or the run folder can't be written.
    pub fn new(
        job: Job,
        listeners: Vec<Box<dyn Listener>>,
        orders: Receiver<Order>,
    ) -> Result<Self, TrainError> {
        let emitter = Arc::new(Emitter::new(open_log(&job)?, listeners));
        Self::with(job, emitter, orders)
    }

    /// The same with a voice that outlives it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(
        job: Job,
        emitter: Arc<Emitter>,
        orders: Receiver<Order>,
    ) -> Result<Self, TrainError> {
        let Job { config, device, data, eval, run, resume, init, pretrained, mut notices } = job;
        let extent = RunLength::new(&config, data.train.len());
        let learner = LearnerConfig::new(&config);
        let parameters = learner.shape.parameters();
        let mut engine = device::engine(&device, learner);
        let mut micro = 0;
        let mut meter = Meter::new(0.0);
        let mut best = Best::default();
        let mut validated = None;
        let mut evaluated = None;
        let mut saved = None;
        if let (None, Some(weights)) = (&resume, init) {
            let state = EngineState { weights, ..EngineState::default() };
            let path = config.train.init.clone().unwrap_or_default();
            engine.load(&state).map_err(|source| TrainError::State { path, source })?;
        }
        if let Some(FoundCheckpoint { path, checkpoint, warnings, .. }) = &resume {
            let Meta { step, elapsed_s, .. } = checkpoint.meta;
            engine
                .load(&checkpoint.engine)
                .map_err(|source| TrainError::State { path: path.clone(), source })?;
            micro = checkpoint.meta.micro;
            meter = Meter::new(elapsed_s);
            best = checkpoint.meta.best();
            validated = checkpoint.meta.grade().map(|grade| (step, grade));
            evaluated = checkpoint.meta.evaluated;
            notices.extend(
                warnings.iter().map(|text| {
                    (Level::Warning, format!("{text}; going on from {}", path.display()))
                }),
            );
            notices.push((Level::Info, format!("resumed from {}", path.display())));
            let (now, then) = (data.train.len() as u64, checkpoint.meta.train_images);
            // Imported weights have seen none of this data.
            if now != then && then != 0 {
                notices.push((
                    Level::Warning,
                    format!(
                        "there are {now} training images, {then} when the checkpoint was written: \
                         the order of images and the epochs differ from here on"
                    ),
                ));
            }
            let own = checkpoint::file_name(step, checkpoint.meta.accumulated);
            saved = same_file(path, &run.checkpoints().join(own)).then_some(micro);
        } else if let Some(pretrained) = &pretrained {
            pretrained
                .give(engine.as_mut())
                .map_err(|source| TrainError::State { path: pretrained.path.clone(), source })?;
        }
        let loader_config = LoaderConfig::from_config(&config);
        let accumulation = config.train.accumulation as u64;
        let loader = Loader::train(
            data.train.clone(),
            loader_config,
            extent.steps_per_epoch * accumulation,
            micro,
        );
        let mut trainer = Self {
            task: task::new(&config, &data),
            parameters,
            schedule: Schedule::new(&config, extent.steps_per_epoch),
            health: Health::new(config.alarms.clone()),
            reported: micro / accumulation,
            evaluator: eval.map(|data| Evaluator::new(&config, data)),
            evaluated,
            saved,
            config,
            data,
            run,
            engine,
            loader,
            loader_config,
            extent,
            emitter,
            pulse: Arc::default(),
            orders,
            meter,
            #[cfg(feature = "cuda")]
            gpu: device.gpu(),
            micro,
            best,
            validated,
            unreadable: BTreeSet::new(),
            queue: VecDeque::new(),
            stopping: false,
            phase: Phase::Starting,
            bad_step: None,
            bad_steps: 0,
            patient: false,
            full: None,
        };
        trainer.announce(&device, resume.is_some(), notices)?;
        if let Some(found) = &resume {
            trainer.settle(found)?;
        }
        Ok(trainer)
    }

    /// Makes the checkpoint that the run goes on from its newest one, and takes what contradicts it out of the way.
    fn settle(&mut self, found: &FoundCheckpoint) -> Result<(), TrainError> {
        let folder = self.run.checkpoints();
        // First a sound file in place, then the rest: a kill in between must not leave the run without one.
        if self.saved.is_none() {
            self.write_checkpoint()?;
        } else if found.checkpoint.meta.grade().is_some_and(|grade| self.is_best(grade)) {
            // A kill may have come between the checkpoint and its mark.
            checkpoint::mark_best(&found.path)?;
        }
        for path in &found.damaged {
            // A branch leaves the old run as it is.
            if path.parent().is_some_and(|parent| same_file(parent, &folder)) {
                checkpoint::set_aside(path, "damaged");
            }
        }
        let Meta { step, accumulated, .. } = found.checkpoint.meta;
        let newer = checkpoint::abandon_newer(&folder, step, accumulated)?;
        if newer > 0 {
            let message = format!("{newer} newer checkpoints got the ending .abandoned");
            self.emit(Event::Log { level: Level::Warning, message })?;
        }
        Ok(())
    }

    fn announce(
        &mut self,
        device: &Device,
        resumed: bool,
        notices: Vec<(Level, String)>,
    ) -> Result<(), TrainError> {
        let Effective { precision, notice } = Effective::of(self.config.train.precision, device);
        let notices = notices.into_iter().chain(notice.map(|notice| (Level::Info, notice)));
        self.emit(Event::Started(Started {
            step: self.step(),
            total_steps: self.extent.total_steps,
            steps_per_epoch: self.extent.steps_per_epoch,
            epochs: self.config.train.epochs as u64,
            warmup_steps: self.schedule.warmup_steps,
            parameters: self.parameters,
            device: device.to_string(),
            precision: precision.to_string(),
            data: self.data.description.clone(),
            task: task::kind(&self.config),
            resumed,
            version: crate::version::BUILD.to_owned(),
        }))?;
        for (level, message) in notices {
            self.emit(Event::Log { level, message })?;
        }
        Ok(())
    }

    /// Optimizer steps done.
    pub fn step(&self) -> u64 {
        self.micro / self.config.train.accumulation as u64
    }

    /// Trains to the end or until a Stop, with a checkpoint at the end in both cases.
    ///
    /// # Errors
    /// See [`TrainError`]; checkpoints that were written stay good.
    pub fn run(mut self) -> Result<RunSummary, TrainError> {
        let sentinel = Watchdog::start(self.charge());
        if let Err(error) = &sentinel {
            let message = format!("nobody looks after stalls, disk and heat: no thread ({error})");
            self.emit(Event::Log { level: Level::Warning, message })?;
        }
        let result = self.train();
        self.full = None; // waited for no longer
        if matches!(result, Err(TrainError::Data(_))) && self.micro > 0 {
            self.patient = false;
            let _ = self.save(); // what ended the run is the error to tell
        }
        result
    }

    fn charge(&self) -> WatchedRun {
        WatchedRun {
            emitter: Arc::clone(&self.emitter),
            pulse: Arc::clone(&self.pulse),
            root: self.run.root().to_owned(),
            // Weights and two moments, 4 bytes each.
            checkpoint_bytes: 12 * self.parameters,
            alarms: self.config.alarms.clone(),
            #[cfg(feature = "cuda")]
            gpu: self.gpu,
            heartbeat: {
                let heartbeat = self.run.heartbeat();
                Box::new(move || heartbeat.beat())
            },
        }
    }

    fn train(&mut self) -> Result<RunSummary, TrainError> {
        self.patient = true;
        self.meter.lap(Activity::Other);
        let step = self.step();
        if self.mid_step() == 0 {
            let mut best = false;
            let due = step == 0 || self.validation_due();
            if due && self.validated.is_none_or(|(at, _)| at != step) {
                best = self.validate()?;
            }
            let due = step == 0 || self.evaluation_due();
            if due && self.evaluated != Some(step) {
                self.evaluate()?;
            }
            if best {
                self.save()?;
            }
        }
        self.phase(Phase::Compiling)?;
        let first = self.micro;
        while self.step() < self.extent.total_steps {
            self.react()?;
            self.obey()?;
            if self.stopping {
                break;
            }
            self.micro_step()?;
            if self.micro == first + 1 {
                self.phase(Phase::Running)?;
            }
        }
        self.finish()
    }

    /// One micro-batch; at the end of an accumulation the optimizer step and all that is due after it.
    ///
    /// # Errors
    /// See [`TrainError`].
    pub fn micro_step(&mut self) -> Result<(), TrainError> {
        self.meter.lap(Activity::Other);
        let batch = self.loader.next()?;
        self.meter.lap(Activity::DataWait);
        let Some(batch) = batch else { unreachable!("training batches never end") };
        self.note_unreadable(&batch.skipped)?;
        self.task.accumulate(self.engine.as_mut(), &batch, self.micro);
        let step = self.step();
        let last = self.mid_step() + 1 == self.config.train.accumulation as u64;
        let mut update = Update::Made;
        if last {
            update = self.engine.step(self.schedule.lr(step));
            self.meter.count_step();
        }
        self.micro += 1;
        self.pulse.beat(self.step());
        if !last {
            self.meter.lap(Activity::Compute);
            return Ok(());
        }
        let step = step + 1;
        if step.is_multiple_of(self.config.train.log_every as u64)
            || self.reported + 1 == step && step == 1
            || update == Update::LeftOut
        {
            self.report()?;
        } else {
            self.meter.lap(Activity::Compute);
        }
        let mut best = false;
        if self.validation_due() {
            best = self.validate()?;
        }
        if self.evaluation_due() {
            self.evaluate()?;
        }
        if best || self.checkpoint_due() {
            self.save()?;
        }
        Ok(())
    }

    /// Whether this is what the best checkpoint has.
    pub(super) fn is_best(&self, grade: Grade) -> bool {
        self.best.grade == Some(grade)
    }

    /// Micro-batches of the unfinished step.
    pub(super) fn mid_step(&self) -> u64 {
        self.micro % self.config.train.accumulation as u64
    }

    pub(super) fn epoch(&self) -> f64 {
        self.step() as f64 / self.extent.steps_per_epoch as f64
    }

    pub(super) fn validation_due(&self) -> bool {
        let step = self.step();
        let period = self.config.train.val_every as u64 * self.extent.steps_per_epoch;
        step > 0 && (step.is_multiple_of(period) || step == self.extent.total_steps)
    }

    pub(super) fn checkpoint_due(&self) -> bool {
        let step = self.step();
        let every = |period: u64| period > 0 && step.is_multiple_of(period);
        every(self.config.checkpoint.every_epochs as u64 * self.extent.steps_per_epoch)
            || every(self.config.checkpoint.every_steps as u64)
    }

    fn finish(&mut self) -> Result<RunSummary, TrainError> {
        self.phase(Phase::Stopping)?;
        self.save()?;
        self.answer_late_orders()?;
        let step = self.step();
        let finished = Finished {
            step,
            reason: if step >= self.extent.total_steps {
                Reason::Completed
            } else {
                Reason::Stopped
            },
            best_val_loss: self.best.lowest_loss,
            best_accuracy: self.best.grade.and_then(|grade| grade.accuracy),
            elapsed_s: self.meter.elapsed_s(),
        };
        self.emit(Event::Finished(finished.clone()))?;
        Ok(RunSummary {
            finished,
            run: self.run.root().to_owned(),
            total_steps: self.extent.total_steps,
            unreadable_images: self.unreadable.len(),
        })
    }

    /// Puts something around the engine.
    #[cfg(test)]
    pub(super) fn replace_engine(
        &mut self,
        around: impl FnOnce(Box<dyn Engine>) -> Box<dyn Engine>,
    ) {
        let config = LearnerConfig::new(&self.config);
        let engine = std::mem::replace(&mut self.engine, device::engine(&Device::Cpu, config));
        self.engine = around(engine);
    }

    /// The engine's whole state, for tests and comparisons. Device sync.
    pub fn engine_state(&self) -> engine::EngineState {
        self.engine.state()
    }
}
