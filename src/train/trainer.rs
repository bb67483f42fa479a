//! The loop of a run: batches in, steps, and after them what is due; orders are carried out between micro-steps.

use super::comms::{Comms, Patience};
use super::course::Course;
use super::error::TrainError;
use super::evaluate::Evaluator;
use super::every::Periods;
use super::health::Health;
use super::meter::Activity;
use super::progress::Progress;
use super::results::Results;
use super::saving::Saver;
use super::steer::BadSteps;
use super::task::Task;
use super::val_images::ValImages;
use super::watchdog::{Watchdog, WatchedRun};
use crate::config::Config;
use crate::data::loader::{Loader, LoaderConfig, WorkerTuning};
use crate::data::{CacheBudget, Fingerprint};
use crate::engine::schedule::Schedule;
use crate::engine::{Engine, EngineState, Update};
use crate::event::{Event, Finished, Level, Phase, Reason};
use crate::run_dir::RunDirError;
use std::path::PathBuf;
use std::sync::Arc;

/// Owns a run: its model, data, run directory and counters. The module `start` builds it.
pub struct Trainer {
    pub(super) config: Config,
    pub(super) engine: Box<dyn Engine>,
    pub(super) loader: Loader,
    /// For validations.
    pub(super) loader_config: LoaderConfig,
    /// Finds the number of the loader's threads, if that is left to the run.
    pub(super) tuning: Option<WorkerTuning>,
    /// The memory for decoded images, until what there was to say of it is said.
    pub(super) cache: Option<CacheBudget>,
    pub(super) task: Box<dyn Task>,
    pub(super) val: ValImages,
    pub(super) schedule: Schedule,
    pub(super) periods: Periods,
    pub(super) progress: Progress,
    pub(super) comms: Comms,
    pub(super) health: Health,
    pub(super) course: Course,
    pub(super) bad_steps: BadSteps,
    pub(super) results: Results,
    pub(super) evaluator: Option<Evaluator>,
    pub(super) saver: Saver,
    pub(super) watched: Arc<WatchedRun>,
    pub(super) train_images: u64,
    pub(super) images: Fingerprint,
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
    /// Trains to the end or until a Stop, with a checkpoint at the end in both cases.
    ///
    /// # Errors
    /// See [`TrainError`]; checkpoints that were written stay good.
    pub fn run(mut self) -> Result<RunSummary, TrainError> {
        let watchdog = Watchdog::start(Arc::clone(&self.watched));
        if let Err(error) = &watchdog {
            let message = format!("nobody looks after stalls, disk and heat: no thread ({error})");
            self.comms.log(Level::Warning, message)?;
        }
        let result = self.train();
        if let Err(error) = &result
            && self.progress.micro() > 0
        {
            self.save_at_last(error);
        }
        if let Err(TrainError::RunDir(RunDirError::Taken { .. })) = &result {
            self.comms.emitter().give_up_log();
        }
        result
    }

    fn train(&mut self) -> Result<RunSummary, TrainError> {
        self.comms.set_patience(Patience::UntilStopped);
        self.comms.meter.lap(Activity::Other);
        self.judge_start()?;
        self.comms.enter(Phase::Compiling)?;
        let first = self.progress.micro();
        while !self.progress.is_complete() {
            self.saver.run().check()?;
            self.react()?;
            self.obey()?;
            if self.comms.orders.stopping() {
                break;
            }
            self.micro_step()?;
            if self.progress.micro() == first + 1 {
                self.comms.enter(Phase::Running)?;
            }
        }
        self.finish()
    }

    /// Judges the weights that the session starts with: the untrained ones, or those of a checkpoint that was written
    /// before what was due at its step.
    fn judge_start(&mut self) -> Result<(), TrainError> {
        if self.progress.accumulated() > 0 {
            return Ok(());
        }
        let step = self.progress.step();
        let validate = step == 0 || self.periods.validation_due(step);
        let evaluate = step == 0 || self.periods.evaluation_due(step);
        let mut best = false;
        let unknown = self.results.grade_at(step).is_none();
        // A run that ends earlier than it once was to has its last validation now.
        let last = step > 0 && self.progress.is_complete() && self.val.some().is_some();
        if validate && unknown || last && !self.results.on_all_at(step) {
            best = self.validate()?;
        }
        if evaluate && self.results.evaluated() != Some(step) {
            self.evaluate()?;
        }
        if best {
            self.save()?;
        }
        Ok(())
    }

    /// Trains on one micro-batch. At the end of an accumulation this makes the optimizer step and does all that is due
    /// after it.
    ///
    /// # Errors
    /// See [`TrainError`].
    pub fn micro_step(&mut self) -> Result<(), TrainError> {
        self.comms.meter.lap(Activity::Other);
        let batch = self.loader.next()?;
        self.comms.meter.lap(Activity::DataWait);
        let Some(batch) = batch else { unreachable!("training batches never end") };
        self.comms.note_faulty(&batch.faulty)?;
        self.task.accumulate(self.engine.as_mut(), &batch, self.progress.micro());
        let update = self.progress.completes_step().then(|| {
            let update = self.engine.step(self.schedule.lr(self.progress.step()));
            self.comms.meter.count_step();
            update
        });
        self.progress.advance();
        self.comms.beat(self.progress.step());
        if let Some(update) = update {
            return self.after_step(update);
        }
        self.comms.meter.lap(Activity::Compute);
        Ok(())
    }

    fn after_step(&mut self, update: Update) -> Result<(), TrainError> {
        let step = self.progress.step();
        if self.periods.report_due(step) || update == Update::LeftOut {
            self.report()?;
        } else {
            self.comms.meter.lap(Activity::Compute);
        }
        let mut best = false;
        if self.periods.validation_due(step) {
            best = self.validate()?;
        }
        if self.periods.evaluation_due(step) {
            self.evaluate()?;
        }
        if best || self.periods.checkpoint_due(step) {
            self.save()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<RunSummary, TrainError> {
        self.comms.enter(Phase::Stopping)?;
        self.save()?;
        self.answer_late_orders()?;
        let complete = self.progress.is_complete();
        let best = self.results.best();
        let finished = Finished {
            step: self.progress.step(),
            reason: if complete { Reason::Completed } else { Reason::Stopped },
            best_val_loss: best.lowest_loss,
            best_accuracy: best.grade.and_then(|grade| grade.accuracy),
            elapsed_s: self.comms.meter.elapsed_s(),
        };
        self.comms.emit(Event::Finished(finished.clone()))?;
        Ok(RunSummary {
            finished,
            run: self.saver.run().root().to_owned(),
            total_steps: self.progress.total_steps(),
            unreadable_images: self.comms.unreadable_images(),
        })
    }

    /// Returns the engine's whole state, for tests and comparisons. Device sync.
    pub fn engine_state(&self) -> EngineState {
        self.engine.state()
    }
}
