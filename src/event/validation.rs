//! What validations report: their figures, and how far they are.

use super::number;
use crate::text::units;
use serde::{Deserialize, Serialize};

/// The result of a validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    pub step: u64,
    pub epoch: f64,
    #[serde(deserialize_with = "number::or_nan")]
    pub val_loss: f64,
    /// Peak signal-to-noise ratio over hidden pixels scaled to 0..1, dB, mean over images. Absent where nothing is
    /// reconstructed.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number::some_or_nan"
    )]
    pub psnr: Option<f64>,
    /// Structural similarity of image and reconstruction, mean over images. Absent where nothing is reconstructed.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number::some_or_nan"
    )]
    pub ssim: Option<f64>,
    /// Share of images whose class is predicted correctly, 0 to 1. Absent where the model predicts no class.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number::some_or_nan"
    )]
    pub accuracy: Option<f64>,
    /// How many images the figures are of.
    pub images: u64,
    /// How many validation images there are, if the figures are of some of them only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// The figures of those images on which the run is validated all the time, if these are not all; only the last
    /// validation of a run has it, as that is on all images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual: Option<UsualImages>,
    /// Whether the loss is the lowest so far; for a classifier, whether the accuracy is the highest.
    pub best: bool,
    pub seconds: f64,
}

/// Figures on the images on which a run is validated all the time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsualImages {
    pub images: u64,
    #[serde(deserialize_with = "number::or_nan")]
    pub val_loss: f64,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number::some_or_nan"
    )]
    pub accuracy: Option<f64>,
}

/// How far a validation or an evaluation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkProgress {
    pub step: u64,
    pub work: Work,
    /// Images done.
    pub done: u64,
    /// Images in all. Once all are done, an evaluation still judges their features.
    pub total: u64,
}

/// What is done beside the training itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    Validation,
    Evaluation,
}

impl WorkProgress {
    /// Returns how far it is for people: `validating 3,200/50,000`.
    pub fn text(&self) -> String {
        let (done, total) = (units::grouped(self.done), units::grouped(self.total));
        match self.work {
            Work::Validation => format!("validating {done}/{total}"),
            Work::Evaluation if self.done == self.total => {
                format!("evaluating the features of {total}")
            }
            Work::Evaluation => format!("evaluating {done}/{total}"),
        }
    }
}

impl Validation {
    /// Returns the loss that can be compared with those of the run's other validations.
    pub fn comparable_loss(&self) -> f64 {
        self.usual.as_ref().map_or(self.val_loss, |usual| usual.val_loss)
    }

    /// Returns the accuracy that can be compared with those of the run's other validations.
    pub fn comparable_accuracy(&self) -> Option<f64> {
        self.usual.as_ref().map_or(self.accuracy, |usual| usual.accuracy)
    }

    /// Returns how many images these two are of, or `None` if of all. Figures with different answers can't be compared.
    pub fn compared_on(&self) -> Option<u64> {
        self.usual.as_ref().map(|usual| usual.images).or(self.of.map(|_| self.images))
    }

    /// Returns the figures of the reconstructions for people: `psnr 18.52 dB` and `ssim 0.431`, as far as there are any.
    pub fn quality(&self) -> Vec<String> {
        let psnr = self.psnr.map(|psnr| format!("psnr {psnr:.2} dB"));
        psnr.into_iter().chain(self.ssim.map(|ssim| format!("ssim {ssim:.3}"))).collect()
    }
}
