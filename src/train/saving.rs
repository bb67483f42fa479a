//! What a run leaves on disk beside its log: checkpoints and previews.

use super::comms::{Comms, Patience};
use super::error::TrainError;
use super::meter::Activity;
use super::task::PreviewImages;
use super::trainer::Trainer;
use crate::config::{OnNan, file};
use crate::engine::EngineState;
use crate::event::{Event, Level, Phase, PreviewFile};
use crate::picture::sheet::{self, SheetRow};
use crate::run_dir::{RunDir, RunDirError, write_atomic};
use crate::shown;
use crate::weights::checkpoint::{self, Checkpoint, CheckpointError, Meta};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// How often pictures are tried to be written.
const PREVIEW_TRIES: usize = 3;

/// Writes into the run directory and knows what is saved there already.
pub(super) struct Saver {
    run: RunDir,
    /// Micro-batches at the newest checkpoint, so that the same state is not written twice.
    saved: Option<u64>,
}

impl Saver {
    pub(super) fn new(run: RunDir) -> Self {
        Self { run, saved: None }
    }

    pub(super) fn run(&self) -> &RunDir {
        &self.run
    }

    /// Returns whether the state after `micro` micro-batches is saved.
    pub(super) fn has(&self, micro: u64) -> bool {
        self.saved == Some(micro)
    }

    /// Notes that the state after `micro` micro-batches is saved.
    pub(super) fn note(&mut self, micro: u64) {
        self.saved = Some(micro);
    }

    /// Makes the next save write a checkpoint even if this state has one.
    pub(super) fn outdate(&mut self) {
        self.saved = None;
    }

    /// Writes a checkpoint, as the best one where it is `best`. Returns its path and size in bytes.
    fn write(
        &mut self,
        checkpoint: &Checkpoint,
        best: bool,
        comms: &mut Comms,
    ) -> Result<(PathBuf, u64), TrainError> {
        let folder = self.run.checkpoints();
        let run = &self.run;
        let written = comms.persist(|comms| {
            run.keep()?;
            // After a power cut no checkpoint knows more than the log.
            comms.sync_log()?;
            let (path, bytes) = checkpoint::save(&folder, checkpoint)?;
            if best {
                checkpoint::mark_best(&path)?;
            }
            Ok((path, bytes))
        })?;
        self.note(checkpoint.meta.micro);
        Ok(written)
    }

    /// Writes a sheet of pictures and emits where it is. Pictures that can't be written are a warning: no run waits for
    /// them.
    pub(super) fn write_preview(
        &self,
        step: u64,
        previews: PreviewImages,
        comms: &mut Comms,
    ) -> Result<(), TrainError> {
        let PreviewImages { pictures, scale: (image, scale) } = previews;
        let (psnr, rows): (Vec<f64>, Vec<SheetRow>) =
            pictures.into_iter().map(|preview| (preview.psnr, preview.row)).unzip();
        let path = self.run.previews().join(format!("step-{step:08}.png"));
        let mut bytes = Cursor::new(Vec::new());
        let encoded = sheet::compose(&rows, scale).write_to(&mut bytes, image::ImageFormat::Png);
        let failed = |source| RunDirError::Io { what: "write", path: path.clone(), source };
        encoded.map_err(|error| failed(std::io::Error::other(error)))?;
        let write = || {
            self.run.keep()?;
            write_atomic(&path, bytes.get_ref()).map_err(failed)
        };
        let mut written = write();
        for _ in 1..PREVIEW_TRIES {
            written = written.or_else(|_| write());
        }
        self.run.check()?;
        if let Err(error) = written {
            let message = format!("{error}; the run goes on without these pictures");
            return comms.log(Level::Warning, message);
        }
        let path = self.relative(&path);
        comms.emit(Event::Preview(PreviewFile { step, path, image, scale, psnr }))
    }

