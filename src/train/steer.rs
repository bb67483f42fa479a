//! What changes the course of a run: orders, and steps whose figures are not numbers.

use super::error::TrainError;
use super::meter::Activity;
use super::trainer::Trainer;
use crate::config::{OnNan, ScheduleConfig};
use crate::engine::StepFigures;
use crate::event::{Command, Event, Order, Phase};
use crate::text::shell::for_shell;
use crate::weights::checkpoint;
use std::path::Path;

/// Bad steps in a row after which skipping them makes no sense.
const MOST_BAD_STEPS: u64 = 100;

/// Steps whose loss or gradient is not a number.
#[derive(Debug, Default)]
pub(super) struct BadSteps {
    /// The first one that was not reacted to yet.
    pending: Option<u64>,
    in_a_row: u64,
}

impl BadSteps {
    /// Takes in the figures of a step.
    pub(super) fn count(&mut self, step: u64, figures: StepFigures) {
        if figures.is_finite() {
            self.in_a_row = 0;
        } else {
            self.in_a_row += 1;
            self.pending.get_or_insert(step);
        }
    }

    /// Notes that the validation at `step` found a loss that is not a number.
    pub(super) fn note(&mut self, step: u64) {
        self.pending = Some(step);
    }
}

impl Trainer {
    /// Carries out the orders that have come.
    pub(super) fn obey(&mut self) -> Result<(), TrainError> {
        while let Some(order) = self.comms.orders.take() {
            self.execute(order)?;
        }
        Ok(())
    }

    /// Acknowledges, at the end of the run, the orders that came too late but are fulfilled by it: everything is saved.
    pub(super) fn answer_late_orders(&mut self) -> Result<(), TrainError> {
        for order in self.comms.orders.take_all() {
            if matches!(order.command, Command::Checkpoint | Command::Stop) {
                self.comms.emit(Event::Obeyed(order))?;
            }
        }
        Ok(())
    }

    fn execute(&mut self, order: Order) -> Result<(), TrainError> {
        match order.command {
            Command::Checkpoint => self.save()?,
            Command::Stop => self.comms.orders.stop(),
            // Whoever waits for it hears of it, but it is worth no line of the log.
            Command::Resume => {
                self.comms.tell(Event::Obeyed(order));
                return Ok(());
            }
            Command::Pause => return self.pause(Some(order)),
        }
        self.comms.emit(Event::Obeyed(order))
    }

    /// Waits for a Resume or a Stop, and saves checkpoints that are ordered meanwhile.
    fn pause(&mut self, order: Option<Order>) -> Result<(), TrainError> {
        if self.comms.orders.stopping() {
            return Ok(());
        }
        self.report()?;
        self.comms.enter(Phase::Paused)?;
        if let Some(order) = order {
            self.comms.emit(Event::Obeyed(order))?;
        }
        self.comms.meter.lap(Activity::Other);
        loop {
            let order = self.comms.orders.wait();
            self.comms.meter.lap(Activity::Pause);
            // Without an order nobody is left who could end the pause.
            let Some(order) = order else { break };
            match order.command {
                Command::Pause => {
                    self.comms.tell(Event::Obeyed(order));
                    continue;
                }
                Command::Checkpoint => {
                    self.save()?;
                    self.comms.enter(Phase::Paused)?;
                }
                Command::Stop => self.comms.orders.stop(),
                Command::Resume => self.comms.enter(Phase::Running)?,
            }
            let over = matches!(order.command, Command::Stop | Command::Resume);
            self.comms.emit(Event::Obeyed(order))?;
            if over {
                return Ok(());
            }
        }
        self.comms.enter(Phase::Running)
    }

    /// Does what `alarms.on_nan` asks for after a step whose loss or gradient is not a number.
    pub(super) fn react(&mut self) -> Result<(), TrainError> {
        let Some(step) = self.bad_steps.pending.take() else { return Ok(()) };
        let count = self.bad_steps.in_a_row;
        match self.config.alarms.on_nan {
            OnNan::Ignore => return Ok(()),
            OnNan::Pause => return self.pause(None),
            OnNan::Skip if count < MOST_BAD_STEPS => return Ok(()),
            OnNan::Skip | OnNan::Stop => {}
        }
        self.comms.enter(Phase::Stopping)?;
        if !self.saver.has(self.progress.micro()) {
            self.write_checkpoint()?; // deletes none: the oldest may be the one from before the rise
        }
        let (course, way) = (self.course.text(), self.way_back());
        Err(match self.config.alarms.on_nan {
            OnNan::Skip => TrainError::TooManyBadSteps { step, count, course, way },
            _ => TrainError::NotFinite { step, course, way },
        })
    }

    /// Returns what to do after the end of a run whose figures are no numbers, with the command to type last.
    pub(super) fn way_back(&self) -> String {
        let run = self.saver.run();
        let rate = lower_rate(&self.config.schedule);
        let from = |what: &str, path: &Path| {
            let path = for_shell(path);
            format!(
                "lower schedule.base_lr and go on from {what}: simmim-tui --resume {path} {rate}"
            )
        };
        let Some(step) = self.course.before_rise() else {
            return from("the newest checkpoint", run.root());
        };
        if let Some((at, path)) = checkpoint::newest_up_to(&run.checkpoints(), step) {
            return from(&format!("step {at}, the last checkpoint from before the rise"), &path);
        }
        let root = for_shell(run.root());
        let again = "no checkpoint is left from before the rise, and --resume would go on from its top: lower \
                     schedule.base_lr and start again";
        match self.config.finetune {
            None => format!("{again}: simmim-tui --config {root}/config.toml {rate}"),
            Some(_) => format!("{again}, as simmim-tui finetune … {rate}"),
        }
    }
}

/// Returns the arguments for a third of the learning rate. Two digits are enough for a guess.
fn lower_rate(schedule: &ScheduleConfig) -> String {
    let lower = format!("{:.1e}", schedule.base_lr / 3.0);
    let highest = lower.parse().unwrap_or(schedule.base_lr);
    let ends = [("warmup_lr", schedule.warmup_lr), ("min_lr", schedule.min_lr)];
    // The other rates must not be above the base.
    let above = ends.into_iter().filter(|&(_, rate)| rate > highest).map(|(key, _)| key);
    let sets = ["base_lr"].into_iter().chain(above);
    let sets: Vec<String> = sets.map(|key| format!("--set schedule.{key}={lower}")).collect();
    sets.join(" ")
}
