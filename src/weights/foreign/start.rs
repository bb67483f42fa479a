//! Weights from elsewhere as a starting point: `--init FILE`, and the `import` command.
//!
//! ```text
//! FILE ─ foreign: what it is, our names ─▶ found: its sizes ─▶ fit: onto the configured model ─▶ weights of step 0
//! ```

use super::found::FoundModel;
use super::names::Foreign;
use crate::config::{Config, ConfigError, file};
use crate::engine::EngineState;
use crate::engine::device::{self, Device};
use crate::engine::learner::LearnerConfig;
use crate::error::Error;
use crate::model::state::NamedTensors;
use crate::model::tensors::TensorFileError;
use crate::weights::checkpoint::{self, Checkpoint, CheckpointError, Meta};
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Turns a PyTorch file into safetensors; `import --converter` prints it.
const CONVERTER: &str = include_str!("../../../docs/convert_weights.py");

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

/// Why weights can't be used.
#[derive(Debug, Error)]
pub enum ImportError {
    #[error(transparent)]
    File(#[from] TensorFileError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "{path} is a PyTorch file: convert it with `simmim-tui import --converter | python3 - {path} {to}` (needs torch \
         and safetensors), then take {to}"
    )]
    PyTorch { path: PathBuf, to: PathBuf },
    #[error("{path}: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("{path} holds another model: {differences}; what fits: {sets}")]
    Differs { path: PathBuf, differences: String, sets: String },
}

/// Weights for step 0 of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// All that the model has: what the file lacks is drawn from the seed.
    pub weights: NamedTensors,
    /// What they are and what was done to them, for the log.
    pub notice: String,
}

/// Reads weights and fits them onto the configured model.
///
/// # Errors
/// The file can't be read, is no Vision Transformer of this kind, or one of other sizes.
pub fn start(path: &Path, config: &Config) -> Result<Start, ImportError> {
    onto(&Foreign::read(path)?, config)
}

fn onto(foreign: &Foreign, config: &Config) -> Result<Start, ImportError> {
    let found = FoundModel::of(foreign)?;
    found.check(foreign, config)?;
    let fresh = device::engine(&Device::Cpu, LearnerConfig::new(config)).state().weights;
    let (weights, mut notes) = super::fit::fit(foreign, &found, config, fresh)?;
    notes.splice(0..0, foreign.notes.iter().cloned());
    if found.heads.is_none() {
        let heads = config.model.heads;
        notes.push(format!("its heads are not in the file, {heads} are taken as configured"));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(": {}", notes.join("; ")) };
    let notice = format!("starting from {} in {}{notes}", foreign.kind, foreign.path.display());
    Ok(Start { weights, notice })
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
    let start = onto(&foreign, &config)?;
    let meta = Meta { config: file::to_toml(&config), ..Meta::start() };
    let engine = EngineState { weights: start.weights, ..EngineState::default() };
    checkpoint::write(target, &Checkpoint { meta, engine })?;
    eprintln!("{}\nwritten to {}", start.notice, target.display());
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
