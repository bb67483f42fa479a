//! One pass over the validation images: loss with fixed masks, picture quality, previews.

use crate::data::loader::{Loader, LoaderConfig};
use crate::data::{DataError, ImageError, Source};
use crate::engine::{Engine, MicroBatch, Target};
use crate::model::mask::MaskGenerator;
use crate::model::patch::Pixels;
use crate::picture::painter::Painter;
use crate::picture::sheet::SheetRow;

/// PSNR and SSIM are means over this many images at most: they are computed on the host.
const QUALITY_IMAGES: usize = 256;

/// What a pass found.
#[derive(Debug)]
pub struct ValidationResult {
    /// Mean over all hidden pixels of all images.
    pub loss: f64,
    pub psnr: f64,
    pub ssim: f64,
    pub images: usize,
    /// The first images, as many as were asked for.
    pub previews: Vec<Preview>,
    /// Images that can't be read.
    pub skipped: Vec<ImageError>,
}

/// Pictures of one image.
#[derive(Debug)]
pub struct Preview {
    pub row: SheetRow,
    /// Decibels over the hidden pixels.
    pub psnr: f64,
}

/// Evaluates all of `source`; `previews` pictures come back. Returns `None` when `stop` said so between batches.
///
/// # Errors
/// No image can be read.
pub fn validate(
    engine: &dyn Engine,
    source: &Source,
    loader: LoaderConfig,
    masks: &MaskGenerator,
    painter: &Painter,
    previews: usize,
    mut stop: impl FnMut() -> bool,
) -> Result<Option<ValidationResult>, DataError> {
    let mut loader = Loader::validation(source.clone(), loader);
    let mut outcome = ValidationResult {
        loss: 0.0,
        psnr: 0.0,
        ssim: 0.0,
        images: 0,
        previews: Vec::new(),
        skipped: Vec::new(),
    };
    let mut judged = 0_usize;
    let per_image = masks.hidden_per_image() * painter.shape.patch_len();
    while let Some(batch) = loader.next()? {
        if stop() {
            return Ok(None);
        }
        let mask = masks.validation(&batch.indices);
        let pixels = Pixels::Bytes(&batch.images);
        let target = Target::Hidden(&mask);
        let result = engine.evaluate(MicroBatch { pixels, target }); // device sync
        // Equal counts per image: the mean over images is the mean over pixels.
        outcome.loss += f64::from(result.loss) * batch.len() as f64;
        // Whole outputs cost a pass more, so only the pictures that are shown get one.
        let shown = (previews - outcome.previews.len()).min(batch.len());
        let raw = if shown > 0 {
            let mask = masks.validation(&batch.indices[..shown]);
            let pixels = Pixels::Bytes(&batch.images[..shown * painter.image_len()]);
            engine.reconstruct(pixels, &mask) // device sync
        } else {
            Vec::new()
        };
        let mut raw = raw.chunks_exact(painter.shape.patches() * painter.shape.patch_len());
        let pictures = batch.images.chunks_exact(painter.image_len());
        for (image, (bytes, prediction)) in
            pictures.zip(result.prediction.chunks_exact(per_image)).enumerate()
        {
            if judged < QUALITY_IMAGES.max(previews) {
                let triple = painter.triple(bytes, mask.of_image(image), prediction);
                outcome.psnr += triple.psnr;
                outcome.ssim += triple.ssim;
                judged += 1;
                if let Some(raw) = raw.next() {
                    let row = painter.row(&triple, &painter.raw(bytes, raw));
                    outcome.previews.push(Preview { row, psnr: triple.psnr });
                }
            }
        }
        outcome.images += batch.len();
        outcome.skipped.extend(batch.skipped);
    }
    outcome.loss /= outcome.images.max(1) as f64;
    outcome.psnr /= judged.max(1) as f64;
    outcome.ssim /= judged.max(1) as f64;
    Ok(Some(outcome))
}
