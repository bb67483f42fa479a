//! Cuts images into rows of patches. The numbers of a patch have the order (channel, row, column).

use super::ModelShape;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorData};

/// One batch of images on the host.
#[derive(Debug, Clone, Copy)]
pub enum Pixels<'a> {
    /// 8-bit RGB, interleaved. `[B, H, W, 3]`
    Bytes(&'a [u8]),
    /// Normalised planes. `[B, 3, H, W]`
    Normalized(&'a [f32]),
}

/// Mean and standard deviation of each channel, of images whose values range from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Normalization {
    /// Converts a byte of `channel` to the scale of the model.
    pub fn apply(&self, byte: u8, channel: usize) -> f32 {
        (f32::from(byte) / 255.0 - self.mean[channel]) / self.std[channel]
    }

    /// Converts a value of `channel` from the scale of the model to that from 0 to 1, without clamping.
    pub fn undo(&self, value: f32, channel: usize) -> f32 {
        value * self.std[channel] + self.mean[channel]
    }
}

/// Uploads a batch and cuts it into rows of patches. Returns `[B·N, P]`.
///
/// Bytes are normalised on the device, so that only a quarter of the data crosses the bus.
pub fn patchify<B: Backend>(
    pixels: Pixels<'_>,
    batch: usize,
    shape: &ModelShape,
    normalization: &Normalization,
    device: &B::Device,
) -> Tensor<B, 2> {
    let ([rows, columns], p) = (shape.grid, shape.patch);
    let patches = match pixels {
        Pixels::Bytes(bytes) => {
            let dims = [batch * rows * p * columns * p, 3];
            let data = TensorData::new(bytes.to_vec(), dims);
            let scaled = Tensor::<B, 2, Int>::from_data(data, (device, DType::U8)).float();
            let factor = normalization.std.map(|std| 1.0 / (255.0 * std));
            let shift = [0, 1, 2].map(|c| -normalization.mean[c] / normalization.std[c]);
            let normalized = scaled * row(factor, device) + row(shift, device);
            normalized.reshape([batch, rows, p, columns, p, 3]).permute([0, 1, 3, 5, 2, 4])
        }
        Pixels::Normalized(values) => {
            let dims = [batch, 3, rows, p, columns, p];
            let images = Tensor::<B, 6>::from_data(TensorData::new(values.to_vec(), dims), device);
            images.permute([0, 2, 4, 1, 3, 5])
        }
    };
    patches.reshape([batch * rows * columns, shape.patch_len()])
}

/// Uploads one number per channel. `[1, 3]`
fn row<B: Backend>(values: [f32; 3], device: &B::Device) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [1, 3]), device)
}

/// Returns, for each of the P numbers of patch `patch`, its offset in an interleaved `[H, W, 3]` image.
pub fn pixel_offsets(shape: &ModelShape, patch: usize) -> impl Iterator<Item = usize> {
    let (p, width) = (shape.patch, shape.grid[1] * shape.patch);
    let (top, left) = (patch / shape.grid[1] * p, patch % shape.grid[1] * p);
    (0..3).flat_map(move |channel| {
        (0..p * p).map(move |i| ((top + i / p) * width + left + i % p) * 3 + channel)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ModelConfig, Position};
    use burn::backend::Flex;

    fn shape() -> ModelShape {
        ModelShape {
            grid: [2, 3],
            patch: 4,
            position: Position::Learned,
            ..ModelShape::new(&ModelConfig::default())
        }
    }

    #[test]
    fn bytes_and_planes_give_the_same_patches_in_channel_row_column_order() {
        let shape = shape();
        let (height, width) = (8, 12);
        let bytes: Vec<u8> = (0..2 * height * width * 3).map(|i| (i * 7 % 251) as u8).collect();
        let norm = Normalization { mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3] };
        let mut planes = vec![0.0; bytes.len()];
        for (i, &byte) in bytes.iter().enumerate() {
            let (channel, pixel, image) =
                (i % 3, i / 3 % (height * width), i / (3 * height * width));
            planes[(image * 3 + channel) * height * width + pixel] = norm.apply(byte, channel);
        }
        let device = burn_flex::FlexDevice;
        let from_bytes = patchify::<Flex>(Pixels::Bytes(&bytes), 2, &shape, &norm, &device);
        let from_planes = patchify::<Flex>(Pixels::Normalized(&planes), 2, &shape, &norm, &device);
        assert_eq!(from_bytes.dims(), [12, 48]);
        let from_bytes: Vec<f32> = from_bytes.into_data().to_vec().expect("f32");
        let from_planes: Vec<f32> = from_planes.into_data().to_vec().expect("f32");
        for (a, b) in from_bytes.iter().zip(&from_planes) {
            assert!((a - b).abs() < 1e-5, "{a} and {b}");
        }
        let second_image = height * width * 3;
        for patch in 0..6 {
            for (k, offset) in pixel_offsets(&shape, patch).enumerate() {
                let expected = norm.apply(bytes[second_image + offset], k / 16);
                assert!((from_bytes[(6 + patch) * 48 + k] - expected).abs() < 1e-5);
            }
        }
    }
}
