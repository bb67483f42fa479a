//! Small images and files for the tests of this room.

use super::{ImageError, ImageSource};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Returns an image whose pixels hold their position (red, green) and a number (blue).
pub fn pattern(width: u32, height: u32, number: u8) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 5) as u8, (y * 5) as u8, number]))
}

pub fn write_image(path: &Path, image: &RgbImage, format: ImageFormat) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, encode(&image.clone().into(), format)).unwrap();
}

/// Returns a JPEG with an APP1 segment that holds one EXIF tag, 0x0112 (orientation).
pub fn jpeg_with_orientation(image: &RgbImage, orientation: u8) -> Vec<u8> {
    let plain = encode(&image.clone().into(), ImageFormat::Jpeg);
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0".to_vec();
    exif.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2).unwrap();
    let mut bytes = plain[..2].to_vec();
    bytes.extend([0xff, 0xe1]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(exif);
    bytes.extend(&plain[2..]);
    bytes
}

fn chunk(kind: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut body = kind.to_vec();
    body.extend(data);
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    let mut bytes = u32::try_from(data.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(body);
    bytes.extend(crc.sum().to_be_bytes());
    bytes
}

fn png(width: u32, height: u32, colour: u8, chunks: &[([u8; 4], &[u8])]) -> Vec<u8> {
    let mut header = width.to_be_bytes().to_vec();
    header.extend(height.to_be_bytes());
    header.extend([8, colour, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend(chunk(*b"IHDR", &header));
    for (kind, data) in chunks {
        bytes.extend(chunk(*kind, data));
    }
    bytes.extend(chunk(*b"IEND", &[]));
    bytes
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, data).unwrap();
    encoder.finish().unwrap()
}

/// Returns a PNG of a hundred bytes that announces `width` x `height` RGB pixels.
pub fn png_header(width: u32, height: u32) -> Vec<u8> {
    png(width, height, 2, &[(*b"IDAT", &zlib(&[0; 64]))])
}

/// Returns a PNG of 2x1 pixels: opaque red, then transparent blue.
pub fn palette_png() -> Vec<u8> {
    let pixels = zlib(&[0, 0, 1]);
    let chunks: [([u8; 4], &[u8]); 3] =
        [(*b"PLTE", &[255, 0, 0, 0, 0, 255]), (*b"tRNS", &[255, 0]), (*b"IDAT", &pixels)];
    png(2, 1, 3, &chunks)
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, data).unwrap();
    encoder.finish().unwrap()
}

/// Numbered images in memory, some of them unreadable.
pub struct Numbered {
    pub images: usize,
    /// Reading one of these returns an error.
    pub bad: Vec<usize>,
    /// How often any image was read.
    pub reads: AtomicUsize,
    /// Reading this one panics.
    pub panics: Option<usize>,
}

impl Numbered {
    pub fn new(images: usize, bad: &[usize]) -> Self {
        Self { images, bad: bad.to_vec(), reads: AtomicUsize::new(0), panics: None }
    }
}

impl ImageSource for Numbered {
    fn len(&self) -> usize {
        self.images
    }

    fn name(&self, index: usize) -> String {
        format!("numbered#{index}")
    }

    fn label(&self, index: usize) -> Option<u32> {
        u32::try_from(index % 3).ok()
    }

    fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        assert!(self.panics != Some(index), "image {index} is cursed");
        if self.bad.contains(&index) {
            return Err(ImageError::new(self.name(index), "bad on purpose"));
        }
        Ok(Arc::new(pattern(20, 16, index as u8)))
    }

    fn origin(&self) -> String {
        "numbered images".to_owned()
    }
}
