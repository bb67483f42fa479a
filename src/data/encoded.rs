//! Images that are stored as files of an image format, whatever holds the files, and decoded when they are read.

use super::decode::{self, Decoded};
use super::{ImageError, ImageSource};
use crate::config::TruncatedImages;
use image::RgbImage;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A list of encoded images that can be read in any order from many threads.
pub(super) trait EncodedImages: Send + Sync {
    /// Returns the number of images.
    fn len(&self) -> usize;

    /// As [`ImageSource::name`].
    fn name(&self, index: usize) -> String;

    /// As [`ImageSource::label`].
    fn label(&self, index: usize) -> Option<u32>;

    /// As [`ImageSource::key`].
    fn key(&self, index: usize) -> String;

    /// As [`ImageSource::bytes`].
    fn bytes(&self, index: usize) -> u64;

    /// As [`ImageSource::origin`].
    fn origin(&self) -> String;

    /// As [`ImageSource::shards`].
    fn shards(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Reads the bytes of an image as they are stored.
    ///
    /// # Errors
    /// Returns one line on why they can't be read.
    fn encoded(&self, index: usize) -> Result<Vec<u8>, String>;
}

/// The images of [`EncodedImages`], decoded.
pub(super) struct Decoding<S> {
    images: S,
    truncated: TruncatedImages,
    /// Images that were taken though something is wrong with them.
    flaws: Mutex<BTreeMap<usize, String>>,
}

impl<S: EncodedImages> Decoding<S> {
    pub(super) fn new(images: S, truncated: TruncatedImages) -> Self {
        Self { images, truncated, flaws: Mutex::default() }
    }

    fn decode(&self, index: usize, bytes: &[u8]) -> Result<RgbImage, String> {
        let Decoded { image, flaw } = decode::decode_as(bytes, self.truncated)?;
        if let Some(flaw) = flaw {
            // A thread that panics can't leave the map half changed.
            self.flaws.lock().unwrap_or_else(PoisonError::into_inner).insert(index, flaw);
        }
        Ok(image)
    }

    fn error(&self, index: usize, reason: String) -> ImageError {
        ImageError::new(self.images.name(index), reason)
    }
}

impl<S: EncodedImages> ImageSource for Decoding<S> {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn name(&self, index: usize) -> String {
        self.images.name(index)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.images.label(index)
    }

    fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError> {
        let bytes = self.images.encoded(index);
        let image = bytes.and_then(|bytes| self.decode(index, &bytes));
        image.map(Arc::new).map_err(|reason| self.error(index, reason))
    }

    fn encoded(&self, index: usize) -> Option<Result<Vec<u8>, ImageError>> {
        Some(self.images.encoded(index).map_err(|reason| self.error(index, reason)))
    }

    fn flaw(&self, index: usize) -> Option<ImageError> {
        let flaws = self.flaws.lock().unwrap_or_else(PoisonError::into_inner);
        flaws.get(&index).map(|flaw| ImageError::flaw(self.name(index), flaw))
    }

    fn key(&self, index: usize) -> String {
        self.images.key(index)
    }

    fn bytes(&self, index: usize) -> u64 {
        self.images.bytes(index)
    }

    fn origin(&self) -> String {
        self.images.origin()
    }

    fn shards(&self) -> Vec<usize> {
        self.images.shards()
    }
}
