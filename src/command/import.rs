//! The `import` command: says what model a weights file holds, or makes a checkpoint of it.

use crate::config::{Config, ConfigError, file};
use crate::engine::EngineState;
use crate::error::Error;
use crate::shown;
use crate::text::say::{print, say};
use crate::weights::checkpoint::{self, Checkpoint, Meta};
use crate::weights::foreign::FittedWeights;
use crate::weights::foreign::file::ForeignWeights;
use std::io::stderr;
use std::path::{Path, PathBuf};

/// The Python script that converts a PyTorch file to safetensors. `import --converter` prints it.
const CONVERTER: &str = include_str!("../../assets/convert_weights.py");

#[derive(Debug, Clone, clap::Args)]
pub struct ImportArgs {
    /// Weights as safetensors: a timm ViT, official SimMIM, or an export or a checkpoint of this program
    #[arg(value_name = "FILE", required_unless_present = "converter")]
    pub file: Option<PathBuf>,
    /// Take this network if FILE holds several, as student and teacher [default: the teacher, target or averaged one]
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Write a checkpoint of step 0, for features, eval and preview [default: print a configuration that fits, as TOML]
    #[arg(short, long, value_name = "CKPT")]
    pub output: Option<PathBuf>,
    /// Give the checkpoint this configuration, with the sizes of the model in FILE
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key of the checkpoint's configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Replace an existing checkpoint
    #[arg(long)]
    pub force: bool,
    /// Print the Python script that converts PyTorch's .pth files to safetensors
    #[arg(long, exclusive = true)]
    pub converter: bool,
}

/// Prints what model a weights file holds, or makes a checkpoint of it.
///
/// # Errors
/// Returns an error if the file can't be used, or if the checkpoint can't be written.
pub fn run(args: &ImportArgs) -> Result<(), Error> {
    let Some(path) = &args.file else {
        return Ok(print(CONVERTER.as_bytes())?);
    };
    let foreign = ForeignWeights::read(path, args.network.as_deref())?;
    let config = checkpoint_config(args, &foreign)?; // also what is only printed must be valid
    let Some(target) = &args.output else {
        return Ok(print(foreign.found.toml(&foreign).as_bytes())?);
    };
    check_target(target, args.force)?;
    let FittedWeights { weights, notice } = FittedWeights::fit(&foreign, &config)?;
    let meta = Meta { config: file::to_toml(&config), ..Meta::start() };
    let engine = EngineState { weights, ..EngineState::default() };
    checkpoint::write(target, &Checkpoint { meta, engine })?;
    say(&mut stderr(), &notice);
    say(&mut stderr(), &format!("written to {}", shown::path(target)));
    Ok(())
}

/// Checks that the target has the name of a checkpoint, and is free or may be replaced.
fn check_target(target: &Path, force: bool) -> Result<(), Error> {
    if target.extension().is_none_or(|ending| ending != "safetensors") {
        return Err(Error::Usage(format!(
            "{}: the name of a checkpoint ends in .safetensors",
            shown::path(target)
        )));
    }
    if target.exists() && !force {
        return Err(Error::Usage(format!(
            "{} exists: choose another file, or replace it with --force",
            shown::path(target)
        )));
    }
    Ok(())
}

/// Returns the given configuration with the sizes in the file. `--set` outranks both.
fn checkpoint_config(args: &ImportArgs, foreign: &ForeignWeights) -> Result<Config, ConfigError> {
    let base = file::load(args.config.as_deref(), &[])?;
    let mut sets = foreign.found.own(foreign, &base);
    sets.extend(args.sets.iter().cloned());
    file::override_with(&base, &sets).map_err(|error| match error {
        // The outer error says that the configuration is one saved in a run, which is not so here.
        ConfigError::In { source, .. } => *source,
        other => other,
    })
}
