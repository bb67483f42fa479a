//! `simmim-tui`: pre-trains a Vision Transformer by `SimMIM` and lets people watch and steer it.
//!
//! ```text
//! Config ──▶ trainer thread: model, optimizer, loader, run folder ──Event──▶ front end (screen, headless), viewers
//!                 ▲                                                            │
//!                 └───────────────────────────Order────────────────────────────┘
//! RUN/: config.toml · events.jsonl (every Event) · previews/ · checkpoints/ · control.sock ──▶ attach, ctl
//! ```
//! `event` and `config` are leaves; `model` knows the configuration only, `data` nothing of the model, `train`
//! both; front ends know `event`, `progress` and the [`train::Session`]. No tensor crosses a thread.

pub mod cli;
pub mod command;
pub mod config;
pub mod control;
pub mod data;
pub mod engine;
pub mod error;
pub mod eval;
pub mod event;
pub mod exit;
pub mod gpu;
pub mod headless;
pub mod model;
pub(crate) mod ops;
pub mod picture;
pub mod process;
pub mod rng;
pub mod run_dir;
pub mod terminal;
pub mod text;
pub mod train;
#[cfg(feature = "tui")]
pub mod ui;
pub mod version;
pub mod weights;

use clap::CommandFactory as _;
use cli::{Cli, CliCommand};
use error::Error;

/// Does what the command line says.
///
/// # Errors
/// Returns every error that ends the program with another exit code than 0.
pub fn run(cli: Cli) -> Result<(), Error> {
    match cli.command {
        None => command::train::run(&cli.train),
        Some(CliCommand::Train(args)) => command::train::run(&args),
        Some(CliCommand::Finetune(args)) => command::finetune::run(&args),
        Some(CliCommand::Plan(args)) => command::plan::run(&args),
        Some(CliCommand::Bench(args)) => command::bench::run(&args),
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
        Some(CliCommand::Doctor(args)) => command::doctor::run(&args),
        Some(CliCommand::Completions(args)) => command::shell::completions(&args, Cli::command()),
        Some(CliCommand::Man(args)) => command::shell::man(&args, Cli::command()),
        Some(CliCommand::Parity(args)) => command::parity::run(&args),
    }
}
