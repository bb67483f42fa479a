//! A picture as text: two pixels per cell by `▀`, or a ramp of grey characters where there are no colours.

use crate::terminal::colors::ColorDepth;
use image::{DynamicImage, RgbImage, imageops};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

const UPPER_HALF: char = '▀';
/// Characters from dark to bright.
const BLOCKS: [char; 5] = [' ', '░', '▒', '▓', '█'];
const ASCII: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];

/// The greatest change of a channel, of 255, that is not worth the bytes of a new cell.
const UNSEEN: u8 = 5;

/// A picture at the size and in the colours of one place on the screen. Keep it: scaling takes time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cells {
    columns: u16,
    rows: u16,
    /// The cells, row by row.
    looks: Vec<Look>,
    /// The pixels behind the cells, two rows for each row of cells.
    pixels: RgbImage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    symbol: char,
    fg: Color,
    bg: Color,
}

/// Returns the columns and rows of a picture of `width` × `height` pixels within a box of cells. A cell is twice as
/// high as wide. Small pictures are enlarged. Without a pixel or without room the result is (0, 0).
pub fn fit(width: u32, height: u32, columns: u16, rows: u16) -> (u16, u16) {
    if width == 0 || height == 0 || columns == 0 || rows == 0 {
        return (0, 0);
    }
    let (width, height) = (f64::from(width), f64::from(height));
    let factor = (f64::from(columns) / width).min(2.0 * f64::from(rows) / height);
    let columns = ((width * factor).round() as u16).clamp(1, columns);
    let rows = ((height * factor / 2.0).round() as u16).clamp(1, rows);
    (columns, rows)
}

/// Returns the picture with its last row doubled if the number of rows is odd. Otherwise `viuer` would keep an odd
/// number of rows when it scales, and half a cell would be missing.
pub fn even(image: &RgbImage) -> DynamicImage {
    let (width, height) = image.dimensions();
    if height.is_multiple_of(2) {
        return DynamicImage::ImageRgb8(image.clone());
    }
    let mut padded = RgbImage::new(width, height + 1);
    imageops::replace(&mut padded, image, 0, 1);
    imageops::replace(&mut padded, image, 0, 0);
    DynamicImage::ImageRgb8(padded)
}

/// Scales a picture into a box of cells and keeps its aspect ratio. With `ascii` there are only ASCII characters:
/// coloured blanks, one pixel per cell, or a ramp.
pub fn render(image: &RgbImage, columns: u16, rows: u16, depth: ColorDepth, ascii: bool) -> Cells {
    render_after(None, image, columns, rows, depth, ascii)
}

/// Like [`render`], for a place that shows `before`. Pixels that have hardly changed stay as they are, which saves
/// bytes.
pub fn render_after(
    before: Option<&Cells>,
    image: &RgbImage,
    columns: u16,
    rows: u16,
    depth: ColorDepth,
    ascii: bool,
) -> Cells {
    let (columns, rows) = fit(image.width(), image.height(), columns, rows);
    if columns == 0 {
        return Cells::default();
    }
    let scaled = viuer::resize(&even(image), Some(columns.into()), Some(rows.into()));
    let mut pixels = scaled.into_rgb8();
    if let Some(before) = before.filter(|before| before.pixels.dimensions() == pixels.dimensions())
    {
        settle(&mut pixels, &before.pixels);
    }
    let look = |cell: u32| {
        let (x, y) = (cell % u32::from(columns), cell / u32::from(columns));
        let (upper, lower) = (pixels.get_pixel(x, 2 * y).0, pixels.get_pixel(x, 2 * y + 1).0);
        look(upper, lower, depth, ascii)
    };
    let looks = (0..u32::from(columns) * u32::from(rows)).map(look).collect();
    Cells { columns, rows, looks, pixels }
}

