//! The process around a run: signals, the launcher, the way into the background, and the user's command. It knows
//! neither trainer nor screen.

pub(crate) mod background;
pub mod flags;
pub(crate) mod inherited;
pub(crate) mod launcher;
pub(crate) mod memory;
pub(crate) mod notify;
pub(crate) mod signals;
