//! Paints what the model sees and what it fills in.

use super::quality;
use super::sheet::SheetRow;
use crate::model::ModelShape;
use crate::model::loss::PATCH_VARIANCE_EPS;
use crate::model::patch::{Normalization, pixel_offsets};
use image::RgbImage;

/// Colour of a hidden patch in the masked picture.
const HIDDEN: [u8; 3] = [110, 110, 118];
/// Sheets of small pictures are enlarged until one picture is about this wide, in pixels.
const COMFORTABLE_WIDTH: u32 = 160;

/// One image with its mask and reconstruction, each as interleaved 8-bit RGB `[H, W, 3]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Triple {
    pub original: Vec<u8>,
    pub masked: Vec<u8>,
    /// The predicted patches, with the visible ones pasted in.
    pub reconstructed: Vec<u8>,
    /// Over the hidden pixels, in decibels.
    pub psnr: f64,
    /// Over the whole image.
    pub ssim: f64,
}

/// Turns the head's output into pixels.
#[derive(Debug, Clone)]
pub struct Painter {
    pub shape: ModelShape,
    pub normalization: Normalization,
    /// Whether predictions are relative to each patch's own mean and deviation.
    pub normalize_targets: bool,
}

impl Painter {
    /// Height and width of an image, in pixels.
    fn size(&self) -> [usize; 2] {
        [self.shape.grid[0] * self.shape.patch, self.shape.grid[1] * self.shape.patch]
    }

    /// Returns the number of bytes of one image.
    pub fn image_len(&self) -> usize {
        self.size().iter().product::<usize>() * 3
    }

    /// Paints one image and measures its reconstruction.
    ///
    /// # Shapes
    /// - `original`: `[H, W, 3]`
    /// - `hidden`: `[N]`
    /// - `prediction`: `[M, P]`, for the M hidden patches in ascending order
    pub fn triple(&self, original: &[u8], hidden: &[bool], prediction: &[f32]) -> Triple {
        let (mut masked, mut reconstructed) = (original.to_vec(), original.to_vec());
        let len = self.shape.patch_len();
        let (mut squares, mut numbers) = (0.0, 0_usize);
        let patches = hidden.iter().enumerate().filter(|&(_, &hidden)| hidden);
        for ((patch, _), predicted) in patches.zip(prediction.chunks_exact(len)) {
            self.paint(original, patch, predicted, |offset, value| {
                squares += (f64::from(value) - f64::from(original[offset]) / 255.0).powi(2);
                reconstructed[offset] = to_byte(value);
                masked[offset] = HIDDEN[offset % 3];
            });
            numbers += len;
        }
        let [height, width] = self.size();
        Triple {
            psnr: quality::psnr(squares / numbers.max(1) as f64),
            ssim: quality::ssim(original, &reconstructed, width, height),
            original: original.to_vec(),
            masked,
            reconstructed,
        }
    }

    /// Returns the deviation and the mean with which a patch's target was normalised: (1, 0) for plain pixels.
    fn patch_scale(&self, original: &[u8], patch: usize) -> (f32, f32) {
        if !self.normalize_targets {
            return (1.0, 0.0);
        }
        let values: Vec<f32> = pixel_offsets(&self.shape, patch)
            .map(|offset| self.normalization.apply(original[offset], offset % 3))
            .collect();
        let count = values.len() as f32;
        let mean = values.iter().sum::<f32>() / count;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / (count - 1.0);
        ((variance + PATCH_VARIANCE_EPS as f32).sqrt(), mean)
    }

    /// Paints the model's prediction of all patches, visible ones too. `[N, P] -> [H, W, 3]`
    pub fn raw(&self, original: &[u8], prediction: &[f32]) -> Vec<u8> {
        let mut raw = original.to_vec();
        for (patch, predicted) in prediction.chunks_exact(self.shape.patch_len()).enumerate() {
            self.paint(original, patch, predicted, |offset, value| raw[offset] = to_byte(value));
        }
        raw
    }

    /// Calls `put` with the offset in the image and the value (0 to 1) of each number of a predicted patch.
    fn paint(
        &self,
        original: &[u8],
        patch: usize,
        predicted: &[f32],
        mut put: impl FnMut(usize, f32),
    ) {
        let (scale, shift) = self.patch_scale(original, patch);
        for (offset, value) in pixel_offsets(&self.shape, patch).zip(predicted) {
            let value = self.normalization.undo(value * scale + shift, offset % 3);
            put(offset, value.clamp(0.0, 1.0));
        }
    }

