//! The `eval` command: judges the features of a trained encoder on labelled images.

mod report;

use super::args::ListArgs;
use super::encoder::{self, check_layer, note_faulty};
use crate::config::{Config, DataConfig, DataFormat};
use crate::data::loader::LoaderConfig;
use crate::data::{self, DataError};
use crate::engine::Engine;
use crate::engine::device::{self, Device};
use crate::engine::learner::LearnerConfig;
use crate::error::Error;
use crate::eval::features::{Features, extract};
use crate::eval::pixels::{self, collect_pixels, drop_grey};
use crate::eval::{Labelled, Method, Vectors, caveats, judge};
use crate::event::now;
use crate::run_dir::write_atomic_with;
use crate::shown;
use crate::terminal::unicode::plus_minus;
use crate::text::bar::Bar;
use crate::text::say::{say, tell, tell_all};
use crate::weights::locate::Weights;
use report::{EvalReport, Scores};
use std::io::{Write as _, stderr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, clap::Args)]
pub struct EvalArgs {
    /// Run directory (its best checkpoint, or else its newest) or checkpoint file
    #[arg(value_name = "RUN|CKPT")]
    pub weights: PathBuf,
    /// Evaluate on these labelled images: a folder with a sub-folder per class, a list, Parquet, CIFAR, STL-10 or
    /// IDX files, or `fashion-mnist-mini` [default: the run's data if it has classes and 200 validation images, else
    /// fashion-mnist-mini]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub lists: ListArgs,
    /// Take the tokens after this many blocks, without the final norm [default: after all blocks and the final norm]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub layer: Option<u32>,
    /// Use at most this many training images, and as many test images; 0 = all
    #[arg(long, value_name = "IMAGES", default_value_t = 10_000)]
    pub limit: usize,
    /// Compute on this device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Print one JSON object on standard output
    #[arg(long)]
    pub json: bool,
    /// Also write the report: to FILE.json, to FILE.txt, or both into a folder
    #[arg(short, long, value_name = "DIR|FILE")]
    pub output: Option<PathBuf>,
}

/// Evaluates a checkpoint.
///
/// # Errors
/// Returns an error if weights, data or device can't be used, or if the report can't be written.
pub fn run(args: &EvalArgs) -> Result<(), Error> {
    let output = args.output.as_deref().map(Output::of).transpose()?;
    args.lists.apply();
    let weights = encoder::open(&args.weights)?;
    let layer = check_layer(args.layer, &weights.config)?;
    let device = device::select(&args.device)?.device;
    let data = open_data(args, &weights.config)?;
    let start = now();

    let vectors = all_vectors(&weights, &device, &data, layer)?;
    let Judged { scores, labels, train_images, notes } = judge_all(vectors, &data.classes);
    let report = EvalReport {
        checkpoint: shown::text(&weights.path),
        step: weights.checkpoint.meta.step,
        layer,
        data: data.description,
        train_images,
        test_images: labels.len(),
        notes,
        raw_pixels_side: weights.config.model.image_size.min(pixels::MOST),
        device: device.to_string(),
        methods: scores.rows(),
        probe_over_best_raw_knn: scores.probe_over_best_raw_knn(),
        confusion: scores.confusion(&labels, data.classes.len()),
        verdict: scores.verdict(),
        seconds: now() - start,
        classes: data.classes,
    };
    let json = serde_json::to_string(&report)
        .map_err(|error| Error::System { what: "eval", source: error.into() })?;
    let json = shown::json(json);
    let lines: Vec<String> =
        report.text(plus_minus()).iter().map(|line| shown::line(line).into_owned()).collect();
    if let Some(output) = output {
        output.write(&json, &lines.join("\n"))?;
    }
    if args.json {
        tell(&json)?;
    } else {
        tell_all(lines)?;
    }
    Ok(())
}

/// Opens the data to evaluate on: what is named, or else the run's own if it will do, or else the built-in set.
fn open_data(args: &EvalArgs, config: &Config) -> Result<Labelled, Error> {
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let own = &config.data;
    if let Some(path) = &args.data {
        let data = encoder::open_images(&own.with_images(path))?;
        return Labelled::of(&data, limit).map_err(Error::Usage);
    }
    let built_in = own.path.is_none() && own.format != DataFormat::FashionMnistMini;
    if !built_in {
        let data = data::open(own)?;
        if let Ok(labelled) = Labelled::of(&data, limit)
            && labelled.test.len() >= caveats::ENOUGH
        {
            encoder::warn(&data.notes);
            return Ok(labelled);
        }
        let line = format!(
            "note: the run's own data ({}) has not enough labelled images; evaluating on fashion-mnist-mini",
            data.description
        );
        say(&mut stderr(), &line);
    }
    let format = DataFormat::FashionMnistMini;
    let fashion = DataConfig { path: None, val_path: None, format, ..own.clone() };
    Labelled::of(&data::open(&fashion)?, limit).map_err(Error::Usage)
}

