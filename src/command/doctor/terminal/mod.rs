//! How the screen and the `preview` command would draw on this terminal.

#[cfg(not(feature = "tui"))]
mod disabled;
#[cfg(feature = "tui")]
mod enabled;

#[cfg(not(feature = "tui"))]
pub(super) use disabled::look;
#[cfg(feature = "tui")]
pub(super) use enabled::look;
