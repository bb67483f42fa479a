//! What a run trains its model for: the part of the run loop that is not the same for all runs.

mod classify;
mod masked;

use super::validate::Preview;
use crate::config::Config;
use crate::data::loader::{Batch, LoaderConfig};
use crate::data::{DataError, Dataset, ImageError, Source};
use crate::engine::Engine;
use crate::event::{self, Metric};
use crate::weights::best::Grade;

/// Batches to the engine with what the model shall make of them, and a judgement of what it does.
pub trait Task: Send {
    /// Forward and backward of a training batch. `micro` numbers the micro-step. Doesn't sync.
    fn accumulate(&self, engine: &mut dyn Engine, batch: &Batch, micro: u64);

    /// Judges the model on all validation images; `None` when `stop`, asked between batches, says so. Device sync.
    ///
    /// # Errors
    /// No image can be read.
    fn validate(
        &self,
        engine: &dyn Engine,
        loader: LoaderConfig,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Judged>, DataError>;
}

/// What a validation found.
#[derive(Debug)]
pub struct Judged {
    pub grade: Grade,
    /// Of reconstructions.
    pub quality: Option<Quality>,
    /// Shares of images told right.
    pub metrics: Vec<Metric>,
    pub images: usize,
    /// Images that can't be read.
    pub skipped: Vec<ImageError>,
    pub previews: Option<PreviewImages>,
}

/// Means over images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Decibels over hidden pixels.
    pub psnr: f64,
    pub ssim: f64,
}

/// Pictures of some images, and how large a sheet draws them.
#[derive(Debug)]
pub struct PreviewImages {
    pub pictures: Vec<Preview>,
    /// Side of a picture, pixels, and the factor by which the sheet is enlarged.
    pub scale: (u32, u32),
}

/// What front ends are told of it.
pub fn kind(config: &Config) -> event::TaskKind {
    if config.finetune.is_some() {
        event::TaskKind::Classification
    } else {
        event::TaskKind::Pretraining
    }
}

/// The task that the configuration asks for, on this data.
pub fn new(config: &Config, data: &Dataset) -> Box<dyn Task> {
    let val = Source::clone(&data.val);
    match &config.finetune {
        None => Box::new(masked::Masked::new(config, val)),
        Some(finetune) => {
            let train = Source::clone(&data.train);
            Box::new(classify::Classify::new(train, val, finetune.classes.len()))
        }
    }
}
