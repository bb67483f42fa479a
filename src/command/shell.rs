//! Completions and manual pages, made from the command line's own definition: they fit the program that prints them.

use crate::error::Error;
use clap_complete::Shell;
use std::fs;
use std::io::{self, Write as _, stdout};
use std::path::PathBuf;

const NAME: &str = "simmim-tui";

#[derive(Debug, Clone, clap::Args)]
pub struct CompletionsArgs {
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ManArgs {
    /// Write simmim-tui.1, simmim-tui-attach.1 and so on there, for a MANPATH
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prints the completions of the command line `cli`.
///
/// # Errors
/// Standard output can't be written.
pub fn completions(args: &CompletionsArgs, mut cli: clap::Command) -> Result<(), Error> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut cli, NAME, &mut text);
    print(&text)
}

/// Prints the manual page of the program, or writes the pages of all commands.
///
/// # Errors
/// The pages can't be written.
pub fn man(args: &ManArgs, cli: clap::Command) -> Result<(), Error> {
    let system = |source| Error::System { what: "cannot write the manual pages", source };
    let Some(folder) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(cli).render(&mut page).map_err(system)?;
        return print(&page);
    };
    fs::create_dir_all(folder).map_err(system)?;
    clap_mangen::generate_to(cli, folder).map_err(system)
}

/// A reader that left is no reason to fail.
fn print(text: &[u8]) -> Result<(), Error> {
    let mut out = stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::System { what: "standard output", source: error })
        }
        _ => Ok(()),
    }
}
