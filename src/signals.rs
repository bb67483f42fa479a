//! Signals, for people, shells and job schedulers.
//!
//! | signal | effect |
//! |---|---|
//! | SIGINT, SIGTERM, SIGUSR1 | finish the step, save, end with 0; a second one ends the process at once, with 130 |
//! | SIGUSR2 | save a checkpoint and go on |
//! | SIGHUP | the terminal is gone |

use crate::error::exit;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::io;

/// Signals caught, and nothing done about them yet: those that come early wait.
pub struct Caught(Signals);

/// What the signals do. Called on a thread of its own, so that a blocked front end doesn't matter.
pub trait Reaction: Send + 'static {
    /// The first signal to stop, by its name.
    fn stop(&mut self, signal: &'static str);
    fn checkpoint(&mut self, signal: &'static str);
    fn hang_up(&mut self);
    /// The second signal to stop; the process ends when this returns.
    fn abort(&mut self);
}

/// Begins to catch them.
///
/// # Errors
/// The system refuses the handlers.
pub fn catch() -> io::Result<Caught> {
    Ok(Caught(Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP])?))
}

impl Caught {
    /// Reacts from now on.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn react(mut self, mut reaction: impl Reaction) -> io::Result<()> {
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut stopping = false;
            for signal in self.0.forever() {
                match signal {
                    SIGUSR2 => reaction.checkpoint("SIGUSR2"),
                    SIGHUP => reaction.hang_up(),
                    _ if stopping => {
                        reaction.abort();
                        std::process::exit(i32::from(exit::ABORTED));
                    }
                    _ => {
                        stopping = true;
                        reaction.stop(name(signal));
                    }
                }
            }
        })?;
        Ok(())
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "SIGINT",
        SIGTERM => "SIGTERM",
        _ => "SIGUSR1",
    }
}
