//! One pass over the validation images of pre-training: loss with fixed masks, picture quality, previews.

use crate::data::loader::{Batch, Loader, LoaderConfig};
use crate::data::{DataError, ImageError, Source};
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

/// Evaluates all images of `source` and draws the first `previews` of them. Calls `stop` between batches and returns
/// `None` if it returns true.
///
/// # Errors
/// If no image can be read.
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
    let found = ValidationResult::default();
    let mut pass = Pass { engine, masks, painter, previews, judged: 0, found };
    while let Some(batch) = loader.next()? {
        if stop() {
            return Ok(None);
        }
        pass.take(batch);
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
    fn take(&mut self, batch: Batch) {
        let mask = self.masks.validation(&batch.indices);
        let pixels = Pixels::Bytes(&batch.images);
        let target = Target::Hidden(&mask);
        let result = self.engine.evaluate(MicroBatch { pixels, target }); // device sync
        // All images have equally many hidden pixels, so the mean over images is the mean over pixels.
        self.found.loss += f64::from(result.loss) * batch.len() as f64;
        self.judge(&batch, &mask, &result.prediction);
        self.found.images += batch.len();
        self.found.faulty.extend(batch.faulty);
    }

    /// Computes the quality of reconstructions, and draws pictures, as long as there are not enough of them.
    fn judge(&mut self, batch: &Batch, mask: &HostMask, prediction: &[f32]) {
        let Painter { shape, .. } = self.painter;
        let raw = self.whole_outputs(batch);
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
    fn whole_outputs(&self, batch: &Batch) -> Vec<f32> {
        let shown = (self.previews - self.found.previews.len()).min(batch.len());
        if shown == 0 {
            return Vec::new();
        }
        let mask = self.masks.validation(&batch.indices[..shown]);
        let pixels = Pixels::Bytes(&batch.images[..shown * self.painter.image_len()]);
        self.engine.reconstruct(pixels, &mask) // device sync
    }

    fn finish(self) -> ValidationResult {
        let Self { judged, mut found, .. } = self;
        found.loss /= found.images.max(1) as f64;
        found.psnr /= judged.max(1) as f64;
        found.ssim /= judged.max(1) as f64;
        found
    }
}
