//! Random masks in units of `mask.unit` pixels. Every image hides the same number of patches.

use super::{BatchMask, ModelShape};
use crate::config::{MaskConfig, masked_units};
use crate::rng::{self, Purpose};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::RngExt as _;

/// Draws masks for images of one size.
#[derive(Debug, Clone)]
pub struct MaskGenerator {
    /// Number of patches down and across.
    grid: [usize; 2],
    /// Height and width of a mask unit, in patches.
    unit: usize,
    /// Share of the units to hide.
    ratio: f64,
    seed: u64,
}

/// The masks of one batch on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMask {
    /// True where a patch is hidden. `[B·N]`
    pub hidden: Vec<bool>,
    /// Images of the batch, B.
    pub batch: usize,
}

impl MaskGenerator {
    /// Returns a generator for images of this shape.
    pub fn new(config: &MaskConfig, shape: &ModelShape, seed: u64) -> Self {
        Self { grid: shape.grid, unit: config.unit / shape.patch, ratio: config.ratio, seed }
    }

    /// Returns the number of hidden patches per image, M.
    pub fn hidden_per_image(&self) -> usize {
        let units = self.grid[0] / self.unit * (self.grid[1] / self.unit);
        masked_units(units, self.ratio) * self.unit * self.unit
    }

    /// Returns the masks of training samples `first..first + batch`, which are numbered from the start of the run.
    pub fn training(&self, first: u64, batch: usize) -> HostMask {
        self.draw(Purpose::Mask, first..first + batch as u64)
    }

    /// Returns the masks of validation images by their index. They are the same in every epoch, so that epochs can be
    /// compared.
    pub fn validation(&self, images: &[usize]) -> HostMask {
        self.draw(Purpose::ValMask, images.iter().map(|&image| image as u64))
    }

    /// Draws the mask of each sample from a random stream of its own.
    fn draw(&self, purpose: Purpose, samples: impl Iterator<Item = u64>) -> HostMask {
        let mut mask = HostMask { hidden: Vec::new(), batch: 0 };
        for sample in samples {
            let mut rng = rng::stream(self.seed, purpose, sample, 0);
            let across = self.grid[1] / self.unit;
            let units = self.grid[0] / self.unit * across;
            // The first k places of a Fisher-Yates shuffle are a uniform choice of k units.
            let mut order: Vec<usize> = (0..units).collect();
            let mut chosen = vec![false; units];
            for place in 0..masked_units(units, self.ratio) {
                order.swap(place, rng.random_range(place..units));
                chosen[order[place]] = true;
            }
            let columns = self.grid[1];
            mask.hidden.extend((0..self.grid[0] * columns).map(|patch| {
                chosen[patch / columns / self.unit * across + patch % columns / self.unit]
            }));
            mask.batch += 1;
        }
        mask
    }
}

impl HostMask {
    /// Returns the numbers of the rows of `[B·N, D]` that hold hidden patches, ascending. `[B·M]`
    pub fn rows(&self) -> Vec<i32> {
        let hidden = self.hidden.iter().enumerate().filter(|&(_, &hidden)| hidden);
        hidden.map(|(row, _)| row as i32).collect()
    }

    /// Returns the mask of one image. `[N]`
    pub fn of_image(&self, image: usize) -> &[bool] {
        let patches = self.hidden.len() / self.batch;
        &self.hidden[image * patches..(image + 1) * patches]
    }

    /// Uploads the masks to a device.
    pub fn upload<B: Backend>(&self, device: &B::Device) -> BatchMask<B> {
        let rows = self.rows();
        let hidden: Vec<f32> = self.hidden.iter().map(|&hidden| f32::from(hidden)).collect();
        let (total, masked) = (hidden.len(), rows.len());
        BatchMask {
            hidden: Tensor::from_data(TensorData::new(hidden, [total, 1]), device),
            rows: Tensor::from_data(TensorData::new(rows, [masked]), device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    fn generator(unit: usize, ratio: f64) -> MaskGenerator {
        let shape = ModelShape::new(&ModelConfig { image_size: 64, ..ModelConfig::default() });
        MaskGenerator::new(&MaskConfig { unit, ratio }, &shape, 7)
    }

    #[test]
    fn every_image_hides_the_rounded_up_share_of_whole_units() {
        for (unit, ratio) in [(8, 0.6), (16, 0.6), (32, 0.5), (16, 0.01), (8, 0.75)] {
            let masks = generator(unit, ratio);
            let (units, width) = ((64 / unit) * (64 / unit), unit / 8);
            let expected = (ratio * units as f64).ceil() as usize * width * width;
            assert_eq!(masks.hidden_per_image(), expected);
            let mask = masks.training(0, 9);
            for image in 0..9 {
                let hidden = mask.of_image(image);
                assert_eq!(hidden.iter().filter(|&&h| h).count(), expected, "unit {unit}");
                for patch in 0..64 {
                    let corner = patch / 8 / width * width * 8 + patch % 8 / width * width;
                    assert_eq!(hidden[patch], hidden[corner], "a unit is hidden as a whole");
                }
            }
        }
    }

    #[test]
    fn a_mask_depends_on_the_sample_number_alone() {
        let masks = generator(16, 0.6);
        let whole = masks.training(0, 8);
        let tail = masks.training(5, 3);
        assert_eq!(whole.of_image(5), tail.of_image(0));
        assert_ne!(whole.of_image(0), whole.of_image(1), "samples differ");
        assert_ne!(whole, masks.validation(&[0, 1, 2, 3, 4, 5, 6, 7]), "own stream");
        assert_eq!(masks.validation(&[3]).of_image(0), masks.validation(&[1, 3]).of_image(1));
    }

    #[test]
    fn all_units_are_hidden_equally_often() {
        let masks = generator(16, 0.6);
        let mask = masks.training(0, 4000);
        let mut counts = [0_usize; 64];
        for (row, &hidden) in mask.hidden.iter().enumerate() {
            counts[row % 64] += usize::from(hidden);
        }
        let expected = 4000.0 * 10.0 / 16.0;
        for count in counts {
            assert!((count as f64 - expected).abs() < 160.0, "{count} of {expected}");
        }
    }
}
