//! The door to the screen.
//!
//! With the feature `tui` it leads to [`crate::ui`]. Without it there is the same face with nothing behind: an
//! [`obstacle`] that always stands in the way, and a [`LiveScreen`] that can't exist. Callers need not know which.

#[cfg(not(feature = "tui"))]
mod disabled;
#[cfg(feature = "tui")]
mod enabled;

#[cfg(not(feature = "tui"))]
pub(crate) use disabled::stop_waiting;
#[cfg(not(feature = "tui"))]
pub use disabled::{LiveScreen, LookArgs, abandon, obstacle};
#[cfg(feature = "tui")]
pub(crate) use enabled::stop_waiting;
#[cfg(feature = "tui")]
pub use enabled::{LiveScreen, LookArgs, abandon, obstacle};
