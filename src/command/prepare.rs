//! From arguments to a [`Job`]: configuration, device, data, run directory and checkpoint.

use super::args::{ConfigArgs, TrainArgs};
use super::{going_on, memory};
use crate::config::file::Layer;
use crate::config::{Config, TrainConfig, built_in, file};
use crate::data::{self, Dataset};
use crate::engine::device;
use crate::engine::learner::LearnerConfig;
use crate::error::Error;
use crate::eval;
use crate::event::Level;
use crate::model::state::NamedTensors;
use crate::run_dir::{self, RunDir, RunDirError, Trust};
use crate::shown;
use crate::text::waiting::saying;
use crate::train::{Job, Start};
use crate::weights::checkpoint::{Checkpoint, FoundCheckpoint};
use crate::weights::foreign::FittedWeights;
use crate::weights::locate::{Location, Weights};
use crate::weights::pretrained::Pretrained;
use std::path::{Path, PathBuf};

/// Returns the configuration that the arguments describe.
///
/// # Errors
/// See [`crate::config::ConfigError`].
pub(super) fn config(args: &ConfigArgs) -> Result<Config, Error> {
    Ok(file::load(args.config.as_deref(), &args.overrides())?)
}

/// What a run begins with that doesn't continue another.
pub(super) struct Beginning {
    pub config: Config,
    /// The checkpoint that [`crate::config::FinetuneConfig::from`] names, if it has been read already.
    pub encoder: Option<Weights>,
    /// The first part of the run's name, used if `--run-dir` gives none.
    pub name: String,
}

impl Beginning {
    fn new(args: &TrainArgs, config: Config) -> Self {
        Self { config, encoder: None, name: args.config.name() }
    }
}

/// Returns the job that the arguments describe. Everything that can fail before training is tried here, and nothing is
/// written before the rest is known to be right.
///
/// # Errors
/// If configuration, device, data, run directory or checkpoint can't be used.
pub(super) fn prepare(args: &TrainArgs) -> Result<Job, Error> {
    prepare_from(args, || Ok(Beginning::new(args, config(&args.config)?)))
}

/// Like [`prepare`], for a run whose beginning the caller decides. `begin` is called only if the run continues no
/// other.
///
/// # Errors
/// As [`prepare`].
pub(super) fn prepare_from(
    args: &TrainArgs,
    begin: impl FnOnce() -> Result<Beginning, Error>,
) -> Result<Job, Error> {
    args.config.lists.apply();
    let mut notices = Vec::new();
    let previous = saying("reading the checkpoint", || Previous::open(args))?;
    let Beginning { mut config, encoder, name } = match previous.config(args, &mut notices)? {
        Some(config) => Beginning::new(args, config),
        None => begin()?,
    };
    let Previous { opened, checkpoint: resume, .. } = previous;
    let selection = device::select(&config.train.device)?;
    notices.extend(selection.notice.map(|notice| (Level::Info, notice)));
    let data = open_data(&mut config)?;
    notices.extend(notes(&config, &data).into_iter().map(|note| (Level::Warning, note)));
    let warning = memory::check(&config, &selection.device, args.force)?;
    notices.extend(warning.map(|warning| (Level::Warning, warning)));
    let images = saying("looking through the list of images", || {
        data::check_readable(&data.train)?;
        data::check_readable(&data.val)?;
        going_on::judge(args, &mut config, &data, resume.as_ref(), &mut notices)
    })?;
    let eval = saying("opening the images of evaluations", || eval::for_training(&config, &data))?;
    if let (Some(eval), Some(_)) = (&eval, &config.eval.path) {
        notices
            .extend(eval.notes.iter().map(|note| (Level::Warning, format!("eval.path: {note}"))));
    }
    let pretrained = saying("reading the weights", || match resume {
        None => pretrained(&config, encoder, &mut notices),
        Some(_) => Ok(None),
    })?;
    if let (Some(finetune), Some(pretrained)) = (&mut config.finetune, &pretrained) {
        finetune.from = Some(pretrained.path.clone()); // the very file, not the run that it is from
    }
    let config = with_absolute_paths(config);
    // A checkpoint has weights of its own.
    let init = saying("reading the weights", || match resume {
        None => initial_weights(&config, &mut notices),
        Some(_) => Ok(None),
    })?;
    let run = match (opened, &args.run_dir) {
        (Some(run), _) => run,
        (None, Some(root)) => RunDir::create_with(root, trust(args))?,
        (None, None) => RunDir::create_numbered(Path::new("runs"), &name)?,
    };
    let start = match (resume, pretrained, init) {
        (Some(found), ..) => Start::Resume(Box::new(found)),
        (None, Some(encoder), below) => Start::Encoder { encoder, below },
        (None, None, Some(weights)) => Start::Init(weights),
        (None, None, None) => Start::Fresh,
    };
    let device = selection.device;
    let engine = device::engine_maker(&device, LearnerConfig::new(&config));
    Ok(Job { config, device, engine, data, images, run, eval, start, notices })
}

