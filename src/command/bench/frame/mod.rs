//! Times the drawing of one frame of the screen, in builds that have it.

#[cfg(not(feature = "tui"))]
mod disabled;
#[cfg(feature = "tui")]
mod enabled;

#[cfg(not(feature = "tui"))]
pub(super) use disabled::median_ms;
#[cfg(feature = "tui")]
pub(super) use enabled::median_ms;
