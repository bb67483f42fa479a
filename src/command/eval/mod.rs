//! The `eval` command.

pub mod report;

use super::features::{check_layer, note_skipped};
use crate::config::{Config, DataConfig, DataFormat};
use crate::data::loader::LoaderConfig;
use crate::data::{self, DataError};
use crate::engine::Engine;
use crate::engine::device;
use crate::engine::learner::LearnerConfig;
use crate::error::Error;
use crate::eval::features::{Features, extract};
use crate::eval::pixels::{self, collect_pixels, drop_grey};
use crate::eval::{Labelled, Method, Vectors, judge};
use crate::event::now;
use crate::run_dir::write_atomic;
use crate::terminal::unicode::plus_minus;
use crate::text::bar::Bar;
use crate::text::say::{say, say_all};
use crate::weights::locate::Weights;
use report::{EvalReport, Scores};
use std::io::stderr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// A run's own validation set is evaluated on from this many labelled images on: fewer tell nothing.
const ENOUGH: usize = 200;

#[derive(Debug, Clone, clap::Args)]
pub struct EvalArgs {
    /// A run (its best checkpoint, else the newest) or a checkpoint file
    #[arg(value_name = "RUN|CKPT")]
    pub weights: PathBuf,
    /// Labelled images: a folder with a sub-folder per class, CIFAR, STL-10 or IDX files, or `fashion-mnist-mini`
    /// [default: the run's data if it has classes and 200 validation images, else fashion-mnist-mini]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Tokens after this many blocks, without the final norm [default: after all blocks and the final norm]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub layer: Option<u32>,
    /// Training images, and test images, at most; 0 = all
    #[arg(long, value_name = "IMAGES", default_value_t = 10_000)]
    pub limit: usize,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// One JSON object on standard output
    #[arg(long)]
    pub json: bool,
    /// Write the report too: FILE.json, FILE.txt, or both into a folder
    #[arg(short, long, value_name = "DIR|FILE")]
    pub output: Option<PathBuf>,
}

/// Where reports go.
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
                path.display()
            ))),
        }
    }

    fn write(&self, json: &str, text: &str) -> Result<(), Error> {
        let put = |path: &Path, text: &str| {
            write_atomic(path, format!("{text}\n").as_bytes())
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

/// The data to evaluate on: what is named, the run's own if it will do, else the built-in set.
fn open(args: &EvalArgs, config: &Config, limit: usize) -> Result<Labelled, Error> {
    let own = &config.data;
    if let Some(path) = &args.data {
        let data = data::open(&own.with_images(path))?;
        return Labelled::of(&data, limit).map_err(Error::Usage);
    }
    let built_in = own.path.is_none() && own.format != DataFormat::FashionMnistMini;
    if !built_in {
        let data = data::open(own)?;
        if let Ok(labelled) = Labelled::of(&data, limit)
            && labelled.test.len() >= ENOUGH
        {
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

/// Evaluates a checkpoint.
///
/// # Errors
/// Weights, data or device can't be used, or the report can't be written.
pub fn run(args: &EvalArgs) -> Result<(), Error> {
    let output = args.output.as_deref().map(Output::of).transpose()?;
    let weights = Weights::open(&args.weights)?;
    weights.warn();
    let layer = check_layer(args.layer, &weights.config)?;
    let device = device::select(&args.device)?.device;
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let data = open(args, &weights.config, limit)?;
    let start = now();

    let trained = weights.engine(&device)?;
    let untrained = device::engine(&device, LearnerConfig::new(&weights.config));
    let loader = LoaderConfig::from_config(&weights.config);
    let trained = vectors("trained encoder", trained.as_ref(), &data, loader, layer)?;
    note_skipped(&[&trained[0].skipped[..], &trained[1].skipped[..]].concat());
    let untrained = vectors("untrained encoder", untrained.as_ref(), &data, loader, layer)?;
    let bar = bar("raw pixels", &data);
    let mut raw = finish(data.vectors(|source, before| {
        collect_pixels(source, loader, |done| go_on(&bar, before + done))
    })?);
    drop(bar);
    let [train, test] = &mut raw;
    drop_grey([train, test]);

    let methods = Method::all();
    let classes = data.classes.len();
    let bar = Bar::new("k-NN and linear probe", 3);
    let mut labels = Vec::new();
    let mut scores = Vec::new();
    let mut images = [0; 2];
    for (index, [train, test]) in [trained, untrained, raw].into_iter().enumerate() {
        let (train, test) = (Vectors::labelled(train), Vectors::labelled(test));
        let score = judge(&train, &test, classes, &methods, &mut || true);
        scores.push(score.unwrap_or_default()); // nobody breaks it off
        bar.set(index + 1);
        images = [train.len(), test.len()];
        labels = test.labels;
    }
    drop(bar);
    let Ok([trained, untrained, raw_pixels]) = <[_; 3]>::try_from(scores) else {
        unreachable!("three kinds of vectors")
    };
    let scores = Scores { methods, trained, untrained, raw_pixels };
    let report = EvalReport {
        checkpoint: weights.path.display().to_string(),
        step: weights.checkpoint.meta.step,
        layer,
        data: data.description,
        train_images: images[0],
        test_images: images[1],
        raw_pixels_side: loader.image_size.min(pixels::MOST),
        device: device.to_string(),
        methods: scores.rows(),
        probe_over_best_raw_knn: scores.probe_over_best_raw_knn(),
        confusion: scores.confusion(&labels, classes),
        verdict: scores.verdict(),
        seconds: now() - start,
        classes: data.classes,
    };
    let json = serde_json::to_string(&report)
        .map_err(|error| Error::System { what: "eval", source: error.into() })?;
    let lines = report.text(plus_minus());
    if let Some(output) = output {
        output.write(&json, &lines.join("\n"))?;
    }
    if args.json {
        say(&mut std::io::stdout(), &json);
    } else {
        say_all(lines);
    }
    Ok(())
}

fn bar(what: &str, data: &Labelled) -> Bar {
    Bar::new(what, data.train.len() + data.test.len())
}

fn go_on(bar: &Bar, done: usize) -> ControlFlow<()> {
    bar.set(done);
    ControlFlow::Continue(())
}

/// Nobody breaks off the work of this command.
fn finish(parts: Option<[Features; 2]>) -> [Features; 2] {
    parts.unwrap_or_default()
}

fn vectors(
    what: &str,
    engine: &dyn Engine,
    data: &Labelled,
    loader: LoaderConfig,
    layer: Option<usize>,
) -> Result<[Features; 2], DataError> {
    let bar = bar(what, data);
    let parts = data.vectors(|source, before| {
        extract(engine, source, loader, layer, |done| go_on(&bar, before + done))
    })?;
    Ok(finish(parts))
}
