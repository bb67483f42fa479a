use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match simmim_tui::run(simmim_tui::cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simmim-tui: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
