//! Pre-training: the model predicts the pixels of hidden patches.

use super::{Judged, PreviewImages, Quality, Task};
use crate::config::Config;
use crate::data::loader::{Batch, LoaderConfig};
use crate::data::{DataError, Source};
use crate::engine::learner::LearnerConfig;
use crate::engine::{Engine, MicroBatch, Target};
use crate::model::mask::MaskGenerator;
use crate::model::patch::Pixels;
use crate::picture::painter::Painter;
use crate::train::validate;
use crate::weights::best::Grade;

/// Draws masks for each batch, and pictures of what the model fills in.
pub(super) struct Masked {
    masks: MaskGenerator,
    painter: Painter,
    val: Source,
    /// How many images are drawn.
    previews: usize,
}

impl Masked {
    pub(super) fn new(config: &Config, val: Source) -> Self {
        let painter = LearnerConfig::new(config).painter();
        let masks = MaskGenerator::new(&config.mask, &painter.shape, config.train.seed);
        Self { masks, painter, val, previews: config.train.previews }
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
        loader: LoaderConfig,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Judged>, DataError> {
        let Self { masks, painter, val, previews } = self;
        let found = validate::validate(engine, val, loader, masks, painter, *previews, stop)?;
        Ok(found.map(|found| Judged {
            grade: Grade { loss: found.loss, accuracy: None },
            quality: Some(Quality { psnr: found.psnr, ssim: found.ssim }),
            metrics: Vec::new(),
            images: found.images,
            faulty: found.faulty,
            previews: (!found.previews.is_empty())
                .then(|| PreviewImages { pictures: found.previews, scale: painter.sheet_scale() }),
        }))
    }
}
