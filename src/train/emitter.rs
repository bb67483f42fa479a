//! Events of the trainer and its watchdog: they are written to the event log, then sent to everyone who listens.

use crate::event::{Event, Listener, Stamped};
use crate::run_dir::{EventLog, RunDirError};
use crossbeam_channel::Sender;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Step reports that may wait for a slow front end; further ones are in the log alone. Other events are never dropped: a
/// screen that was stalled for a night must know whether the run is paused.
const QUEUE: usize = 1 << 14;

impl Listener for Sender<Stamped> {
    fn hear(&mut self, stamped: &Stamped, _log_end: u64) {
        if self.len() < QUEUE || !matches!(stamped.event, Event::Step(_)) {
            let _ = self.send(stamped.clone()); // fails if the front end is gone
        }
    }
}

/// Events that are kept for the log while the disk is full; further ones are not logged.
const MOST_OWED: usize = 1000;

/// Passes on the events of a run. The trainer and its watchdog share it.
pub(super) struct Emitter {
    /// The event log. Its lock is held while the disk works, which may take for ever.
    log: Mutex<EventLog>,
    /// Events that listeners have got and the log has not. They are logged before the next event.
    owed: Mutex<Vec<Stamped>>,
    /// Their lock is held for microseconds only, as listeners never block.
    listeners: Mutex<Vec<Box<dyn Listener>>>,
    /// Length of the log in bytes, readable while the log is locked.
    end: AtomicU64,
}

impl Emitter {
    pub(super) fn new(log: EventLog, listeners: Vec<Box<dyn Listener>>) -> Self {
        let end = AtomicU64::new(log.end());
        let (log, listeners) = (Mutex::new(log), Mutex::new(listeners));
        Self { log, owed: Mutex::default(), listeners, end }
    }

    /// Logs an event, then sends it to the listeners.
    ///
    /// # Errors
    /// If the event can't be logged; it was not sent then.
    pub(super) fn emit(&self, stamped: &Stamped) -> Result<(), RunDirError> {
        let mut log = lock(&self.log);
        self.log_owed(&mut log)?;
        log.append(stamped)?;
        self.end.store(log.end(), Ordering::Relaxed);
        // The log is still locked, so that listeners get events in the order of the log.
        self.send_to_listeners(stamped);
        Ok(())
    }

    /// Sends an event to the listeners at once, without waiting for the disk. It is logged as soon as that is possible.
    pub(super) fn send_unlogged(&self, stamped: Stamped) {
        self.send_to_listeners(&stamped);
        let mut owed = lock(&self.owed);
        if owed.len() < MOST_OWED {
            owed.push(stamped);
        }
    }

    /// Sends an event to the listeners that changes nothing, and that the log can do without.
    pub(super) fn tell(&self, stamped: &Stamped) {
        self.send_to_listeners(stamped);
    }

    /// Logs the events that were sent unlogged, unless the log is busy or can't be written.
    pub(super) fn flush(&self) {
        if let Ok(mut log) = self.log.try_lock() {
            let _ = self.log_owed(&mut log); // the next event tries it again
        }
    }

    /// Logs the events that were sent unlogged.
    fn log_owed(&self, log: &mut EventLog) -> Result<(), RunDirError> {
        let mut owed = lock(&self.owed);
        while let Some(late) = owed.first() {
            log.append(late)?;
            owed.remove(0);
        }
        self.end.store(log.end(), Ordering::Relaxed);
        Ok(())
    }

    fn send_to_listeners(&self, stamped: &Stamped) {
        let end = self.end.load(Ordering::Relaxed);
        for listener in lock(&self.listeners).iter_mut() {
            listener.hear(stamped, end);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Level, StepReport};
    use crate::run_dir::event_log;
    use crossbeam_channel::unbounded;

    fn log(message: &str) -> Event {
        Event::Log { level: Level::Info, message: message.to_owned() }
    }

    #[test]
    fn what_is_sent_before_it_can_be_logged_comes_first_in_the_log() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        let (sender, heard) = unbounded();
        let file = EventLog::open(&path).expect("writable");
        let emitter = Emitter::new(file, vec![Box::new(sender)]);
        emitter.emit(&Stamped::now(log("one"))).expect("written");
        emitter.send_unlogged(Stamped::now(log("two")));
        assert_eq!(event_log::read(&path).expect("readable").len(), 1);
        emitter.emit(&Stamped::now(log("three"))).expect("written");
        let heard: Vec<Stamped> = heard.try_iter().collect();
        assert_eq!(event_log::read(&path).expect("readable"), heard);
        let messages: Vec<Event> = heard.into_iter().map(|stamped| stamped.event).collect();
        assert_eq!(messages, [log("one"), log("two"), log("three")]);
    }

    #[test]
    fn a_front_end_that_sleeps_misses_figures_but_no_state() {
        let step = |step| Event::Step(StepReport::sample(step));
        let (mut sender, heard) = unbounded();
        for number in 0..QUEUE as u64 + 1000 {
            sender.hear(&Stamped::now(step(number)), 0);
        }
        sender.hear(&Stamped::now(log("paused")), 0);
        assert_eq!(heard.len(), QUEUE + 1);
        assert_eq!(heard.iter().nth(QUEUE).map(|stamped| stamped.event), Some(log("paused")));
    }
}
