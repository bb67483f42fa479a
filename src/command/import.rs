//! The `import` command: says what model a weights file holds, or makes a checkpoint of it.

use crate::config::{Config, ConfigError, file};
use crate::engine::EngineState;
use crate::error::Error;
use crate::text::say::say;
use crate::weights::checkpoint::{self, Checkpoint, Meta};
use crate::weights::foreign::found::FoundModel;
use crate::weights::foreign::names::Foreign;
use crate::weights::foreign::start;
use std::io::{Write as _, stderr, stdout};
use std::path::PathBuf;

/// Turns a PyTorch file into safetensors; `import --converter` prints it.
const CONVERTER: &str = include_str!("../../assets/convert_weights.py");

#[derive(Debug, Clone, clap::Args)]
pub struct ImportArgs {
    /// Weights as safetensors: a timm ViT, official SimMIM, an export or a checkpoint of this program
    #[arg(value_name = "FILE", required_unless_present = "converter")]
    pub file: Option<PathBuf>,
    /// Write a checkpoint of step 0, for features, eval and preview; without it, what fits is printed as TOML
    #[arg(short, long, value_name = "CKPT")]
    pub output: Option<PathBuf>,
    /// Configuration of the checkpoint beside the sizes of the model
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key of it; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Replace the checkpoint that is there
    #[arg(long)]
    pub force: bool,
    /// Print the Python script that turns PyTorch's .pth files into safetensors
    #[arg(long, exclusive = true)]
    pub converter: bool,
}

/// The `import` command.
///
/// # Errors
/// The file can't be used, or the checkpoint can't be written.
pub fn run(args: &ImportArgs) -> Result<(), Error> {
    let out = &mut stdout();
    let Some(path) = &args.file else {
        let _ = write!(out, "{CONVERTER}"); // a reader that left is no reason to fail
        return Ok(());
    };
    let foreign = Foreign::read(path)?;
    let found = FoundModel::of(&foreign)?;
    let Some(target) = &args.output else {
        let _ = write!(out, "{}", found.toml(&foreign));
        return Ok(());
    };
    if target.extension().is_none_or(|ending| ending != "safetensors") {
        return Err(Error::Usage(format!(
            "{}: the name of a checkpoint ends in .safetensors",
            target.display()
        )));
    }
    if target.exists() && !args.force {
        return Err(Error::Usage(format!(
            "{} exists: choose another file, or replace it with --force",
            target.display()
        )));
    }
    let config = checkpoint_config(args, &foreign, &found)?;
    let start::Start { weights, notice } = start::onto(&foreign, &config)?;
    let meta = Meta { config: file::to_toml(&config), ..Meta::start() };
    let engine = EngineState { weights, ..EngineState::default() };
    checkpoint::write(target, &Checkpoint { meta, engine })?;
    say(&mut stderr(), &format!("{notice}\nwritten to {}", target.display()));
    Ok(())
}

/// The given configuration with the sizes in the file; `--set` outranks all.
fn checkpoint_config(
    args: &ImportArgs,
    foreign: &Foreign,
    found: &FoundModel,
) -> Result<Config, ConfigError> {
    let base = file::load(args.config.as_deref(), &[])?;
    let mut sets = found.own(foreign, &base);
    sets.extend(args.sets.iter().cloned());
    file::override_with(&base, &sets).map_err(|error| match error {
        ConfigError::In { source, .. } => *source, // it names what is saved in a run
        other => other,
    })
}
