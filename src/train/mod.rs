//! Training on its own thread.
//!
//! [`spawn`] returns a [`Session`]: events come out, orders go in, and the thread's result says how it ended.

mod comms;
mod course;
mod emitter;
mod error;
mod evaluate;
mod every;
mod health;
mod loading;
mod meter;
mod orders;
mod progress;
mod report;
mod results;
mod saving;
mod start;
mod steer;
#[cfg(test)]
mod steer_tests;
pub mod task;
mod trainer;
mod val_images;
pub mod validate;
mod watchdog;

pub use error::{FailureKind, TrainError};
pub use progress::RunLength;
pub use start::{Job, Start};
pub use trainer::{RunSummary, Trainer};
pub use val_images::validation_note;

use crate::engine::DeviceFailure;
use crate::event::{Event, Level, Listener, Order, Stamped};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use emitter::Emitter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

/// A running trainer, owned by exactly one front end.
pub struct Session {
    /// Disconnected once the trainer has ended.
    pub events: Receiver<Stamped>,
    pub orders: Sender<Order>,
    /// Gets how the run ended once the trainer has ended, for those who can't wait for [`Self::join`].
    pub ended: Receiver<Result<(), FailureKind>>,
    thread: JoinHandle<Result<RunSummary, TrainError>>,
}

impl Session {
    /// Waits for the end of the trainer.
    ///
    /// # Errors
    /// Returns what ended the run early; a panic of the trainer counts as such.
    pub fn join(self) -> Result<RunSummary, TrainError> {
        drop(self.events);
        let lost = |_| Err(TrainError::Panic("the thread is gone".to_owned()));
        self.thread.join().unwrap_or_else(lost)
    }
}

/// The order channel. It exists before the trainer so that signal handlers and sockets can already send into it.
pub struct Inbox {
    pub sender: Sender<Order>,
    receiver: Receiver<Order>,
}

impl Inbox {
    pub fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts training. `listeners` hear the events that the owner of the session gets.
///
/// # Errors
/// If the system gives no thread.
pub fn spawn(
    job: Job,
    inbox: Inbox,
    mut listeners: Vec<Box<dyn Listener>>,
) -> std::io::Result<Session> {
    let (event_sender, events) = unbounded();
    listeners.push(Box::new(event_sender));
    let Inbox { sender: orders, receiver } = inbox;
    let (end, ended) = bounded(1);
    let thread = std::thread::Builder::new().name("trainer".to_owned()).spawn(move || {
        let result = train(job, receiver, listeners);
        let _ = end.send(result.as_ref().map(|_| ()).map_err(TrainError::kind)); // read by few
        result
    })?;
    Ok(Session { events, orders, ended, thread })
}

/// The body of the thread. Whatever ends the run early is told to the listeners and written to the log, too.
fn train(
    job: Job,
    orders: Receiver<Order>,
    mut listeners: Vec<Box<dyn Listener>>,
) -> Result<RunSummary, TrainError> {
    let log = match start::open_log(&job) {
        Ok(log) => log,
        Err(error) => {
            let error = TrainError::from(error);
            for listener in &mut listeners {
                listener.hear(&failure(&error), 0);
            }
            return Err(error);
        }
    };
    let emitter = Arc::new(Emitter::new(log, listeners));
    let trainer = || Trainer::with(job, Arc::clone(&emitter), orders).and_then(Trainer::run);
    let result = catch_unwind(AssertUnwindSafe(trainer)).unwrap_or_else(|panic| {
        if let Some(DeviceFailure(why)) = panic.downcast_ref() {
            return Err(TrainError::Device(why.clone()));
        }
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(TrainError::Panic(text.unwrap_or_else(|| "no message".to_owned())))
    });
    if let Err(error) = &result {
        // The listeners come first because the log may be what failed.
        emitter.send_unlogged(failure(error));
        emitter.flush();
        let _ = emitter.sync(); // the error that ended the run is the one to report
    }
    result
}

fn failure(error: &TrainError) -> Stamped {
    Stamped::now(Event::Log { level: Level::Error, message: error.to_string() })
}