fn trust(args: &TrainArgs) -> Trust {
    if args.trust_run_dir { Trust::Insisted } else { Trust::Checked }
}

/// What `--resume` names.
struct Previous {
    location: Option<Location>,
    /// The run directory, locked, if the run continues in it. It is locked before its checkpoints are looked at, as
    /// another process may be writing them.
    opened: Option<RunDir>,
    /// The checkpoint to continue from, if there is one yet.
    checkpoint: Option<FoundCheckpoint>,
}

impl Previous {
    fn open(args: &TrainArgs) -> Result<Self, Error> {
        let run_dir = args.run_dir.as_deref();
        let location = args.resume.as_deref().map(|path| resumed(path, run_dir));
        let location = location.transpose()?.flatten();
        let in_place = location.as_ref().and_then(|location| continued(location, run_dir));
        let opened = in_place.map(|root| RunDir::open_with(root, trust(args))).transpose()?;
        let checkpoint = location.as_ref().map(Location::newest).transpose()?.flatten();
        Ok(Self { location, opened, checkpoint })
    }

    /// Returns the configuration of the run that is continued, with the overrides of this call, or `None` if none is.
    fn config(
        &self,
        args: &TrainArgs,
        notices: &mut Vec<(Level, String)>,
    ) -> Result<Option<Config>, Error> {
        let Some(location) = &self.location else { return Ok(None) };
        if let Some(found) = &self.checkpoint {
            return Ok(Some(resumed_config(&args.config, &found.checkpoint)?));
        }
        // A location without a root is a file, which holds a checkpoint or has been an error.
        let root = location.root.as_deref().unwrap_or(Path::new("."));
        let text = format!(
            "no checkpoint in {} yet: the run starts from the beginning",
            shown::path(root)
        );
        notices.push((Level::Warning, text));
        let saved = file::saved(&run_dir::config_path(root))?;
        Ok(Some(changed_config(&args.config, &saved)?))
    }
}

/// Returns the weights that `train.init` names, fitted onto the model, if it names any.
fn initial_weights(
    config: &Config,
    notices: &mut Vec<(Level, String)>,
) -> Result<Option<NamedTensors>, Error> {
    let Some(path) = &config.train.init else { return Ok(None) };
    let fitted = FittedWeights::read(path, config)?;
    notices.push((Level::Info, fitted.notice));
    Ok(Some(fitted.weights))
}

/// Opens the data of a configuration. For a classifier only labelled images are taken, and the names of the classes are
/// filled in.
///
/// # Errors
/// As [`data::open`], or if there are no labels or other classes than the configuration has.
pub(super) fn open_data(config: &mut Config) -> Result<Dataset, Error> {
    let Some(finetune) = &mut config.finetune else {
        return Ok(data::open(&config.data)?);
    };
    let data = data::open_labelled(&config.data)?;
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
    Ok(data)
}

/// Returns what people should know about the data before they train on it, one line each.
pub(super) fn notes(config: &Config, data: &Dataset) -> Vec<String> {
    data.notes.iter().cloned().chain(repeats(config, data.train.len())).collect()
}

