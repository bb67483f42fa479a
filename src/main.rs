use clap::Parser as _;
use simmim_tui::cli::Cli;
use simmim_tui::error::Error;
use simmim_tui::shown;
use simmim_tui::text::say::{say, still_read};
use std::io::{Write as _, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(cli) => simmim_tui::run(cli).map(|()| ExitCode::SUCCESS),
        Err(answer) => without_command(answer),
    };
    ended.unwrap_or_else(|error| {
        // The reader of this line may have left: the exit code still tells.
        say(&mut stderr(), &format!("simmim-tui: {error}"));
        ExitCode::from(error.exit_code())
    })
}

/// Prints what the command line itself leads to: the help, the version, or what is wrong with it.
fn without_command(answer: clap::Error) -> Result<ExitCode, Error> {
    // What is wrong with it quotes arguments, which may be names of files.
    let shown = std::env::args_os().map(|argument| shown::path(Path::new(&argument)).to_string());
    let answer = Cli::try_parse_from(shown).err().unwrap_or(answer);
    still_read(answer.print().and_then(|()| stdout().flush()))?;
    Ok(ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2)))
}
