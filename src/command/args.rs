//! Arguments that several commands share.

#![expect(clippy::doc_markdown, reason = "the comments are the help texts")]

use super::screen::LookArgs;
use clap::Args;
use std::path::PathBuf;

/// What decides the configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArgs {
    /// TOML file, or the name of a built-in configuration (default, smoke, fashion_mnist, vit_small_96, vit_base_224,
    /// vit_ssl, finetune)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Training images: a folder, or CIFAR-10/100, STL-10 or IDX files [short for --set data.path=DIR]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Start a new run from the weights in this file: a timm ViT, official SimMIM, an export or a checkpoint, as
    /// safetensors; see `simmim-tui import` [short for --set train.init=FILE]
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// auto, cpu, cuda or cuda:N [short for --set train.device=DEVICE]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// After a step that is not a number: stop, pause, skip or ignore [short for --set alarms.on_nan=POLICY]
    #[arg(long, value_name = "POLICY")]
    pub on_nan: Option<String>,
    /// Set one key of the configuration; may be repeated, the last one wins
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

impl ConfigArgs {
    /// All overrides in order of rank, as `--set` texts.
    pub fn overrides(&self) -> Vec<String> {
        // Quoted as a TOML literal so that no path is mistaken for a number or a date.
        let literal = |text: String| toml::Value::String(text).to_string();
        let mut sets = self.sets.clone();
        if let Some(path) = &self.data {
            sets.push(format!("data.path={}", literal(path.display().to_string())));
        }
        if let Some(path) = &self.init {
            sets.push(format!("train.init={}", literal(path.display().to_string())));
        }
        if let Some(device) = &self.device {
            sets.push(format!("train.device={}", literal(device.clone())));
        }
        if let Some(policy) = &self.on_nan {
            sets.push(format!("alarms.on_nan={}", literal(policy.clone())));
        }
        sets
    }

    /// The name that runs of this configuration get.
    pub fn name(&self) -> String {
        let stem = self.config.as_ref().and_then(|path| path.file_stem());
        stem.map_or_else(|| "default".to_owned(), |stem| stem.to_string_lossy().into_owned())
    }
}

#[derive(Debug, Clone, Default, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Where the run is kept [default: runs/NAME-001, -002, …]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Go on with a run, or from a checkpoint file; with another --run-dir the old run stays as it is.
    /// With the same --run-dir it starts the run if there is none yet, for job scripts
    #[arg(long, value_name = "RUN|CKPT")]
    pub resume: Option<PathBuf>,
    /// Plain lines instead of the screen; so it is anyway where there is no terminal
    #[arg(long)]
    pub no_ui: bool,
    #[command(flatten)]
    pub look: LookArgs,
    /// Headless with one JSON object per line, as in events.jsonl
    #[arg(long)]
    pub json: bool,
    /// Train in the background; the shell gets its prompt back once all is known to be right
    #[arg(long)]
    pub detach: bool,
    /// What a dropped line (SIGHUP, closed terminal) does: save a checkpoint and go on, or save and end
    #[arg(long, value_enum, default_value_t, value_name = "POLICY")]
    pub on_hangup: OnHangup,
    /// Run `sh -c CMD` at alarms and at the end, with SIMMIM_EVENT, _ALARM, _STEP, _MESSAGE and _RUN in its environment
    #[arg(long, value_name = "CMD")]
    pub notify: Option<String>,
}

/// What follows a hangup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnHangup {
    #[default]
    Continue,
    Stop,
}
