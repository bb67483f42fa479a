//! The `finetune` command: trains a classifier on a pre-trained encoder, as a run like any other.

use super::args::TrainArgs;
use super::prepare::{self, Beginning};
use super::train;
use crate::config::file::{self, Layer};
use crate::config::{Config, FinetuneConfig};
use crate::error::Error;
use crate::shown;
use crate::text::shell::for_shell;
use crate::train::Job;
use crate::weights::locate::Weights;
use std::path::{Path, PathBuf};

/// The built-in configuration that lies below all other layers.
const RECIPE: &str = "finetune";
/// Lies over the recipe for fresh weights, whose lower layers hold nothing yet that is worth sparing.
const FROM_SCRATCH: &str = "finetune.layer_decay = 1.0";

#[derive(Debug, Clone, Default, clap::Args)]
pub struct FinetuneArgs {
    /// Take the encoder from the best checkpoint of this run, or from this checkpoint; the model comes from there too,
    /// and so does the data unless --data is given
    #[arg(value_name = "RUN|CKPT", required_unless_present_any = ["from_scratch", "resume"])]
    pub from: Option<PathBuf>,
    /// Start from fresh weights of the same shape instead, with one learning rate for all layers: the baseline that
    /// shows what the pre-training is worth
    #[arg(long)]
    pub from_scratch: bool,
    #[command(flatten)]
    pub train: TrainArgs,
}

/// Trains a classifier.
///
/// # Errors
/// Returns every error that ends the program with another exit code than 0.
pub fn run(args: &FinetuneArgs) -> Result<(), Error> {
    train::train(&args.train, || prepare(args))
}

/// Like [`prepare::prepare`], for a classifier.
fn prepare(args: &FinetuneArgs) -> Result<Job, Error> {
    let job = prepare::prepare_from(&args.train, || begin(args))?;
    if job.config.finetune.is_none() {
        let run = args.train.resume.as_deref().unwrap_or(Path::new("RUN"));
        return Err(Error::Usage(format!(
            "{} is a run of pre-training: a classifier on it is a run of its own: simmim-tui finetune {}",
            shown::path(run),
            for_shell(run)
        )));
    }
    Ok(job)
}

/// Returns the configuration and the encoder of a run that starts here.
fn begin(args: &FinetuneArgs) -> Result<Beginning, Error> {
    let weights = args.from.as_deref().map(Weights::open).transpose()?;
    let mut config = config(args, weights.as_ref())?;
    let finetune = config.finetune.get_or_insert_with(FinetuneConfig::default);
    let encoder = weights.filter(|_| !args.from_scratch);
    finetune.from = encoder.as_ref().map(|weights| weights.path.clone());
    let usual = if args.from_scratch { "scratch" } else { RECIPE };
    let named = args.train.config.config.as_ref().map(|_| args.train.config.name());
    Ok(Beginning { config, encoder, name: named.unwrap_or_else(|| usual.to_owned()) })
}

/// Returns the configuration of three layers: the recipe, then what belongs to the checkpoint, then what the user says.
fn config(args: &FinetuneArgs, weights: Option<&Weights>) -> Result<Config, Error> {
    let given = &args.train.config;
    let sets = given.overrides();
    let own = given.config.as_deref().map(Layer::file).transpose()?;
    let mut layers = vec![Layer::file(Path::new(RECIPE))?];
    if args.from_scratch {
        layers.push(Layer::text(FROM_SCRATCH, "--from-scratch")?);
    }
    if let Some(Weights { config, .. }) = weights {
        // The mask has no effect on a classifier, but a configuration is valid only if its mask fits the model.
        let mut layer =
            Layer::sections(config, &["model", "mask", "loss", "data"], "the checkpoint");
        layer.remove("model", "drop_path");
        let data = ["path", "val_path", "format"];
        let says = |key: &str| {
            let set = format!("data.{key}=");
            sets.iter().any(|text| text.replace(' ', "").starts_with(&set))
                || own.as_ref().is_some_and(|own| own.has("data", key))
        };
        if says("path") || says("format") {
            // The keys of the checkpoint are about the images of pre-training.
            for key in data {
                layer.remove("data", key);
            }
        }
        layers.push(layer);
    }
    layers.extend(own);
    Ok(file::stack(layers, &sets)?)
}
