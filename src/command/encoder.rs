//! What the commands share that read weights and compute features: `eval`, `features`, `embed` and `export`.

use crate::config::{Config, DataConfig};
use crate::data::loader::LoaderConfig;
use crate::data::{self, Dataset, ImageError, Source};
use crate::engine::Engine;
use crate::error::Error;
use crate::eval::features::{Features, extract};
use crate::shown;
use crate::text::bar::Bar;
use crate::text::say::say;
use crate::weights::locate::Weights;
use std::io::stderr;
use std::ops::ControlFlow;
use std::path::Path;

/// Errors of single images that are printed. Further ones are only counted.
const NAMED: usize = 5;

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
    /// Returns the images of this part.
    pub(super) fn sources(self, data: &Dataset) -> Vec<Source> {
        match self {
            Self::Train => vec![data.train.clone()],
            Self::Val => vec![data.val.clone()],
            Self::All => vec![data.train.clone(), data.val.clone()],
        }
    }
}

/// Opens the weights that `RUN|CKPT` names, and prints a warning for each damaged checkpoint that was passed over.
pub(super) fn open(path: &Path) -> Result<Weights, Error> {
    let weights = Weights::open(path)?;
    warn_passed_over(&weights);
    Ok(weights)
}

/// Prints which damaged checkpoints were passed over, and which one is used instead.
pub(super) fn warn_passed_over(weights: &Weights) {
    for warning in &weights.warnings {
        say(&mut stderr(), &format!("warning: {warning}; using {}", shown::path(&weights.path)));
    }
}

/// Checks that the model has as many blocks as `--layer` says.
pub(super) fn check_layer(layer: Option<u32>, config: &Config) -> Result<Option<usize>, Error> {
    let depth = config.model.depth;
    match layer.map(|layer| layer as usize) {
        Some(layer) if !(1..=depth).contains(&layer) => {
            Err(Error::Usage(format!("--layer {layer}: the model has blocks 1 to {depth}")))
        }
        layer => Ok(layer),
    }
}

/// Computes the features of all images of several sources, one source after the other, with a progress bar. Prints
/// which images could not be read.
pub(super) fn features(
    engine: &dyn Engine,
    sources: &[Source],
    loader: LoaderConfig,
    layer: Option<usize>,
) -> Result<Features, Error> {
    let bar = Bar::new("features", sources.iter().map(|source| source.len()).sum());
    let (mut features, mut before) = (Features::default(), 0);
    for source in sources {
        let progress = |done| {
            bar.set(before + done);
            ControlFlow::Continue(())
        };
        let part = extract(engine, source, loader, layer, progress)?;
        features.append(part.unwrap_or_default()); // `progress` never breaks off
        before += source.len();
    }
    drop(bar);
    note_faulty(&features.faulty);
    Ok(features)
}

/// Opens the images that a configuration names, and prints what people should know about them.
pub(super) fn open_images(config: &DataConfig) -> Result<Dataset, Error> {
    let data = data::open(config)?;
    warn(&data.notes);
    Ok(data)
}

/// Prints warnings, one line each.
pub(super) fn warn(notes: &[String]) {
    for note in notes {
        say(&mut stderr(), &format!("warning: {note}"));
    }
}

/// Prints which images were left out because they could not be read, and which are incomplete.
pub(super) fn note_faulty(faulty: &[ImageError]) {
    for (taken, what, fate) in [(false, "unreadable", "left out"), (true, "incomplete", "taken")] {
        let errors: Vec<&ImageError> = faulty.iter().filter(|error| error.taken == taken).collect();
        for error in errors.iter().take(NAMED) {
            say(&mut stderr(), &format!("warning: {what} image {fate}: {error}"));
        }
        if errors.len() > NAMED {
            let more = errors.len() - NAMED;
            say(&mut stderr(), &format!("warning: {more} more {what} images {fate}"));
        }
    }
}
