//! Decodes image files to upright 8-bit RGB images.

use super::exif;
use super::jpeg_end::{self, JpegEnd};
use crate::config::TruncatedImages;
use crate::files;
use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits, RgbImage,
};
use std::error::Error;
use std::io::{self, Cursor};
use std::path::Path;

/// Size of the largest file and of the largest decoded image, in bytes. A file of a few kilobytes can
/// announce gigabytes of pixels, and a failed allocation would end the program.
pub const MAX_BYTES: u64 = 512 * 1024 * 1024;
/// The formats that are read, for messages.
pub(super) const FORMATS: &str = "jpeg, png, webp, tiff, bmp or gif";
/// What is said of a file that ends in the middle of the picture.
const TRUNCATED: &str = "the file is truncated: it ends in the middle of the picture";
/// The grey of the part of a picture that is missing. The decoder of JPEG has the same.
const MISSING: u8 = 128;

/// A picture, and whether its file holds all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    pub image: RgbImage,
    /// What is wrong with a picture that is taken all the same.
    pub flaw: Option<String>,
}

/// Reads and decodes an image file.
///
/// # Errors
/// Returns one line on why the file isn't a usable image.
#[cfg(feature = "tui")]
pub fn read(path: &Path, truncated: TruncatedImages) -> Result<Decoded, String> {
    decode_as(&read_file(path)?, truncated)
}

/// Reads an image file.
///
/// # Errors
/// Returns one line if the file can't be read or is larger than [`MAX_BYTES`].
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    check_size(std::fs::metadata(path).map_err(|error| error.to_string())?.len())?;
    // A file may grow, and a device has no size at all.
    let read = std::fs::File::open(path).and_then(|file| files::read(&file, MAX_BYTES));
    read.map_err(|error| error.to_string())
}

/// Checks the size of a file in bytes before it is read.
///
/// # Errors
/// Returns one line if it is larger than [`MAX_BYTES`].
pub(super) fn check_size(bytes: u64) -> Result<(), String> {
    if bytes > MAX_BYTES {
        return Err(format!("{bytes} bytes exceed the limit of {} MiB", MAX_BYTES >> 20));
    }
    Ok(())
}

/// Decodes an image by its content, whatever its file is called. Of several pictures in a file it takes the first.
///
/// 16-bit, grey and palette images become 8-bit RGB, transparent pixels are blended with white, and the
/// EXIF orientation is applied.
///
/// # Errors
/// Returns one line on why the bytes aren't a usable image.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    decode_as(bytes, TruncatedImages::Skip).map(|decoded| decoded.image)
}

/// Like [`decode`], with a choice of what becomes of files that end in the middle of the picture.
///
/// # Errors
/// As [`decode`].
pub fn decode_as(bytes: &[u8], truncated: TruncatedImages) -> Result<Decoded, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    let mut decoder = decoder(bytes)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(format!("the image is {width}x{height} pixels"));
    }
    // The limits of the decoders don't cover the buffer for the pixels, which is allocated below.
    if decoder.total_bytes() > MAX_BYTES {
        return Err(format!("{width}x{height} pixels exceed the limit of {} MiB", MAX_BYTES >> 20));
    }
    let format = image::guess_format(bytes).map_err(|error| one_line(&error.to_string()))?;
    // An image with broken metadata is still usable.
    let orientation = exif::orientation(format, bytes).or_else(|| decoder.orientation().ok());
    let (mut image, whole) = match DynamicImage::from_decoder(decoder) {
        Ok(image) => {
            let whole = format != ImageFormat::Jpeg || is_whole_jpeg(bytes);
            (image, whole)
        }
        Err(error) if !ends_early(&error) => return Err(one_line(&error.to_string())),
        Err(_) if truncated == TruncatedImages::Skip => return Err(TRUNCATED.to_owned()),
        Err(error) => (first_part(bytes, format).ok_or(one_line(&error.to_string()))?, false),
    };
    if !whole && truncated == TruncatedImages::Skip {
        return Err(TRUNCATED.to_owned());
    }
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    let image = if image.color().has_alpha() { over_white(image) } else { image.into_rgb8() };
    Ok(Decoded { image, flaw: (!whole).then(|| TRUNCATED.to_owned()) })
}

/// Returns a decoder that has read the header.
fn decoder(bytes: &[u8]) -> Result<impl ImageDecoder, String> {
    let failed = |error: image::ImageError| one_line(&error.to_string());
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| one_line(&error.to_string()))?;
    if reader.format().is_none() {
        return Err(format!("not a {FORMATS} image"));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    reader.into_decoder().map_err(failed)
}

/// Returns whether a JPEG that could be decoded holds all of its picture.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    match jpeg_end::find(bytes) {
        JpegEnd::Marked => true,
        JpegEnd::Unfinished => false,
        // Such files are rare, so that the time for three more passes doesn't matter.
        JpegEnd::Open => {
            let [closed, even, noisy] = jpeg_end::continued(bytes).map(|bytes| {
                decoder(&bytes).and_then(|decoder| {
                    DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())
                })
            });
            closed.is_ok() && closed == even && closed == noisy
        }
    }
}