/// Computes the vectors of the training and test images by the trained encoder, the untrained one, and as raw pixels.
fn all_vectors(
    weights: &Weights,
    device: &Device,
    data: &Labelled,
    layer: Option<usize>,
) -> Result<[[Features; 2]; 3], Error> {
    let trained = weights.engine(device)?;
    let untrained = device::engine(device, LearnerConfig::new(&weights.config));
    let loader = LoaderConfig::from_config(&weights.config);
    let trained = encoded("trained encoder", trained.as_ref(), data, loader, layer)?;
    note_faulty(&[&trained[0].faulty[..], &trained[1].faulty[..]].concat());
    let untrained = encoded("untrained encoder", untrained.as_ref(), data, loader, layer)?;
    let bar = bar("raw pixels", data);
    let raw = data.vectors(|source, before| {
        collect_pixels(source, loader, |done| show(&bar, before + done))
    })?;
    let mut raw = raw.unwrap_or_default(); // `show` never breaks off
    let [train, test] = &mut raw;
    drop_grey([train, test]);
    Ok([trained, untrained, raw])
}

fn encoded(
    what: &str,
    engine: &dyn Engine,
    data: &Labelled,
    loader: LoaderConfig,
    layer: Option<usize>,
) -> Result<[Features; 2], DataError> {
    let bar = bar(what, data);
    let parts = data.vectors(|source, before| {
        extract(engine, source, loader, layer, |done| show(&bar, before + done))
    })?;
    Ok(parts.unwrap_or_default()) // `show` never breaks off
}

fn bar(what: &str, data: &Labelled) -> Bar {
    Bar::new(what, data.train.len() + data.test.len())
}

fn show(bar: &Bar, done: usize) -> ControlFlow<()> {
    bar.set(done);
    ControlFlow::Continue(())
}

/// What was found about the three kinds of vectors.
struct Judged {
    scores: Scores,
    /// Labels of the test images.
    labels: Vec<u32>,
    /// Number of training images.
    train_images: usize,
    /// What must be said beside the figures.
    notes: Vec<String>,
}

/// Judges the vectors of [`all_vectors`] by all methods.
fn judge_all(vectors: [[Features; 2]; 3], classes: &[String]) -> Judged {
    let bar = Bar::new("k-NN and linear probe", vectors.len());
    // The same images can be read for all three.
    let vectors = vectors.map(|parts| parts.map(Vectors::labelled));
    let [[train, test], ..] = &vectors;
    let (train_images, labels) = (train.len(), test.labels.clone());
    let methods = Method::all(train_images);
    let mut notes = caveats::of_images(&train.labels, &labels, classes);
    notes.extend(caveats::of_neighbours(train_images));
    let mut done = 0;
    let [trained, untrained, raw_pixels] = vectors.map(|[train, test]| {
        let scores = judge(&train, &test, classes.len(), &methods, &mut || true);
        done += 1;
        bar.set(done);
        scores.unwrap_or_default() // never broken off
    });
    let scores = Scores { methods, trained, untrained, raw_pixels };
    Judged { scores, labels, train_images, notes }
}

/// Where the report is written.
enum Output {
    Json(PathBuf),
    Text(PathBuf),
    Folder(PathBuf),
}

impl Output {
    fn of(path: &Path) -> Result<Self, Error> {
        let own = path.to_owned();
        match path.extension().and_then(|ending| ending.to_str()) {
            _ if path.is_dir() => Ok(Self::Folder(own)),
            Some("json") => Ok(Self::Json(own)),
            Some("txt") => Ok(Self::Text(own)),
            None if !path.exists() => Ok(Self::Folder(own)),
            _ => Err(Error::Usage(format!(
                "--output {}: give a folder, or a file that ends in .json or .txt",
                shown::path(path)
            ))),
        }
    }

    fn write(&self, json: &str, text: &str) -> Result<(), Error> {
        let put = |path: &Path, text: &str| {
            write_atomic_with(path, |out| writeln!(out, "{text}"))
                .map_err(|source| Error::Output { path: path.to_owned(), source })
        };
        match self {
            Self::Json(path) => put(path, json),
            Self::Text(path) => put(path, text),
            Self::Folder(path) => {
                std::fs::create_dir_all(path)
                    .map_err(|source| Error::Output { path: path.clone(), source })?;
                put(&path.join("eval.json"), json)?;
                put(&path.join("eval.txt"), text)
            }
        }
    }
}
