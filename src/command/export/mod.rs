//! The `export` command: weights and metrics of a run in the formats of other programs.
//!
//! ```text
//! RUN|CKPT ─ Weights ─▶ timm: FILE.safetensors · hf: FOLDER · safetensors: FILE.safetensors
//! RUN/events.jsonl ─ History ─▶ csv, jsonl: FILE · tensorboard: FOLDER/events.out.tfevents.*
//! ```
//! It only reads, so the run may go on meanwhile. docs/export.md describes each layout.

pub(crate) mod history;
pub(crate) mod hub;
pub(crate) mod proto;
pub(crate) mod table;
pub(crate) mod target;
pub(crate) mod tensorboard;
pub(crate) mod timm;
pub(crate) mod whole;

use crate::error::Error;
use crate::run_dir;
use crate::text::say::say;
use crate::weights::checkpoint;
use crate::weights::locate::{Location, Weights};
use history::History;
use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};
use target::Destination;

#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// A run directory, or a checkpoint file (for its weights, or for the metrics of the run that it lies in)
    #[arg(value_name = "RUN|CKPT")]
    pub what: PathBuf,
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// A file; for hf and tensorboard a folder; `-` writes csv and jsonl to standard output
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,
    /// Which checkpoint of a run
    #[arg(long, value_enum, default_value_t, value_name = "WHICH")]
    pub checkpoint: Choice,
    /// Replace what is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// The encoder as safetensors; loads strictly into timm's ViT
    Timm,
    /// The encoder as a Hugging Face folder, for timm and transformers
    Hf,
    /// The whole model as safetensors: encoder, mask token, head
    Safetensors,
    /// Metrics, a row per step
    Csv,
    /// Metrics, a JSON object per step
    Jsonl,
    /// Metrics and previews as event files
    Tensorboard,
}

/// A checkpoint of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// The one with the lowest validation loss; the newest where there is none
    #[default]
    Best,
    /// The newest
    Latest,
}

/// Writes one export.
///
/// # Errors
/// There is no such run or checkpoint, the target is taken, or it can't be written.
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
    if !done.is_empty() {
        say(&mut stderr(), &done);
    }
    Ok(())
}

fn weights(args: &ExportArgs, target: &Destination) -> Result<String, Error> {
    let weights = chosen(&args.what, args.checkpoint)?;
    weights.warn();
    let from = format!("step {} of {}", weights.checkpoint.meta.step, weights.path.display());
    let place = target.path().display();
    Ok(match args.format {
        ExportFormat::Timm => {
            let recipe = timm::write(&weights, target)?;
            format!("{from}: encoder in {place}\nto load it:\n{}", recipe.python(target.path()))
        }
        ExportFormat::Hf => {
            hub::write(&weights, target)?;
            format!(
                "{from}: encoder in {place}/\nto load it:\n{}",
                timm::Recipe::of_folder(target.path())
            )
        }
        _ => {
            let count = whole::write(&weights, target)?;
            format!("{from}: {count} tensors in {place}")
        }
    })
}

/// The checkpoint that the arguments mean.
fn chosen(path: &Path, choice: Choice) -> Result<Weights, Error> {
    let latest = (choice == Choice::Latest).then(|| Location::of(path)).flatten();
    let found = match latest {
        Some(Location { root: Some(root), file: None }) => {
            checkpoint::find(&root.join("checkpoints"), None)?
        }
        _ => None,
    };
    // Where there is no checkpoint, opening the path returns the error that says so.
    Ok(found.map_or_else(|| Weights::open(path), Weights::of)?)
}

fn metrics(args: &ExportArgs, target: &Destination) -> Result<String, Error> {
    let root = match Location::of(&args.what) {
        Some(Location { root: Some(root), .. }) => root,
        Some(_) => {
            return Err(Error::Usage(format!(
                "{}: this checkpoint lies in no run, and the metrics are in the run's events.jsonl",
                args.what.display()
            )));
        }
        None => {
            return Err(Error::Usage(format!(
                "no run at {}: metrics are exported from a run directory",
                args.what.display()
            )));
        }
    };
    let log = root.join(run_dir::EVENTS);
    let history = History::read(&log)?;
    if history.skipped > 0 {
        let line = format!("warning: {} lines of {} are no events", history.skipped, log.display());
        say(&mut stderr(), &line);
    }
    let place = target.path().display();
    if args.format == ExportFormat::Tensorboard {
        let written = tensorboard::write(&root, &history, target)?;
        return Ok(format!("{written} in {place}"));
    }
    let rows = table::rows(&history);
    let layout = |mut out: &mut dyn Write| match args.format {
        ExportFormat::Csv => table::csv(&rows, &mut out),
        _ => table::jsonl(&rows, &mut out),
    };
    if target.is_stdout() {
        let written = layout(&mut stdout().lock());
        return match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(String::new()),
            result => result
                .map(|()| format!("{} rows", rows.len()))
                .map_err(|source| Error::System { what: "standard output", source }),
        };
    }
    target.write(|out| layout(out))?;
    Ok(format!("{} rows in {place}", rows.len()))
}
