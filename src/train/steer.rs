//! What changes the course of a run: orders, and steps whose figures are not numbers.

use super::error::TrainError;
use super::meter::Activity;
use super::trainer::Trainer;
use crate::config::OnNan;
use crate::engine::StepFigures;
use crate::event::{Command, Event, Order, Phase};

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
            Command::Resume => {}
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
                Command::Pause => {}
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
        let error = match self.config.alarms.on_nan {
            OnNan::Ignore => return Ok(()),
            OnNan::Pause => return self.pause(None),
            OnNan::Skip if count < MOST_BAD_STEPS => return Ok(()),
            OnNan::Skip => TrainError::TooManyBadSteps { step, count },
            OnNan::Stop => TrainError::NotFinite { step },
        };
        self.comms.enter(Phase::Stopping)?;
        self.save()?;
        Err(error)
    }
}
