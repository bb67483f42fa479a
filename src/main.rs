use clap::Parser as _;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match simmim_tui::run(simmim_tui::cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Errors are ignored, as the reader may have left: the exit code still tells.
            let _ = writeln!(std::io::stderr(), "simmim-tui: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
