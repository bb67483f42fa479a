//! How a run begins: what it starts from, and what it says first.

use super::comms::Comms;
use super::course::Course;
use super::emitter::Emitter;
use super::error::TrainError;
use super::evaluate::Evaluator;
use super::every::Periods;
use super::health::Health;
use super::meter::Meter;
use super::orders::Orders;
use super::progress::{Progress, RunLength};
use super::results::Results;
use super::saving::Saver;
use super::steer::BadSteps;
use super::task;
use super::trainer::Trainer;
use super::val_images::ValImages;
use super::watchdog::WatchedRun;
use crate::config::Config;
use crate::data::loader::{Loader, LoaderConfig, WorkerTuning, cores};
use crate::data::{Dataset, Fingerprint};
use crate::engine::device::{Device, precision::Effective};
use crate::engine::schedule::Schedule;
use crate::engine::{Engine, EngineState, MakeEngine};
use crate::eval::Labelled;
use crate::event::{Event, Level, Listener, Order, Started};
use crate::model::ModelShape;
use crate::model::state::NamedTensors;
use crate::run_dir::{EventLog, RunDir, RunDirError};
use crate::shown;
use crate::weights::checkpoint::{self, FoundCheckpoint, Meta};
use crate::weights::pretrained::Pretrained;
use crossbeam_channel::Receiver;
use std::path::Path;
use std::sync::Arc;

/// A run that is ready to start.
pub struct Job {
    pub config: Config,
    /// The device that `engine` computes on, for the log and the watchdog.
    pub device: Device,
    /// Makes the engine, with fresh weights. The trainer calls it on its own thread, so that a device that fails there
    /// ends the run with an error in its log.
    pub engine: MakeEngine,
    pub data: Dataset,
    /// Which images `data` has, for the checkpoints.
    pub images: Fingerprint,
    pub run: RunDir,
    /// The labelled images to evaluate on while training, if that is wanted.
    pub eval: Option<Labelled>,
    pub start: Start,
    /// Lines for the log that are known before the start.
    pub notices: Vec<(Level, String)>,
}

/// What a run starts from. Where several are given, the first of these counts:
///
/// 1. `Resume`: a checkpoint of the run or, in a new run directory, of another run. It brings everything: weights,
///    optimizer, progress, results.
/// 2. `Encoder`: the encoder of a pre-trained model, for a classifier. The rest of its weights is as without it.
/// 3. `Init`: all weights, from a file that another program may have written.
/// 4. `Fresh`: weights drawn from the seed.
pub enum Start {
    Fresh,
    Init(NamedTensors),
    /// `below` are the weights of an `Init` that was asked for, too: what isn't the encoder is taken from them.
    Encoder {
        encoder: Pretrained,
        below: Option<NamedTensors>,
    },
    Resume(Box<FoundCheckpoint>),
}

