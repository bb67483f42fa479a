use super::*;
use crate::data::fixtures::pattern;
use crate::rng::{Purpose, stream};
use image::Rgb;

const DEFAULT: Augment =
    Augment { crop_scale: [0.67, 1.0], crop_ratio: [0.75, 4.0 / 3.0], flip: 0.5 };
/// The whole image, never flipped.
const PLAIN: Augment = Augment { crop_scale: [1.0, 1.0], crop_ratio: [1.0, 1.0], flip: 0.0 };

fn crops(augment: &Augment, width: u32, height: u32, count: u64) -> Vec<Crop> {
    (0..count)
        .map(|s| augment.draw_crop(width, height, &mut stream(5, Purpose::Augment, s, 0)))
        .collect()
}

fn view(augment: &Augment, image: &RgbImage, size: usize, sample: u64) -> Vec<u8> {
    let mut out = vec![0; size * size * 3];
    let mut rng = stream(5, Purpose::Augment, sample, 0);
    augment.train_view(image, size, &mut rng, &mut Scratch::default(), &mut out).unwrap();
    out
}

fn centre(image: &RgbImage, size: usize) -> Vec<u8> {
    let mut out = vec![0; size * size * 3];
    val_view(image, size, &mut Scratch::default(), &mut out).unwrap();
    out
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

#[test]
fn crops_keep_to_scale_ratio_and_image() {
    let augment = Augment { crop_scale: [0.1, 0.5], ..DEFAULT };
    let drawn = crops(&augment, 400, 300, 4000);
    for crop in &drawn {
        assert!(crop.left + crop.width <= 400 && crop.top + crop.height <= 300, "{crop:?}");
        let (width, height) = (f64::from(crop.width), f64::from(crop.height));
        let (area, ratio) = (width * height / 120_000.0, width / height);
        // Rounding to whole pixels moves both a little.
        assert!((0.098..=0.503).contains(&area), "area {area}");
        assert!((0.74..=1.35).contains(&ratio), "ratio {ratio}");
    }
    let area = mean(drawn.iter().map(|c| f64::from(c.width * c.height) / 120_000.0));
    assert!((0.28..0.32).contains(&area), "areas are uniform: mean {area}");
    let log_ratio = mean(drawn.iter().map(|c| (f64::from(c.width) / f64::from(c.height)).ln()));
    assert!(log_ratio.abs() < 0.02, "wide and tall crops are as frequent: {log_ratio}");
    // Where a crop lies between the two edges is uniform.
    let place = |start: u32, room: u32| f64::from(start) / f64::from(room.max(1));
    let left = mean(drawn.iter().map(|c| place(c.left, 400 - c.width)));
    let top = mean(drawn.iter().map(|c| place(c.top, 300 - c.height)));
    assert!((0.47..0.53).contains(&left) && (0.47..0.53).contains(&top), "{left} {top}");
    assert!(drawn.iter().any(|c| c.left == 0) && drawn.iter().any(|c| c.left + c.width == 400));
}

#[test]
fn an_image_too_long_for_any_ratio_gives_its_centre() {
    for crop in crops(&DEFAULT, 1000, 30, 20) {
        assert_eq!(crop, Crop { left: 480, top: 0, width: 40, height: 30 });
    }
    for crop in crops(&DEFAULT, 30, 1000, 20) {
        assert_eq!(crop, Crop { left: 0, top: 480, width: 30, height: 40 });
    }
    let narrow = Augment { crop_ratio: [9.0, 10.0], ..DEFAULT };
    assert!(crops(&narrow, 1, 1, 20).iter().all(|crop| crop.width == 1 && crop.height == 1));
}

#[test]
fn a_single_pixel_fills_the_view() {
    let image = RgbImage::from_pixel(1, 1, Rgb([10, 20, 30]));
    let expected = [10, 20, 30].repeat(64);
    assert_eq!(centre(&image, 8), expected);
    for sample in 0..20 {
        assert_eq!(view(&DEFAULT, &image, 8, sample), expected);
    }
}

#[test]
fn equal_sizes_copy_the_pixels_exactly() {
    let image = pattern(40, 24, 3);
    let expected = |left: u32, top: u32| -> Vec<u8> {
        (0..24 * 24).flat_map(|at| image.get_pixel(left + at % 24, top + at / 24).0).collect()
    };
    assert_eq!(centre(&image, 24), expected(8, 0));
    let mut out = vec![0; 10 * 10 * 3];
    let crop = Crop { left: 30, top: 14, width: 10, height: 10 };
    cut(&image, crop, 10, &mut Scratch::default(), &mut out).unwrap();
    assert_eq!(out[..3], [150, 70, 3]);
    assert_eq!(out[297..], [195, 115, 3]);
}

#[test]
fn a_flip_mirrors_the_columns() {
    let image = pattern(16, 16, 3);
    let plain = view(&PLAIN, &image, 16, 0);
    let flipped = view(&Augment { flip: 1.0, ..PLAIN }, &image, 16, 0);
    for (row, mirrored) in plain.chunks_exact(48).zip(flipped.chunks_exact(48)) {
        let backwards: Vec<u8> = mirrored.chunks_exact(3).rev().flatten().copied().collect();
        assert_eq!(row, backwards);
    }
    let half = Augment { flip: 0.5, ..PLAIN };
    let flips = (0..1000).filter(|&s| view(&half, &image, 16, s) == flipped).count();
    assert!((440..560).contains(&flips), "{flips} of 1000 were flipped");
}

#[test]
fn shrinking_is_antialiased() {
    let board = RgbImage::from_fn(64, 64, |x, y| Rgb([((x + y) % 2 * 255) as u8; 3]));
    assert!(centre(&board, 16).iter().all(|&value| (120..=135).contains(&value)));
}

#[test]
fn resizing_keeps_a_flat_colour_and_the_order_of_a_ramp() {
    let flat = RgbImage::from_pixel(37, 91, Rgb([200, 100, 1]));
    for size in [8, 64, 200] {
        assert_eq!(centre(&flat, size), [200, 100, 1].repeat(size * size));
    }
    let ramp = RgbImage::from_fn(50, 50, |x, _| Rgb([(x * 5) as u8, 0, 0]));
    for size in [20, 120] {
        let row: Vec<u8> = centre(&ramp, size)[..size * 3].iter().step_by(3).copied().collect();
        assert!(row.is_sorted(), "{row:?}");
    }
}

#[test]
fn the_sample_number_decides_the_view() {
    let image = pattern(50, 40, 8);
    assert_eq!(view(&DEFAULT, &image, 16, 4), view(&DEFAULT, &image, 16, 4));
    assert_ne!(view(&DEFAULT, &image, 16, 4), view(&DEFAULT, &image, 16, 5));
}

#[test]
fn a_crop_outside_or_a_wrong_output_length_is_an_error() {
    let image = pattern(10, 10, 1);
    let mut out = vec![0; 12];
    let mut scratch = Scratch::default();
    let outside = Crop { left: 8, top: 0, width: 3, height: 2 };
    assert!(cut(&image, outside, 2, &mut scratch, &mut out).unwrap_err().contains("10x10"));
    let inside = Crop { width: 2, ..outside };
    assert!(cut(&image, inside, 2, &mut scratch, &mut out).is_ok());
    assert!(cut(&image, inside, 3, &mut scratch, &mut out).is_err());
    assert!(val_view(&RgbImage::new(0, 5), 2, &mut scratch, &mut out).is_err());
}