/// Returns whether the decoder wanted more bytes than there are.
fn ends_early(error: &image::ImageError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = error.source();
    }
    let text = error.to_string().to_lowercase();
    ["unexpected end", "unexpected eof", "end of file", "fill whole buffer"]
        .iter()
        .any(|words| text.contains(words))
}

/// Returns what a decoder makes of a file that ends in the middle, or `None` if that is nothing.
fn first_part(bytes: &[u8], format: ImageFormat) -> Option<DynamicImage> {
    let decoder = decoder(bytes).ok()?;
    let (size, color) = (decoder.dimensions(), decoder.color_type());
    let mut pixels = vec![MISSING; usize::try_from(decoder.total_bytes()).ok()?];
    let _ = decoder.read_image(&mut pixels); // it has failed before, and fails again at the same place
    if pixels.iter().all(|&byte| byte == MISSING) {
        return None;
    }
    // The decoder of PNG puts the bytes in order at the end, which it hasn't reached.
    if format == ImageFormat::Png && color.bytes_per_pixel() / color.channel_count() == 2 {
        for pair in pixels.chunks_exact_mut(2) {
            let number = u16::from_be_bytes([pair[0], pair[1]]);
            pair.copy_from_slice(&number.to_ne_bytes());
        }
    }
    DynamicImage::from_decoder(Part { size, color, pixels }).ok()
}

/// Pixels that have been decoded, as a decoder.
struct Part {
    size: (u32, u32),
    color: ColorType,
    pixels: Vec<u8>,
}

impl ImageDecoder for Part {
    fn dimensions(&self) -> (u32, u32) {
        self.size
    }

    fn color_type(&self) -> ColorType {
        self.color
    }

    fn read_image(self, out: &mut [u8]) -> ImageResult<()> {
        out.copy_from_slice(&self.pixels);
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, out: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(out)
    }
}

