//! The `finetune` command: a classifier on a pre-trained encoder, as a run like any other.

use crate::cli::TrainArgs;
use crate::config::file::{self, Layer};
use crate::config::{Config, FinetuneConfig};
use crate::error::Error;
use crate::launch::{self, Beginning};
use crate::train::checkpoint::Found;
use crate::train::run::Job;
use std::path::{Path, PathBuf};

/// The built-in configuration below all others.
const RECIPE: &str = "finetune";

#[derive(Debug, Clone, Default, clap::Args)]
pub struct FinetuneArgs {
    /// A run (its newest checkpoint) or a checkpoint; model and data are taken from there, the data unless --data is given
    #[arg(value_name = "RUN|CKPT", required_unless_present_any = ["from_scratch", "resume"])]
    pub from: Option<PathBuf>,
    /// Start from fresh weights of the same shape instead: the baseline that shows what pre-training is worth
    #[arg(long)]
    pub from_scratch: bool,
    #[command(flatten)]
    pub train: TrainArgs,
}

/// As [`launch::prepare`], for a classifier.
///
/// # Errors
/// Configuration, device, data, run folder or checkpoint.
pub fn prepare(args: &FinetuneArgs) -> Result<Job, Error> {
    let job = launch::prepare_from(&args.train, || begin(args))?;
    if job.config.finetune.is_none() {
        let run = args.train.resume.as_deref().unwrap_or(Path::new("RUN")).display();
        return Err(Error::Usage(format!(
            "{run} is a run of pre-training: a classifier on it is a run of its own: simmim-tui finetune {run}"
        )));
    }
    Ok(job)
}

fn begin(args: &FinetuneArgs) -> Result<Beginning, Error> {
    let found = args.from.as_deref().map(launch::checkpoint_of).transpose()?;
    let mut config = config(args, found.as_ref())?;
    let finetune = config.finetune.get_or_insert_with(FinetuneConfig::default);
    let encoder = found.filter(|_| !args.from_scratch);
    finetune.from = encoder.as_ref().map(|found| found.path.clone());
    let usual = if args.from_scratch { "scratch" } else { RECIPE };
    let named = args.train.config.config.as_ref().map(|_| args.train.config.name());
    Ok(Beginning { config, encoder, name: named.unwrap_or_else(|| usual.to_owned()) })
}

/// The recipe, then what belongs to the checkpoint, then what the user says.
fn config(args: &FinetuneArgs, found: Option<&Found>) -> Result<Config, Error> {
    let given = &args.train.config;
    let sets = given.overrides();
    let own = given.config.as_deref().map(Layer::file).transpose()?;
    let mut layers = vec![Layer::file(Path::new(RECIPE))?];
    if let Some(found) = found {
        let saved = file::parse(&found.checkpoint.meta.config, "in the checkpoint")?;
        // The mask has no effect here, but it has to fit the model.
        let mut layer =
            Layer::sections(&saved, &["model", "mask", "loss", "data"], "the checkpoint");
        layer.remove("model", "drop_path");
        let names_data = |set: &String| set.trim_start().starts_with("data.path");
        if sets.iter().any(names_data) || own.as_ref().is_some_and(|own| own.has("data", "path")) {
            // They belong to the data of pre-training.
            for key in ["path", "val_path", "format"] {
                layer.remove("data", key);
            }
        }
        layers.push(layer);
    }
    layers.extend(own);
    Ok(file::stack(layers, &sets)?)
}