    /// Returns a row of the preview sheet.
    pub fn row(&self, triple: &Triple, raw: &[u8]) -> SheetRow {
        let [height, width] = self.size().map(|side| side as u32);
        let picture =
            |bytes: &[u8]| RgbImage::from_raw(width, height, bytes.to_vec()).unwrap_or_default();
        SheetRow {
            original: picture(&triple.original),
            masked: picture(&triple.masked),
            reconstructed: picture(&triple.reconstructed),
            raw: picture(raw),
        }
    }

    /// Returns the width of a picture in pixels, and the whole factor by which sheets of small pictures are enlarged.
    pub fn sheet_scale(&self) -> (u32, u32) {
        let side = self.size()[1] as u32;
        (side, (COMFORTABLE_WIDTH / side).max(1))
    }
}

fn to_byte(value: f32) -> u8 {
    (value * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    fn painter(normalize_targets: bool) -> Painter {
        let model = ModelConfig { image_size: 16, patch_size: 8, ..ModelConfig::default() };
        Painter {
            shape: ModelShape::new(&model),
            normalization: Normalization { mean: [0.4, 0.5, 0.6], std: [0.2, 0.3, 0.25] },
            normalize_targets,
        }
    }

    fn original() -> Vec<u8> {
        (0..16 * 16 * 3).map(|i| (i * 37 % 256) as u8).collect()
    }

    /// Returns the head's output if it were exactly right.
    fn perfect(painter: &Painter, original: &[u8], patch: usize) -> Vec<f32> {
        let (scale, shift) = painter.patch_scale(original, patch);
        pixel_offsets(&painter.shape, patch)
            .map(|offset| {
                (painter.normalization.apply(original[offset], offset % 3) - shift) / scale
            })
            .collect()
    }

    #[test]
    fn a_perfect_prediction_gives_the_original_back() {
        for normalize in [false, true] {
            let painter = painter(normalize);
            let original = original();
            let prediction: Vec<f32> =
                [1, 2].iter().flat_map(|&patch| perfect(&painter, &original, patch)).collect();
            let triple = painter.triple(&original, &[false, true, true, false], &prediction);
            assert_eq!(triple.reconstructed, original, "normalize {normalize}");
            assert!(triple.psnr > 80.0 && triple.ssim > 0.999_999, "{}", triple.psnr);
            let grey = (0..256).filter(|&pixel| triple.masked[pixel * 3..][..3] == HIDDEN).count();
            assert_eq!(grey, 2 * 64, "two patches are hidden");
        }
    }

    #[test]
    fn psnr_counts_hidden_pixels_only() {
        let painter = painter(false);
        let original = vec![128; 16 * 16 * 3];
        // Every hidden value is off by 0.1, which is 0.1 / std after normalisation.
        let prediction: Vec<f32> = pixel_offsets(&painter.shape, 0)
            .map(|offset| {
                let channel = offset % 3;
                painter.normalization.apply(128, channel) + 0.1 / painter.normalization.std[channel]
            })
            .collect();
        let triple = painter.triple(&original, &[true, false, false, false], &prediction);
        assert!((triple.psnr - 20.0).abs() < 1e-3, "{}", triple.psnr);
    }

    #[test]
    fn a_row_of_the_sheet_holds_the_raw_output_of_visible_patches_too() {
        for normalize in [false, true] {
            let painter = painter(normalize);
            let original = original();
            let triple = painter.triple(&original, &[false; 4], &[]);
            let all: Vec<f32> =
                (0..4).flat_map(|patch| perfect(&painter, &original, patch)).collect();
            let raw = painter.raw(&original, &all);
            assert_eq!(raw, original, "a perfect output is the original");
            let grey = painter.raw(&original, &vec![0.0; all.len()]);
            assert_ne!(
                grey, original,
                "the output stands for itself, also where the patch is visible"
            );
            let row = painter.row(&triple, &raw);
            assert_eq!(row.original.as_raw(), row.raw.as_raw());
            assert_eq!(painter.sheet_scale(), (16, 10));
        }
    }
}
