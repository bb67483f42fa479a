//! From the command line to a [`Job`]: configuration, device, data, run folder, checkpoint.

use crate::cli::{ConfigArgs, TrainArgs};
use crate::config::{Config, file};
use crate::data;
use crate::device;
use crate::error::Error;
use crate::eval;
use crate::event::Level;
use crate::import;
use crate::origin::Origin;
use crate::run_dir::{self, RunDir, RunDirError};
use crate::train::checkpoint::Checkpoint;
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
    let origin = args.resume.as_deref().map(|path| resumed(path, args.run_dir.as_deref()));
    let origin = origin.transpose()?.flatten();
    // A run folder is locked before its checkpoints are looked at: another process may be writing them.
    let in_place = origin.as_ref().and_then(|origin| continued(origin, args.run_dir.as_deref()));
    let opened = in_place.map(RunDir::open).transpose()?;
    let resume = origin.as_ref().map(Origin::newest).transpose()?.flatten();

    let mut notices = Vec::new();
    let config = match (&origin, &resume) {
        (_, Some(found)) => resumed_config(&args.config, &found.checkpoint)?,
        (Some(origin), None) => {
            // Without a root there is a file, and with a file there is a checkpoint or an error.
            let root = origin.root.as_deref().unwrap_or(Path::new("."));
            let text = format!(
                "no checkpoint in {} yet: the run starts from the beginning",
                root.display()
            );
            notices.push((Level::Warning, text));
            let saved = run_dir::config_path(root);
            let file = args.config.config.as_deref().unwrap_or(&saved);
            file::load(Some(file), &args.config.overrides())?
        }
        (None, None) => self::config(&args.config)?,
    };
    let selection = device::select(&config.train.device)?;
    notices.extend(selection.notice.map(|notice| (Level::Info, notice)));
    let data = data::open(&config.data)?;
    data::probe(&data.train)?;
    data::probe(&data.val)?;
    let eval = eval::for_training(&config, &data)?;
    let config = with_absolute_paths(config);
    // A checkpoint has weights of its own.
    let init = config.train.init.as_deref().filter(|_| resume.is_none());
    let init = init.map(|path| import::start(path, &config)).transpose()?.map(|start| {
        notices.push((Level::Info, start.notice));
        start.weights
    });
    let run = match (opened, &args.run_dir) {
        (Some(run), _) => run,
        (None, Some(root)) => RunDir::create(root)?,
        (None, None) => RunDir::create_numbered(Path::new("runs"), &args.config.name())?,
    };
    Ok(Job { config, device: selection.device, data, eval, run, resume, init, notices })
}

/// What `--resume` points at. `None` for the same folder as `--run-dir` when there is no run in it yet: a job script
/// may say so each time.
fn resumed(path: &Path, run_dir: Option<&Path>) -> Result<Option<Origin>, RunDirError> {
    if let Some(origin) = Origin::of(path) {
        return Ok(Some(origin));
    }
    if run_dir.is_some_and(|run_dir| real(run_dir) == real(path)) && !path.is_file() {
        return Ok(None);
    }
    Err(RunDirError::NotFound { path: path.to_owned() })
}

/// The folder of the run if it goes on there, rather than in a new one.
fn continued<'a>(origin: &'a Origin, run_dir: Option<&Path>) -> Option<&'a Path> {
    let root = origin.root.as_deref()?;
    run_dir.is_none_or(|run_dir| real(run_dir) == real(root)).then_some(root)
}

/// So that a run can be resumed from any directory.
fn with_absolute_paths(mut config: Config) -> Config {
    // What isn't there is the name of built-in images.
    let eval = config.eval.path.as_mut().filter(|path| path.exists());
    let paths = [&mut config.data.path, &mut config.data.val_path, &mut config.train.init];
    for path in paths.into_iter().flatten().chain(eval) {
        if let Ok(absolute) = std::path::absolute(&*path) {
            *path = absolute;
        }
    }
    config
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The configuration in the checkpoint, or in the given file, with the overrides of this call.
fn resumed_config(args: &ConfigArgs, checkpoint: &Checkpoint) -> Result<Config, Error> {
    let saved = file::parse(&checkpoint.meta.config, "in the checkpoint")?;
    let config = match &args.config {
        Some(file) => file::load(Some(file), &args.overrides())?,
        None => file::override_with(&saved, &args.overrides())?,
    };
    match file::differences(&saved, &config).iter().find(|key| {
        key.starts_with("model.") || *key == "train.batch_size" || *key == "train.accumulation"
    }) {
        Some(key) => Err(Error::Usage(format!(
            "{key} can't change on --resume: weights and data position depend on it; start a new run"
        ))),
        None => Ok(config),
    }
}
