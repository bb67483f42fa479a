//! The state of a run as a fold over its events. Every front end shows a run by this state.

use crate::event::{
    Alarm, Command, Evaluated, Event, Finished, Phase, Stamped, Started, StepReport, Validation,
    WorkProgress,
};

/// What is known about a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunState {
    pub started: Option<Started>,
    pub phase: Option<Phase>,
    /// When that phase began, in seconds since 1970-01-01 UTC.
    pub phase_since: f64,
    /// How far the validation or evaluation is that goes on, if that has been told.
    pub progress: Option<WorkProgress>,
    pub last_step: Option<StepReport>,
    pub last_validation: Option<Validation>,
    pub last_evaluation: Option<Evaluated>,
    /// Loss of the first validation, as long as the later ones can be compared with it.
    pub first_val_loss: Option<f64>,
    /// The lowest loss among the validations that can be compared with the newest one.
    pub best_val_loss: Option<f64>,
    /// [`Validation::compared_on`] of the newest validation, once there is one.
    pub compared_on: Option<Option<u64>>,
    /// Highest accuracy, if the run trains a classifier.
    pub best_accuracy: Option<f64>,
    /// Path of the newest checkpoint, relative to the run directory.
    pub checkpoint: Option<String>,
    /// The alarms that hold, oldest first. There is at most one of each kind.
    pub alarms: Vec<Alarm>,
    /// Who gave the order to stop, if there was one.
    pub stopped_by: Option<String>,
    pub finished: Option<Finished>,
    /// Wall-clock time of the newest event, seconds since 1970-01-01 UTC.
    pub time: f64,
}

impl RunState {
    /// Takes in one event. A `started` drops what earlier events say about steps that were lost.
    pub fn apply(&mut self, stamped: &Stamped) {
        self.time = stamped.time;
        if !matches!(stamped.event, Event::Progress(_) | Event::Alarm(_) | Event::Log { .. }) {
            self.progress = None;
        }
        match &stamped.event {
            Event::Started(started) => {
                self.last_step.take_if(|last| !started.keeps(last.step));
                self.last_validation.take_if(|last| !started.keeps(last.step));
                self.last_evaluation.take_if(|last| !started.keeps(last.step));
                self.finished = None;
                self.alarms.clear();
                self.stopped_by = None;
                (self.phase, self.phase_since) = (Some(Phase::Starting), stamped.time);
                self.started = Some(started.clone());
            }
            Event::Phase { phase } => {
                (self.phase, self.phase_since) = (Some(*phase), stamped.time);
            }
            Event::Step(report) => self.last_step = Some(report.clone()),
            Event::Progress(progress) => self.progress = Some(*progress),
            Event::Validated(validation) => self.validated(validation),
            Event::Evaluated(evaluated) => self.last_evaluation = Some(evaluated.clone()),
            Event::CheckpointSaved { path, .. } => self.checkpoint = Some(path.clone()),
            Event::Finished(finished) => self.finished = Some(finished.clone()),
            Event::Alarm(alarm) => {
                self.alarms.retain(|known| known.kind != alarm.kind);
                if alarm.active {
                    self.alarms.push(alarm.clone());
                }
            }
            Event::Obeyed(order) if order.command == Command::Stop => {
                self.stopped_by = Some(order.by.clone());
            }
            Event::Preview(_) | Event::Obeyed(_) | Event::Log { .. } => {}
        }
    }

    fn validated(&mut self, validation: &Validation) {
        let loss = validation.comparable_loss();
        let on = validation.compared_on();
        match self.compared_on.replace(on) {
            None => self.first_val_loss = Some(loss),
            Some(before) if before != on => {
                (self.first_val_loss, self.best_val_loss, self.best_accuracy) = (None, None, None);
            }
            Some(_) => {}
        }
        let best = self.best_val_loss.unwrap_or(f64::INFINITY);
        self.best_val_loss = Some(best.min(loss));
        let known = self.best_accuracy.into_iter().chain(validation.comparable_accuracy());
        self.best_accuracy = known.reduce(f64::max);
        self.last_validation = Some(validation.clone());
    }

