//! Decodes JPEG, PNG and WebP to upright 8-bit RGB images.

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use std::io::Cursor;

/// Size of the largest file and of the largest decoded image, in bytes. A file of a few kilobytes can
/// announce gigabytes of pixels, and a failed allocation would end the program.
pub const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Decodes an image by its content, whatever its file is called.
///
/// 16-bit, grey and palette images become 8-bit RGB, transparent pixels are blended with white, and the
/// EXIF orientation is applied.
///
/// # Errors
/// Returns one line on why the bytes aren't a usable image.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| one_line(&error.to_string()))?;
    if reader.format().is_none() {
        return Err("not a jpeg, png or webp image".to_owned());
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let failed = |error: image::ImageError| one_line(&error.to_string());
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(format!("the image is {width}x{height} pixels"));
    }
    // The limits of the decoders don't cover the buffer for the pixels, which is allocated below.
    if decoder.total_bytes() > MAX_BYTES {
        return Err(format!("{width}x{height} pixels exceed the limit of {} MiB", MAX_BYTES >> 20));
    }
    // An image with broken metadata is still usable.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok(if image.color().has_alpha() { over_white(image) } else { image.into_rgb8() })
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
        for bytes in [&b""[..], b"hello, I am a text file", &png[..png.len() / 2], b"GIF89a......"]
        {
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
}
