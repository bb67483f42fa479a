//! The `ctl` command: gives an order to a run that goes on, or shows how a run does.

#![expect(clippy::doc_markdown, reason = "the comments are the help texts")]

use super::runs;
use crate::control::order;
use crate::error::Error;
use crate::event::Command;
use crate::run_dir;
use crate::text::say::{json, say, say_all};
use std::io::stdout;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, clap::Args)]
pub struct CtlArgs {
    /// The run's directory
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    #[arg(value_enum)]
    pub order: CtlOrder,
    /// One JSON object on standard output
    #[arg(long)]
    pub json: bool,
    /// Don't wait until the order is carried out
    #[arg(long)]
    pub no_wait: bool,
    /// Longest wait
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    pub timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CtlOrder {
    /// Pause after the current step
    Pause,
    /// Go on after a pause
    Resume,
    /// Save a checkpoint now
    Checkpoint,
    /// Save a checkpoint and end the run
    Stop,
    /// Show how the run does; works on ended runs too
    Status,
}

impl CtlOrder {
    /// What the trainer is to do; nothing for a mere look.
    pub fn command(self) -> Option<Command> {
        match self {
            Self::Pause => Some(Command::Pause),
            Self::Resume => Some(Command::Resume),
            Self::Checkpoint => Some(Command::Checkpoint),
            Self::Stop => Some(Command::Stop),
            Self::Status => None,
        }
    }
}

/// Gives the order and waits for it, or prints how the run does.
///
/// # Errors
/// There is no such run, or the order wasn't carried out.
pub fn run(args: &CtlArgs) -> Result<(), Error> {
    let (root, out) = (&args.run, &mut stdout());
    if !run_dir::holds_run(root) {
        return Err(Error::Usage(format!(
            "no run at {}: ctl takes a run directory",
            root.display()
        )));
    }
    if let Some(command) = args.order.command() {
        let limit = (!args.no_wait).then_some(Duration::from_secs(args.timeout));
        let done = order::order(root, command, limit)?;
        say(out, &if args.json { json(&done) } else { done.text() });
        return Ok(());
    }
    let digest = run_dir::digest(root);
    if args.json {
        say(out, &json(&runs::Status::new(&digest)));
    } else {
        say_all(runs::status(&digest));
    }
    Ok(())
}
