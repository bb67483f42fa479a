//! Turns the images of any source into files of an image format, for shards.

use super::decode::{Decoded, decode_as};
use super::worker::guarded;
use super::{ImageError, Source};
use crate::config::TruncatedImages;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{self, CompressionType, PngEncoder};
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use std::sync::Arc;

/// Most pixels of a side of a JPEG.
const MOST_JPEG: u32 = 65_535;

/// A format of image files that shards hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredFormat {
    Jpeg,
    Png,
    WebP,
}

impl StoredFormat {
    /// Returns the format of a file, or `None` if shards don't hold such files.
    fn of(bytes: &[u8]) -> Option<Self> {
        match image::guess_format(bytes).ok()? {
            ImageFormat::Jpeg => Some(Self::Jpeg),
            ImageFormat::Png => Some(Self::Png),
            ImageFormat::WebP => Some(Self::WebP),
            _ => None,
        }
    }

    /// Returns the usual ending of file names.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::WebP => "webp",
        }
    }

    /// Returns whether files of this format may have this ending, in any case.
    pub fn has_ending(self, ending: &str) -> bool {
        let second = if self == Self::Jpeg { "jpeg" } else { self.ending() };
        [self.ending(), second].iter().any(|known| ending.eq_ignore_ascii_case(known))
    }
}

/// An image as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repacked {
    pub format: StoredFormat,
    pub bytes: Vec<u8>,
    /// What is wrong with an image that is taken all the same.
    pub flaw: Option<ImageError>,
}

/// How images become files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repack {
    /// Images whose shorter side has more pixels than this are shrunk to it, and become JPEG.
    pub size: Option<u32>,
    /// The quality of JPEG, 1 to 100.
    pub quality: u8,
    pub truncated: TruncatedImages,
}

impl Repack {
    /// Returns an image as a file. The bytes of a jpeg, png or webp file that isn't shrunk stay as they are. Whatever
    /// else there is becomes PNG with the pixels that training sees.
    ///
    /// # Errors
    /// Returns an error if the image can't be read.
    pub fn image(&self, source: &Source, index: usize) -> Result<Repacked, ImageError> {
        guarded(|| source.name(index), || self.make(source, index))
    }

    fn make(&self, source: &Source, index: usize) -> Result<Repacked, ImageError> {
        let error = |reason: String| ImageError::new(source.name(index), reason);
        let stored = source.encoded(index).transpose()?;
        let (image, flaw) = if let Some(bytes) = &stored {
            let Decoded { image, flaw } = decode_as(bytes, self.truncated).map_err(error)?;
            (image, flaw.map(|flaw| ImageError::flaw(source.name(index), flaw)))
        } else {
            let image = source.read(index)?;
            (Arc::unwrap_or_clone(image), source.flaw(index))
        };
        let shorter = image.width().min(image.height());
        let (format, bytes) = match (self.size.filter(|&size| size < shorter), stored) {
            (Some(size), _) => self.encode(shrunk(image, size).map_err(error)?).map_err(error)?,
            (None, Some(bytes)) if let Some(format) = StoredFormat::of(&bytes) => (format, bytes),
            (None, _) => (StoredFormat::Png, to_png(image).map_err(error)?),
        };
        Ok(Repacked { format, bytes, flaw })
    }

    fn encode(&self, image: RgbImage) -> Result<(StoredFormat, Vec<u8>), String> {
        if image.width().max(image.height()) > MOST_JPEG {
            return Ok((StoredFormat::Png, to_png(image)?));
        }
        let mut bytes = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut bytes, self.quality);
        in_few_channels(image).write_with_encoder(encoder).map_err(|error| error.to_string())?;
        Ok((StoredFormat::Jpeg, bytes))
    }
}

/// Shrinks an image until its shorter side has `size` pixels.
fn shrunk(image: RgbImage, size: u32) -> Result<RgbImage, String> {
    let (width, height) = image.dimensions();
    let shorter = width.min(height);
    let scaled = |side: u32| {
        let rounded =
            (u64::from(side) * u64::from(size) + u64::from(shorter) / 2) / u64::from(shorter);
        u32::try_from(rounded).unwrap_or(u32::MAX)
    };
    let image = DynamicImage::ImageRgb8(image);
    let mut small = DynamicImage::ImageRgb8(RgbImage::new(scaled(width), scaled(height)));
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
    Resizer::new()
        .resize(&image, &mut small, &options)
        .map_err(|error| format!("cannot resize: {error}"))?;
    Ok(small.into_rgb8())
}

fn to_png(image: RgbImage) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(
        &mut bytes,
        CompressionType::Default,
        png::FilterType::Adaptive,
    );
    in_few_channels(image).write_with_encoder(encoder).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Returns an image in grey if it has no colours, which takes a third of the bytes and decodes to the same pixels.
