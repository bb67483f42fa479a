//! The run loop: batches in, steps, reports, validations and checkpoints out, commands between micro-steps.

use super::checkpoint::{self, Checkpoint, CheckpointError, Found, Meta};
use super::engine::{self, Engine, MicroBatch};
use super::learner::LearnerConfig;
use super::meter::{Activity, Meter};
use super::schedule::Schedule;
use super::validate;
use crate::config::{Config, file};
use crate::data::loader::{Loader, LoaderConfig};
use crate::data::{DataError, Dataset, ImageError};
use crate::device::{self, Device};
use crate::event::{
    Command, Event, Finished, Level, Phase, PreviewFile, Reason, Stamped, Started, StepReport,
    Validation,
};
use crate::model::mask::MaskGenerator;
use crate::model::patch::Pixels;
use crate::model::state::StateError;
use crate::picture::Painter;
use crate::run_dir::{EventLog, RunDir, RunDirError, write_atomic};
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::{Path, PathBuf};
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
        "the loss or its gradient is not a number at step {step}: the run is stopped, checkpoints before it are good; \
         lower schedule.base_lr and continue with --resume"
    )]
    NotFinite { step: u64 },
    #[error("the trainer panicked: {0}")]
    Panic(String),
}

/// A run that is ready to start.
pub struct Job {
    pub config: Config,
    pub device: Device,
    pub data: Dataset,
    pub run: RunDir,
    /// Where to go on; `None` starts from fresh weights.
    pub resume: Option<Found>,
    /// Lines for the log, known before the start.
    pub notices: Vec<(Level, String)>,
}

/// Steps of a run over `images` training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub steps_per_epoch: u64,
    pub total_steps: u64,
}

impl Extent {
    /// Whole steps only, at least one per epoch: a small set is repeated within the epoch, see the loader.
    pub fn new(config: &Config, images: usize) -> Self {
        let steps_per_epoch = (images / config.images_per_step()).max(1) as u64;
        Self { steps_per_epoch, total_steps: steps_per_epoch * config.train.epochs as u64 }
    }
}

/// The trainer: owns model, data, run folder and all counters.
pub struct Trainer {
    config: Config,
    data: Dataset,
    run: RunDir,
    engine: Box<dyn Engine>,
    loader: Loader,
    loader_config: LoaderConfig,
    masks: MaskGenerator,
    painter: Painter,
    schedule: Schedule,
    extent: Extent,
    log: EventLog,
    events: Sender<Stamped>,
    commands: Receiver<Command>,
    meter: Meter,
    /// Micro-batches taken since the start of the run: the one counter of progress.
    micro: u64,
    /// Step of the last report.
    reported: u64,
    best_val_loss: Option<f64>,
    /// Step and loss of the newest validation.
    validated: Option<(u64, f64)>,
    /// Step and micro-batch of the newest checkpoint.
    saved: Option<u64>,
    unreadable: BTreeSet<String>,
    stopping: bool,
}

