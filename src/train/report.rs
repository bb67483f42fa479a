//! The figures of the steps since the last report, and what is alarming about them.

use super::error::TrainError;
use super::meter::{Activity, Rate};
use super::trainer::Trainer;
use crate::engine::StepFigures;
use crate::event::{Event, StepReport};

impl Trainer {
    /// Reads the figures of all steps since the last report, judges and emits them. Device sync.
    pub(super) fn report(&mut self) -> Result<(), TrainError> {
        let figures = self.engine.read_figures(); // device sync
        self.comms.meter.lap(Activity::Compute);
        if figures.is_empty() {
            return Ok(());
        }
        let step = self.progress.step();
        let rate = self.comms.meter.close_period(self.config.images_per_step());
        let first = step + 1 - figures.len() as u64;
        let mut alarms = Vec::new();
        for (step, &figure) in (first..).zip(&figures) {
            alarms.extend(self.health.step(step, figure));
            self.bad_steps.count(step, figure);
            self.course.push(step, figure.loss);
        }
        alarms.extend(self.health.period(step, rate.data_wait, rate.seconds));
        let report = self.step_report(&figures, &rate);
        self.comms.emit(Event::Step(report))?;
        for alarm in alarms {
            self.comms.emit(Event::Alarm(alarm))?;
        }
        self.judge_loader(&rate)
    }

    fn step_report(&self, figures: &[StepFigures], rate: &Rate) -> StepReport {
        let step = self.progress.step();
        let meter = &self.comms.meter;
        let losses: Vec<f32> = figures.iter().map(|figure| figure.loss).collect();
        StepReport {
            step,
            epoch: self.progress.epoch(),
            loss: mean_of_finite(&losses),
            losses,
            lr: self.schedule.lr(step - 1),
            grad_norm: largest(figures.iter().map(|figure| figure.grad_norm)),
            images_per_s: rate.images_per_s,
            data_wait: rate.data_wait,
            spent: meter.split(),
            eta_s: meter.eta_s(&self.periods.todo(step), self.val.rest_share()),
            elapsed_s: meter.elapsed_s(),
        }
    }
}

/// Returns the mean of the finite values, or of all if none is finite.
fn mean_of_finite(values: &[f32]) -> f32 {
    let finite: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let counted = if finite.is_empty() { values } else { &finite };
    counted.iter().sum::<f32>() / counted.len() as f32
}

/// Returns the largest of some norms, or NaN if one of them is NaN, which `f32::max` would hide.
fn largest(norms: impl Iterator<Item = f32>) -> f32 {
    norms.fold(0.0, |max, norm| if norm > max || norm.is_nan() { norm } else { max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_steps_are_not_in_the_mean_but_show_in_the_norm() {
        let near = |found: f32, expected: f32| (found - expected).abs() < 1e-6;
        assert!(near(mean_of_finite(&[1.0, f32::NAN, 2.0, f32::INFINITY]), 1.5));
        assert!(mean_of_finite(&[f32::NAN]).is_nan());
        assert!(near(largest([1.0, 3.0, 2.0].into_iter()), 3.0));
        assert!(largest([1.0, f32::NAN].into_iter()).is_nan());
    }
}