impl Start {
    /// Puts the weights that the run starts from into an engine that has fresh ones. Returns the checkpoint of a resume,
    /// which holds more than that.
    fn load(
        self,
        engine: &mut dyn Engine,
        config: &Config,
    ) -> Result<Option<Box<FoundCheckpoint>>, TrainError> {
        match self {
            Self::Fresh => {}
            Self::Init(weights) => load_all(weights, engine, config)?,
            Self::Encoder { encoder, below } => {
                if let Some(weights) = below {
                    load_all(weights, engine, config)?;
                }
                let given = encoder.give(engine);
                given.map_err(|source| TrainError::State { path: encoder.path, source })?;
            }
            Self::Resume(found) => {
                let loaded = engine.load(&found.checkpoint.engine);
                let path = || found.path.clone();
                loaded.map_err(|source| TrainError::State { path: path(), source })?;
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Puts the weights of the file `train.init` into an engine.
fn load_all(
    weights: NamedTensors,
    engine: &mut dyn Engine,
    config: &Config,
) -> Result<(), TrainError> {
    let state = EngineState { weights, ..EngineState::default() };
    let path = || config.train.init.clone().unwrap_or_default();
    engine.load(&state).map_err(|source| TrainError::State { path: path(), source })
}

/// Saves the configuration and opens the log of a run, in this order: with a log alone, a resume would not know what to
/// train.
pub(super) fn open_log(job: &Job) -> Result<EventLog, RunDirError> {
    job.run.write_config(&job.config)?;
    EventLog::open_alone(&job.run.events_path())
}

impl Trainer {
    /// Builds the trainer, fills the model with what the run starts from, and starts the loader.
    ///
    /// # Errors
    /// If a checkpoint doesn't fit the model, or the run directory can't be written.
    pub fn new(
        job: Job,
        listeners: Vec<Box<dyn Listener>>,
        orders: Receiver<Order>,
    ) -> Result<Self, TrainError> {
        let emitter = Arc::new(Emitter::new(open_log(&job)?, listeners));
        Self::with(job, emitter, orders)
    }

    /// Like [`Self::new`], with an emitter that outlives the trainer.
    pub(super) fn with(
        job: Job,
        emitter: Arc<Emitter>,
        orders: Receiver<Order>,
    ) -> Result<Self, TrainError> {
        let Job { config, device, engine, data, images, run, eval, start, mut notices } = job;
        let mut engine = engine();
        let resumed = start.load(engine.as_mut(), &config)?;
        let meta = resumed.as_ref().map(|found| &found.checkpoint.meta);
        let length = RunLength::new(&config, data.train.len());
        let progress = Progress::new(&config, length, meta.map_or(0, |meta| meta.micro));
        let meter = Meter::new(meta.map_or(0.0, |meta| meta.elapsed_s));
        let comms = Comms::new(emitter, Orders::new(orders), meter, progress.step());
        let tuning = WorkerTuning::new(&config, cores(), device.gpu().is_none());
        let loader_config = loader_config(&config, tuning.as_ref());
        let loader = train_loader(&config, &data, loader_config, length, progress.micro());
        if let Some(found) = &resumed {
            notices.extend(resume_notices(found, data.train.len() as u64));
        }
        let val = ValImages::new(&config.val, &data.val);
        notices.extend(val.text().map(|text| (Level::Info, text)));
        notices.extend(meta.and_then(|meta| incomparable(meta, &val)));
        let evaluator = eval.map(|data| {
            let (evaluator, caveats) = Evaluator::new(&config, data);
            notices.extend(caveats.into_iter().map(|text| (Level::Warning, text)));
            evaluator
        });
        let mut trainer = Self {
            engine,
            loader,
            loader_config,
            health: Health::new(config.alarms.clone()).of_tuned_loader(tuning.is_some()),
            tuning,
            cache: Some(data.cache.clone()),
            task: task::new(&config, &data),
            schedule: Schedule::new(&config, length.steps_per_epoch),
            periods: Periods::new(&config, length, evaluator.is_some()),
            progress,
            course: Course::new(progress.step()),
            bad_steps: BadSteps::default(),
            results: meta.map_or_else(Results::default, |meta| Results::of(meta, val.some())),
            val,
            evaluator,
            watched: Arc::new(watched(&config, &device, &run, &comms)),
            saver: Saver::new(run),
            comms,
            train_images: data.train.len() as u64,
            images,
            config,
        };
        trainer.announce(&device, length, data.description, resumed.is_some(), notices)?;
        if let Some(found) = &resumed {
            trainer.settle(found)?;
        }
        Ok(trainer)
    }

    /// Emits what is known of the run before its first step.
    fn announce(
        &mut self,
        device: &Device,
        length: RunLength,
        data: String,
        resumed: bool,
        notices: Vec<(Level, String)>,
    ) -> Result<(), TrainError> {
        let Effective { precision, notice } = Effective::of(self.config.train.precision, device);
        self.comms.emit(Event::Started(Started {
            step: self.progress.step(),
            total_steps: length.total_steps,
            steps_per_epoch: length.steps_per_epoch,
            epochs: self.progress.epochs(),
            warmup_steps: self.schedule.warmup_steps,
            parameters: ModelShape::of(&self.config).parameters(),
            device: device.to_string(),
            precision: precision.to_string(),
            data,
            task: task::kind(&self.config),
            resumed,
            version: crate::version::BUILD.to_owned(),
        }))?;
        for (level, message) in notices {
            self.comms.log(level, message)?;
        }
        notice.map_or(Ok(()), |notice| self.comms.log(Level::Info, notice))
    }

    /// Makes the checkpoint that the run goes on from the newest one of its run directory, and moves those out of the
    /// way that contradict it.
    fn settle(&mut self, found: &FoundCheckpoint) -> Result<(), TrainError> {
        let folder = self.saver.run().checkpoints();
        let Meta { step, accumulated, .. } = found.checkpoint.meta;
        // A sound file is in its place before the others are touched: a kill in between must not leave the run without
        // one.
        if same_file(&found.path, &folder.join(checkpoint::file_name(step, accumulated))) {
            self.saver.note(self.progress.micro());
            let grade = found.checkpoint.meta.grade();
            if grade.is_some_and(|grade| self.results.is_best(grade)) {
                // A kill may have come between the checkpoint and its mark.
                checkpoint::mark_best(&found.path)?;
            }
        } else {
            self.write_checkpoint()?;
        }
        for path in &found.damaged {
            // A run that branches off leaves the files of the old run as they are.
            if path.parent().is_some_and(|parent| same_file(parent, &folder)) {
                checkpoint::set_aside(path, "damaged");
            }
        }
        self.comms.sync_log()?; // the log knows of the resume before a power cut can show what it did
        let newer = checkpoint::abandon_newer(&folder, step, accumulated)?;
        if newer > 0 {
            let message = format!("{newer} newer checkpoints got the ending .abandoned");
            self.comms.log(Level::Warning, message)?;
        }
        Ok(())
    }
}

/// Returns how batches are made at the start of a run.
fn loader_config(config: &Config, tuning: Option<&WorkerTuning>) -> LoaderConfig {
    let fixed = LoaderConfig::from_config(config);
    LoaderConfig { workers: tuning.map_or(fixed.workers, WorkerTuning::workers), ..fixed }
}

/// Returns the loader of endless training batches, from the first one after `micro` on.
fn train_loader(
    config: &Config,
    data: &Dataset,
    loader: LoaderConfig,
    length: RunLength,
    micro: u64,
) -> Loader {
    let epoch_batches = length.steps_per_epoch * config.train.accumulation as u64;
    Loader::train(data.train.clone(), loader, epoch_batches, micro)
}

/// Returns what a resume says in the log. `now` is the number of training images.
fn resume_notices(found: &FoundCheckpoint, now: u64) -> Vec<(Level, String)> {
    let path = shown::path(&found.path);
    let warning = |text: &String| (Level::Warning, format!("{text}; going on from {path}"));
    let mut notices: Vec<_> = found.warnings.iter().map(warning).collect();
    notices.push((Level::Info, format!("resumed from {path}")));
    let then = found.checkpoint.meta.train_images;
    // Imported weights, whose count is 0, have seen none of this data.
    if now != then && then != 0 {
        let text = format!(
            "there are {now} training images, {then} when the checkpoint was written: \
             the order of images and the epochs differ from here on"
        );
        notices.push((Level::Warning, text));
    }
    notices
}

/// Returns what a resume says if validations have other images than before by `val.images`.
fn incomparable(meta: &Meta, val: &ValImages) -> Option<(Level, String)> {
    // Without a validation nothing is compared.
    if meta.val_images == val.some() || meta.best_val_loss.is_none() {
        return None;
    }
    let count = |some: Option<u64>| some.map_or("all".to_owned(), |images| images.to_string());
    let text = format!(
        "validations were on {} images and are on {} from here on, so their losses can't be compared: the best \
         checkpoint is chosen anew; --set val.images says how many",
        count(meta.val_images),
        count(val.some())
    );
    Some((Level::Warning, text))
}

fn watched(config: &Config, device: &Device, run: &RunDir, comms: &Comms) -> WatchedRun {
    let heartbeat = run.heartbeat();
    WatchedRun {
        emitter: Arc::clone(comms.emitter()),
        pulse: Arc::clone(comms.pulse()),
        root: run.root().to_owned(),
        // The weights and the two moments of the optimizer, 4 bytes each.
        checkpoint_bytes: 12 * ModelShape::of(config).parameters(),
        alarms: config.alarms.clone(),
        gpu: device.gpu(),
        keep: {
            let heartbeat = heartbeat.clone();
            Box::new(move || heartbeat.keep())
        },
        heartbeat: Box::new(move || heartbeat.beat()),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