/// Takes back changes that are too small to see. The result never differs from the picture by more than [`UNSEEN`].
fn settle(pixels: &mut RgbImage, before: &RgbImage) {
    for (pixel, shown) in pixels.pixels_mut().zip(before.pixels()) {
        if pixel.0.iter().zip(shown.0).all(|(&new, old)| new.abs_diff(old) <= UNSEEN) {
            *pixel = *shown;
        }
    }
}

/// Returns the look of a cell of two pixels.
fn look(upper: [u8; 3], lower: [u8; 3], depth: ColorDepth, ascii: bool) -> Look {
    let color: fn([u8; 3]) -> Color = match depth {
        ColorDepth::True => coarse,
        ColorDepth::Indexed => indexed,
        ColorDepth::Sixteen | ColorDepth::Mono => {
            let ramp: &[char] = if ascii { &ASCII } else { &BLOCKS };
            let level = usize::from(luminance(mean(upper, lower))) * ramp.len() / 256;
            return Look { symbol: ramp[level], fg: Color::Reset, bg: Color::Reset };
        }
    };
    if ascii {
        return Look { symbol: ' ', fg: Color::Reset, bg: color(mean(upper, lower)) };
    }
    Look { symbol: UPPER_HALF, fg: color(upper), bg: color(lower) }
}

fn mean(upper: [u8; 3], lower: [u8; 3]) -> [u8; 3] {
    std::array::from_fn(|i| upper[i].midpoint(lower[i]))
}

/// Returns the brightness by the weights of Rec. 709, 0 to 255.
fn luminance([r, g, b]: [u8; 3]) -> u8 {
    ((2126 * u32::from(r) + 7152 * u32::from(g) + 722 * u32::from(b) + 5000) / 10_000) as u8
}

/// Returns the colour in five bits per channel, so that small changes from one preview to the next cost no bytes.
fn coarse(pixel: [u8; 3]) -> Color {
    let [r, g, b] = pixel.map(|value| (value & 0xf8) | (value >> 5));
    Color::Rgb(r, g, b)
}

/// Returns the nearest colour of the xterm palette: of its 6×6×6 cube or its ramp of greys, not of the 16 colours that
/// users redefine.
fn indexed(pixel: [u8; 3]) -> Color {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let distance = |a: [u8; 3]| -> u32 {
        a.iter().zip(pixel).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
    };
    let nearest = pixel.map(|value| {
        let level = |i: &usize| LEVELS[*i].abs_diff(value);
        (0..LEVELS.len()).min_by_key(level).unwrap_or_default()
    });
    let cube = 16 + 36 * nearest[0] + 6 * nearest[1] + nearest[2];
    let sum: u32 = pixel.iter().map(|&value| u32::from(value)).sum();
    // Greys are 8, 18, …, 238.
    let grey = ((sum.saturating_sub(3 * 8) + 15) / 30).min(23) as u8;
    let exact = distance(nearest.map(|i| LEVELS[i])) <= distance([8 + 10 * grey; 3]);
    Color::Indexed(if exact { cube as u8 } else { 232 + grey })
}

impl Cells {
    /// Returns the columns and rows.
    pub fn size(&self) -> (u16, u16) {
        (self.columns, self.rows)
    }

    /// Draws the picture in the middle of an area and cuts off what lies outside.
    pub fn draw(&self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(buf.area);
        if self.columns == 0 || area.is_empty() {
            return;
        }
        let (left, skip_x) = placed(area.x, area.width, self.columns);
        let (top, skip_y) = placed(area.y, area.height, self.rows);
        let visible = self.columns.min(area.width);
        let rows = self.looks.chunks_exact(usize::from(self.columns));
        let rows = rows.skip(usize::from(skip_y)).take(usize::from(area.height));
        for (row, y) in rows.zip(top..) {
            let row = row.iter().skip(usize::from(skip_x)).take(usize::from(visible));
            for (look, x) in row.zip(left..) {
                let cell = &mut buf[(x, y)];
                cell.reset();
                cell.set_char(look.symbol).set_style(Style::new().fg(look.fg).bg(look.bg));
            }
        }
    }

