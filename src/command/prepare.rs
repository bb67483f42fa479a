//! From the command line to a [`Job`]: configuration, device, data, run folder, checkpoint.

use super::args::{ConfigArgs, TrainArgs};
use crate::config::file::Layer;
use crate::config::{Config, file};
use crate::data::labelled::{self, LabelledDataset};
use crate::data::{self, Dataset};
use crate::engine::device;
use crate::error::Error;
use crate::eval;
use crate::event::Level;
use crate::run_dir::{self, RunDir, RunDirError};
use crate::train::trainer::Job;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::foreign::FittedWeights;
use crate::weights::locate::{Location, Weights};
use crate::weights::pretrained::Pretrained;
use std::path::{Path, PathBuf};

/// The configuration that the arguments describe.
///
/// # Errors
/// See [`crate::config::ConfigError`].
pub fn config(args: &ConfigArgs) -> Result<Config, Error> {
    Ok(file::load(args.config.as_deref(), &args.overrides())?)
}

/// What a run that doesn't go on from another begins with.
pub struct Beginning {
    pub config: Config,
    /// The checkpoint that [`crate::config::FinetuneConfig::from`] names, where it is read already.
    pub encoder: Option<Weights>,
    /// What the run is called if it gets no folder by name.
    pub name: String,
}

/// Everything that can fail before training is tried here, and nothing is written before the rest is known
/// to be right.
///
/// # Errors
/// Configuration, device, data, run folder or checkpoint.
pub fn prepare(args: &TrainArgs) -> Result<Job, Error> {
    prepare_from(args, || {
        let config = self::config(&args.config)?;
        Ok(Beginning { config, encoder: None, name: args.config.name() })
    })
}

/// [`prepare`] with a beginning of the caller's making, which is asked for only where no run goes on.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_from(
    args: &TrainArgs,
    begin: impl FnOnce() -> Result<Beginning, Error>,
) -> Result<Job, Error> {
    let origin = args.resume.as_deref().map(|path| resumed(path, args.run_dir.as_deref()));
    let origin = origin.transpose()?.flatten();
    // A run folder is locked before its checkpoints are looked at: another process may be writing them.
    let in_place = origin.as_ref().and_then(|origin| continued(origin, args.run_dir.as_deref()));
    let opened = in_place.map(RunDir::open).transpose()?;
    let resume = origin.as_ref().map(Location::newest).transpose()?.flatten();

    let mut notices = Vec::new();
    let beginning = match (&origin, &resume) {
        (_, Some(found)) => {
            let config = resumed_config(&args.config, &found.checkpoint)?;
            Beginning { config, encoder: None, name: args.config.name() }
        }
        (Some(origin), None) => {
            // Without a root there is a file, and with a file there is a checkpoint or an error.
            let root = origin.root.as_deref().unwrap_or(Path::new("."));
            let text = format!(
                "no checkpoint in {} yet: the run starts from the beginning",
                root.display()
            );
            notices.push((Level::Warning, text));
            let saved = file::load(Some(&run_dir::config_path(root)), &[])?;
            let config = changed_config(&args.config, &saved)?;
            Beginning { config, encoder: None, name: args.config.name() }
        }
        (None, None) => begin()?,
    };
    let Beginning { mut config, encoder, name } = beginning;
    let selection = device::select(&config.train.device)?;
    notices.extend(selection.notice.map(|notice| (Level::Info, notice)));
    let (data, notice) = open_data(&mut config)?;
    notices.extend(notice.map(|notice| (Level::Warning, notice)));
    data::check_readable(&data.train)?;
    data::check_readable(&data.val)?;
    let eval = eval::for_training(&config, &data)?;
    let pretrained =
        if resume.is_none() { pretrained(&config, encoder, &mut notices)? } else { None };
    if let (Some(finetune), Some(pretrained)) = (&mut config.finetune, &pretrained) {
        finetune.from = Some(pretrained.path.clone()); // of a run the very file
    }
    let config = with_absolute_paths(config);
    // A checkpoint has weights of its own.
    let init = config.train.init.as_deref().filter(|_| resume.is_none());
    let init = init.map(|path| FittedWeights::read(path, &config)).transpose()?.map(|fitted| {
        notices.push((Level::Info, fitted.notice));
        fitted.weights
    });
    let run = match (opened, &args.run_dir) {
        (Some(run), _) => run,
        (None, Some(root)) => RunDir::create(root)?,
        (None, None) => RunDir::create_numbered(Path::new("runs"), &name)?,
    };
    Ok(Job { config, device: selection.device, data, eval, run, resume, init, pretrained, notices })
}

