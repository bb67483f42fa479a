//! Validations of the weights while training, and what they have found so far.

use super::error::TrainError;
use super::task::Judged;
use super::trainer::Trainer;
use super::val_images::Occasion;
use crate::event::{Evaluated, Event, Phase, UsualImages, Validation, Work};
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
    /// Step of the newest validation that used all images beside the usual ones.
    on_all: Option<u64>,
}

impl Results {
    /// Returns what was known when a checkpoint was written. Validations had `meta.val_images` images then and have
    /// `images` now; between different numbers nothing can be compared.
    pub(super) fn of(meta: &Meta, images: Option<u64>) -> Self {
        let evaluated = meta.evaluated;
        if meta.val_images != images {
            return Self { evaluated, ..Self::default() };
        }
        Self {
            best: meta.best(),
            validated: meta.grade().map(|grade| (meta.step, grade)),
            evaluated,
            on_all: meta.on_all.then_some(meta.step),
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

    /// Returns whether the weights at `step` were validated on all images beside the usual ones.
    pub(super) fn on_all_at(&self, step: u64) -> bool {
        self.on_all == Some(step)
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
        let occasion = self.occasion();
        let Self { comms, task, engine, .. } = self;
        comms.enter(Phase::Evaluating)?;
        let parts = self.val.parts(occasion);
        comms.meter.begin_validation();
        let step = self.progress.step();
        let total = parts.iter().map(|part| part.source.len()).sum();
        let mut go_on = |done| comms.gets_on(step, Work::Validation, done, total);
        let judged = task.validate(engine.as_ref(), &parts, self.loader_config, &mut go_on)?;
        let share = total as f64 / self.val.usual_len() as f64;
        let seconds = comms.meter.end_validation(share).as_secs_f64();
        let Some(judged) = judged else { return Ok(false) };
        comms.note_faulty(&judged.faulty)?;
        if !judged.grade.loss.is_finite() {
            self.bad_steps.note(step);
        }
        let comparable = judged.usual.map_or(judged.grade, |(grade, _)| grade);
        let best = self.results.note_validation(step, comparable);
        let on_all = judged.usual.is_some();
        if on_all {
            self.results.on_all = Some(step);
        }
        if best || on_all {
            self.saver.outdate(); // a checkpoint of this step that doesn't know its grade is written again
        }
        self.tell(judged, best, seconds)?;
        self.comms.enter(Phase::Running)?;
        Ok(best)
    }

    fn occasion(&self) -> Occasion {
        match self.progress.step() {
            0 => Occasion::First,
            _ if self.progress.is_complete() => Occasion::Last,
            _ => Occasion::Usual,
        }
    }

    /// Emits what a validation of the current weights has found.
    fn tell(&mut self, judged: Judged, best: bool, seconds: f64) -> Result<(), TrainError> {
        let (step, epoch) = (self.progress.step(), self.progress.epoch());
        let Judged { grade, usual, quality, metrics, images, previews, .. } = judged;
        let all = self.val.len() as u64;
        self.comms.emit(Event::Validated(Validation {
            step,
            epoch,
            val_loss: grade.loss,
            psnr: quality.map(|quality| quality.psnr),
            ssim: quality.map(|quality| quality.ssim),
            accuracy: grade.accuracy,
            images: images as u64,
            of: (all > images as u64).then_some(all),
            usual: usual.map(|(Grade { loss, accuracy }, images)| UsualImages {
                images: images as u64,
                val_loss: loss,
                accuracy,
            }),
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

    #[test]
    fn figures_on_other_images_are_not_compared() {
        let meta = Meta {
            step: 20,
            best_val_loss: Some(0.25),
            val_loss: Some(0.5),
            evaluated: Some(20),
            val_images: Some(5000),
            on_all: true,
            ..Meta::start()
        };
        let same = Results::of(&meta, Some(5000));
        assert_eq!((same.grade_at(20), same.best().lowest_loss), (Some(grade(0.5)), Some(0.25)));
        assert!(same.on_all_at(20) && !same.on_all_at(10));
        for images in [None, Some(600)] {
            let mut other = Results::of(&meta, images);
            assert_eq!((other.grade_at(20), other.evaluated()), (None, Some(20)));
            assert!(other.note_validation(25, grade(0.75)) && !other.on_all_at(20));
        }
    }
}
