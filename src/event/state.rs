//! The state of a run as a fold over its events. Every front end shows a run by this state.

use crate::event::{
    Alarm, Command, Evaluated, Event, Finished, Phase, Stamped, Started, StepReport, Validation,
};

/// What is known about a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunState {
    pub started: Option<Started>,
    pub phase: Option<Phase>,
    pub last_step: Option<StepReport>,
    pub last_validation: Option<Validation>,
    pub last_evaluation: Option<Evaluated>,
    pub first_val_loss: Option<f64>,
    pub best_val_loss: Option<f64>,
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
        match &stamped.event {
            Event::Started(started) => {
                self.last_step.take_if(|last| !started.keeps(last.step));
                self.last_validation.take_if(|last| !started.keeps(last.step));
                self.last_evaluation.take_if(|last| !started.keeps(last.step));
                self.finished = None;
                self.alarms.clear();
                self.stopped_by = None;
                self.phase = Some(Phase::Starting);
                self.started = Some(started.clone());
            }
            Event::Phase { phase } => self.phase = Some(*phase),
            Event::Step(report) => self.last_step = Some(report.clone()),
            Event::Validated(validation) => {
                self.first_val_loss.get_or_insert(validation.val_loss);
                let best = self.best_val_loss.unwrap_or(f64::INFINITY);
                self.best_val_loss = Some(best.min(validation.val_loss));
                let known = self.best_accuracy.into_iter().chain(validation.accuracy);
                self.best_accuracy = known.reduce(f64::max);
                self.last_validation = Some(validation.clone());
            }
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
    use crate::event::AlarmKind;

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
