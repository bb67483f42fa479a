//! What the trainer tells goes into the event log first, then to everyone who listens.

use crate::event::{Listener, Stamped};
use crate::run_dir::{EventLog, RunDirError};
use crossbeam_channel::Sender;
use std::sync::{Mutex, PoisonError};

/// A front end, which may be slow or gone: what doesn't fit is in the log.
impl Listener for Sender<Stamped> {
    fn hear(&mut self, stamped: &Stamped, _log_end: u64) {
        let _ = self.try_send(stamped.clone());
    }
}

/// Events told but not logged: the disk was full. More than this can't be of interest.
const MOST_OWED: usize = 1000;

/// The voice of a run, shared by the trainer and its sentinel.
pub struct Emitter(Mutex<Voice>);

struct Voice {
    log: EventLog,
    listeners: Vec<Box<dyn Listener>>,
    /// Told already; logged before the next event is.
    owed: Vec<Stamped>,
}

impl Emitter {
    pub fn new(log: EventLog, listeners: Vec<Box<dyn Listener>>) -> Self {
        Self(Mutex::new(Voice { log, listeners, owed: Vec::new() }))
    }

    /// Logs an event, then tells it.
    ///
    /// # Errors
    /// It can't be logged, and was not told.
    pub fn emit(&self, stamped: &Stamped) -> Result<(), RunDirError> {
        let mut voice = self.voice();
        let owed = std::mem::take(&mut voice.owed);
        for (at, late) in owed.iter().enumerate() {
            if let Err(error) = voice.log.append(late) {
                voice.owed = owed[at..].to_vec();
                return Err(error);
            }
        }
        voice.log.append(stamped)?;
        voice.tell(stamped);
        Ok(())
    }

    /// Tells an event at once and logs it when that is possible again.
    pub fn tell(&self, stamped: Stamped) {
        let mut voice = self.voice();
        voice.tell(&stamped);
        if voice.owed.len() < MOST_OWED {
            voice.owed.push(stamped);
        }
    }

    fn voice(&self) -> std::sync::MutexGuard<'_, Voice> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Voice {
    fn tell(&mut self, stamped: &Stamped) {
        let end = self.log.end();
        for listener in &mut self.listeners {
            listener.hear(stamped, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Level};
    use crate::run_dir::event_log;
    use crossbeam_channel::unbounded;

    fn log(message: &str) -> Event {
        Event::Log { level: Level::Info, message: message.to_owned() }
    }

    #[test]
    fn what_is_told_before_it_can_be_logged_comes_first_in_the_log() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        let (sender, heard) = unbounded();
        let file = EventLog::open(&path).expect("writable");
        let emitter = Emitter::new(file, vec![Box::new(sender)]);
        emitter.emit(&Stamped::now(log("one"))).expect("written");
        emitter.tell(Stamped::now(log("two")));
        assert_eq!(event_log::read(&path).expect("readable").len(), 1);
        emitter.emit(&Stamped::now(log("three"))).expect("written");
        let heard: Vec<Stamped> = heard.try_iter().collect();
        assert_eq!(event_log::read(&path).expect("readable"), heard);
        let messages: Vec<Event> = heard.into_iter().map(|stamped| stamped.event).collect();
        assert_eq!(messages, [log("one"), log("two"), log("three")]);
    }
}
