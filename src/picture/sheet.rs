//! The preview sheet: a grid of pictures. The trainer composes it, and front ends split it again to show parts of it.

use image::{Rgb, RgbImage, imageops};

/// Space between two pictures, in pixels before enlargement.
pub(crate) const GAP: u32 = 2;
/// Pictures in a row: original, masked, reconstructed, raw.
const COLUMNS: u32 = 4;

const PAPER: Rgb<u8> = Rgb([255; 3]);

/// The pictures of one step, before enlargement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// One row per image.
    pub rows: Vec<SheetRow>,
}

/// The four pictures of one image: squares of equal size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SheetRow {
    pub original: RgbImage,
    pub masked: RgbImage,
    /// The model's output in hidden patches, the original in visible ones.
    pub reconstructed: RgbImage,
    /// The model's output everywhere.
    pub raw: RgbImage,
}

impl SheetRow {
    fn pictures(&self) -> [&RgbImage; COLUMNS as usize] {
        [&self.original, &self.masked, &self.reconstructed, &self.raw]
    }
}

/// Composes the image that is saved: a row per image on white, enlarged by the whole factor `scale`.
///
/// All pictures have the size of the first. Without rows the result is one white pixel.
pub fn compose(rows: &[SheetRow], scale: u32) -> RgbImage {
    let side = rows.first().map_or(0, |row| row.original.width());
    let Some((width, height)) = size(side, 1, rows.len()) else {
        return RgbImage::from_pixel(1, 1, PAPER);
    };
    let mut sheet = RgbImage::from_pixel(width, height, PAPER);
    let step = i64::from(side + GAP);
    for (y, row) in rows.iter().enumerate() {
        for (x, picture) in row.pictures().into_iter().enumerate() {
            imageops::replace(&mut sheet, picture, x as i64 * step, y as i64 * step);
        }
    }
    let scale = scale.max(1);
    if scale == 1 {
        return sheet;
    }
    RgbImage::from_fn(width * scale, height * scale, |x, y| *sheet.get_pixel(x / scale, y / scale))
}

/// Reverses [`compose`], down to scale 1. `side` is the side of one picture, in pixels before enlargement.
///
/// Returns `None` if the image hasn't the size that such a sheet would have.
pub fn split(image: &RgbImage, side: u32, scale: u32, rows: usize) -> Option<Sheet> {
    if size(side, scale, rows)? != image.dimensions() {
        return None;
    }
    let picture = |column: u32, row: u32| {
        let (left, top) = (column * (side + GAP), row * (side + GAP));
        RgbImage::from_fn(side, side, |x, y| {
            *image.get_pixel((left + x) * scale, (top + y) * scale)
        })
    };
    let rows = (0..rows as u32).map(|row| SheetRow {
        original: picture(0, row),
        masked: picture(1, row),
        reconstructed: picture(2, row),
        raw: picture(3, row),
    });
    Some(Sheet { rows: rows.collect() })
}

/// Returns the number of rows of a sheet whose pictures have that `side` before enlargement by `scale`.
pub fn row_count(image: &RgbImage, side: u32, scale: u32) -> usize {
    let step = side.saturating_add(GAP).saturating_mul(scale).max(1);
    (image.height().saturating_add(GAP.saturating_mul(scale)) / step) as usize
}

/// Finds the side of a picture (in pixels before enlargement) and the scale of a sheet by its white gaps.
///
/// This serves sheets whose event, which states both, is lost. The largest scale that explains every pixel wins.
pub fn guess(image: &RgbImage) -> Option<(u32, u32)> {
    let (width, height) = image.dimensions();
    let least = COLUMNS * (1 + GAP) - GAP;
    (1..=width / least).rev().filter(|scale| width % scale == 0 && height % scale == 0).find_map(
        |scale| {
            let pictures = (width / scale).checked_sub((COLUMNS - 1) * GAP)?;
            let side = pictures / COLUMNS;
            let step = side + GAP;
            let fits = side > 0
                && pictures.is_multiple_of(COLUMNS)
                && (height / scale + GAP).is_multiple_of(step);
            let explains = |(x, y, pixel): (u32, u32, &Rgb<u8>)| {
                let gap = (x / scale) % step >= side || (y / scale) % step >= side;
                let corner = image.get_pixel(x / scale * scale, y / scale * scale);
                pixel == corner && (!gap || *pixel == PAPER)
            };
            (fits && image.enumerate_pixels().all(explains)).then_some((side, scale))
        },
    )
}

/// Returns the width and height of a sheet in pixels, or `None` without pictures or out of range.
fn size(side: u32, scale: u32, rows: usize) -> Option<(u32, u32)> {
    let rows = u32::try_from(rows).ok().filter(|&rows| rows > 0 && side > 0 && scale > 0)?;
    let step = side.checked_add(GAP)?;
    let width = COLUMNS.checked_mul(step)? - GAP;
    let height = rows.checked_mul(step)? - GAP;
    Some((width.checked_mul(scale)?, height.checked_mul(scale)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(side: u32, seed: u32) -> RgbImage {
        RgbImage::from_fn(side, side, |x, y| {
            let value = (x * 37 + y * 91 + seed * 53) % 251;
            Rgb([value as u8, (value / 2) as u8, (seed * 40 % 256) as u8])
        })
    }

    fn rows(side: u32, count: u32) -> Vec<SheetRow> {
        let row = |i: u32| SheetRow {
            original: picture(side, 4 * i),
            masked: picture(side, 4 * i + 1),
            reconstructed: picture(side, 4 * i + 2),
            raw: picture(side, 4 * i + 3),
        };
        (0..count).map(row).collect()
    }

    #[test]
    fn a_sheet_comes_apart_into_what_it_was_made_of() {
        for (side, scale, count) in [(1, 1, 1), (16, 10, 2), (32, 5, 6), (27, 3, 3), (96, 1, 4)] {
            let rows = rows(side, count);
            let image = compose(&rows, scale);
            let width = (4 * side + 3 * GAP) * scale;
            assert_eq!(image.dimensions(), (width, (count * (side + GAP) - GAP) * scale));
            let sheet = split(&image, side, scale, count as usize).unwrap();
            assert_eq!(sheet.rows, rows, "side {side}, scale {scale}");
            assert_eq!(row_count(&image, side, scale), count as usize);
        }
    }

    #[test]
    fn an_image_of_another_size_is_no_sheet() {
        let image = compose(&rows(16, 2), 2);
        for (side, scale, count) in [
            (16, 2, 3),
            (16, 1, 2),
            (15, 2, 2),
            (0, 2, 2),
            (16, 0, 2),
            (16, 2, 0),
            (u32::MAX, 2, 2),
        ] {
            assert_eq!(split(&image, side, scale, count), None, "{side} {scale} {count}");
        }
    }

    #[test]
    fn side_and_scale_are_found_by_the_gaps() {
        for (side, scale, count) in [(16, 10, 2), (32, 5, 6), (27, 3, 1), (96, 1, 4), (20, 2, 3)] {
            let image = compose(&rows(side, count), scale);
            assert_eq!(guess(&image), Some((side, scale)));
        }
        assert_eq!(guess(&picture(64, 3)), None, "a photo");
        assert_eq!(guess(&RgbImage::new(1, 1)), None);
    }

    #[test]
    fn no_rows_give_one_white_pixel() {
        assert_eq!(compose(&[], 7), RgbImage::from_pixel(1, 1, PAPER));
    }
}