/// Says how often an epoch shows each of the training images, if that is more than once.
fn repeats(config: &Config, images: usize) -> Option<String> {
    let TrainConfig { batch_size, accumulation, .. } = config.train;
    let per_step = config.images_per_step();
    if per_step <= images || images == 0 {
        return None;
    }
    let step = if accumulation > 1 {
        format!("a step takes {per_step} images ({batch_size} x {accumulation})")
    } else {
        format!("a batch takes {per_step} images")
    };
    let times = per_step as f64 / images as f64;
    let key = if batch_size > images || accumulation == 1 { "batch_size" } else { "accumulation" };
    Some(format!(
        "{step}, and training has {images}: each comes {times:.1} times in a step, which is a whole epoch; a \
         smaller train.{key} makes more steps of an epoch"
    ))
}

/// Returns the first few names, for a message.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Returns the encoder that a classifier starts from, if the configuration names one. `read` is its checkpoint if it
/// has been read already.
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
    // Drop path may differ, as it has no weights.
    let fits = file::differences(&saved, config)
        .into_iter()
        .find(|key| key.starts_with("model.") && key != "model.drop_path");
    if let Some(key) = fits {
        return Err(Error::Usage(format!(
            "{key} differs from that of {}: the weights of its encoder depend on it; leave it out, or train from \
             fresh weights with --from-scratch",
            shown::path(&path)
        )));
    }
    notices.extend(warnings.into_iter().map(|text| (Level::Warning, text)));
    let step = checkpoint.meta.step;
    let trained_for = if saved.finetune.is_some() { "finetuning" } else { "pre-training" };
    let text =
        format!("the encoder comes from {}, step {step} of {trained_for}", shown::path(&path));
    notices.push((Level::Info, text));
    if (saved.data.mean, saved.data.std) != (config.data.mean, config.data.std) {
        let text = "data.mean or data.std differ from those that the encoder was trained with";
        notices.push((Level::Warning, text.to_owned()));
    }
    Ok(Some(Pretrained::new(path, checkpoint)))
}

/// Returns the location that `--resume` points at. It is `None` if `--run-dir` names the same directory and there is no
/// run in it yet, so that a job script can pass both options every time.
fn resumed(path: &Path, run_dir: Option<&Path>) -> Result<Option<Location>, Error> {
    if let Some(origin) = Location::of(path) {
        return Ok(Some(origin));
    }
    if run_dir.is_some_and(|run_dir| real(run_dir) == real(path)) && !path.is_file() {
        return Ok(None);
    }
    if path.is_file() {
        return Err(Error::Usage(format!(
            "no run at {}: --resume takes a run directory or a checkpoint file (.safetensors); a new run starts from the \
             weights of others with --init",
            path.display()
        )));
    }
    Err(RunDirError::NotFound { path: path.to_owned() }.into())
}

/// Returns the run directory if the run continues in it rather than in a new one.
fn continued<'a>(origin: &'a Location, run_dir: Option<&Path>) -> Option<&'a Path> {
    let root = origin.root.as_deref()?;
    run_dir.is_none_or(|run_dir| real(run_dir) == real(root)).then_some(root)
}

/// Makes the paths in a configuration absolute, so that the run can be resumed from any directory.
fn with_absolute_paths(mut config: Config) -> Config {
    let encoder = config.finetune.as_mut().and_then(|finetune| finetune.from.as_mut());
    // What is the name of built-in images is no path.
    let eval = config.eval.path.as_mut().filter(|path| built_in(path).is_none());
    let paths = [&mut config.data.path, &mut config.data.val_path, &mut config.train.init];
    for path in paths.into_iter().flatten().chain(eval).chain(encoder) {
        if let Ok(absolute) = std::path::absolute(&*path) {
            *path = absolute;
        }
    }
    config
}

/// Returns the path without links, or as it is if nothing is there.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Returns the configuration in the checkpoint, or in the given file, with the overrides of this call.
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

/// Returns the saved configuration, or the given file, with the overrides of this call.
fn changed_config(args: &ConfigArgs, saved: &Config) -> Result<Config, Error> {
    let config = match &args.config {
        // A file for a classifier need not be complete: the saved run has what the finetune command filled in.
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
