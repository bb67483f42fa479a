//! Validations of the weights while training, and what they have found so far.

use super::error::TrainError;
use super::meter::Activity;
use super::task::Judged;
use super::trainer::Trainer;
use crate::event::{Evaluated, Event, Phase, Validation};
use crate::weights::best::{Best, Grade};
use crate::weights::checkpoint::Meta;

/// What is known of the quality of the weights.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Results {
    best: Best,
    /// Step and grade of the newest validation.
    validated: Option<(u64, Grade)>,
    /// Step of the newest evaluation on labelled images.
    evaluated: Option<u64>,
}

impl Results {
    /// Returns what was known when a checkpoint was written.
    pub(super) fn of(meta: &Meta) -> Self {
        Self {
            best: meta.best(),
            validated: meta.grade().map(|grade| (meta.step, grade)),
            evaluated: meta.evaluated,
        }
    }

    pub(super) fn best(&self) -> &Best {
        &self.best
    }

    /// Returns whether this is the grade of the best checkpoint.
    pub(super) fn is_best(&self, grade: Grade) -> bool {
        self.best.grade == Some(grade)
    }

    /// Returns the grade of the weights at `step`, if they were validated.
    pub(super) fn grade_at(&self, step: u64) -> Option<Grade> {
        self.validated.filter(|&(at, _)| at == step).map(|(_, grade)| grade)
    }

    /// Returns the step of the newest evaluation on labelled images.
    pub(super) fn evaluated(&self) -> Option<u64> {
        self.evaluated
    }

    /// Notes an evaluation on labelled images.
    pub(super) fn note_evaluation(&mut self, step: u64) {
        self.evaluated = Some(step);
    }

    /// Notes a validation. Returns whether the weights are the best so far: those of the untrained model never are.
    fn note_validation(&mut self, step: u64, grade: Grade) -> bool {
        self.validated = Some((step, grade));
        step > 0 && grade.loss.is_finite() && self.best.take(grade)
    }
}

impl Trainer {
    /// Validates, writes previews, and returns whether these weights are the best so far. A Stop cuts it short.
    pub(super) fn validate(&mut self) -> Result<bool, TrainError> {
        self.report()?;
        let Self { comms, task, engine, .. } = self;
        comms.enter(Phase::Evaluating)?;
        comms.meter.lap(Activity::Other);
        let step = self.progress.step();
        let mut is_stopped = || !comms.goes_on(step);
        let judged = task.validate(engine.as_ref(), self.loader_config, &mut is_stopped)?;
        let seconds = comms.meter.lap(Activity::Validation).as_secs_f64();
        let Some(judged) = judged else { return Ok(false) };
        comms.note_faulty(&judged.faulty)?;
        if !judged.grade.loss.is_finite() {
            self.bad_steps.note(step);
        }
        let best = self.results.note_validation(step, judged.grade);
        if best {
            self.saver.outdate(); // a checkpoint of this step that doesn't know its grade is written again
        }
        self.tell(judged, best, seconds)?;
        self.comms.enter(Phase::Running)?;
        Ok(best)
    }

    /// Emits what a validation of the current weights has found.
    fn tell(&mut self, judged: Judged, best: bool, seconds: f64) -> Result<(), TrainError> {
        let (step, epoch) = (self.progress.step(), self.progress.epoch());
        let Judged { grade, quality, metrics, images, previews, .. } = judged;
        self.comms.emit(Event::Validated(Validation {
            step,
            epoch,
            val_loss: grade.loss,
            psnr: quality.map(|quality| quality.psnr),
            ssim: quality.map(|quality| quality.ssim),
            accuracy: grade.accuracy,
            images: images as u64,
            best,
            seconds,
        }))?;
        if !metrics.is_empty() {
            let baselines = Vec::new();
            let evaluated = Evaluated { step, epoch, metrics, baselines, seconds };
            self.comms.emit(Event::Evaluated(evaluated))?;
        }
        match previews {
            Some(previews) => self.saver.write_preview(step, previews, &mut self.comms),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grade(loss: f64) -> Grade {
        Grade { loss, accuracy: None }
    }

    #[test]
    fn the_untrained_model_and_bad_losses_are_never_best() {
        let mut results = Results::default();
        assert!(!results.note_validation(0, grade(0.5)));
        assert!(results.note_validation(5, grade(0.7)) && results.is_best(grade(0.7)));
        assert!(!results.note_validation(10, grade(f64::NAN)));
        assert!(results.note_validation(15, grade(0.6)));
        assert_eq!(results.best().lowest_loss, Some(0.6));
        assert_eq!(results.grade_at(15), Some(grade(0.6)));
        assert_eq!(results.grade_at(10), None, "only the newest is known");
    }
}
