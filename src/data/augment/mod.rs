//! Crops, resizes and flips images: from any size to `[size, size, 3]` bytes.

use crate::config::DataConfig;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeError, ResizeOptions, Resizer};
use image::RgbImage;
use rand_chacha::rand_core::Rng;

/// How training images are cropped and flipped at random.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augment {
    /// Smallest and largest area of a crop as a share of the image.
    pub crop_scale: [f64; 2],
    /// Smallest and largest ratio of width to height of a crop.
    pub crop_ratio: [f64; 2],
    /// Probability of a horizontal flip, from 0 to 1.
    pub flip: f64,
}

/// A rectangle of an image, in pixels from the top left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

/// Buffers that a thread reuses from image to image.
#[derive(Default)]
pub struct Scratch {
    resizer: Resizer,
}

impl Augment {
    /// Takes the settings from the configuration.
    pub fn from_config(config: &DataConfig) -> Self {
        Self { crop_scale: config.crop_scale, crop_ratio: config.crop_ratio, flip: config.flip }
    }

    /// Draws a crop of an image of `width` x `height` pixels as torchvision's `RandomResizedCrop` does.
    /// It tries a uniform area and a log-uniform ratio ten times and then falls back on the largest
    /// centred crop whose ratio is allowed.
    pub fn draw_crop(&self, width: u32, height: u32, rng: &mut impl Rng) -> Crop {
        let area = f64::from(width) * f64::from(height);
        let [low, high] = self.crop_ratio;
        for _ in 0..10 {
            let target = area * between(rng, self.crop_scale);
            let ratio = between(rng, [low.ln(), high.ln()]).exp();
            let w = (target * ratio).sqrt().round_ties_even();
            let h = (target / ratio).sqrt().round_ties_even();
            if w >= 1.0 && h >= 1.0 && w <= f64::from(width) && h <= f64::from(height) {
                let (w, h) = (w as u32, h as u32);
                let top = below(rng, height - h + 1);
                let left = below(rng, width - w + 1);
                return Crop { left, top, width: w, height: h };
            }
        }
        let ratio = f64::from(width) / f64::from(height);
        let (w, h) = if ratio < low {
            (width, at_most(f64::from(width) / low, height))
        } else if ratio > high {
            (at_most(f64::from(height) * high, width), height)
        } else {
            (width, height)
        };
        Crop { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
    }

    /// Writes a random view of `image` to `out`, `[size, size, 3]`. All randomness comes from `rng`.
    ///
    /// # Errors
    /// Returns the errors of [`cut`].
    pub fn train_view(
        &self,
        image: &RgbImage,
        size: usize,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<(), String> {
        let crop = self.draw_crop(image.width(), image.height(), rng);
        let flip = unit(rng) < self.flip;
        cut(image, crop, size, scratch, out)?;
        if flip {
            flip_rows(out, size);
        }
        Ok(())
    }
}

/// Writes the central square of `image`, scaled to `size` pixels, to `out`, `[size, size, 3]`.
///
/// # Errors
/// Returns the errors of [`cut`].
pub fn val_view(
    image: &RgbImage,
    size: usize,
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Result<(), String> {
    // Cropping before resizing gives the same pixels as the other way round, but computes none that
    // are cut off.
    let (width, height) = image.dimensions();
    let short = width.min(height);
    let crop =
        Crop { left: (width - short) / 2, top: (height - short) / 2, width: short, height: short };
    cut(image, crop, size, scratch, out)
}

/// Resizes `crop` of `image` to `out`, `[size, size, 3]`, by bicubic interpolation with antialiasing.
///
/// # Errors
/// Returns one line if the image has no pixels, if the crop reaches outside of it, or if the length of
/// `out` doesn't fit.
pub fn cut(
    image: &RgbImage,
    crop: Crop,
    size: usize,
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Result<(), String> {
    let (width, height) = image.dimensions();
    let inside = |start: u32, length: u32, whole: u32| {
        length > 0 && start.checked_add(length).is_some_and(|end| end <= whole)
    };
    if !inside(crop.left, crop.width, width) || !inside(crop.top, crop.height, height) {
        let Crop { left, top, .. } = crop;
        return Err(format!(
            "a crop of {}x{} pixels at ({left}, {top}) is not inside the image of {width}x{height} pixels",
            crop.width, crop.height
        ));
    }
    if out.len() != size * size * 3 {
        return Err(format!("{} bytes are no room for {size}x{size} pixels", out.len()));
    }
    if crop.width as usize == size && crop.height as usize == size {
        copy(image, crop, size, out);
        return Ok(());
    }
    resize(image, crop, size, scratch, out).map_err(|error| format!("cannot resize: {error}"))
}

/// Copies the rows of a crop that already has the wanted size.
fn copy(image: &RgbImage, crop: Crop, size: usize, out: &mut [u8]) {
    let stride = image.width() as usize * 3;
    let start = crop.left as usize * 3;
    let rows = image.as_raw().chunks_exact(stride).skip(crop.top as usize);
    for (to, from) in out.chunks_exact_mut(size * 3).zip(rows) {
        to.copy_from_slice(&from[start..start + size * 3]);
    }
}

/// Resizes a crop that lies inside of `image`.
fn resize(
    image: &RgbImage,
    crop: Crop,
    size: usize,
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Result<(), ResizeError> {
    let length = u32::try_from(size).unwrap_or(u32::MAX);
    let (width, height) = image.dimensions();
    let source = ImageRef::new(width, height, image.as_raw(), PixelType::U8x3)
        .expect("an RgbImage holds width x height x 3 bytes");
    let mut target = Image::from_slice_u8(length, length, out, PixelType::U8x3)
        .expect("the length of the output was checked");
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .crop(crop.left.into(), crop.top.into(), crop.width.into(), crop.height.into());
    scratch.resizer.resize(&source, &mut target, &options)
}

/// Mirrors the columns of an image of `size` x `size` pixels.
fn flip_rows(out: &mut [u8], size: usize) {
    for row in out.chunks_exact_mut(size * 3) {
        let (pixels, _) = row.as_chunks_mut::<3>();
        pixels.reverse();
    }
}

/// Draws a uniform number of `[0, 1)` with 53 bits. It is written out here so that no release of `rand`
/// changes a run.
fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Draws a uniform number between two bounds.
fn between(rng: &mut impl Rng, [low, high]: [f64; 2]) -> f64 {
    low + unit(rng) * (high - low)
}

/// Draws a uniform number of `0..bound` by multiply and shift, with a bias below 2^-32.
fn below(rng: &mut impl Rng, bound: u32) -> u32 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u32
}

/// Rounds a length to whole pixels, from 1 to `whole`.
fn at_most(length: f64, whole: u32) -> u32 {
    (length.round_ties_even() as u32).clamp(1, whole)
}

#[cfg(test)]
mod tests;
