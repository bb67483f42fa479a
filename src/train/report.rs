//! What the trainer leaves behind: reports, validations, previews, checkpoints, events.

use super::meter::{Activity, Todo};
use super::task::PreviewImages;
use super::trainer::{TrainError, Trainer};
use crate::config::{OnNan, file};
use crate::data::ImageError;
use crate::event::{
    Command, Evaluated, Event, Level, Phase, PreviewFile, Stamped, StepReport, Validation,
};
use crate::picture::sheet::{self, SheetRow};
use crate::run_dir::{RunDirError, write_atomic};
use crate::weights::checkpoint::{self, Checkpoint, Meta};
use std::io::Cursor;
use std::path::Path;

impl Trainer {
    /// Reads the figures of all steps since the last report. Device sync.
    pub(super) fn report(&mut self) -> Result<(), TrainError> {
        let figures = self.engine.read_figures(); // device sync
        self.meter.lap(Activity::Compute);
        if figures.is_empty() {
            return Ok(());
        }
        let step = self.step();
        let rate = self.meter.close_period(self.config.images_per_step());
        let losses: Vec<f32> = figures.iter().map(|figure| figure.loss).collect();
        let first = step + 1 - figures.len() as u64;
        let mut alarms = Vec::new();
        for (step, figure) in (first..).zip(&figures) {
            alarms.extend(self.health.step(step, figure));
            if figure.is_finite() {
                self.bad_steps = 0;
            } else {
                self.bad_steps += 1;
                self.bad_step.get_or_insert(step);
            }
        }
        alarms.extend(self.health.period(step, rate.data_wait, rate.seconds));
        let left = self.extent.total_steps - step;
        // Those of the whole run less those that are due by now; the last step has one in any case.
        let total = self.extent.total_steps;
        let period = self.config.train.val_every as u64 * self.extent.steps_per_epoch;
        let validations = total.div_ceil(period) - step / period;
        let evaluations = self.evaluations_left(step);
        let checkpoints = [
            self.config.checkpoint.every_epochs as u64 * self.extent.steps_per_epoch,
            self.config.checkpoint.every_steps as u64,
        ]
        .into_iter()
        .filter(|&period| period > 0)
        .map(|period| total / period - step / period)
        .sum();
        self.reported = step;
        self.emit(Event::Step(StepReport {
            step,
            epoch: self.epoch(),
            loss: mean_of_finite(&losses),
            losses,
            lr: self.schedule.lr(step - 1),
            // NaN wins, which `f32::max` would hide.
            grad_norm: figures
                .iter()
                .map(|figure| figure.grad_norm)
                .fold(0.0, |max, norm| if norm > max || norm.is_nan() { norm } else { max }),
            images_per_s: rate.images_per_s,
            data_wait: rate.data_wait,
            spent: self.meter.split(),
            eta_s: self.meter.eta_s(&Todo { steps: left, validations, evaluations, checkpoints }),
            elapsed_s: self.meter.elapsed_s(),
        }))?;
        for alarm in alarms {
            self.emit(Event::Alarm(alarm))?;
        }
        Ok(())
    }

    /// Validates, writes previews, and says whether these weights are the best so far.
    pub(super) fn validate(&mut self) -> Result<bool, TrainError> {
        self.report()?;
        self.phase(Phase::Evaluating)?;
        self.meter.lap(Activity::Other);
        // Orders that come meanwhile wait in the queue; only Stop cuts the pass short.
        let (queue, orders, pulse, step) = (
            &mut self.queue,
            &self.orders,
            &self.pulse,
            self.micro / self.config.train.accumulation as u64,
        );
        let outcome = self.task.validate(self.engine.as_ref(), self.loader_config, &mut || {
            pulse.beat(step);
            queue.extend(orders.try_iter());
            queue.iter().any(|order| order.command == Command::Stop)
        })?;
        let seconds = self.meter.lap(Activity::Validation).as_secs_f64();
        let Some(outcome) = outcome else { return Ok(false) };
        self.note_unreadable(&outcome.skipped)?;
        let grade = outcome.grade;
        let finite = grade.loss.is_finite();
        if !finite {
            self.bad_step = Some(step);
        }
        // The untrained model only gives the first value.
        let best = step > 0 && finite && self.best.take(grade);
        if best {
            self.saved = None; // a checkpoint of this step that doesn't know its loss is written again
        }
        self.validated = Some((step, grade));
        let epoch = self.epoch();
        self.emit(Event::Validated(Validation {
            step,
            epoch,
            val_loss: grade.loss,
            psnr: outcome.quality.map(|quality| quality.psnr),
            ssim: outcome.quality.map(|quality| quality.ssim),
            accuracy: grade.accuracy,
            images: outcome.images as u64,
            best,
            seconds,
        }))?;
        if !outcome.metrics.is_empty() {
            let (metrics, baselines) = (outcome.metrics, Vec::new());
            self.emit(Event::Evaluated(Evaluated { step, epoch, metrics, baselines, seconds }))?;
        }
        if let Some(previews) = outcome.previews {
            self.write_preview(step, previews)?;
        }
        self.phase(Phase::Running)?;
        Ok(best)
    }

