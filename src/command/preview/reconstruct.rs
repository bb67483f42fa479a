//! Reconstructs images with a checkpoint outside of training, for `simmim-tui preview CKPT [IMAGE…]`.

use crate::config::TruncatedImages;
use crate::data::loader::LoaderConfig;
use crate::data::split::Subset;
use crate::data::{self, ImageError, ImageSource, Source, decode};
use crate::engine::device;
use crate::engine::learner::LearnerConfig;
use crate::error::Error;
use crate::model::mask::MaskGenerator;
use crate::picture::sheet;
use crate::shown;
use crate::train::validate::{ValPart, validate};
use crate::weights::locate::Weights;
use image::RgbImage;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Makes the preview sheet of a checkpoint from `images`, or from as many validation images as its run previewed.
///
/// # Errors
/// Returns an error if the checkpoint, its data or an image can't be read.
pub(super) fn preview(path: &Path, images: &[PathBuf]) -> Result<RgbImage, Error> {
    let mut weights = Weights::open(path)?;
    if weights.config.finetune.is_some() {
        return Err(Error::Usage(format!(
            "{} is a classifier, which reconstructs nothing",
            shown::path(path)
        )));
    }
    let config = &mut weights.config;
    let source: Source = if images.is_empty() {
        let val = data::open(&config.data)?.val;
        let first = config.train.previews.max(1).min(val.len());
        Arc::new(Subset::first(&val, first))
    } else {
        let listed = Listed { images: images.to_vec(), truncated: config.data.truncated };
        for index in 0..listed.len() {
            listed.read(index).map_err(|error| Error::Usage(error.to_string()))?;
        }
        Arc::new(listed)
    };
    config.train.batch_size = config.train.batch_size.min(source.len());
    let painter = LearnerConfig::new(config).painter();
    let masks = MaskGenerator::new(&config.mask, &painter.shape, config.train.seed);
    // A few pictures don't need the device on which the checkpoint was trained.
    let engine = weights.engine(&device::select("auto")?.device)?;
    let loader = LoaderConfig::from_config(&weights.config);
    let count = source.len();
    let parts = [ValPart::whole(&source)];
    let outcome = validate(engine.as_ref(), &parts, loader, &masks, &painter, count, |_| true)?;
    let rows: Vec<sheet::SheetRow> = outcome
        .map(|outcome| outcome.previews.into_iter().map(|preview| preview.row).collect())
        .unwrap_or_default();
    Ok(sheet::compose(&rows, painter.sheet_scale().1))
}

/// Images given by their paths.
struct Listed {
    images: Vec<PathBuf>,
    truncated: TruncatedImages,
}

impl ImageSource for Listed {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn name(&self, index: usize) -> String {
        self.images.get(index).map_or_else(String::new, |path| shown::text(path))
    }

    fn label(&self, _index: usize) -> Option<u32> {
        None
    }

    fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError> {
        let error = |reason| ImageError::new(self.name(index), reason);
        let path = self.images.get(index).ok_or_else(|| error("not in the list".to_owned()))?;
        let decoded = decode::read(path, self.truncated).map_err(error)?;
        Ok(Arc::new(decoded.image))
    }

    fn origin(&self) -> String {
        "the given images".to_owned()
    }
}
