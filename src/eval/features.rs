//! Features: the vector that an encoder makes of each image, with the image's label and name.

use crate::data::loader::{Loader, LoaderConfig};
use crate::data::{DataError, ImageError, Source};
use crate::engine::Engine;
use crate::model::patch::Pixels;
use std::ops::ControlFlow;

/// Features of some images, in memory: 4 bytes a number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// Row-major `[n, dim]`.
    pub values: Vec<f32>,
    pub dim: usize,
    /// Class numbers as in [`crate::data::Dataset::classes`], `[n]`.
    pub labels: Vec<Option<u32>>,
    /// Names of the images as in [`crate::data::ImageSource::name`], `[n]`.
    pub names: Vec<String>,
    /// Images that could not be read, which are in none of the other lists, and those that were taken with a flaw.
    pub faulty: Vec<ImageError>,
}

impl Features {
    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns the features of one image, `[dim]`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }

    /// Appends features of the same width.
    pub fn append(&mut self, mut other: Self) {
        self.dim = self.dim.max(other.dim);
        self.values.append(&mut other.values);
        self.labels.append(&mut other.labels);
        self.names.append(&mut other.names);
        self.faulty.append(&mut other.faulty);
    }
}

/// Computes the features of all images of a source, in its order, each in the central view of validation.
///
/// `layer` is as in [`Engine::features`]. After each batch, `progress` gets the number of images done. If it returns
/// `Break`, the work ends with `None`. Only one batch of images is in memory at a time.
///
/// # Errors
/// Returns an error if no image can be read.
pub fn extract(
    engine: &dyn Engine,
    source: &Source,
    loader: LoaderConfig,
    layer: Option<usize>,
    progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Features>, DataError> {
    let features = |images: &[u8], count: usize| {
        engine.features(Pixels::Bytes(images), count, layer) // device sync
    };
    collect(source, loader, features, progress)
}

/// Like [`extract`], with any function from the bytes of a batch `[count, size, size, 3]` to vectors `[count, dim]`.
///
/// # Errors
/// Returns an error in the same case as [`extract`].
pub(super) fn collect(
    source: &Source,
    loader: LoaderConfig,
    mut features: impl FnMut(&[u8], usize) -> Vec<f32>,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Features>, DataError> {
    let mut loader = Loader::validation(source.clone(), loader);
    let mut all = Features::default();
    let mut done = 0;
    while let Some(batch) = loader.next()? {
        let values = features(&batch.images, batch.len());
        all.dim = values.len() / batch.len().max(1);
        let wanted = batch.first_sample as usize..;
        for ((wanted, &got), row) in
            wanted.zip(&batch.indices).zip(values.chunks_exact(all.dim.max(1)))
        {
            // The loader puts another image in the place of an unreadable one. That image also comes at its own place.
            if wanted == got {
                all.values.extend_from_slice(row);
                all.labels.push(source.label(got));
                all.names.push(source.name(got));
            }
        }
        all.faulty.extend(batch.faulty);
        done += batch.indices.len();
        if progress(done).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data::fixtures::Numbered;
    use std::sync::Arc;

    fn loader(batch_size: usize) -> LoaderConfig {
        LoaderConfig { batch_size, image_size: 4, ..LoaderConfig::from_config(&Config::default()) }
    }

    /// Returns the blue value of each image's first pixel, which is the image's number.
    fn blue(images: &[u8], count: usize) -> Vec<f32> {
        images.chunks_exact(images.len() / count).map(|image| f32::from(image[2])).collect()
    }

    #[test]
    fn unreadable_images_are_left_out_and_named() {
        let source: Source = Arc::new(Numbered::new(7, &[2, 6]));
        let mut seen = Vec::new();
        let progress = |done| {
            seen.push(done);
            ControlFlow::Continue(())
        };
        let features = collect(&source, loader(3), blue, progress).unwrap().unwrap();
        assert_eq!(seen, [3, 6, 7]);
        let kept = [0, 1, 3, 4, 5];
        assert_eq!(features.names, kept.map(|index| source.name(index)));
        assert_eq!(features.labels, kept.map(|index| source.label(index)));
        assert_eq!(features.values, kept.map(|index| index as f32));
        let faulty: Vec<_> = features.faulty.iter().map(|error| error.name.clone()).collect();
        assert_eq!(faulty, [source.name(2), source.name(6)]);
    }

    #[test]
    fn the_listener_can_end_the_work() {
        let source: Source = Arc::new(Numbered::new(7, &[]));
        let result = collect(&source, loader(3), blue, |_| ControlFlow::Break(())).unwrap();
        assert_eq!(result, None);
    }
}
