//! The `man` command: manual pages, generated from the command line's own definition.

use crate::error::Error;
use crate::text::say::print;
use std::fs;
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
pub struct ManArgs {
    /// Write simmim-tui.1, simmim-tui-attach.1 and so on into this directory, for a MANPATH
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prints the manual page of the command line `cli`, or writes the pages of all its commands.
///
/// # Errors
/// If the pages can't be written.
pub fn run(args: &ManArgs, cli: clap::Command) -> Result<(), Error> {
    let system = Error::system("cannot write the manual pages");
    let Some(folder) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(cli).render(&mut page).map_err(system)?;
        return Ok(print(&page)?);
    };
    fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(cli, folder)).map_err(system)
}
