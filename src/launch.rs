//! From the command line to a [`Job`]: configuration, device, data, run folder, checkpoint.

use crate::cli::{ConfigArgs, TrainArgs};
use crate::config::{Config, file};
use crate::data;
use crate::device;
use crate::error::Error;
use crate::event::Level;
use crate::run_dir::{self, RunDir, RunDirError};
use crate::train::checkpoint::{self, Checkpoint, CheckpointError, Found};
use crate::train::run::Job;
use std::path::{Path, PathBuf};

/// The configuration that the arguments describe.
///
/// # Errors
/// See [`crate::config::ConfigError`].
pub fn config(args: &ConfigArgs) -> Result<Config, Error> {
    Ok(file::load(args.config.as_deref(), &args.overrides())?)
}

/// Everything that can fail before training is tried here, and nothing is written before the rest is known
/// to be right.
///
/// # Errors
/// Configuration, device, data, run folder or checkpoint.
pub fn prepare(args: &TrainArgs) -> Result<Job, Error> {
    let origin = args.resume.as_deref().map(Origin::of).transpose()?;
    // A run folder is locked before its checkpoints are looked at: another process may be writing them.
    let in_place = origin.as_ref().filter(|origin| continues(origin, args.run_dir.as_deref()));
    let opened = in_place.map(|origin| RunDir::open(&origin.root)).transpose()?;
    let resume = origin.as_ref().map(Origin::checkpoint).transpose()?.flatten();

    let mut notices = Vec::new();
    let config = match (&origin, &resume) {
        (_, Some(found)) => resumed_config(args, &found.checkpoint)?,
        (Some(origin), None) => {
            let text = format!(
                "no checkpoint in {} yet: the run starts from the beginning",
                origin.root.display()
            );
            notices.push((Level::Warning, text));
            let saved = run_dir::config_path(&origin.root);
            let saved = saved.exists().then_some(saved);
            file::load(saved.as_deref(), &args.config.overrides())?
        }
        (None, None) => self::config(&args.config)?,
    };
    let selection = device::select(&config.train.device)?;
    notices.extend(selection.notice.map(|notice| (Level::Info, notice)));
    let data = data::open(&config.data)?;
    data::probe(&data.train)?;
    data::probe(&data.val)?;
    let run = match (opened, &args.run_dir) {
        (Some(run), _) => run,
        (None, Some(root)) => RunDir::create(root)?,
        (None, None) => RunDir::create_numbered(Path::new("runs"), &args.config.name())?,
    };
    Ok(Job { config, device: selection.device, data, run, resume, notices })
}

/// What `--resume` points at.
struct Origin {
    /// The run folder.
    root: PathBuf,
    /// A certain checkpoint of it.
    file: Option<PathBuf>,
}

impl Origin {
    fn of(path: &Path) -> Result<Self, RunDirError> {
        if path.is_dir() {
            return Ok(Self { root: path.to_owned(), file: None });
        }
        let root = path.parent().and_then(Path::parent).map(|root| {
            if root.as_os_str().is_empty() { PathBuf::from(".") } else { root.to_owned() }
        });
        match root {
            Some(root) if path.is_file() => Ok(Self { root, file: Some(path.to_owned()) }),
            _ => Err(RunDirError::NotFound { path: path.to_owned() }),
        }
    }

    /// The checkpoint to go on from: the given one or the newest; a damaged one gives way to the one before.
    fn checkpoint(&self) -> Result<Option<Found>, CheckpointError> {
        let Some(file) = &self.file else {
            return checkpoint::find(&self.root.join("checkpoints"), None);
        };
        let error = match checkpoint::load(file) {
            Ok(checkpoint) => {
                let found = Found { path: file.clone(), checkpoint, warnings: Vec::new() };
                return Ok(Some(found));
            }
            Err(error) => error,
        };
        let folder = file.parent().unwrap_or(Path::new("."));
        match checkpoint::find(folder, Some(file)) {
            Ok(Some(mut found)) => {
                if found.warnings.is_empty() {
                    found.warnings.push(error.to_string());
                }
                Ok(Some(found))
            }
            _ => Err(error),
        }
    }
}

/// Whether the run goes on in its own folder, rather than in a new one.
fn continues(origin: &Origin, run_dir: Option<&Path>) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    run_dir.is_none_or(|run_dir| real(run_dir) == real(&origin.root))
}

/// The configuration in the checkpoint with the overrides of this call.
fn resumed_config(args: &TrainArgs, checkpoint: &Checkpoint) -> Result<Config, Error> {
    let saved = file::parse(&checkpoint.meta.config, "in the checkpoint")?;
    let config = file::override_with(&saved, &args.config.overrides())?;
    let frozen = [
        ("model", saved.model == config.model),
        ("train.batch_size", saved.train.batch_size == config.train.batch_size),
        ("train.accumulation", saved.train.accumulation == config.train.accumulation),
    ];
    match frozen.iter().find(|(_, same)| !same) {
        Some((key, _)) => Err(Error::Usage(format!(
            "{key} can't change on --resume: weights and data position depend on it; start a new run"
        ))),
        None => Ok(config),
    }
}
