//! What a run trains its model for. This is the part of the training loop in which pre-training and finetuning differ.

mod classify;
mod masked;

use super::validate::{Preview, ValPart};
use crate::config::Config;
use crate::data::loader::{Batch, LoaderConfig};
use crate::data::{DataError, Dataset, ImageError, Source};
use crate::engine::Engine;
use crate::event::{self, Metric};
use crate::weights::best::Grade;

/// Gives batches to the engine together with what the model is to predict, and judges its predictions.
pub trait Task: Send {
    /// Runs a training batch forward and backward. `micro` is the number of the micro-step. Doesn't sync.
    fn accumulate(&self, engine: &mut dyn Engine, batch: &Batch, micro: u64);

    /// Judges the model on all images of some parts, one part after the other. Calls `go_on` with the number of images done
    /// before each batch, and returns `None` if it returns false. Device sync.
    ///
    /// # Errors
    /// If no image can be read.
    fn validate(
        &self,
        engine: &dyn Engine,
        parts: &[ValPart],
        loader: LoaderConfig,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Judged>, DataError>;
}

/// What a validation has found.
#[derive(Debug)]
pub struct Judged {
    pub grade: Grade,
    /// Grade and number of the images of the first part, if there were several.
    pub usual: Option<(Grade, usize)>,
    /// The quality of reconstructions, where the task is to reconstruct.
    pub quality: Option<Quality>,
    /// Accuracies, where the task is to classify.
    pub metrics: Vec<Metric>,
    pub images: usize,
    /// Images that can't be read, or were taken with a flaw.
    pub faulty: Vec<ImageError>,
    pub previews: Option<PreviewImages>,
}

/// How close reconstructions are to their images; means over images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// PSNR over hidden pixels, in decibels.
    pub psnr: f64,
    pub ssim: f64,
}

/// Pictures of some images, and how large they are drawn on a sheet.
#[derive(Debug)]
pub struct PreviewImages {
    pub pictures: Vec<Preview>,
    /// The side of a picture in pixels, and the factor by which the sheet is enlarged.
    pub scale: (u32, u32),
}

/// Returns the kind of task that the configuration asks for, as front ends know it.
pub fn kind(config: &Config) -> event::TaskKind {
    if config.finetune.is_some() {
        event::TaskKind::Classification
    } else {
        event::TaskKind::Pretraining
    }
}

/// Returns the task that the configuration asks for, on this data.
pub fn new(config: &Config, data: &Dataset) -> Box<dyn Task> {
    match &config.finetune {
        None => Box::new(masked::Masked::new(config)),
        Some(finetune) => {
            let train = Source::clone(&data.train);
            Box::new(classify::Classify::new(train, finetune.classes.len()))
        }
    }
}
