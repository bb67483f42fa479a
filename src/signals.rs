//! Ctrl-C and SIGTERM: the first one asks for a checkpoint and the end, the second ends the process.

use crate::error::exit;
use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A message at the first signal; the second ends the process. Catches them from now on.
///
/// # Errors
/// The system refuses the handlers or the thread.
pub fn stops() -> std::io::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (sender, receiver) = bounded(1);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() && sender.send(()).is_ok() && signals.next().is_some() {
            std::process::exit(i32::from(exit::ABORTED));
        }
    })?;
    Ok(receiver)
}
