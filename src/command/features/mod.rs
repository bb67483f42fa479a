//! The `features` command: writes the features of images to a file.

mod write;

use super::args::ListArgs;
use super::encoder::{self, Split, check_layer};
use crate::data::loader::LoaderConfig;
use crate::engine::device;
use crate::error::Error;
use crate::event::now;
use crate::run_dir::write_atomic_with;
use crate::shown;
use crate::text::say::say;
use crate::text::units::span;
use std::io::stderr;
use std::path::{Path, PathBuf};
use write::{About, csv, npy, safetensors};

#[derive(Debug, Clone, clap::Args)]
pub struct FeaturesArgs {
    /// Run directory (its best checkpoint, or else its newest) or checkpoint file
    #[arg(value_name = "RUN|CKPT")]
    pub weights: PathBuf,
    /// Use these images: a folder or data files, or the built-in `photos` or `fashion-mnist-mini` [default: the run's
    /// data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub lists: ListArgs,
    /// Use this part of the data
    #[arg(long, value_enum, default_value_t)]
    pub split: Split,
    /// Take the tokens after this many blocks, without the final norm [default: after all blocks and the final norm]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub layer: Option<u32>,
    /// Compute on this device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Compute this many images per forward pass [default: as in the run]
    #[arg(long, value_name = "IMAGES", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: Option<u32>,
    /// Write to this file: .safetensors (features and labels, with names and classes in the metadata), .csv, or .npy
    /// (features alone)
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Writes the features of images to a file.
///
/// # Errors
/// Returns an error if weights, data or device can't be used, or if the file can't be written.
pub fn run(args: &FeaturesArgs) -> Result<(), Error> {
    let format = FeatureFormat::of(&args.output)?;
    if args.output.is_dir() {
        return Err(Error::Usage(format!("{} is a folder", shown::path(&args.output))));
    }
    args.lists.apply();
    let weights = encoder::open(&args.weights)?;
    let layer = check_layer(args.layer, &weights.config)?;
    let selection = device::select(&args.device)?;
    let own = &weights.config.data;
    let named = args.data.as_ref().map(|path| own.with_images(path));
    let data = encoder::open_images(named.as_ref().unwrap_or(own))?;
    let engine = weights.engine(&selection.device)?;
    let mut loader = LoaderConfig::from_config(&weights.config);
    loader.batch_size = args.batch.map_or(loader.batch_size, |batch| batch as usize);

    let start = now();
    let features = encoder::features(engine.as_ref(), &args.split.sources(&data), loader, layer)?;
    let about = About {
        classes: data.classes,
        notes: vec![
            ("checkpoint".to_owned(), shown::text(&weights.path)),
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
        shown::path(&args.output),
        span(now() - start),
        selection.device
    );
    say(&mut stderr(), &line);
    Ok(())
}

/// The format of the file, which its extension decides.
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
                shown::path(path)
            ))),
        }
    }
}