    /// Returns the characters without their colours, row by row, for a ramp.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let rows = self.looks.chunks(usize::from(self.columns.max(1)));
        rows.map(|row| row.iter().map(|look| look.symbol).collect())
    }
}

/// Returns where `len` cells in the middle of `room` begin, and how many of them are cut off before it.
fn placed(start: u16, room: u16, len: u16) -> (u16, u16) {
    (start + room.saturating_sub(len) / 2, len.saturating_sub(room) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ColorDepth::{Indexed, Mono, Sixteen, True};
    use image::Rgb;
    use ratatui::backend::CrosstermBackend;
    use ratatui::{Frame, Terminal, TerminalOptions, Viewport};
    use std::cell::RefCell;
    use std::io::Write;
    use std::path::Path;
    use std::rc::Rc;

    const RED: [u8; 3] = [255, 0, 0];
    const WHITE: [u8; 3] = [255; 3];
    const BLACK: [u8; 3] = [0; 3];
    const GREY: [u8; 3] = [110, 110, 118];

    /// Red over white, black over grey.
    fn four() -> RgbImage {
        RgbImage::from_fn(2, 2, |x, y| Rgb([[RED, WHITE], [BLACK, GREY]][x as usize][y as usize]))
    }

    fn drawn(cells: &Cells, width: u16, height: u16) -> Buffer {
        let mut buf = Buffer::empty(Rect::new(0, 0, width, height));
        cells.draw(buf.area, &mut buf);
        buf
    }

    #[test]
    fn each_depth_has_its_own_cells() {
        let half = |fg, bg| Look { symbol: '▀', fg, bg };
        let plain = |symbol| Look { symbol, fg: Color::Reset, bg: Color::Reset };
        let blank = |bg| Look { symbol: ' ', fg: Color::Reset, bg };
        let table = [
            (
                (True, false),
                [
                    half(Color::Rgb(255, 0, 0), Color::Rgb(255, 255, 255)),
                    half(Color::Rgb(0, 0, 0), Color::Rgb(107, 107, 115)),
                ],
            ),
            (
                (Indexed, false),
                [
                    half(Color::Indexed(196), Color::Indexed(231)),
                    half(Color::Indexed(16), Color::Indexed(242)),
                ],
            ),
            ((Sixteen, false), [plain('▓'), plain('░')]),
            ((Mono, false), [plain('▓'), plain('░')]),
            ((Mono, true), [plain('*'), plain(':')]),
            ((Indexed, true), [blank(Color::Indexed(210)), blank(Color::Indexed(237))]),
        ];
        for ((depth, ascii), cells) in table {
            let rendered = render(&four(), 2, 1, depth, ascii);
            assert_eq!(rendered.looks, cells, "{depth:?} ascii {ascii}");
        }
    }

    #[test]
    fn without_colours_there_are_neither_colours_nor_half_blocks() {
        let image = RgbImage::from_fn(40, 40, |x, y| Rgb([(x * 6) as u8, (y * 6) as u8, 90]));
        for depth in [Sixteen, Mono] {
            for ascii in [false, true] {
                for look in render(&image, 20, 10, depth, ascii).looks {
                    assert_eq!((look.fg, look.bg), (Color::Reset, Color::Reset));
                    assert!(!ascii || look.symbol.is_ascii());
                    assert!(look.symbol != UPPER_HALF);
                }
            }
        }
    }

    #[test]
    fn the_ramp_runs_from_black_to_white() {
        let strip = RgbImage::from_fn(256, 2, |x, _| Rgb([x as u8; 3]));
        for (ascii, ramp) in [(false, " ░▒▓█"), (true, " .:-=+*#%@")] {
            let line: Vec<char> = render(&strip, 256, 1, Mono, ascii)
                .lines()
                .flat_map(|l| l.chars().collect::<Vec<_>>())
                .collect();
            let mut seen = line.clone();
            seen.dedup();
            assert_eq!(seen.iter().collect::<String>(), ramp);
        }
    }

    #[test]
    fn the_nearest_palette_colour_is_taken() {
        let palette = |index: u8| -> [i32; 3] {
            if index >= 232 {
                return [8 + 10 * (i32::from(index) - 232); 3];
            }
            let index = i32::from(index) - 16;
            [index / 36, index / 6 % 6, index % 6].map(|i| if i == 0 { 0 } else { 55 + 40 * i })
        };
        let distance = |pixel: [u8; 3], index: u8| -> i32 {
            palette(index).iter().zip(pixel).map(|(a, b)| (a - i32::from(b)).pow(2)).sum()
        };
        for i in 0..4000_u32 {
            let pixel = [i * 7919, i * 104_729 / 7, i * 299_711 / 11].map(|v| (v % 256) as u8);
            let Color::Indexed(index) = indexed(pixel) else { panic!("not of the palette") };
            let best = (16..=255).map(|index| distance(pixel, index)).min().unwrap();
            assert_eq!(distance(pixel, index), best, "{pixel:?} as {index}");
        }
    }

    #[test]
    fn pictures_keep_their_aspect_ratio() {
        for (width, height, columns, rows, expected) in [
            (100, 100, 32, 16, (32, 16)),
            (100, 100, 80, 16, (32, 16)),
            (100, 100, 20, 16, (20, 10)),
            (200, 100, 40, 40, (40, 10)),
            (100, 400, 40, 10, (5, 10)),
            (8, 8, 32, 16, (32, 16)),
            (1000, 1, 10, 10, (10, 1)),
            (1, 1000, 10, 10, (1, 10)),
            (0, 5, 10, 10, (0, 0)),
            (5, 5, 0, 10, (0, 0)),
        ] {
            assert_eq!(fit(width, height, columns, rows), expected, "{width} × {height}");
        }
    }

    #[test]
    fn odd_heights_fill_their_last_row() {
        for height in [1, 3, 27, 31] {
            let image = RgbImage::from_pixel(27, height, Rgb(WHITE));
            let cells = render(&image, 20, 10, True, false);
            let white = Color::Rgb(255, 255, 255);
            assert!(cells.looks.iter().all(|look| look.fg == white && look.bg == white));
            assert_eq!(cells.looks.len(), usize::from(cells.columns) * usize::from(cells.rows));
        }
        assert_eq!(even(&four()).into_rgb8(), four());
    }

    #[test]
    fn many_small_changes_add_up_to_one_that_is_shown() {
        let grey = |value| RgbImage::from_pixel(4, 4, Rgb([value; 3]));
        let mut shown = render(&grey(100), 4, 2, True, false);
        let mut repaints = 0;
        for value in 101..=200 {
            let next = render_after(Some(&shown), &grey(value), 4, 2, True, false);
            let settled = next.pixels.get_pixel(0, 0).0[0];
            assert!(value.abs_diff(settled) <= UNSEEN, "{value} shown as {settled}");
            repaints += u32::from(next.looks != shown.looks);
            shown = next;
        }
        assert!((10..=17).contains(&repaints), "{repaints}");
        let other = render_after(Some(&shown), &grey(201), 2, 1, True, false);
        assert_eq!(other, render(&grey(201), 2, 1, True, false), "another size begins anew");
    }

    #[test]
    fn pictures_stand_in_the_middle_and_are_clipped() {
        let cells = render(&RgbImage::from_pixel(4, 4, Rgb(WHITE)), 4, 2, True, false);
        let buf = drawn(&cells, 8, 4);
        let drawn_at: Vec<(u16, u16)> =
            buf.area.positions().filter(|&p| buf[p].symbol() == "▀").map(|p| (p.x, p.y)).collect();
        let expected: Vec<(u16, u16)> = (1..3).flat_map(|y| (2..6).map(move |x| (x, y))).collect();
        assert_eq!(drawn_at, expected);
        let mut buf = Buffer::empty(Rect::new(0, 0, 3, 1));
        cells.draw(Rect::new(1, 0, 40, 40), &mut buf);
        assert_eq!(buf[(0, 0)].symbol(), " ");
        assert_eq!(buf[(1, 0)].symbol(), "▀", "clipped by the buffer");
        cells.draw(Rect::new(50, 50, 4, 4), &mut buf);
        Cells::default().draw(buf.area, &mut buf);
    }

    /// Returns a photo, the photo with three of five patches masked, and what a model in training might make of it:
    /// those patches blurred and up to 3 levels off, with as much noise.
    fn triple(photo: &RgbImage, blur: f32, noise: u32) -> [RgbImage; 3] {
        let mut raw = imageops::blur(photo, blur);
        for (i, value) in raw.iter_mut().enumerate() {
            let hash = (i as u32 ^ noise).wrapping_mul(2_654_435_761) >> 24;
            *value = value.saturating_add((hash % 7) as u8).saturating_sub(3);
        }
        let (mut masked, mut reconstructed) = (photo.clone(), photo.clone());
        for (x, y, pixel) in raw.enumerate_pixels() {
            let patch = x / 32 * 7 + y / 32 * 3;
            if patch % 5 < 3 {
                let shift = (patch ^ noise).wrapping_mul(2_654_435_761) >> 24;
                let shifted =
                    pixel.0.map(|v| v.saturating_add((shift % 7) as u8).saturating_sub(3));
                masked.put_pixel(x, y, Rgb(GREY));
                reconstructed.put_pixel(x, y, Rgb(shifted));
            }
        }
        [photo.clone(), masked, reconstructed]
    }

    /// Returns the bytes that a terminal gets for each of these sheets if they are drawn one after the other, with
    /// 32 × 16 cells per picture.
    fn bytes(sheets: &[Vec<RgbImage>], depth: ColorDepth) -> Vec<usize> {
        let area = Rect::new(0, 0, 98, 17 * sheets[0].len() as u16 / 3);
        let sent = Sent::default();
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        let backend = CrosstermBackend::new(sent.clone());
        let mut terminal = Terminal::with_options(backend, options).unwrap();
        let mut shown: Vec<Cells> = Vec::new();
        let mut draw = |pictures: &Vec<RgbImage>| {
            let pictures = pictures.iter().enumerate();
            shown = pictures
                .map(|(i, picture)| render_after(shown.get(i), picture, 32, 16, depth, false))
                .collect();
            let before = sent.0.borrow().len();
            let draw = |frame: &mut Frame| {
                for (cells, i) in shown.iter().zip(0..) {
                    let place = Rect::new(i % 3 * 33, i / 3 * 17 + 1, 32, 16);
                    cells.draw(place, frame.buffer_mut());
                }
            };
            terminal.draw(draw).unwrap();
            sent.0.borrow().len() - before
        };
        sheets.iter().map(&mut draw).collect()
    }

    #[derive(Clone, Default)]
    struct Sent(Rc<RefCell<Vec<u8>>>);

    impl Write for Sent {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_refresh_of_the_reconstruction_costs_few_bytes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/photos-cc0/val");
        let photos = ["animal/cat.jpg", "energy/dam1.jpg", "monument/navajo.jpg"].map(|name| {
            let photo = image::open(folder.join(name)).unwrap().into_rgb8();
            imageops::resize(&photo, 224, 224, imageops::FilterType::Triangle)
        });
        for count in [1, 3] {
            let sheet = |blur, noise| {
                photos[..count].iter().flat_map(|photo| triple(photo, blur, noise)).collect()
            };
            let sheets = [sheet(6.0, 1), sheet(6.0, 1), sheet(5.5, 2)];
            for (depth, most) in [(True, 8000), (Indexed, 2000)] {
                let bytes = bytes(&sheets, depth);
                assert!(bytes[1] <= 100, "unchanged: {bytes:?}");
                assert!(bytes[2] > 100 && bytes[2] <= most, "{count} {depth:?}: {bytes:?}");
            }
        }
    }
}
