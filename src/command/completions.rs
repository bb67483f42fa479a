//! The `completions` command: a completion script, generated from the command line's own definition.

use crate::error::Error;
use crate::text::say::print;
use clap_complete::Shell;

const NAME: &str = "simmim-tui";

#[derive(Debug, Clone, clap::Args)]
pub struct CompletionsArgs {
    /// Shell to print the script for
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the completions of the command line `cli`.
///
/// # Errors
/// If standard output can't be written.
pub fn run(args: &CompletionsArgs, mut cli: clap::Command) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli, NAME, &mut script);
    Ok(print(&script)?)
}
