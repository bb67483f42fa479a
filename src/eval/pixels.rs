//! Raw pixels as vectors: the baseline that an encoder has to beat.

use super::features::{Features, collect};
use crate::data::loader::LoaderConfig;
use crate::data::{DataError, Source};
use std::ops::ControlFlow;

/// Largest side of the images that become vectors, in pixels. Larger ones would cost more time and memory than a
/// baseline is worth.
pub const MOST: usize = 32;

/// Collects the pixels, in 0..1, of the views that the encoder gets, with sides of at most [`MOST`] pixels.
///
/// Returns `None` if `progress` returned `Break`.
///
/// # Errors
/// Returns an error if no image can be read.
pub fn collect_pixels(
    source: &Source,
    mut loader: LoaderConfig,
    progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Features>, DataError> {
    loader.image_size = loader.image_size.min(MOST);
    let scaled = |images: &[u8], _: usize| {
        images.iter().map(|&byte| f32::from(byte) / 255.0).collect::<Vec<f32>>()
    };
    collect(source, loader, scaled, progress)
}

/// Keeps one number of each pixel if all images are grey.
///
/// Neither the angles between the vectors nor the probe change by it, at a third of the work.
pub fn drop_grey(parts: [&mut Features; 2]) {
    let grey = |features: &&mut Features| {
        features
            .values
            .chunks_exact(3)
            .all(|p| p[0].to_bits() == p[1].to_bits() && p[1].to_bits() == p[2].to_bits())
    };
    if parts.iter().all(grey) {
        for part in parts {
            part.values = part.values.iter().step_by(3).copied().collect();
            part.dim /= 3;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_colour_in_either_part_keeps_all_channels() {
        let part =
            |values: &[f32]| Features { values: values.to_vec(), dim: 3, ..Features::default() };
        let (mut a, mut b) = (part(&[0.1, 0.1, 0.1]), part(&[0.5, 0.5, 0.6]));
        drop_grey([&mut a, &mut b]);
        assert_eq!((a.dim, b.values.len()), (3, 3));
        b.values[2] = 0.5;
        drop_grey([&mut a, &mut b]);
        assert_eq!((a.dim, a.values, b.values), (1, vec![0.1], vec![0.5]));
    }
}