    /// Returns how many optimizer steps are known to be done.
    pub fn step(&self) -> u64 {
        let started = self.started.as_ref().map_or(0, |started| started.step);
        let reported = self.last_step.as_ref().map_or(0, |report| report.step);
        let finished = self.finished.as_ref().map_or(0, |finished| finished.step);
        started.max(reported).max(finished)
    }

    /// Returns the number of optimizer steps of the whole run, or 0 if it is not known.
    pub fn total_steps(&self) -> u64 {
        self.started.as_ref().map_or(0, |started| started.total_steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AlarmKind, UsualImages, Work};

    #[test]
    fn a_restart_forgets_what_was_lost() {
        let step = |step| Event::Step(StepReport::sample(step));
        let started = |step| Event::Started(Started::sample(step));
        let evaluated = |step| {
            let (metrics, baselines) = (Vec::new(), Vec::new());
            Event::Evaluated(Evaluated { step, epoch: 1.0, metrics, baselines, seconds: 1.0 })
        };
        let mut state = RunState::default();
        for event in [started(0), evaluated(3), started(3)] {
            state.apply(&Stamped { time: 1.0, event });
        }
        assert_eq!(state.last_evaluation.as_ref().map(|known| known.step), Some(3));
        for event in [step(5), evaluated(5), started(3)] {
            state.apply(&Stamped { time: 1.0, event });
        }
        assert_eq!((&state.last_step, &state.last_evaluation), (&None, &None));
        state.apply(&Stamped { time: 2.0, event: step(4) });
        assert_eq!(state.last_step.map(|report| report.step), Some(4));
    }

    fn validated(step: u64, val_loss: f64, images: u64, of: Option<u64>) -> Validation {
        let (psnr, ssim, accuracy, usual) = (None, None, None, None);
        let (epoch, best, seconds) = (1.0, false, 1.0);
        Validation { step, epoch, val_loss, psnr, ssim, accuracy, images, of, usual, best, seconds }
    }

    #[test]
    fn only_losses_on_the_same_images_are_compared() {
        let mut state = RunState::default();
        let mut tell = |validation: Validation| {
            state.apply(&Stamped { time: 1.0, event: Event::Validated(validation) });
            (state.first_val_loss, state.best_val_loss)
        };
        let of = Some(900);
        assert_eq!(tell(validated(0, 0.1, 20, of)), (Some(0.1), Some(0.1)));
        assert_eq!(tell(validated(5, 0.75, 40, of)), (None, Some(0.75)));
        assert_eq!(tell(validated(10, 0.5, 40, of)), (None, Some(0.5)));
        let usual = Some(UsualImages { images: 40, val_loss: 0.625, accuracy: None });
        let last = Validation { usual, ..validated(15, 0.25, 900, None) };
        assert_eq!(tell(last), (None, Some(0.5)), "0.25 is of other images");
        assert_eq!(tell(validated(20, 0.625, 900, None)), (None, Some(0.625)));
    }

    #[test]
    fn progress_is_known_until_something_else_happens() {
        let (step, work) = (5, Work::Validation);
        let progress = WorkProgress { step, work, done: 3200, total: 50_000 };
        assert_eq!(progress.text(), "validating 3,200/50,000");
        let mut state = RunState::default();
        for (event, known) in [
            (Event::Phase { phase: Phase::Evaluating }, false),
            (Event::Progress(progress), true),
            (Event::Validated(validated(5, 1.0, 4, None)), false),
        ] {
            state.apply(&Stamped { time: 1.0, event });
            assert_eq!(state.progress.is_some(), known);
        }
    }

    #[test]
    fn an_alarm_holds_until_it_is_over() {
        let alarm = |kind, active, step| {
            let message = format!("{active} at {step}");
            Event::Alarm(Alarm { kind, active, step, message })
        };
        let mut state = RunState::default();
        let events = [
            alarm(AlarmKind::LossSpike, true, 1),
            alarm(AlarmKind::Stalled, true, 2),
            alarm(AlarmKind::LossSpike, true, 3),
            alarm(AlarmKind::Stalled, false, 4),
            alarm(AlarmKind::DiskLow, false, 5),
        ];
        for event in events {
            state.apply(&Stamped { time: 1.0, event });
        }
        let held: Vec<_> = state.alarms.iter().map(|alarm| (alarm.kind, alarm.step)).collect();
        assert_eq!(held, [(AlarmKind::LossSpike, 3)]);
    }
}