fn same_folder(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
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
        events: Sender<Stamped>,
        commands: Receiver<Command>,
    ) -> Result<Self, TrainError> {
        let Job { config, device, data, run, resume, notices } = job;
        // The configuration first: with a log alone a resume would not know what to train.
        run.write_config(&config)?;
        let log = EventLog::open(&run.events_path())?;
        let extent = Extent::new(&config, data.train.len());
        let learner = LearnerConfig::new(&config);
        let painter = Painter {
            shape: learner.shape.clone(),
            normalization: learner.normalization,
            normalize_targets: config.loss.normalize_targets,
        };
        let mut engine = device::engine(&device, learner);
        let mut micro = 0;
        let mut meter = Meter::new(0.0);
        let mut best_val_loss = None;
        let mut validated = None;
        let mut notices = notices;
        if let Some(Found { path, checkpoint, warnings, damaged }) = &resume {
            let Meta { step, elapsed_s, val_loss, .. } = checkpoint.meta;
            engine
                .load(&checkpoint.engine)
                .map_err(|source| TrainError::State { path: path.clone(), source })?;
            micro = checkpoint.meta.micro;
            meter = Meter::new(elapsed_s);
            best_val_loss = checkpoint.meta.best_val_loss;
            validated = val_loss.map(|loss| (step, loss));
            notices.extend(
                warnings.iter().map(|text| {
                    (Level::Warning, format!("{text}; going on from {}", path.display()))
                }),
            );
            notices.push((Level::Info, format!("resumed from {}", path.display())));
            let (now, then) = (data.train.len() as u64, checkpoint.meta.train_images);
            if now != then {
                notices.push((
                    Level::Warning,
                    format!(
                        "there are {now} training images, {then} when the checkpoint was written: \
                         the order of images and the epochs differ from here on"
                    ),
                ));
            }
            // Only in this run's own folder: a branch leaves the old run as it is.
            let folder = run.checkpoints();
            damaged
                .iter()
                .filter(|path| path.parent().is_some_and(|parent| same_folder(parent, &folder)))
                .for_each(|path| checkpoint::set_aside(path, "damaged"));
            if checkpoint::abandon_newer(&folder, step, checkpoint.meta.accumulated) > 0 {
                let text = "newer checkpoints got the ending .abandoned".to_owned();
                notices.push((Level::Warning, text));
            }
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
            masks: MaskGenerator::new(&config.mask, &painter.shape, config.train.seed),
            schedule: Schedule::new(&config, extent.steps_per_epoch),
            reported: micro / accumulation,
            saved: resume.as_ref().map(|_| micro),
            config,
            data,
            run,
            engine,
            loader,
            loader_config,
            painter,
            extent,
            log,
            events,
            commands,
            meter,
            micro,
            best_val_loss,
            validated,
            unreadable: BTreeSet::new(),
            stopping: false,
        };
        trainer.announce(&device, resume.is_some(), notices)?;
        Ok(trainer)
    }

    fn announce(
        &mut self,
        device: &Device,
        resumed: bool,
        notices: Vec<(Level, String)>,
    ) -> Result<(), TrainError> {
        self.emit(Event::Started(Started {
            step: self.step(),
            total_steps: self.extent.total_steps,
            steps_per_epoch: self.extent.steps_per_epoch,
            epochs: self.config.train.epochs as u64,
            warmup_steps: self.schedule.warmup_steps,
            parameters: self.painter.shape.parameters(),
            device: device.to_string(),
            data: self.data.description.clone(),
            resumed,
            version: env!("CARGO_PKG_VERSION").to_owned(),
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
    pub fn run(mut self) -> Result<Summary, TrainError> {
        let result = self.train();
        if let Err(error) = &result {
            // For readers of the log; whoever started the run gets the error itself.
            let _ = self.emit(Event::Log { level: Level::Error, message: error.to_string() });
        }
        result
    }

    fn train(&mut self) -> Result<Summary, TrainError> {
        self.meter.lap(Activity::Other);
        let step = self.step();
        let due = step == 0 || self.validation_due();
        if due && self.mid_step() == 0 && self.validated.is_none_or(|(at, _)| at != step) {
            self.validate()?;
        }
        self.phase(Phase::Compiling)?;
        let first = self.micro;
        while self.step() < self.extent.total_steps {
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
        let mask = self.masks.training(batch.first_sample, batch.len());
        let pixels = Pixels::Bytes(&batch.images);
        self.engine.accumulate(MicroBatch { pixels, mask: &mask }, self.micro);
        let step = self.step();
        let last = self.mid_step() + 1 == self.config.train.accumulation as u64;
        if last {
            self.engine.step(self.schedule.lr(step));
            self.meter.count_step();
        }
        self.micro += 1;
        if !last {
            self.meter.lap(Activity::Compute);
            return Ok(());
        }
        let step = step + 1;
        if step.is_multiple_of(self.config.train.log_every as u64)
            || self.reported + 1 == step && step == 1
        {
            self.report()?;
        } else {
            self.meter.lap(Activity::Compute);
        }
        let mut best = false;
        if self.validation_due() {
            best = self.validate()?;
        }
        if best || self.checkpoint_due() {
            self.save()?;
        }
        Ok(())
    }

    /// Micro-batches of the unfinished step.
    fn mid_step(&self) -> u64 {
        self.micro % self.config.train.accumulation as u64
    }

    fn epoch(&self) -> f64 {
        self.step() as f64 / self.extent.steps_per_epoch as f64
    }

    fn validation_due(&self) -> bool {
        let step = self.step();
        let period = self.config.train.val_every as u64 * self.extent.steps_per_epoch;
        step > 0 && (step.is_multiple_of(period) || step == self.extent.total_steps)
    }

    fn checkpoint_due(&self) -> bool {
        let step = self.step();
        let every = |period: u64| period > 0 && step.is_multiple_of(period);
        every(self.config.checkpoint.every_epochs as u64 * self.extent.steps_per_epoch)
            || every(self.config.checkpoint.every_steps as u64)
    }

    /// Reads the figures of all steps since the last report. Device sync.
    fn report(&mut self) -> Result<(), TrainError> {
        let figures = self.engine.read_figures(); // device sync
        self.meter.lap(Activity::Compute);
        if figures.is_empty() {
            return Ok(());
        }
        let step = self.step();
        if let Some(bad) =
            figures.iter().position(|f| !f.loss.is_finite() || !f.grad_norm.is_finite())
        {
            let step = step + 1 + bad as u64 - figures.len() as u64;
            return Err(TrainError::NotFinite { step });
        }
        let rate = self.meter.close_period(self.config.images_per_step());
        let losses: Vec<f32> = figures.iter().map(|figure| figure.loss).collect();
        let left = self.extent.total_steps - step;
        let epochs_left = left.div_ceil(self.extent.steps_per_epoch);
        let validations = epochs_left.div_ceil(self.config.train.val_every as u64);
        let checkpoints = match self.config.checkpoint.every_steps as u64 {
            0 => epochs_left.checked_div(self.config.checkpoint.every_epochs as u64).unwrap_or(0),
            every => left / every,
        };
        self.reported = step;
        self.emit(Event::Step(StepReport {
            step,
            epoch: self.epoch(),
            loss: losses.iter().sum::<f32>() / losses.len() as f32,
            losses,
            lr: self.schedule.lr(step - 1),
            grad_norm: figures.iter().map(|figure| figure.grad_norm).fold(0.0, f32::max),
            images_per_s: rate.images_per_s,
            data_wait: rate.data_wait,
            eta_s: self.meter.eta_s(left, validations, checkpoints),
            elapsed_s: self.meter.elapsed_s(),
        }))
    }

    /// Validates, writes previews, and says whether the loss is the lowest so far.
    fn validate(&mut self) -> Result<bool, TrainError> {
        self.report()?;
        self.phase(Phase::Evaluating)?;
        self.meter.lap(Activity::Other);
        // Orders that come meanwhile wait in `later`; only Stop cuts the pass short.
        let mut later = Vec::new();
        let commands = &self.commands;
        let outcome = validate::validate(
            self.engine.as_ref(),
            &self.data.val,
            self.loader_config,
            &self.masks,
            &self.painter,
            self.config.train.previews,
            || {
                later.extend(commands.try_iter());
                later.contains(&Command::Stop)
            },
        )?;
        let seconds = self.meter.lap(Activity::Validation).as_secs_f64();
        for command in later {
            self.execute(command)?;
        }
        let Some(outcome) = outcome else { return Ok(false) };
        self.note_unreadable(&outcome.skipped)?;
        if !outcome.loss.is_finite() {
            return Err(TrainError::NotFinite { step: self.step() });
        }
        let step = self.step();
        let best = self.best_val_loss.is_none_or(|best| outcome.loss < best);
        if best {
            self.best_val_loss = Some(outcome.loss);
        }
        self.validated = Some((step, outcome.loss));
        self.emit(Event::Validated(Validation {
            step,
            epoch: self.epoch(),
            val_loss: outcome.loss,
            psnr: outcome.psnr,
            ssim: outcome.ssim,
            images: outcome.images as u64,
            best,
            seconds,
        }))?;
        if !outcome.triples.is_empty() {
            let path = self.write_preview(step, &outcome.triples)?;
            let psnr = outcome.triples.iter().map(|triple| triple.psnr).collect();
            self.emit(Event::Preview(PreviewFile { step, path, psnr }))?;
        }
        self.phase(Phase::Running)?;
        Ok(best)
    }

    fn write_preview(
        &self,
        step: u64,
        triples: &[crate::picture::Triple],
    ) -> Result<String, TrainError> {
        let path = self.run.previews().join(format!("step-{step:08}.png"));
        let mut bytes = Cursor::new(Vec::new());
        let encoded = self.painter.sheet(triples).write_to(&mut bytes, image::ImageFormat::Png);
        let written = encoded
            .map_err(std::io::Error::other)
            .and_then(|()| write_atomic(&path, bytes.get_ref()));
        written.map_err(|source| RunDirError::Io { what: "write", path: path.clone(), source })?;
        Ok(self.relative(&path))
    }

    /// Saves a checkpoint unless this very state is saved already.
    ///
    /// # Errors
    /// It can't be written, or the figures on the device are not finite: bad weights are never saved.
    pub fn save(&mut self) -> Result<(), TrainError> {
        if self.saved == Some(self.micro) {
            return Ok(());
        }
        self.report()?;
        self.phase(Phase::Saving)?;
        self.meter.lap(Activity::Other);
        let step = self.step();
        let val_loss = self.validated.filter(|&(at, _)| at == step).map(|(_, loss)| loss);
        let engine = self.engine.state(); // device sync
        let checkpoint = Checkpoint {
            meta: Meta {
                version: Meta::CURRENT,
                step,
                accumulated: self.mid_step(),
                micro: self.micro,
                train_images: self.data.train.len() as u64,
                updates: engine.updates,
                losses: engine.losses.clone(),
                best_val_loss: self.best_val_loss,
                val_loss,
                elapsed_s: self.meter.elapsed_s(),
                config: file::to_toml(&self.config),
            },
            engine,
        };
        let folder = self.run.checkpoints();
        let (path, bytes) = checkpoint::save(&folder, &checkpoint)?;
        let best = val_loss.is_some() && val_loss == self.best_val_loss;
        if best {
            checkpoint::mark_best(&path)?;
        }
        checkpoint::prune(&folder, self.config.checkpoint.keep);
        self.saved = Some(self.micro);
        self.meter.lap(Activity::Saving);
        let path = self.relative(&path);
        self.emit(Event::CheckpointSaved { step, path, bytes, best })?;
        self.phase(Phase::Running)
    }

    fn finish(&mut self) -> Result<Summary, TrainError> {
        self.phase(Phase::Stopping)?;
        self.save()?;
        let step = self.step();
        let finished = Finished {
            step,
            reason: if step >= self.extent.total_steps {
                Reason::Completed
            } else {
                Reason::Stopped
            },
            best_val_loss: self.best_val_loss,
            elapsed_s: self.meter.elapsed_s(),
        };
        self.emit(Event::Finished(finished.clone()))?;
        Ok(Summary {
            finished,
            run: self.run.root().to_owned(),
            total_steps: self.extent.total_steps,
            unreadable_images: self.unreadable.len(),
        })
    }

    /// Carries out what has been ordered; while paused, waits for more.
    fn obey(&mut self) -> Result<(), TrainError> {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.execute(command)?,
                // A front end that left doesn't end the run.
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    fn execute(&mut self, command: Command) -> Result<(), TrainError> {
        match command {
            Command::Checkpoint => self.save(),
            Command::Stop => {
                self.stopping = true;
                Ok(())
            }
            Command::Resume => Ok(()),
            Command::Pause => self.pause(),
        }
    }

    /// Waits for Resume or Stop; Checkpoint is served meanwhile.
    fn pause(&mut self) -> Result<(), TrainError> {
        self.report()?;
        self.phase(Phase::Paused)?;
        self.meter.lap(Activity::Other);
        loop {
            let command = self.commands.recv();
            self.meter.lap(Activity::Pause);
            match command {
                Ok(Command::Pause) => {}
                Ok(Command::Checkpoint) => {
                    self.save()?;
                    self.phase(Phase::Paused)?;
                }
                Ok(Command::Stop) => {
                    self.stopping = true;
                    break;
                }
                // Nobody is left who could resume it.
                Ok(Command::Resume) | Err(_) => break,
            }
        }
        self.phase(Phase::Running)
    }

    fn note_unreadable(&mut self, skipped: &[ImageError]) -> Result<(), TrainError> {
        for error in skipped {
            if self.unreadable.insert(error.name.clone()) {
                let count = self.unreadable.len();
                let message = format!("unreadable image skipped ({count} so far): {error}");
                self.emit(Event::Log { level: Level::Warning, message })?;
            }
        }
        Ok(())
    }

    fn phase(&mut self, phase: Phase) -> Result<(), TrainError> {
        self.emit(Event::Phase { phase })
    }

    /// Into the log, which must work, and to the front end, which may be slow or gone: it never holds up a step.
    fn emit(&mut self, event: Event) -> Result<(), TrainError> {
        let stamped = self.log.append(event)?;
        let _ = self.events.try_send(stamped); // the log has it
        Ok(())
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(self.run.root()).unwrap_or(path).display().to_string()
    }

    /// The engine's whole state, for tests and comparisons. Device sync.
    pub fn engine_state(&self) -> engine::EngineState {
        self.engine.state()
    }
}