/// Blends transparent pixels with white.
fn over_white(image: DynamicImage) -> RgbImage {
    let rgba = image.into_rgba8();
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [red, green, blue, alpha] = from.0.map(u32::from);
        to.0 = [red, green, blue].map(|c| ((c * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    rgb
}

/// Joins the lines of a message.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures::{encode, jpeg_with_orientation, png_header};
    use image::{GrayImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba, RgbaImage};

    fn pixel(image: impl Into<DynamicImage>, format: ImageFormat) -> [u8; 3] {
        decode(&encode(&image.into(), format)).unwrap().get_pixel(0, 0).0
    }

    #[test]
    fn every_png_colour_mode_becomes_8_bit_rgb() {
        let png = ImageFormat::Png;
        assert_eq!(pixel(RgbImage::from_pixel(3, 2, Rgb([1, 2, 3])), png), [1, 2, 3]);
        assert_eq!(pixel(GrayImage::from_pixel(3, 2, Luma([77])), png), [77; 3]);
        let deep = ImageBuffer::from_pixel(3, 2, Rgb([0_u16, 257 * 9, 65535]));
        assert_eq!(pixel(DynamicImage::ImageRgb16(deep), png), [0, 9, 255]);
        let deep_grey = ImageBuffer::from_pixel(3, 2, Luma([257_u16 * 40]));
        assert_eq!(pixel(DynamicImage::ImageLuma16(deep_grey), png), [40; 3]);
    }

    #[test]
    fn transparency_is_laid_over_white() {
        let png = ImageFormat::Png;
        assert_eq!(pixel(RgbaImage::from_pixel(2, 2, Rgba([9, 9, 9, 0])), png), [255; 3]);
        assert_eq!(pixel(RgbaImage::from_pixel(2, 2, Rgba([9, 8, 7, 255])), png), [9, 8, 7]);
        let half = ImageBuffer::from_pixel(2, 2, LumaA([0_u8, 51]));
        assert_eq!(pixel(DynamicImage::ImageLumaA8(half), png), [204; 3]);
        let deep = ImageBuffer::from_pixel(2, 2, Rgba([0_u16, 0, 0, 0]));
        assert_eq!(pixel(DynamicImage::ImageRgba16(deep), png), [255; 3]);
    }

    #[test]
    fn a_palette_png_is_expanded_with_its_transparency() {
        // 2x1 pixels, 8-bit palette: entry 0 is opaque red, entry 1 is fully transparent.
        let png = crate::data::fixtures::palette_png();
        let image = decode(&png).unwrap();
        assert_eq!((image.get_pixel(0, 0).0, image.get_pixel(1, 0).0), ([255, 0, 0], [255; 3]));
    }

    #[test]
    fn lossless_webp_is_read_exactly() {
        let image = RgbImage::from_pixel(5, 4, Rgb([10, 200, 30]));
        assert_eq!(pixel(image, ImageFormat::WebP), [10, 200, 30]);
    }

    #[test]
    fn exif_orientation_6_turns_the_picture_clockwise() {
        // 16x8, left half black, right half white; turned clockwise the left half comes on top.
        let image = RgbImage::from_fn(16, 8, |x, _| Rgb([if x < 8 { 0 } else { 255 }; 3]));
        let turned = decode(&jpeg_with_orientation(&image, 6)).unwrap();
        assert_eq!(turned.dimensions(), (8, 16));
        assert!(turned.get_pixel(4, 1).0[0] < 30 && turned.get_pixel(4, 14).0[0] > 225);
        let upright = decode(&jpeg_with_orientation(&image, 1)).unwrap();
        assert_eq!(upright.dimensions(), (16, 8));
    }

    #[test]
    fn broken_bytes_are_errors_of_one_line() {
        let image = RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8 * 4, y as u8 * 4, 90]));
        let png = encode(&image.into(), ImageFormat::Png);
        for bytes in [
            &b""[..],
            b"hello, I am a text file",
            &png[..png.len() / 2],
            b"GIF89a......",
            b"II*\0\x08\0\0\0",
            b"BM\0\0",
        ] {
            let reason = decode(bytes).unwrap_err();
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason}");
        }
    }

    #[test]
    fn a_decompression_bomb_is_an_error() {
        let reason = decode(&png_header(60_000, 60_000)).unwrap_err();
        assert!(reason.contains("limit"), "{reason}");
    }

    #[test]
    fn a_tiny_image_is_read() {
        assert_eq!(pixel(RgbImage::from_pixel(1, 1, Rgb([4, 5, 6])), ImageFormat::Png), [4, 5, 6]);
    }

    /// A picture that no decoder can guess the rest of.
    fn noise() -> RgbImage {
        RgbImage::from_fn(96, 96, |x, y| {
            let n = (x * 96 + y).wrapping_mul(2_654_435_761);
            Rgb([(n >> 8) as u8, (n >> 16) as u8, (n >> 24) as u8])
        })
    }

    #[test]
    fn tiff_bmp_and_gif_are_read_by_content() {
        let image = RgbImage::from_pixel(5, 4, Rgb([10, 200, 30]));
        for format in [ImageFormat::Tiff, ImageFormat::Bmp, ImageFormat::Gif] {
            let bytes = encode(&image.clone().into(), format);
            assert_eq!(decode(&bytes).unwrap(), image, "{format:?}");
        }
    }

    #[test]
    fn a_file_that_ends_in_the_picture_is_refused_or_taken_with_its_flaw() {
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
            ImageFormat::Gif,
            ImageFormat::WebP,
        ] {
            let whole = encode(&noise().into(), format);
            for cut in [whole.len() / 2, whole.len() * 9 / 10] {
                let bytes = &whole[..cut];
                let refused = decode(bytes);
                assert!(refused.is_err(), "{format:?} cut at {cut} of {}", whole.len());
                let taken = decode_as(bytes, TruncatedImages::Accept);
                if [ImageFormat::Jpeg, ImageFormat::Png].contains(&format) {
                    assert_eq!(refused.unwrap_err(), TRUNCATED, "{format:?}");
                    let taken = taken.unwrap();
                    assert_eq!(taken.flaw.as_deref(), Some(TRUNCATED));
                    let upper = taken.image.get_pixel(50, 3).0;
                    let full = decode(&whole).unwrap().get_pixel(50, 3).0;
                    assert_eq!(upper, full, "{format:?}: the upper part is there");
                } else if let Ok(taken) = taken {
                    assert!(taken.flaw.is_some(), "{format:?}");
                }
            }
            let accepted = decode_as(&whole, TruncatedImages::Accept).unwrap();
            assert_eq!(accepted, Decoded { image: decode(&whole).unwrap(), flaw: None });
        }
    }

    #[test]
    fn a_jpeg_without_its_last_mark_is_whole_if_its_pixels_are() {
        let whole = encode(&noise().into(), ImageFormat::Jpeg);
        let unmarked = &whole[..whole.len() - 2];
        assert_eq!(decode(unmarked).unwrap(), decode(&whole).unwrap());
        let zeros = [unmarked, &[0; 3000]].concat();
        assert_eq!(decode(&zeros).unwrap(), decode(&whole).unwrap());
        let behind = [&whole[..], b"and a film"].concat();
        assert_eq!(decode(&behind).unwrap(), decode(&whole).unwrap());
        for less in [40, 100, 400, 3000] {
            assert!(decode(&whole[..whole.len() - less]).is_err(), "{less} bytes less");
        }
        let hole = [&whole[..whole.len() / 2], &vec![0; whole.len() / 2][..]].concat();
        assert!(decode(&hole).is_err(), "the second half is zeros");
    }
}