/// Opens the data of a configuration, with labels alone where it trains a classifier; the names of its classes are then
/// filled in. The text tells of images that are left out.
///
/// # Errors
/// As [`data::open`]; no labels, or other classes than the configuration has.
pub fn open_data(config: &mut Config) -> Result<(Dataset, Option<String>), Error> {
    let Some(finetune) = &mut config.finetune else {
        return Ok((data::open(&config.data)?, None));
    };
    let LabelledDataset { data, notice } = labelled::open_labelled(&config.data)?;
    if finetune.classes.is_empty() {
        finetune.classes.clone_from(&data.classes);
    }
    if finetune.classes != data.classes {
        return Err(Error::Usage(format!(
            "{} has the classes {}, the configuration says {}: the outputs of the head stand for the latter",
            data.train.origin(),
            some_of(&data.classes),
            some_of(&finetune.classes)
        )));
    }
    Ok((data, notice))
}

/// Names for a message, not too many.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The encoder that a classifier starts from, if the configuration names one.
fn pretrained(
    config: &Config,
    read: Option<Weights>,
    notices: &mut Vec<(Level, String)>,
) -> Result<Option<Pretrained>, Error> {
    let Some(path) = config.finetune.as_ref().and_then(|finetune| finetune.from.as_deref()) else {
        return Ok(None);
    };
    let Weights { path, checkpoint, config: saved, warnings } = match read {
        Some(weights) => weights,
        None => Weights::open(path)?,
    };
    // Drop path has no weights.
    let fits = file::differences(&saved, config)
        .into_iter()
        .find(|key| key.starts_with("model.") && key != "model.drop_path");
    if let Some(key) = fits {
        return Err(Error::Usage(format!(
            "{key} differs from that of {}: the weights of its encoder depend on it; leave it out, or train from \
             fresh weights with --from-scratch",
            path.display()
        )));
    }
    notices.extend(warnings.into_iter().map(|text| (Level::Warning, text)));
    let step = checkpoint.meta.step;
    let trained_for = if saved.finetune.is_some() { "finetuning" } else { "pre-training" };
    let text = format!("the encoder comes from {}, step {step} of {trained_for}", path.display());
    notices.push((Level::Info, text));
    if (saved.data.mean, saved.data.std) != (config.data.mean, config.data.std) {
        let text = "data.mean or data.std differ from those that the encoder was trained with";
        notices.push((Level::Warning, text.to_owned()));
    }
    Ok(Some(Pretrained::new(path, checkpoint)))
}

/// What `--resume` points at. `None` for the same folder as `--run-dir` when there is no run in it yet: a job script
/// may say so each time.
fn resumed(path: &Path, run_dir: Option<&Path>) -> Result<Option<Location>, RunDirError> {
    if let Some(origin) = Location::of(path) {
        return Ok(Some(origin));
    }
    if run_dir.is_some_and(|run_dir| real(run_dir) == real(path)) && !path.is_file() {
        return Ok(None);
    }
    Err(RunDirError::NotFound { path: path.to_owned() })
}

/// The folder of the run if it goes on there, rather than in a new one.
fn continued<'a>(origin: &'a Location, run_dir: Option<&Path>) -> Option<&'a Path> {
    let root = origin.root.as_deref()?;
    run_dir.is_none_or(|run_dir| real(run_dir) == real(root)).then_some(root)
}

/// So that a run can be resumed from any directory.
fn with_absolute_paths(mut config: Config) -> Config {
    let encoder = config.finetune.as_mut().and_then(|finetune| finetune.from.as_mut());
    // What isn't there is the name of built-in images.
    let eval = config.eval.path.as_mut().filter(|path| path.exists());
    let paths = [&mut config.data.path, &mut config.data.val_path, &mut config.train.init];
    for path in paths.into_iter().flatten().chain(eval).chain(encoder) {
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
    let config = changed_config(args, &saved)?;
    let fixed = ["train.batch_size", "train.accumulation", "finetune.from", "finetune.classes"];
    match file::differences(&saved, &config)
        .iter()
        .find(|key| key.starts_with("model.") || fixed.contains(&key.as_str()))
    {
        Some(key) => Err(Error::Usage(format!(
            "{key} can't change on --resume: weights and data position depend on it; start a new run"
        ))),
        None => Ok(config),
    }
}

/// The saved configuration, or the given file, with the overrides of this call.
fn changed_config(args: &ConfigArgs, saved: &Config) -> Result<Config, Error> {
    let config = match &args.config {
        // Its own command filled in what such a file need not say.
        Some(file) if saved.finetune.is_some() => {
            file::stack(vec![Layer::whole(saved), Layer::file(file)?], &args.overrides())?
        }
        Some(file) => file::load(Some(file), &args.overrides())?,
        None => file::override_with(saved, &args.overrides())?,
    };
    if saved.finetune.is_none() && config.finetune.is_some() {
        return Err(Error::Usage(
            "--resume goes on with pre-training, which has no [finetune]; a classifier is a run of its own: \
             simmim-tui finetune RUN"
                .to_owned(),
        ));
    }
    Ok(config)
}
