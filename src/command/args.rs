//! Arguments that several commands share.

#![expect(clippy::doc_markdown, reason = "the comments are the help texts")]

use super::screen::LookArgs;
use crate::config::{self, path_text};
use crate::data;
use clap::Args;
use std::path::PathBuf;

/// Arguments of every command that reads images.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ListArgs {
    /// List the folders of images anew, without the lists that earlier starts have kept; `doctor` says where they are
    #[arg(long)]
    pub relist: bool,
}

impl ListArgs {
    /// Makes this process do so. To be called before data is opened.
    pub fn apply(self) {
        if self.relist {
            data::list_anew();
        }
    }
}

/// Arguments that decide the configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArgs {
    /// Read the configuration from this TOML file, or take a built-in one (default, smoke, fashion_mnist, vit_small_96,
    /// vit_base_224, vit_ssl, finetune)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Train on these images: a directory, Parquet files, a list of paths, CIFAR-10/100, STL-10 or IDX files, or the
    /// built-in `photos` or `fashion-mnist-mini` [short for --set data.path=DIR]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub lists: ListArgs,
    /// Start a new run from the weights in this safetensors file: a timm ViT, official SimMIM weights, an export or a
    /// checkpoint; see `simmim-tui import` [short for --set train.init=FILE]
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Take this network of the file of --init if it holds several, as student and teacher [default: the teacher, target
    /// or averaged one; short for --set train.init_network=NAME]
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Compute on this device: auto, cpu, cuda or cuda:N [short for --set train.device=DEVICE]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// After a step whose loss or gradient is not a number: stop, pause, skip or ignore [short for --set
    /// alarms.on_nan=POLICY]
    #[arg(long, value_name = "POLICY")]
    pub on_nan: Option<String>,
    /// Set one key of the configuration; may be repeated, the last one wins
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

impl ConfigArgs {
    /// Returns all overrides as texts of `--set`; later ones outrank earlier ones.
    pub fn overrides(&self) -> Vec<String> {
        // Quoted as a TOML literal so that no path is mistaken for a number or a date.
        let literal = |text: String| toml::Value::String(text).to_string();
        let mut sets = self.sets.clone();
        if let Some(path) = &self.data {
            sets.push(format!("data.path={}", literal(path_text::to_text(path))));
            if config::built_in(path).is_some() {
                sets.push("data.format=auto".to_owned()); // the one of a file is about other images
            }
        }
        if let Some(path) = &self.init {
            sets.push(format!("train.init={}", literal(path_text::to_text(path))));
        }
        if let Some(network) = &self.network {
            sets.push(format!("train.init_network={}", literal(network.clone())));
        }
        if let Some(device) = &self.device {
            sets.push(format!("train.device={}", literal(device.clone())));
        }
        if let Some(policy) = &self.on_nan {
            sets.push(format!("alarms.on_nan={}", literal(policy.clone())));
        }
        sets
    }

    /// Returns the name that runs of this configuration get.
    pub fn name(&self) -> String {
        let stem = self.config.as_ref().and_then(|path| path.file_stem());
        stem.map_or_else(|| "default".to_owned(), |stem| stem.to_string_lossy().into_owned())
    }
}

/// Arguments of every command that trains.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct TrainArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Keep the run in this directory [default: runs/NAME-001, -002, …]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Continue a run, or continue from a checkpoint file. With another --run-dir, the old run stays as it is; with the
    /// same --run-dir, the run is started if there is none yet, which suits job scripts
    #[arg(long, value_name = "RUN|CKPT")]
    pub resume: Option<PathBuf>,
    /// Continue although images on which the run has validated are training images now
    #[arg(long, requires = "resume")]
    pub accept_data_change: bool,
    /// Print plain lines instead of the screen (the default without a usable terminal)
    #[arg(long)]
    pub no_ui: bool,
    #[command(flatten)]
    pub look: LookArgs,
    /// Print one JSON object per line, as in events.jsonl, instead of the screen
    #[arg(long)]
    pub json: bool,
    /// Train in the background; the shell prompt returns once training has begun
    #[arg(long)]
    pub detach: bool,
    /// After a lost connection (SIGHUP, closed terminal): save a checkpoint and continue, or save one and stop
    #[arg(long, value_enum, default_value_t, value_name = "POLICY")]
    pub on_hangup: OnHangup,
    /// Run `sh -c CMD` at alarms and at the end of the run, with SIMMIM_EVENT, _ALARM, _STEP, _MESSAGE and _RUN in its
    /// environment
    #[arg(long, value_name = "CMD")]
    pub notify: Option<String>,
    /// Write into a run directory although it belongs to another user, or others can write it
    #[arg(long)]
    pub trust_run_dir: bool,
    /// Start although the run seems to need more memory than there is
    #[arg(long)]
    pub force: bool,
}

/// What a training process does when it loses its terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnHangup {
    #[default]
    Continue,
    Stop,
}
