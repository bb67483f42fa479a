//! What an encoder makes of images: a vector for each, with its label and name.

use crate::data::loader::{Loader, LoaderConfig};
use crate::data::{DataError, ImageError, Source};
use crate::engine::Engine;
use crate::model::patch::Pixels;
use std::ops::ControlFlow;

/// Features of some images; they lie in memory, 4 bytes a number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// Row-major. `[n, dim]`
    pub values: Vec<f32>,
    pub dim: usize,
    /// Class numbers as in [`crate::data::Dataset::classes`]. `[n]`
    pub labels: Vec<Option<u32>>,
    /// As [`crate::data::ImageSource::name`] gives them. `[n]`
    pub names: Vec<String>,
    /// Images that could not be read and are in none of the lists.
    pub skipped: Vec<ImageError>,
}

impl Features {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The features of one image. `[dim]`
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }

    /// Puts others of the same width behind these.
    pub fn append(&mut self, mut other: Self) {
        self.dim = self.dim.max(other.dim);
        self.values.append(&mut other.values);
        self.labels.append(&mut other.labels);
        self.names.append(&mut other.names);
        self.skipped.append(&mut other.skipped);
    }
}

/// Features of all images of a source in its order, each in the central view of validation.
///
/// `layer` is as in [`Engine::features`]. `progress` hears after each batch how many images are done; `Break` ends the
/// work with `None`. Images pass by in batches: only the features stay.
///
/// # Errors
/// No image can be read.
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

/// [`extract`] with any function of the bytes of a batch `[count, size, size, 3]` to vectors `[count, dim]`.
///
/// # Errors
/// As [`extract`].
pub fn collect(
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
            // In place of an unreadable image stands another, which comes in its own place too.
            if wanted == got {
                all.values.extend_from_slice(row);
                all.labels.push(source.label(got));
                all.names.push(source.name(got));
            }
        }
        all.skipped.extend(batch.skipped);
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

    /// The blue of the first pixel of each image: its number.
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
        let skipped: Vec<_> = features.skipped.iter().map(|error| error.name.clone()).collect();
        assert_eq!(skipped, [source.name(2), source.name(6)]);
    }

    #[test]
    fn the_listener_can_end_the_work() {
        let source: Source = Arc::new(Numbered::new(7, &[]));
        let result = collect(&source, loader(3), blue, |_| ControlFlow::Break(())).unwrap();
        assert_eq!(result, None);
    }
}
