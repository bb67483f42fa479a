//! Draws points as a picture with a legend.

use super::points::Points;
use font8x8::{BASIC_FONTS, LATIN_FONTS, UnicodeFonts as _};
use image::{Rgb, RgbImage};

/// Side of the plot, in pixels.
const PLOT: u32 = 900;
const MARGIN: u32 = 24;
/// Width of the legend, in pixels.
const LEGEND: u32 = 320;
/// Radius of a point, in pixels.
const RADIUS: f64 = 4.5;
/// Factor by which the font's letters, 8 pixels wide and high, are enlarged.
const LETTER: u32 = 2;
/// Height of a line of text, in pixels.
const LINE: u32 = 12 * LETTER;
const INK: Rgb<u8> = Rgb([40; 3]);
const NO_CLASS: Rgb<u8> = Rgb([150; 3]);
/// Colours of classes: those of matplotlib's `tab20` in another order. They repeat after the last.
const COLORS: [[u8; 3]; 20] = [
    [31, 119, 180],
    [255, 127, 14],
    [44, 160, 44],
    [214, 39, 40],
    [148, 103, 189],
    [140, 86, 75],
    [227, 119, 194],
    [127, 127, 127],
    [188, 189, 34],
    [23, 190, 207],
    [174, 199, 232],
    [255, 187, 120],
    [152, 223, 138],
    [255, 152, 150],
    [197, 176, 213],
    [196, 156, 148],
    [247, 182, 210],
    [199, 199, 199],
    [219, 219, 141],
    [158, 218, 229],
];

/// Draws the points on white, with their classes to the right and a caption below.
pub(super) fn draw(points: &Points, caption: &str) -> RgbImage {
    let width = 2 * MARGIN + PLOT + LEGEND;
    let height = 2 * MARGIN + PLOT + 2 * LINE;
    let mut image = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    for (place, label) in points.scaled().into_iter().zip(&points.labels) {
        let at = place.map(|share| f64::from(MARGIN) + share * f64::from(PLOT));
        dot(&mut image, at, color(*label));
    }
    let left = 2 * MARGIN + PLOT;
    let most = (PLOT / LINE) as usize;
    let counts = points.counts();
    for (row, &(class, count)) in counts.iter().take(most).enumerate() {
        let top = MARGIN + row as u32 * LINE;
        let middle = [f64::from(left), f64::from(top + 4 * LETTER)];
        dot(&mut image, middle, color(Some(class as u32)));
        let name: String = points.classes[class].chars().take(14).collect();
        text(&mut image, (left + MARGIN / 2, top), &format!("{name} {count}"));
    }
    if counts.len() > most {
        let top = MARGIN + most as u32 * LINE;
        text(&mut image, (left, top), &format!("and {} more", counts.len() - most));
    }
    text(&mut image, (MARGIN, MARGIN + PLOT + LINE), caption);
    image
}

fn color(class: Option<u32>) -> Rgb<u8> {
    class.map_or(NO_CLASS, |class| Rgb(COLORS[class as usize % COLORS.len()]))
}

/// Draws a disc with a soft edge, three quarters opaque.
fn dot(image: &mut RgbImage, [x, y]: [f64; 2], color: Rgb<u8>) {
    let reach = RADIUS.ceil() as i64 + 1;
    for row in y as i64 - reach..=y as i64 + reach {
        for column in x as i64 - reach..=x as i64 + reach {
            let (Ok(column), Ok(row)) = (u32::try_from(column), u32::try_from(row)) else {
                continue;
            };
            let away = (f64::from(column) - x).hypot(f64::from(row) - y);
            let share = 0.75 * (RADIUS + 0.5 - away).clamp(0.0, 1.0);
            if let Some(pixel) = image.get_pixel_mut_checked(column, row) {
                for (under, over) in pixel.0.iter_mut().zip(color.0) {
                    let mixed = f64::from(*under) * (1.0 - share) + f64::from(over) * share;
                    *under = mixed.round() as u8;
                }
            }
        }
    }
}

/// Draws one line of text, cut off at the edge of the picture. A question mark replaces letters that the font lacks.
fn text(image: &mut RgbImage, (left, top): (u32, u32), text: &str) {
    for (index, letter) in text.chars().enumerate() {
        let glyph = BASIC_FONTS.get(letter).or_else(|| LATIN_FONTS.get(letter));
        let glyph = glyph.or_else(|| BASIC_FONTS.get('?')).unwrap_or_default();
        for (row, bits) in glyph.iter().enumerate() {
            for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                for (x, y) in (0..LETTER * LETTER).map(|k| (k % LETTER, k / LETTER)) {
                    let x = left + (index as u32 * 8 + column) * LETTER + x;
                    let y = top + row as u32 * LETTER + y;
                    if let Some(pixel) = image.get_pixel_mut_checked(x, y) {
                        *pixel = INK;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_the_colour_of_their_class_where_they_belong() {
        let points = Points {
            places: vec![[0.0, 0.0], [1.0, 1.0]],
            labels: vec![Some(0), Some(1)],
            classes: vec!["cat".to_owned(), "a name longer than the legend is wide".to_owned()],
        };
        let image = draw(&points, "t-SNE of something \u{1F600}");
        let near = |(x, y): (u32, u32), class: u32| {
            let (found, wanted) = (image.get_pixel(x, y).0, color(Some(class)).0);
            let faded = wanted.map(|value| (255.0 + 3.0 * f64::from(value)) / 4.0);
            found.iter().zip(faded).all(|(&a, b)| (f64::from(a) - b).abs() < 2.0)
        };
        assert!(near((MARGIN, MARGIN + PLOT), 0), "below, left");
        assert!(near((MARGIN + PLOT, MARGIN), 1), "above, right");
        assert!(near((2 * MARGIN + PLOT, MARGIN + 4 * LETTER), 0), "in the legend");
        let ink = |top: u32| {
            image
                .enumerate_pixels()
                .filter(|(_, y, p)| (top..top + LINE).contains(y) && **p == INK)
                .count()
        };
        assert!(ink(MARGIN) > 50 && ink(MARGIN + PLOT + LINE) > 100, "there is text");
    }
}