fn in_few_channels(image: RgbImage) -> DynamicImage {
    if image.pixels().any(|pixel| pixel.0[0] != pixel.0[1] || pixel.0[0] != pixel.0[2]) {
        return DynamicImage::ImageRgb8(image);
    }
    let grey = image.pixels().map(|pixel| pixel.0[0]).collect();
    match GrayImage::from_raw(image.width(), image.height(), grey) {
        Some(grey) => DynamicImage::ImageLuma8(grey),
        None => DynamicImage::ImageRgb8(image),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::decode::decode;
    use crate::data::fixtures::{Numbered, encode, jpeg_with_orientation, pattern, write_image};
    use crate::data::folder;
    use image::Rgb;
    use std::path::Path;
    use tempfile::tempdir;

    const KEEP: Repack = Repack { size: None, quality: 92, truncated: TruncatedImages::Skip };

    fn open(path: &Path, truncated: TruncatedImages) -> Source {
        folder::open(path, truncated).unwrap().train.source
    }

    #[test]
    fn bytes_of_stored_formats_stay_and_others_become_png_with_the_same_pixels() {
        let dir = tempdir().unwrap();
        let image = pattern(40, 30, 7);
        let files = [
            ("0.jpg", jpeg_with_orientation(&image, 6), StoredFormat::Jpeg),
            ("1.jpg", encode(&image.clone().into(), ImageFormat::Png), StoredFormat::Png),
            ("2.webp", encode(&image.clone().into(), ImageFormat::WebP), StoredFormat::WebP),
            ("3.bmp", encode(&image.clone().into(), ImageFormat::Bmp), StoredFormat::Png),
            ("4.gif", encode(&image.clone().into(), ImageFormat::Gif), StoredFormat::Png),
            ("5.tif", encode(&image.into(), ImageFormat::Tiff), StoredFormat::Png),
        ];
        for (name, bytes, _) in &files {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let source = open(dir.path(), TruncatedImages::Skip);
        for (index, (name, bytes, format)) in files.iter().enumerate() {
            let made = KEEP.image(&source, index).unwrap();
            assert_eq!((made.format, made.flaw), (*format, None), "{name}");
            assert_eq!(made.bytes == *bytes, index < 3, "{name}");
            assert_eq!(decode(&made.bytes).unwrap(), *source.read(index).unwrap(), "{name}");
        }
    }

    #[test]
    fn raw_pixels_become_png_and_grey_ones_take_one_channel() {
        let source: Source = Arc::new(Numbered::new(3, &[1]));
        let made = KEEP.image(&source, 2).unwrap();
        assert_eq!(decode(&made.bytes).unwrap(), *source.read(2).unwrap());
        assert_eq!(KEEP.image(&source, 1).unwrap_err().reason, "bad on purpose");
        let grey = RgbImage::from_fn(9, 5, |x, y| Rgb([(x * y * 5) as u8; 3]));
        let bytes = to_png(grey.clone()).unwrap();
        assert_eq!(image::load_from_memory(&bytes).unwrap().color(), image::ColorType::L8);
        assert_eq!(decode(&bytes).unwrap(), grey);
    }

    #[test]
    fn only_larger_images_are_shrunk_and_upright() {
        let dir = tempdir().unwrap();
        std::fs::write(dir.path().join("0.jpg"), jpeg_with_orientation(&pattern(50, 40, 1), 6))
            .unwrap();
        write_image(&dir.path().join("1.png"), &pattern(47, 20, 1), ImageFormat::Png);
        write_image(&dir.path().join("2.png"), &pattern(21, 70, 1), ImageFormat::Png);
        let source = open(dir.path(), TruncatedImages::Skip);
        let repack = Repack { size: Some(20), ..KEEP };
        let sizes = [(20, 25), (47, 20), (20, 67)];
        let formats = [StoredFormat::Jpeg, StoredFormat::Png, StoredFormat::Jpeg];
        for index in 0..3 {
            let made = repack.image(&source, index).unwrap();
            assert_eq!(decode(&made.bytes).unwrap().dimensions(), sizes[index], "{index}");
            assert_eq!(made.format, formats[index]);
        }
        let fine = Repack { quality: 100, ..repack }.image(&source, 2).unwrap().bytes.len();
        assert!(fine > repack.image(&source, 2).unwrap().bytes.len());
    }

    #[test]
    fn what_is_shrunk_looks_like_the_image() {
        let smooth = RgbImage::from_fn(300, 200, |x, y| Rgb([(x / 2) as u8, y as u8, 90]));
        let small = shrunk(smooth, 100).unwrap();
        assert_eq!(small.dimensions(), (150, 100));
        for (x, y) in [(5, 5), (75, 50), (140, 90)] {
            let Rgb([red, green, blue]) = *small.get_pixel(x, y);
            let close = |a: u8, b: u32| u32::from(a).abs_diff(b) <= 2;
            assert!(
                close(red, x) && close(green, 2 * y) && close(blue, 90),
                "{x} {y} {red} {green}"
            );
        }
    }

    #[test]
    fn a_truncated_file_is_left_out_or_taken_as_it_is() {
        let dir = tempdir().unwrap();
        let whole = encode(&pattern(90, 90, 1).into(), ImageFormat::Jpeg);
        let half = &whole[..whole.len() / 2];
        std::fs::write(dir.path().join("0.jpg"), half).unwrap();
        let source = open(dir.path(), TruncatedImages::Accept);
        assert!(KEEP.image(&source, 0).unwrap_err().reason.contains("truncated"));
        let made = Repack { truncated: TruncatedImages::Accept, ..KEEP }.image(&source, 0).unwrap();
        assert_eq!(made.bytes, half);
        assert!(made.flaw.unwrap().reason.contains("truncated"));
    }

    #[test]
    fn a_decoder_that_panics_costs_one_image() {
        let numbered = Numbered { panics: Some(1), ..Numbered::new(2, &[]) };
        let source: Source = Arc::new(numbered);
        assert!(KEEP.image(&source, 1).unwrap_err().reason.contains("panicked"));
        KEEP.image(&source, 0).unwrap();
    }
}
