//! The `export` command: writes the weights or the metrics of a run in the formats of other programs.
//!
//! ```text
//! RUN|CKPT ─ Weights ─▶ timm: FILE.safetensors · hf: FOLDER · safetensors: FILE.safetensors
//! RUN/events.jsonl ─ History ─▶ csv, jsonl: FILE · tensorboard: FOLDER/events.out.tfevents.*
//! ```
//! The command only reads the run, so the run may continue meanwhile. docs/export.md describes each layout.

mod history;
mod hub;
mod proto;
mod table;
mod target;
mod tensorboard;
mod timm;
mod whole;

use super::encoder;
use crate::error::Error;
use crate::run_dir;
use crate::shown;
use crate::text::say::{say, still_read};
use crate::weights::checkpoint;
use crate::weights::locate::{Location, Weights};
use history::History;
use std::io::{BufWriter, stderr, stdout};
use std::path::{Path, PathBuf};
use table::Layout;
use target::Destination;

#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// Run directory, or checkpoint file (for its weights, or for the metrics of the run in which it lies)
    #[arg(value_name = "RUN|CKPT")]
    pub what: PathBuf,
    /// Write this format
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// Write to this file, or for hf and tensorboard to this folder; `-` writes csv and jsonl to standard output
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,
    /// Export the weights of this checkpoint of a run
    #[arg(long, value_enum, default_value_t, value_name = "WHICH")]
    pub checkpoint: Choice,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
}

/// What is exported, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// The encoder as safetensors, which loads strictly into timm's ViT
    Timm,
    /// The encoder as a Hugging Face folder, for timm and transformers
    Hf,
    /// The whole model as safetensors: encoder, mask token, head
    Safetensors,
    /// Metrics, one row per step
    Csv,
    /// Metrics, one JSON object per step
    Jsonl,
    /// Metrics and previews as event files
    Tensorboard,
}

/// A checkpoint of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// The best checkpoint by validation, or the newest if there is none
    #[default]
    Best,
    /// The newest checkpoint
    Latest,
}

/// Writes one export.
///
/// # Errors
/// Returns an error if there is no such run or checkpoint, or if the target is taken or can't be written.
pub fn run(args: &ExportArgs) -> Result<(), Error> {
    let target = Destination::new(args)?;
    let done = match args.format {
        ExportFormat::Timm | ExportFormat::Hf | ExportFormat::Safetensors => {
            weights(args, &target)?
        }
        ExportFormat::Csv | ExportFormat::Jsonl | ExportFormat::Tensorboard => {
            metrics(args, &target)?
        }
    };
    for line in &done {
        say(&mut stderr(), line);
    }
    Ok(())
}

/// Exports weights. Returns what was done, as lines for people.
fn weights(args: &ExportArgs, target: &Destination) -> Result<Vec<String>, Error> {
    let weights = chosen(&args.what, args.checkpoint)?;
    encoder::warn_passed_over(&weights);
    let from = format!("step {} of {}", weights.checkpoint.meta.step, shown::path(&weights.path));
    let place = shown::path(target.path());
    Ok(match args.format {
        ExportFormat::Timm => {
            let recipe = timm::write(&weights, target)?;
            to_load(format!("{from}: encoder in {place}"), &recipe.python(target.path()))
        }
        ExportFormat::Hf => {
            hub::write(&weights, target)?;
            let recipe = timm::Recipe::of_folder(target.path());
            to_load(format!("{from}: encoder in {place}/"), &recipe)
        }
        _ => {
            let count = whole::write(&weights, target)?;
            vec![format!("{from}: {count} tensors in {place}")]
        }
    })
}

/// Returns what was done, and below it the lines of Python that load it.
fn to_load(done: String, python: &str) -> Vec<String> {
    let mut lines = vec![done, "to load it:".to_owned()];
    lines.extend(python.lines().map(str::to_owned));
    lines
}

/// Opens the checkpoint that the arguments name.
fn chosen(path: &Path, choice: Choice) -> Result<Weights, Error> {
    let latest = (choice == Choice::Latest).then(|| Location::of(path)).flatten();
    let found = match latest {
        Some(Location { root: Some(root), file: None }) => {
            checkpoint::find(&root.join("checkpoints"), None)?
        }
        _ => None,
    };
    // If there is no checkpoint, opening the path returns the error that says so.
    Ok(found.map_or_else(|| Weights::open(path), Weights::of)?)
}

/// Exports metrics. Returns what was done, as lines for people.
fn metrics(args: &ExportArgs, target: &Destination) -> Result<Vec<String>, Error> {
    let root = run_of(&args.what)?;
    let log = root.join(run_dir::EVENTS);
    let history = History::read(&log)?;
    if history.skipped > 0 {
        let line =
            format!("warning: {} lines of {} are no events", history.skipped, shown::path(&log));
        say(&mut stderr(), &line);
    }
    let place = shown::path(target.path());
    if args.format == ExportFormat::Tensorboard {
        let written = tensorboard::write(&root, &history, target)?;
        return Ok(vec![format!("{written} in {place}")]);
    }
    let layout = match args.format {
        ExportFormat::Csv => Layout::Csv,
        _ => Layout::JsonLines,
    };
    if target.is_stdout() {
        let mut out = BufWriter::new(stdout().lock());
        let written = table::write(&history, layout, &mut out);
        let rows = written.as_ref().ok().copied();
        still_read(written.map(drop))?;
        // Of rows that nobody read there is nothing to tell.
        return Ok(rows.map(|rows| format!("{rows} rows")).into_iter().collect());
    }
    let rows = target.write(|out| table::write(&history, layout, out))?;
    Ok(vec![format!("{rows} rows in {place}")])
}

/// Returns the run directory that a path names, or in which its checkpoint lies.
fn run_of(path: &Path) -> Result<PathBuf, Error> {
    match Location::of(path) {
        Some(Location { root: Some(root), .. }) => Ok(root),
        Some(_) => Err(Error::Usage(format!(
            "{}: this checkpoint lies in no run, and the metrics are in the run's events.jsonl",
            shown::path(path)
        ))),
        None => Err(Error::Usage(format!(
            "no run at {}: metrics are exported from a run directory",
            shown::path(path)
        ))),
    }
}
