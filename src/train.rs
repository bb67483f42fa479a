//! Training on its own thread.
//!
//! [`spawn`] returns a [`Session`]: events come out, commands go in, and the thread's result says how it ended.

pub mod checkpoint;
pub mod engine;
pub mod learner;
pub mod meter;
pub mod optim;
mod record;
pub mod run;
pub mod schedule;
pub mod validate;

use crate::event::{Command, Stamped};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use run::{Job, Summary, TrainError, Trainer};
use std::thread::JoinHandle;

/// Events that wait for a front end; what doesn't fit is in `events.jsonl` alone.
const EVENT_QUEUE: usize = 4096;

/// A running trainer, owned by exactly one front end.
pub struct Session {
    /// Ends (disconnects) when the trainer has ended.
    pub events: Receiver<Stamped>,
    pub commands: Sender<Command>,
    thread: JoinHandle<Result<Summary, TrainError>>,
}

impl Session {
    /// Waits for the end of the trainer.
    ///
    /// # Errors
    /// What ended the run early; a panic of the trainer counts as such.
    pub fn join(self) -> Result<Summary, TrainError> {
        drop(self.events);
        self.thread.join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(TrainError::Panic(text.unwrap_or_else(|| "no message".to_owned())))
        })
    }
}

/// Starts training.
///
/// # Errors
/// The system gives no thread.
pub fn spawn(job: Job) -> std::io::Result<Session> {
    let (event_sender, events) = bounded(EVENT_QUEUE);
    let (commands, command_receiver) = unbounded();
    let thread = std::thread::Builder::new()
        .name("trainer".to_owned())
        .spawn(move || Trainer::new(job, event_sender, command_receiver)?.run())?;
    Ok(Session { events, commands, thread })
}
