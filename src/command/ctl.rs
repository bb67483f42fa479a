//! The `ctl` command: gives an order to a run that is being trained, or shows the state of a run.

use super::runs;
use crate::control::{order, progress::progress};
use crate::error::Error;
use crate::event::{Command, Phase};
use crate::run_dir;
use crate::shown;
use crate::text::say::{json, tell, tell_all};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, clap::Args)]
pub struct CtlArgs {
    /// Directory of the run
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// What to do
    #[arg(value_enum)]
    pub order: CtlOrder,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Don't wait until the order is carried out
    #[arg(long)]
    pub no_wait: bool,
    /// Wait at most this long
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    pub timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CtlOrder {
    /// Pause after the current step
    Pause,
    /// Continue after a pause
    Resume,
    /// Save a checkpoint now
    Checkpoint,
    /// Save a checkpoint and end the run
    Stop,
    /// Show the state of the run, even if it has ended
    Status,
}

impl CtlOrder {
    /// Returns what the trainer is to do, or `None` if the run is only looked at.
    fn command(self) -> Option<Command> {
        match self {
            Self::Pause => Some(Command::Pause),
            Self::Resume => Some(Command::Resume),
            Self::Checkpoint => Some(Command::Checkpoint),
            Self::Stop => Some(Command::Stop),
            Self::Status => None,
        }
    }
}

/// Gives the order and waits until it is carried out, or prints the state of the run.
///
/// # Errors
/// If there is no such run, or if the order wasn't carried out.
pub fn run(args: &CtlArgs) -> Result<(), Error> {
    let root = &args.run;
    if !run_dir::holds_run(root) {
        return Err(Error::Usage(format!(
            "no run at {}: ctl takes a run directory",
            shown::path(root)
        )));
    }
    if let Some(command) = args.order.command() {
        let limit = (!args.no_wait).then_some(Duration::from_secs(args.timeout));
        let done = order::order(root, command, limit)?;
        return Ok(tell(&if args.json { json(&done) } else { done.text() })?);
    }
    let mut digest = run_dir::digest(root);
    if digest.run.phase == Some(Phase::Evaluating) && digest.is_going_on() {
        digest.run.progress = progress(root);
    }
    if args.json {
        tell(&json(&runs::Status::new(&digest)))?;
    } else {
        tell_all(runs::status(&digest))?;
    }
    Ok(())
}
