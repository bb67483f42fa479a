//! One pass over the validation images of pre-training: loss with fixed masks, picture quality, previews.

pub use super::val_images::ValPart;

use crate::data::loader::{Batch, Loader, LoaderConfig};
use crate::data::{DataError, ImageError};
use crate::engine::{Engine, MicroBatch, Target};
use crate::model::mask::{HostMask, MaskGenerator};
use crate::model::patch::Pixels;
use crate::picture::painter::Painter;
use crate::picture::sheet::SheetRow;

/// PSNR and SSIM are means over this many images at most because they are computed on the host.
const QUALITY_IMAGES: usize = 256;

/// What a pass has found.
#[derive(Debug, Default)]
pub struct ValidationResult {
    /// Mean over all hidden pixels of all images.
    pub loss: f64,
    pub psnr: f64,
    pub ssim: f64,
    pub images: usize,
    /// Loss and number of the images of the first part, if there were several.
    pub usual: Option<(f64, usize)>,
    /// The first images, as many as were asked for.
    pub previews: Vec<Preview>,
    /// Images that can't be read, or were taken with a flaw.
    pub faulty: Vec<ImageError>,
}

/// Pictures of one image.
#[derive(Debug)]
pub struct Preview {
    pub row: SheetRow,
    /// PSNR over the hidden pixels, in decibels.
    pub psnr: f64,
}

/// Evaluates all images of some parts, one part after the other, and draws the first `previews` of them. Calls `go_on`
/// with the number of images done before each batch, and returns `None` if it returns false.
///
/// # Errors
/// If no image can be read.
pub fn validate(
    engine: &dyn Engine,
    parts: &[ValPart],
    loader: LoaderConfig,
    masks: &MaskGenerator,
    painter: &Painter,
    previews: usize,
    mut go_on: impl FnMut(usize) -> bool,
) -> Result<Option<ValidationResult>, DataError> {
    let found = ValidationResult::default();
    let mut pass = Pass { engine, masks, painter, previews, judged: 0, found };
    for part in parts {
        if pass.found.images > 0 {
            pass.found.usual.get_or_insert((pass.mean_loss(), pass.found.images));
        }
        let mut loader = Loader::validation(part.source.clone(), loader);
        while let Some(batch) = loader.next()? {
            if !go_on(pass.found.images) {
                return Ok(None);
            }
            pass.take(batch, part);
        }
    }
    Ok(Some(pass.finish()))
}

/// A pass over the validation images while it is under way.
struct Pass<'a> {
    engine: &'a dyn Engine,
    masks: &'a MaskGenerator,
    painter: &'a Painter,
    previews: usize,
    /// Images whose PSNR and SSIM were computed.
    judged: usize,
    /// Sums, where the result has means.
    found: ValidationResult,
}

impl Pass<'_> {
    fn take(&mut self, batch: Batch, part: &ValPart) {
        let numbers = part.numbers(&batch.indices);
        let mask = self.masks.validation(&numbers);
        let pixels = Pixels::Bytes(&batch.images);
        let target = Target::Hidden(&mask);
        let result = self.engine.evaluate(MicroBatch { pixels, target }); // device sync
        // All images have equally many hidden pixels, so the mean over images is the mean over pixels.
        self.found.loss += f64::from(result.loss) * batch.len() as f64;
        self.judge(&batch, &numbers, &mask, &result.prediction);
        self.found.images += batch.len();
        self.found.faulty.extend(batch.faulty);
    }

    /// Computes the quality of reconstructions, and draws pictures, as long as there are not enough of them.
    fn judge(&mut self, batch: &Batch, numbers: &[usize], mask: &HostMask, prediction: &[f32]) {
        let Painter { shape, .. } = self.painter;
        let raw = self.whole_outputs(batch, numbers);
        let mut raw = raw.chunks_exact(shape.patches() * shape.patch_len());
        let per_image = self.masks.hidden_per_image() * shape.patch_len();
        let pictures = batch.images.chunks_exact(self.painter.image_len());
        let wanted = QUALITY_IMAGES.max(self.previews) - self.judged;
        let predictions = prediction.chunks_exact(per_image);
        for (image, (bytes, prediction)) in pictures.zip(predictions).take(wanted).enumerate() {
            let triple = self.painter.triple(bytes, mask.of_image(image), prediction);
            self.found.psnr += triple.psnr;
            self.found.ssim += triple.ssim;
            self.judged += 1;
            if let Some(raw) = raw.next() {
                let row = self.painter.row(&triple, &self.painter.raw(bytes, raw));
                self.found.previews.push(Preview { row, psnr: triple.psnr });
            }
        }
    }

    /// Returns the predictions of all patches, the visible ones too, of the images that are to be drawn. They cost another
    /// pass through the model, so the other images don't get them. Device sync.
    fn whole_outputs(&self, batch: &Batch, numbers: &[usize]) -> Vec<f32> {
        let shown = (self.previews - self.found.previews.len()).min(batch.len());
        if shown == 0 {
            return Vec::new();
        }
        let mask = self.masks.validation(&numbers[..shown]);
        let pixels = Pixels::Bytes(&batch.images[..shown * self.painter.image_len()]);
        self.engine.reconstruct(pixels, &mask) // device sync
    }

    fn mean_loss(&self) -> f64 {
        self.found.loss / self.found.images.max(1) as f64
    }

    fn finish(self) -> ValidationResult {
        let loss = self.mean_loss();
        let Self { judged, mut found, .. } = self;
        found.loss = loss;
        found.psnr /= judged.max(1) as f64;
        found.ssim /= judged.max(1) as f64;
        found
    }
}
