//! Signals from people, shells and job schedulers.
//!
//! | signal | effect |
//! |---|---|
//! | SIGINT, SIGTERM, SIGUSR1 | finish the step, save, end with 0; a second one ends the process at once, with 130 |
//! | SIGUSR2 | save a checkpoint and go on |
//! | SIGHUP | the terminal is gone |
//! | SIGCONT | the screen comes back after a stop |
//!
//! A signal to a whole process group reaches the worker twice: by itself and passed on by its launcher. The launcher
//! therefore passes on other signals, the [`COPIES`], which are counted separately.

use crate::exit;
use signal_hook::consts::{
    SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGPROF, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXFSZ,
};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

/// The signals to stop, each with the signal that a launcher sends in its place.
pub const COPIES: [(i32, i32); 3] = [(SIGINT, SIGVTALRM), (SIGTERM, SIGALRM), (SIGUSR1, SIGPROF)];

/// What signals do. It is called on a thread of its own, so that a blocked front end doesn't matter.
pub trait Reaction: Send + 'static {
    /// Reacts to the first signal to stop, given by its name.
    fn stop(&mut self, signal: &'static str);
    /// Reacts to a signal to save a checkpoint, given by its name.
    fn checkpoint(&mut self, signal: &'static str);
    /// Reacts to the loss of the terminal.
    fn hang_up(&mut self);
    /// Reacts to the continuation of a process that had been stopped.
    fn wake(&mut self);
    /// Reacts to the second signal to stop. The process ends when this returns.
    fn abort(&mut self);
}

/// Stands for signals that are caught. Until [`Self::react`] is called there is nothing to save.
#[derive(Clone)]
pub struct Caught(Arc<Mutex<Stage>>);

struct Stage {
    reaction: Option<Box<dyn Reaction>>,
    /// Whether a hangup came before there was a reaction.
    hung_up: bool,
}

/// Lets a file that grows past the limit of `ulimit -f` be an error of the write, as a full disk is, and not the end of
/// the process in the middle of it.
pub fn survive_file_limit() {
    // Without the handler everything works as before, only the signal still ends the process.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// Begins to catch signals. Until there is a reaction, a signal to stop ends the process: SIGTERM and SIGUSR1 with exit
/// code 0, as nothing is lost, SIGINT with [`exit::ABORTED`].
///
/// # Errors
/// If the system refuses the handlers or the thread.
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

/// Lets SIGINT and SIGTERM set a flag, for a command that ends by itself when it sees it. A second signal ends the
/// process at once, with [`exit::ABORTED`].
///
/// # Errors
/// If the system refuses the handlers.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let aborted = i32::from(exit::ABORTED);
        // Handlers run in this order, so that the first signal finds the flag unset.
        signal_hook::flag::register_conditional_shutdown(signal, aborted, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

impl Caught {
    /// Hands signals to `reaction` from now on.
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
                _ if name(signal) == "SIGINT" => std::process::exit(i32::from(exit::ABORTED)),
                _ => std::process::exit(0),
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

/// Counts the signals to stop.
#[derive(Default)]
struct Stops {
    own: u32,
    copies: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Stop {
    First,
    /// The first signal again, on its other way.
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

/// Returns the name of a signal to stop, or of what a copy stands for.
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
