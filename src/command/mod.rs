//! The commands of the program, one file or folder each: its arguments, then `run`. Nothing below names this room.

pub mod args;
#[cfg(feature = "tui")]
pub mod attach;
pub mod bench;
pub mod ctl;
pub mod doctor;
#[cfg(feature = "tui")]
pub mod embed;
mod encoder;
pub mod eval;
pub mod export;
pub mod features;
pub mod finetune;
pub mod import;
pub mod parity;
pub mod plan;
pub mod prepare;
#[cfg(feature = "tui")]
pub mod preview;
pub mod runs;
pub mod shell;
pub mod train;