    /// Writes a checkpoint as the last thing that a run does which can't go on: where its directory was moved to, if it
    /// was moved; beside the checkpoints of those who have taken it, under a name that is none of theirs, if it was taken.
    /// Returns its path.
    fn rescue(&self, checkpoint: &Checkpoint) -> Result<PathBuf, TrainError> {
        if let Some(moved) = self.run.moved_to() {
            return Ok(checkpoint::save(&moved.join("checkpoints"), checkpoint)?.0);
        }
        match self.run.keep() {
            Ok(_) => return Ok(checkpoint::save(&self.run.checkpoints(), checkpoint)?.0),
            Err(RunDirError::Taken { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let name = checkpoint::file_name(checkpoint.meta.step, checkpoint.meta.accumulated);
        let name = format!("rescued-{}-{name}", std::process::id());
        let path = self.run.checkpoints().join(name);
        checkpoint::write(&path, checkpoint)?;
        Ok(path)
    }

    fn relative(&self, path: &Path) -> String {
        shown::text(path.strip_prefix(self.run.root()).unwrap_or(path))
    }
}

impl Trainer {
    /// Saves a checkpoint unless this very state is saved already, and deletes old ones.
    ///
    /// # Errors
    /// If it can't be written, or if a weight is not a number: bad weights are never saved.
    pub fn save(&mut self) -> Result<(), TrainError> {
        if self.saver.has(self.progress.micro()) {
            return Ok(());
        }
        self.write_checkpoint()?;
        checkpoint::prune(&self.saver.run.checkpoints(), self.config.checkpoint.keep);
        Ok(())
    }

    /// Writes a checkpoint of this moment and deletes nothing.
    pub(super) fn write_checkpoint(&mut self) -> Result<(), TrainError> {
        self.report()?;
        let before = self.comms.phase();
        self.comms.enter(Phase::Saving)?;
        self.comms.meter.lap(Activity::Other);
        let step = self.progress.step();
        let engine = self.engine.state(); // device sync
        if !engine.is_finite() {
            if self.config.alarms.on_nan != OnNan::Ignore {
                let (course, way) = (self.course.text(), self.way_back());
                return Err(TrainError::BadWeights { step, course, way });
            }
            let message = format!("step {step} is not saved: a weight is not a number");
            self.comms.log(Level::Warning, message)?;
            return self.comms.enter(before);
        }
        let checkpoint = self.checkpoint(engine);
        let best = checkpoint.meta.grade().is_some_and(|grade| self.results.is_best(grade));
        let (path, bytes) = self.saver.write(&checkpoint, best, &mut self.comms)?;
        self.comms.meter.lap(Activity::Saving);
        let path = self.saver.relative(&path);
        self.comms.emit(Event::CheckpointSaved { step, path, bytes, best })?;
        if before == Phase::Stopping {
            return Ok(()); // this phase was emitted already, and the end follows
        }
        self.comms.enter(before)
    }

    /// Saves what can be saved when an error that isn't one of the weights ends the run. That error is the one to report,
    /// so nothing here fails.
    pub(super) fn save_at_last(&mut self, error: &TrainError) {
        self.comms.set_patience(Patience::FewTries);
        let saved = match error {
            TrainError::Data(_) => self.save().is_ok(),
            TrainError::RunDir(_) | TrainError::Checkpoint(CheckpointError::Write { .. }) => false,
            _ => true, // the weights, or what computes with them, are not to be trusted
        };
        // A checkpoint that could not be written here is written where the directory has gone, if it has.
        let elsewhere = self.saver.run.moved_to().is_some();
        let here = matches!(error, TrainError::Checkpoint(_)) && !elsewhere;
        if saved || here || (self.saver.has(self.progress.micro()) && !elsewhere) {
            return;
        }
        self.comms.stop_logging();
        let reported = self.report(); // device sync
        let engine = self.engine.state(); // device sync
        if reported.is_err() || !engine.is_finite() {
            return;
        }
        let checkpoint = self.checkpoint(engine);
        if let Ok(path) = self.saver.rescue(&checkpoint) {
            let (step, path) = (checkpoint.meta.step, shown::path(&path));
            let message = format!("step {step} is saved as {path}: --resume goes on from it");
            let _ = self.comms.log(Level::Warning, message); // it can't fail without a log
        }
    }

    fn checkpoint(&self, engine: EngineState) -> Checkpoint {
        let (at, best) = (&self.progress, self.results.best());
        let grade = self.results.grade_at(at.step());
        let meta = Meta {
            version: Meta::CURRENT,
            step: at.step(),
            accumulated: at.accumulated(),
            micro: at.micro(),
            train_images: self.train_images,
            images: Some(self.images.clone()),
            updates: engine.updates,
            losses: engine.losses.clone(),
            best_val_loss: best.lowest_loss,
            val_loss: grade.map(|grade| grade.loss),
            val_accuracy: grade.and_then(|grade| grade.accuracy),
            best: best.grade.filter(|grade| grade.accuracy.is_some()),
            val_images: self.val.some(),
            on_all: self.results.on_all_at(at.step()),
            evaluated: self.results.evaluated(),
            elapsed_s: self.comms.meter.elapsed_s(),
            config: file::to_toml(&self.config),
        };
        Checkpoint { meta, engine }
    }
}
