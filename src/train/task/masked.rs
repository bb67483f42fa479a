//! Pre-training: the model predicts the pixels of hidden patches.

use super::{Judged, PreviewImages, Quality, Task};
use crate::config::Config;
use crate::data::DataError;
use crate::data::loader::{Batch, LoaderConfig};
use crate::engine::learner::LearnerConfig;
use crate::engine::{Engine, MicroBatch, Target};
use crate::model::mask::MaskGenerator;
use crate::model::patch::Pixels;
use crate::picture::painter::Painter;
use crate::train::validate::{self, ValPart};
use crate::weights::best::Grade;

/// Draws masks for each batch, and pictures of what the model fills in.
pub(super) struct Masked {
    masks: MaskGenerator,
    painter: Painter,
    /// How many images are drawn.
    previews: usize,
}

impl Masked {
    pub(super) fn new(config: &Config) -> Self {
        let painter = LearnerConfig::new(config).painter();
        let masks = MaskGenerator::new(&config.mask, &painter.shape, config.train.seed);
        Self { masks, painter, previews: config.train.previews }
    }
}

impl Task for Masked {
    fn accumulate(&self, engine: &mut dyn Engine, batch: &Batch, micro: u64) {
        let mask = self.masks.training(batch.first_sample, batch.len());
        let pixels = Pixels::Bytes(&batch.images);
        engine.accumulate(MicroBatch { pixels, target: Target::Hidden(&mask) }, micro);
    }

    fn validate(
        &self,
        engine: &dyn Engine,
        parts: &[ValPart],
        loader: LoaderConfig,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Judged>, DataError> {
        let Self { masks, painter, previews } = self;
        let found = validate::validate(engine, parts, loader, masks, painter, *previews, go_on)?;
        let grade = |loss| Grade { loss, accuracy: None };
        Ok(found.map(|found| Judged {
            grade: grade(found.loss),
            usual: found.usual.map(|(loss, images)| (grade(loss), images)),
            quality: Some(Quality { psnr: found.psnr, ssim: found.ssim }),
            metrics: Vec::new(),
            images: found.images,
            faulty: found.faulty,
            previews: (!found.previews.is_empty())
                .then(|| PreviewImages { pictures: found.previews, scale: painter.sheet_scale() }),
        }))
    }
}
