//! Signals, for people, shells and job schedulers.
//!
//! | signal | effect |
//! |---|---|
//! | SIGINT, SIGTERM, SIGUSR1 | finish the step, save, end with 0; a second one ends the process at once, with 130 |
//! | SIGUSR2 | save a checkpoint and go on |
//! | SIGHUP | the terminal is gone |
//! | SIGCONT | the screen comes back after a stop |
//!
//! A signal to a whole process group reaches the worker twice: by itself and passed on by its launcher. The launcher
//! therefore passes on [`COPIES`], which are counted apart.

use crate::exit;
use signal_hook::consts::{
    SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGPROF, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Signals to stop, and what a launcher sends for each.
pub const COPIES: [(i32, i32); 3] = [(SIGINT, SIGVTALRM), (SIGTERM, SIGALRM), (SIGUSR1, SIGPROF)];

/// What the signals do. Called on a thread of its own, so that a blocked front end doesn't matter.
pub trait Reaction: Send + 'static {
    /// The first signal to stop, by its name.
    fn stop(&mut self, signal: &'static str);
    fn checkpoint(&mut self, signal: &'static str);
    fn hang_up(&mut self);
    /// The process was stopped and goes on.
    fn wake(&mut self);
    /// The second signal to stop; the process ends when this returns.
    fn abort(&mut self);
}

/// Signals are caught; until [`Self::react`] there is nothing to save.
#[derive(Clone)]
pub struct Caught(Arc<Mutex<Stage>>);

struct Stage {
    reaction: Option<Box<dyn Reaction>>,
    /// A hangup that came before.
    hung_up: bool,
}

/// Begins to catch them. Before there is a reaction, a signal to stop ends the process: SIGTERM and SIGUSR1 with 0, as
/// nothing is lost, SIGINT with 130.
///
/// # Errors
/// The system refuses the handlers or the thread.
pub fn catch() -> io::Result<Caught> {
    let copies = COPIES.map(|(_, copy)| copy);
    let own = [SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP, SIGCONT];
    let mut signals = Signals::new(own.iter().chain(&copies))?;
    let caught = Caught(Arc::new(Mutex::new(Stage { reaction: None, hung_up: false })));
    let stage = caught.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut stops = Stops::default();
        for signal in signals.forever() {
            stage.handle(signal, &mut stops);
        }
    })?;
    Ok(caught)
}

impl Caught {
    /// From now on there is something to save.
    pub fn react(&self, mut reaction: impl Reaction) {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stage.hung_up {
            reaction.hang_up();
        }
        stage.reaction = Some(Box::new(reaction));
    }

    fn handle(&self, signal: i32, stops: &mut Stops) {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reaction) = &mut stage.reaction else {
            match signal {
                SIGHUP => stage.hung_up = true,
                SIGUSR2 | SIGCONT => {}
                _ => std::process::exit(if name(signal) == "SIGINT" {
                    i32::from(exit::ABORTED)
                } else {
                    0
                }),
            }
            return;
        };
        match signal {
            SIGUSR2 => reaction.checkpoint("SIGUSR2"),
            SIGHUP => reaction.hang_up(),
            SIGCONT => reaction.wake(),
            _ => match stops.count(signal) {
                Stop::First => reaction.stop(name(signal)),
                Stop::Copy => {}
                Stop::Second => {
                    reaction.abort();
                    std::process::exit(i32::from(exit::ABORTED));
                }
            },
        }
    }
}

/// Signals to stop so far.
#[derive(Default)]
struct Stops {
    own: u32,
    copies: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Stop {
    First,
    /// The same signal on its other way.
    Copy,
    Second,
}

impl Stops {
    fn count(&mut self, signal: i32) -> Stop {
        let copy = COPIES.iter().any(|&(_, copy)| copy == signal);
        let counter = if copy { &mut self.copies } else { &mut self.own };
        *counter += 1;
        match (self.own, self.copies) {
            (1, 0) | (0, 1) => Stop::First,
            (1, 1) => Stop::Copy,
            _ => Stop::Second,
        }
    }
}

fn name(signal: i32) -> &'static str {
    let original = COPIES.iter().find(|&&(own, copy)| own == signal || copy == signal);
    match original {
        Some(&(SIGINT, _)) => "SIGINT",
        Some(&(SIGTERM, _)) => "SIGTERM",
        _ => "SIGUSR1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_on_two_ways_counts_once() {
        use Stop::{Copy, First, Second};
        let cases: [(&[i32], &[Stop]); 4] = [
            (&[SIGTERM, SIGALRM, SIGTERM], &[First, Copy, Second]),
            (&[SIGALRM, SIGTERM, SIGALRM], &[First, Copy, Second]),
            (&[SIGTERM, SIGINT], &[First, Second]),
            (&[SIGVTALRM, SIGALRM], &[First, Second]),
        ];
        for (signals, expected) in cases {
            let mut stops = Stops::default();
            let found: Vec<_> = signals.iter().map(|&signal| stops.count(signal)).collect();
            assert_eq!(found, expected, "{signals:?}");
        }
        assert_eq!([SIGALRM, SIGVTALRM, SIGPROF].map(name), ["SIGTERM", "SIGINT", "SIGUSR1"]);
    }
}
