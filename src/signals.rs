//! Ctrl-C and SIGTERM: the first one asks for a checkpoint and the end, the second ends the process.

use crate::error::exit;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `stop` at the first signal, on a thread of its own so that a blocked front end doesn't matter; at the second
/// `abort`, before the process ends.
///
/// # Errors
/// The system refuses the handlers or the thread.
pub fn on_stop(
    stop: impl FnOnce() + Send + 'static,
    abort: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            stop();
        }
        if signals.next().is_some() {
            abort();
            std::process::exit(i32::from(exit::ABORTED));
        }
    })?;
    Ok(())
}
