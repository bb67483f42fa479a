//! What a terminal can do, and how to ask it.

#[cfg(feature = "tui")]
pub mod colors;
#[cfg(feature = "tui")]
pub mod graphics;
#[cfg(feature = "tui")]
pub mod halfblock;
#[cfg(feature = "tui")]
pub(crate) mod obstacle;
#[cfg(feature = "tui")]
pub(crate) mod probe;
#[cfg(feature = "tui")]
pub(crate) mod size;
pub mod unicode;
