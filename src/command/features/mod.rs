//! The `features` command.

pub(crate) mod write;

use crate::config::Config;
use crate::data::loader::LoaderConfig;
use crate::data::{self, Dataset, ImageError, Source};
use crate::engine::device;
use crate::error::Error;
use crate::eval::features::{Features, extract};
use crate::event::now;
use crate::run_dir::write_atomic_with;
use crate::text::bar::Bar;
use crate::text::say::say;
use crate::text::units::span;
use crate::weights::locate::Weights;
use std::io::stderr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use write::{About, csv, npy, safetensors};

/// Errors of single images that are printed; the rest are counted.
const NAMED: usize = 5;

#[derive(Debug, Clone, clap::Args)]
pub struct FeaturesArgs {
    /// A run (its best checkpoint, else the newest) or a checkpoint file
    #[arg(value_name = "RUN|CKPT")]
    pub weights: PathBuf,
    /// Images: a folder or data files, or `photos` or `fashion-mnist-mini` for built-in ones [default: the run's data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Which part of the data
    #[arg(long, value_enum, default_value_t)]
    pub split: Split,
    /// Tokens after this many blocks, without the final norm [default: after all blocks and the final norm]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub layer: Option<u32>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Images per forward pass [default: the run's]
    #[arg(long, value_name = "IMAGES", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: Option<u32>,
    /// FILE.safetensors (features, labels; names and classes in its metadata), .csv, or .npy (features alone)
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// A part of a data set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Split {
    Train,
    Val,
    /// Training images, then validation images.
    #[default]
    All,
}

impl Split {
    pub fn sources(self, data: &Dataset) -> Vec<&Source> {
        match self {
            Self::Train => vec![&data.train],
            Self::Val => vec![&data.val],
            Self::All => vec![&data.train, &data.val],
        }
    }
}

/// What kind of file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FeatureFormat {
    Safetensors,
    Csv,
    Npy,
}

impl FeatureFormat {
    fn of(path: &Path) -> Result<Self, Error> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("csv") => Ok(Self::Csv),
            Some("npy") => Ok(Self::Npy),
            _ => Err(Error::Usage(format!(
                "{}: the file's ending says what is written: .safetensors, .csv or .npy",
                path.display()
            ))),
        }
    }
}

/// Whether the model has that many blocks.
///
/// # Errors
/// It hasn't.
pub fn check_layer(layer: Option<u32>, config: &Config) -> Result<Option<usize>, Error> {
    let depth = config.model.depth;
    match layer.map(|layer| layer as usize) {
        Some(layer) if !(1..=depth).contains(&layer) => {
            Err(Error::Usage(format!("--layer {layer}: the model has blocks 1 to {depth}")))
        }
        layer => Ok(layer),
    }
}

/// Tells of images that were left out.
pub fn note_skipped(skipped: &[ImageError]) {
    for error in skipped.iter().take(NAMED) {
        say(&mut stderr(), &format!("warning: unreadable image left out: {error}"));
    }
    if skipped.len() > NAMED {
        let more = skipped.len() - NAMED;
        say(&mut stderr(), &format!("warning: {more} more unreadable images left out"));
    }
}

/// Writes features of images to a file.
///
/// # Errors
/// Weights, data or device can't be used, or the file can't be written.
pub fn run(args: &FeaturesArgs) -> Result<(), Error> {
    let format = FeatureFormat::of(&args.output)?;
    if args.output.is_dir() {
        return Err(Error::Usage(format!("{} is a folder", args.output.display())));
    }
    let weights = Weights::open(&args.weights)?;
    weights.warn();
    let layer = check_layer(args.layer, &weights.config)?;
    let selection = device::select(&args.device)?;
    let own = &weights.config.data;
    let data = data::open(&args.data.as_ref().map_or(own.clone(), |path| own.with_images(path)))?;
    let sources = args.split.sources(&data);
    let engine = weights.engine(&selection.device)?;
    let mut loader = LoaderConfig::from_config(&weights.config);
    loader.batch_size = args.batch.map_or(loader.batch_size, |batch| batch as usize);

    let total = sources.iter().map(|source| source.len()).sum();
    let (bar, start) = (Bar::new("features", total), now());
    let mut features = Features::default();
    for source in sources {
        let before = features.len() + features.skipped.len();
        let progress = |done| {
            bar.set(before + done);
            ControlFlow::Continue(())
        };
        let part = extract(engine.as_ref(), source, loader, layer, progress)?;
        features.append(part.unwrap_or_default()); // nobody breaks it off
    }
    drop(bar);
    note_skipped(&features.skipped);

    let about = About {
        classes: data.classes,
        notes: vec![
            ("checkpoint".to_owned(), weights.path.display().to_string()),
            ("step".to_owned(), weights.checkpoint.meta.step.to_string()),
            ("layer".to_owned(), layer.map_or("norm".to_owned(), |layer| layer.to_string())),
            ("data".to_owned(), data.description),
        ],
    };
    let written = write_atomic_with(&args.output, |out| match format {
        FeatureFormat::Safetensors => safetensors(&features, &about, out),
        FeatureFormat::Csv => csv(&features, &about, out),
        FeatureFormat::Npy => npy(&features, out),
    });
    written.map_err(|source| Error::Output { path: args.output.clone(), source })?;
    let line = format!(
        "{} images, {} features each, in {} ({} on {})",
        features.len(),
        features.dim,
        args.output.display(),
        span(now() - start),
        selection.device
    );
    say(&mut stderr(), &line);
    Ok(())
}