    fn write_preview(&mut self, step: u64, previews: PreviewImages) -> Result<(), TrainError> {
        let PreviewImages { pictures, scale: (image, scale) } = previews;
        let (psnr, rows): (Vec<f64>, Vec<SheetRow>) =
            pictures.into_iter().map(|preview| (preview.psnr, preview.row)).unzip();
        let path = self.run.previews().join(format!("step-{step:08}.png"));
        let mut bytes = Cursor::new(Vec::new());
        let encoded = sheet::compose(&rows, scale).write_to(&mut bytes, image::ImageFormat::Png);
        let failed = |source| RunDirError::Io { what: "write", path: path.clone(), source };
        encoded.map_err(|error| failed(std::io::Error::other(error)))?;
        self.retry_while_disk_full(|_| Ok(write_atomic(&path, bytes.get_ref()).map_err(failed)?))?;
        let path = self.relative(&path);
        self.emit(Event::Preview(PreviewFile { step, path, image, scale, psnr }))
    }

    /// Saves a checkpoint unless this very state is saved already.
    ///
    /// # Errors
    /// It can't be written, or something in it is not a number: bad weights are never saved.
    pub fn save(&mut self) -> Result<(), TrainError> {
        if self.saved == Some(self.micro) {
            return Ok(());
        }
        self.write_checkpoint()?;
        checkpoint::prune(&self.run.checkpoints(), self.config.checkpoint.keep);
        Ok(())
    }

    /// Writes the checkpoint of this moment and deletes nothing.
    pub(super) fn write_checkpoint(&mut self) -> Result<(), TrainError> {
        self.report()?;
        let before = self.phase;
        self.phase(Phase::Saving)?;
        self.meter.lap(Activity::Other);
        let step = self.step();
        let grade = self.validated.filter(|&(at, _)| at == step).map(|(_, grade)| grade);
        let engine = self.engine.state(); // device sync
        if !engine.is_finite() && self.config.alarms.on_nan == OnNan::Ignore {
            let message = format!("step {step} is not saved: a weight is not a number");
            self.emit(Event::Log { level: Level::Warning, message })?;
            return self.phase(before);
        }
        if !engine.is_finite() {
            return Err(TrainError::BadWeights { step });
        }
        let checkpoint = Checkpoint {
            meta: Meta {
                version: Meta::CURRENT,
                step,
                accumulated: self.mid_step(),
                micro: self.micro,
                train_images: self.data.train.len() as u64,
                updates: engine.updates,
                losses: engine.losses.clone(),
                best_val_loss: self.best.lowest_loss,
                val_loss: grade.map(|grade| grade.loss),
                val_accuracy: grade.and_then(|grade| grade.accuracy),
                best: self.best.grade.filter(|grade| grade.accuracy.is_some()),
                evaluated: self.evaluated,
                elapsed_s: self.meter.elapsed_s(),
                config: file::to_toml(&self.config),
            },
            engine,
        };
        let best = grade.is_some_and(|grade| self.is_best(grade));
        let (path, bytes) = self.retry_while_disk_full(|this| {
            let (path, bytes) = checkpoint::save(&this.run.checkpoints(), &checkpoint)?;
            if best {
                checkpoint::mark_best(&path)?;
            }
            Ok((path, bytes))
        })?;
        self.saved = Some(self.micro);
        self.meter.lap(Activity::Saving);
        let path = self.relative(&path);
        self.emit(Event::CheckpointSaved { step, path, bytes, best })?;
        if before == Phase::Stopping {
            return Ok(()); // said already, and what follows is the end
        }
        self.phase(before)
    }

    pub(super) fn note_unreadable(&mut self, skipped: &[ImageError]) -> Result<(), TrainError> {
        for error in skipped {
            if self.unreadable.insert(error.name.clone()) {
                let count = self.unreadable.len();
                let message = format!("unreadable image skipped ({count} so far): {error}");
                self.emit(Event::Log { level: Level::Warning, message })?;
            }
        }
        Ok(())
    }

    pub(super) fn phase(&mut self, phase: Phase) -> Result<(), TrainError> {
        self.phase = phase;
        self.pulse.enter(phase);
        self.emit(Event::Phase { phase })
    }

    /// Into the log, and to whoever listens.
    pub(super) fn emit(&mut self, event: Event) -> Result<(), TrainError> {
        let stamped = Stamped::now(event);
        self.retry_while_disk_full(|this| Ok(this.emitter.emit(&stamped)?))
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(self.run.root()).unwrap_or(path).display().to_string()
    }
}

/// Of all values if none is finite.
fn mean_of_finite(values: &[f32]) -> f32 {
    let finite: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let counted = if finite.is_empty() { values } else { &finite };
    counted.iter().sum::<f32>() / counted.len() as f32
}
