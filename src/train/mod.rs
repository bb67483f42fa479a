//! Training on its own thread.
//!
//! [`spawn`] returns a [`Session`]: events come out, commands go in, and the thread's result says how it ended.

mod emitter;
mod evaluate;
pub mod health;
pub mod meter;
mod report;
mod steer;
#[cfg(test)]
mod steer_tests;
pub mod task;
pub mod trainer;
pub mod validate;
mod watchdog;

use crate::event::{Event, Level, Listener, Order, Stamped};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use emitter::Emitter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use trainer::{Job, RunSummary, TrainError, Trainer};

/// A running trainer, owned by exactly one front end.
pub struct Session {
    /// Ends (disconnects) when the trainer has ended.
    pub events: Receiver<Stamped>,
    pub orders: Sender<Order>,
    /// Gets the exit code when the trainer has ended; disconnected if it panicked.
    pub ended: Receiver<u8>,
    thread: JoinHandle<Result<RunSummary, TrainError>>,
}

impl Session {
    /// Waits for the end of the trainer.
    ///
    /// # Errors
    /// What ended the run early; a panic of the trainer counts as such.
    pub fn join(self) -> Result<RunSummary, TrainError> {
        drop(self.events);
        let lost = |_| Err(TrainError::Panic("the thread is gone".to_owned()));
        self.thread.join().unwrap_or_else(lost)
    }
}

/// The way of orders to a trainer, there before it is: signals and sockets may come first.
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

/// Starts training; `listeners` hear what the session's owner hears.
///
/// # Errors
/// The system gives no thread.
pub fn spawn(
    job: Job,
    inbox: Inbox,
    mut listeners: Vec<Box<dyn Listener>>,
) -> std::io::Result<Session> {
    let (event_sender, events) = unbounded();
    listeners.push(Box::new(event_sender));
    let Inbox { sender: orders, receiver } = inbox;
    let (code, ended) = bounded(1);
    let thread = std::thread::Builder::new().name("trainer".to_owned()).spawn(move || {
        let result = train(job, receiver, listeners);
        let _ = code.send(result.as_ref().map_or_else(TrainError::exit_code, |_| 0));
        result
    })?;
    Ok(Session { events, orders, ended, thread })
}

/// The body of the thread. Whatever ends the run early is told, to readers of the log too.
fn train(
    job: Job,
    orders: Receiver<Order>,
    mut listeners: Vec<Box<dyn Listener>>,
) -> Result<RunSummary, TrainError> {
    let failure = |error: &TrainError| {
        Stamped::now(Event::Log { level: Level::Error, message: error.to_string() })
    };
    let log = match trainer::open_log(&job) {
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
    let voice = Arc::clone(&emitter);
    let trained =
        catch_unwind(AssertUnwindSafe(|| Trainer::with(job, voice, orders).and_then(Trainer::run)));
    let result = trained.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(TrainError::Panic(text.unwrap_or_else(|| "no message".to_owned())))
    });
    if let Err(error) = &result {
        // Told first: the log may be what failed.
        emitter.send_unlogged(failure(error));
        emitter.flush();
    }
    result
}
