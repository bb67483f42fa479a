//! What turns a run from its course: orders, steps that are no numbers, a full disk.

use super::meter::Activity;
use super::trainer::{TrainError, Trainer};
use crate::config::OnNan;
use crate::event::{Alarm, AlarmKind, Command, Event, Order, Phase, Stamped};
use std::time::{Duration, Instant};

/// Bad steps in a row after which skipping them makes no sense.
const MOST_BAD_STEPS: u64 = 100;
/// Shortest and longest time between two tries to write to a full disk.
const FIRST_TRY: Duration = Duration::from_secs(1);
const LAST_TRY: Duration = Duration::from_secs(10);

impl Trainer {
    /// Carries out what has been ordered.
    pub(super) fn obey(&mut self) -> Result<(), TrainError> {
        // A front end that left doesn't end the run.
        while let Some(order) = self.queue.pop_front().or_else(|| self.orders.try_recv().ok()) {
            self.execute(order)?;
        }
        Ok(())
    }

    /// At the end all is saved: who ordered just that gets an answer.
    pub(super) fn answer_late_orders(&mut self) -> Result<(), TrainError> {
        self.queue.extend(self.orders.try_iter());
        for order in std::mem::take(&mut self.queue) {
            if matches!(order.command, Command::Checkpoint | Command::Stop) {
                self.emit(Event::Obeyed(order))?;
            }
        }
        Ok(())
    }

    fn execute(&mut self, order: Order) -> Result<(), TrainError> {
        match order.command {
            Command::Checkpoint => self.save()?,
            Command::Stop => self.stopping = true,
            Command::Resume => {}
            Command::Pause => return self.pause(Some(order)),
        }
        self.emit(Event::Obeyed(order))
    }

    /// Waits for Resume or Stop; Checkpoint is served meanwhile.
    fn pause(&mut self, order: Option<Order>) -> Result<(), TrainError> {
        if self.stopping {
            return Ok(());
        }
        self.report()?;
        self.phase(Phase::Paused)?;
        if let Some(order) = order {
            self.emit(Event::Obeyed(order))?;
        }
        self.meter.lap(Activity::Other);
        loop {
            let order = self.queue.pop_front().map_or_else(|| self.orders.recv(), Ok);
            self.meter.lap(Activity::Pause);
            // Nobody is left who could resume it.
            let Ok(order) = order else { break };
            match order.command {
                Command::Pause => {}
                Command::Checkpoint => {
                    self.save()?;
                    self.phase(Phase::Paused)?;
                }
                Command::Stop => self.stopping = true,
                Command::Resume => self.phase(Phase::Running)?,
            }
            let over = matches!(order.command, Command::Stop | Command::Resume);
            self.emit(Event::Obeyed(order))?;
            if over {
                return Ok(());
            }
        }
        self.phase(Phase::Running)
    }

    /// Does what `alarms.on_nan` says about a step whose loss or gradient was not a number.
    pub(super) fn react(&mut self) -> Result<(), TrainError> {
        let Some(step) = self.bad_step.take() else { return Ok(()) };
        match self.config.alarms.on_nan {
            OnNan::Ignore => Ok(()),
            OnNan::Skip if self.bad_steps < MOST_BAD_STEPS => Ok(()),
            OnNan::Pause => self.pause(None),
            policy @ (OnNan::Stop | OnNan::Skip) => {
                self.phase(Phase::Stopping)?;
                self.save()?;
                Err(match policy {
                    OnNan::Skip => TrainError::TooManyBadSteps { step, count: self.bad_steps },
                    _ => TrainError::NotFinite { step },
                })
            }
        }
    }

    /// Does something that writes. When the disk is full it waits until there is space, says so, and tries again;
    /// the run loses nothing but time. Stop ends the wait.
    pub(super) fn retry_while_disk_full<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        let mut wait = FIRST_TRY;
        loop {
            match work(self) {
                Err(error) if self.patient && error.full_disk().is_some() => {
                    self.wait_for_space(error, wait)?;
                    wait = LAST_TRY.min(2 * wait);
                }
                Ok(done) => {
                    self.space_again()?;
                    return Ok(done);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn wait_for_space(&mut self, error: TrainError, wait: Duration) -> Result<(), TrainError> {
        self.meter.lap(Activity::Other);
        self.stopping |= self.queue.iter().any(|order| order.command == Command::Stop);
        if self.stopping {
            return Err(error);
        }
        if self.full.is_none() {
            self.full = Some(self.phase);
            let path = error.full_disk().unwrap_or(self.run.root()).display();
            let message =
                format!("no space for {path}; the run waits, and goes on when there is some");
            for event in [
                self.alarm(AlarmKind::DiskFull, true, message),
                Event::Phase { phase: Phase::Paused },
            ] {
                self.emitter.send_unlogged(Stamped::now(event));
            }
            self.pulse.enter(Phase::Paused);
        }
        // What is too little for a checkpoint may do for some lines.
        self.emitter.flush();
        let end = Instant::now() + wait;
        loop {
            match self.orders.recv_deadline(end) {
                Ok(order) if order.command == Command::Resume => break, // try at once
                Ok(order) => {
                    let stop = order.command == Command::Stop;
                    self.queue.push_back(order);
                    if stop {
                        break; // one more try
                    }
                }
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => break,
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(end.saturating_duration_since(Instant::now()));
                    break;
                }
            }
        }
        self.meter.lap(Activity::Pause);
        Ok(())
    }

    fn space_again(&mut self) -> Result<(), TrainError> {
        let Some(before) = self.full.take() else { return Ok(()) };
        let message = "there is space again, the run goes on".to_owned();
        self.emit(self.alarm(AlarmKind::DiskFull, false, message))?;
        self.phase(before)
    }

    fn alarm(&self, kind: AlarmKind, active: bool, message: String) -> Event {
        Event::Alarm(Alarm { kind, active, step: self.step(), message })
    }
}
