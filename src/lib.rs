//! `simmim-tui`: pre-trains a Vision Transformer by `SimMIM` and lets people watch and steer it.
//!
//! This library is public only for its own program and for the tests of this repository. It promises nothing to anybody
//! else: any item may change or go with any release.
//!
//! ```text
//! Config ──▶ trainer thread: model, optimizer, loader, run folder ──Event──▶ front end (screen, headless), viewers
//!                 ▲                                                            │
//!                 └───────────────────────────Order────────────────────────────┘
//! RUN/: config.toml · events.jsonl (every Event) · previews/ · checkpoints/ · control.sock ──▶ attach, ctl
//! ```
//!
//! While a run goes on, no tensor crosses a thread: what leaves the trainer are events, and what comes in are orders.
//!
//! # Rooms
//!
//! The modules at the top of the crate are rooms in one order, and a room imports only rooms that stand below it.
//!
//! The program:
//! - [`cli`]: the command line, as a list of commands.
//! - `command`: the commands, one file or folder each.
//! - `headless`: the front end of plain lines and JSON.
//! - `ui`: the front end on the terminal's screen (feature `tui`).
//! - [`error`]: everything that ends the program early, with its exit code.
//!
//! Training and evaluation:
//! - [`train`]: the trainer's thread, which turns a job into events and obeys orders.
//! - [`eval`]: what an encoder's features are worth.
//! - [`weights`]: the weights on disk, our own checkpoints and those of others.
//! - [`control`]: the run's socket, from both sides: orders in, events out.
//! - [`engine`]: how one step is computed: device, forward and backward pass, optimizer.
//! - `cuda`: the step on an NVIDIA GPU (feature `cuda`).
//!
//! The run and its surroundings:
//! - [`process`]: signals, the launcher, and the way into the background.
//! - [`run_dir`]: the run directory: its lock, its event log, its files, and its digest.
//! - [`picture`]: preview pictures.
//!
//! What they are made of:
//! - [`data`]: datasets, augmentation, and the loader of batches.
//! - [`model`]: the Vision Transformer, its mask and its patches.
//! - [`event`]: events, orders, and the state that they add up to.
//! - [`text`]: numbers, bars, charts and lines for people.
//! - [`terminal`]: what a terminal can do, and how to ask it.
//! - [`ops`]: fused operations and kernels below the model.
//! - [`config`]: the configuration with its files and checks.
//! - `gpu`: temperature and memory of NVIDIA GPUs (features `tui` and `cuda`).
//! - [`rng`]: random numbers as a function of their position.
//! - [`shown`]: text of foreign origin, as people see it.
//! - `version` and `exit`: which program this is, and the codes that it ends with.

pub mod cli;
pub(crate) mod command;
pub mod config;
pub mod control;
#[cfg(feature = "cuda")]
mod cuda;
pub mod data;
pub mod engine;
pub mod error;
pub mod eval;
pub mod event;
pub(crate) mod exit;
mod files;
pub mod gpu;
pub(crate) mod headless;
pub mod model;
pub(crate) mod ops;
pub mod picture;
pub mod process;
pub mod rng;
pub mod run_dir;
pub mod shown;
pub mod terminal;
pub mod text;
pub mod train;
#[cfg(feature = "tui")]
pub mod ui;
pub(crate) mod version;
pub mod weights;

use clap::CommandFactory as _;
use cli::{Cli, CliCommand, NOTICES};
use engine::DeviceFailure;
use error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use text::say::print;

/// Runs the command that the command line names.
///
/// # Errors
/// Returns every error that ends the program with another exit code than 0.
pub fn run(cli: Cli) -> Result<(), Error> {
    engine::device::fix_library_settings();
    process::signals::survive_file_limit();
    data::silence_library();
    // Engines have no errors. If the device of one fails, the thread that uses it unwinds.
    catch_unwind(AssertUnwindSafe(|| dispatch(cli))).unwrap_or_else(|panic| {
        match panic.downcast::<DeviceFailure>() {
            Ok(failure) => Err(Error::DeviceFailed(failure.0)),
            Err(panic) => resume_unwind(panic),
        }
    })
}

fn dispatch(cli: Cli) -> Result<(), Error> {
    if cli.licenses {
        return Ok(print(NOTICES.as_bytes())?);
    }
    match cli.command {
        None => command::train::run(&cli.train),
        Some(CliCommand::Train(args)) => command::train::run(&args),
        Some(CliCommand::Finetune(args)) => command::finetune::run(&args),
        Some(CliCommand::Plan(args)) => command::plan::run(&args),
        Some(CliCommand::Bench(args)) => command::bench::run(&args),
        Some(CliCommand::Pack(args)) => command::pack::run(&args),
        #[cfg(feature = "tui")]
        Some(CliCommand::Preview(args)) => command::preview::run(&args),
        #[cfg(feature = "tui")]
        Some(CliCommand::Attach(args)) => command::attach::run(&args),
        #[cfg(feature = "tui")]
        Some(CliCommand::Embed(args)) => command::embed::run(&args),
        Some(CliCommand::Eval(args)) => command::eval::run(&args),
        Some(CliCommand::Features(args)) => command::features::run(&args),
        Some(CliCommand::Export(args)) => command::export::run(&args),
        Some(CliCommand::Import(args)) => command::import::run(&args),
        Some(CliCommand::Runs(args)) => command::runs::run(&args),
        Some(CliCommand::Ctl(args)) => command::ctl::run(&args),
        Some(CliCommand::Check(args)) => command::check::run(&args),
        Some(CliCommand::Doctor(args)) => command::doctor::run(&args),
        Some(CliCommand::Completions(args)) => command::completions::run(&args, Cli::command()),
        Some(CliCommand::Man(args)) => command::man::run(&args, Cli::command()),
        Some(CliCommand::Parity(args)) => command::parity::run(&args),
    }
}
