//! The commands of the program.
//!
//! Every command is one file or folder of this room: a struct `XArgs` with its arguments, then
//! `run(&XArgs) -> Result<(), Error>` (`completions` and `man` are also given the definition of the command line). A
//! new command is a new file here, a variant in `cli.rs`, and a line in [`crate::run`]. What several commands share is
//! in `args`, `prepare` (with `going_on`) and `screen`. No room below imports this one.

pub mod args;
#[cfg(feature = "tui")]
pub mod attach;
pub mod bench;
pub mod check;
pub mod completions;
pub mod ctl;
pub mod doctor;
#[cfg(feature = "tui")]
pub mod embed;
mod encoder;
pub mod eval;
pub mod export;
pub mod features;
mod findings;
pub mod finetune;
mod going_on;
pub mod import;
pub mod man;
mod memory;
pub mod pack;
pub mod parity;
pub mod plan;
pub(crate) mod prepare;
#[cfg(feature = "tui")]
pub mod preview;
pub mod runs;
pub mod screen;
mod speed;
pub mod train;
