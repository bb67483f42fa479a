//! Measures what share of the device's peak rate of matrix products a training step reaches.

use crate::config::Precision;
use crate::engine::device::{self, Device};
use crate::model::ModelShape;
use serde::Serialize;

/// Side of the square matrices for the peak of a CPU: large enough to fill it, small enough to be quick.
const SIDE_CPU: usize = 1024;
/// Side of the square matrices for the peak of a GPU.
const SIDE_GPU: usize = 8192;

/// Floating-point operations of matrix products: a multiplication with its addition counts as two. The other work of a
/// step isn't counted.
#[derive(Debug, Serialize)]
pub(super) struct Compute {
    /// Operations of the forward and backward pass of one training image.
    flops_per_image: u64,
    flops_per_s: f64,
    /// Rate of the fastest product of two large matrices on this device, in the same precision.
    matmul_peak_flops_per_s: f64,
    /// 0 to 1.
    share_of_peak: f64,
}

impl Compute {
    /// Measures the peak of the device, and compares the step with it. `head_rows` is the number of rows that the head
    /// gets of each image.
    pub fn new(
        shape: &ModelShape,
        head_rows: usize,
        images_per_s: f64,
        device: &Device,
        wanted: Precision,
    ) -> Self {
        let flops_per_image = training_flops(shape, head_rows);
        let flops_per_s = flops_per_image as f64 * images_per_s;
        let side = if *device == Device::Cpu { SIDE_CPU } else { SIDE_GPU };
        let peak = device::matmul_flops_per_s(device, wanted, side);
        Self {
            flops_per_image,
            flops_per_s,
            matmul_peak_flops_per_s: peak,
            share_of_peak: flops_per_s / peak,
        }
    }
}

/// Returns the operations of one training image whose head gets `head_rows` rows, such as its hidden patches. The
/// backward pass costs twice the forward pass.
pub(in crate::command) fn training_flops(shape: &ModelShape, head_rows: usize) -> u64 {
    let (n, d) = (shape.patches(), shape.dim);
    let linear = |rows: usize, input: usize, output: usize| 2 * rows * input * output;
    let attention = 2 * linear(n, d, n); // q·kᵀ, and the weighted sum of v, over all heads
    let block = linear(n, d, 4 * d) + attention + 2 * linear(n, d, shape.hidden);
    let patches = linear(n, shape.patch_len(), d);
    // The first layer computes no gradient of its input, the pixels.
    let first = 2 * patches;
    let rest = 3 * (shape.depth * block + linear(head_rows, d, shape.outputs()));
    (first + rest) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_default_model_takes_what_a_count_by_hand_gives() {
        let shape = ModelShape::new(&Config::default().model);
        // The model has 64 patches of 192 numbers, width 192, 6 blocks of hidden width 768, and 40 masked patches.
        let block = 2 * 64 * 192 * 768 + 4 * 64 * 64 * 192 + 2 * 2 * 64 * 192 * 768;
        let hand = 2 * 2 * 64 * 192 * 192 + 3 * (6 * block + 2 * 40 * 192 * 192);
        assert_eq!(training_flops(&shape, 40), hand as u64);
    }
}
