//! The previews panel: what the model sees and what it fills in.

use crate::event::TaskKind;
use crate::picture::sheet::{Sheet, SheetRow};
use crate::terminal::colors::ColorDepth;
use crate::terminal::halfblock::{Cells, render_after};
use crate::ui::app::App;
use crate::ui::theme::Theme;
use image::RgbImage;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget;
use std::collections::HashMap;

/// Pictures narrower than this show too little, so that fewer and larger ones are better. In columns.
const COMFORTABLE: u16 = 15;
/// The least width of a picture that is drawn at all, in columns.
const SMALLEST: u16 = 4;
/// The greatest width of a picture, in columns: wider ones cost too much on a slow line.
const LARGEST: u16 = 64;
/// A panel of at least this many rows has a line that tells the step and the page.
const ROWS_FOR_INFO: u16 = 10;
/// The columns between the pictures of a triple.
const PICTURE_GAP: u16 = 1;
/// The columns between triples.
const TRIPLE_GAP: u16 = 3;

/// Triples of original, masked and reconstructed picture with its decibels, as many as fit.
pub(super) struct Previews<'a> {
    pub sheet: Option<&'a Sheet>,
    /// The text while there is no sheet.
    pub none: &'a str,
    /// A number that tells sheets apart.
    pub id: u64,
    pub cache: &'a mut PreviewCache,
    /// PSNR over the hidden pixels of each image, in decibels.
    pub psnr: &'a [f64],
    pub step: u64,
    /// The index of the selected image, which is always among those shown.
    pub selected: usize,
    /// Whether the third picture is the model's output everywhere, without the visible patches pasted in.
    pub raw: bool,
    pub theme: Theme,
    pub ascii: bool,
}

impl<'a> Previews<'a> {
    pub(super) fn of(app: &'a App, cache: &'a mut PreviewCache) -> Self {
        let step = app.sheet.as_ref().map_or(0, |(step, _)| *step);
        let psnr = app.previews.iter().find(|preview| preview.step == step);
        Self {
            sheet: app.sheet.as_ref().map(|(_, sheet)| sheet),
            none: match app.state.started.as_ref().map(|started| started.task) {
                Some(TaskKind::Classification) => "a classifier has no previews",
                _ => "no previews yet",
            },
            id: step,
            cache,
            psnr: psnr.map_or(&[], |preview| &preview.psnr),
            step,
            selected: app.selected,
            raw: app.raw,
            theme: app.theme(),
            ascii: app.ascii,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Original,
    Masked,
    Reconstructed,
    Raw,
}

impl Kind {
    fn of(self, row: &SheetRow) -> &RgbImage {
        match self {
            Self::Original => &row.original,
            Self::Masked => &row.masked,
            Self::Reconstructed => &row.reconstructed,
            Self::Raw => &row.raw,
        }
    }
}

/// The pictures of one sheet as cells of one size. A frame without changes scales nothing.
#[derive(Debug, Default)]
pub struct PreviewCache {
    frame: Option<Frame>,
    pictures: HashMap<(usize, Kind), Cells>,
    /// The pictures of the sheet before. They are still on the screen, and pixels that hardly change may stay.
    before: HashMap<(usize, Kind), Cells>,
    scaled: u64,
}

/// All that the cells of a picture depend on beside the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    id: u64,
    /// The columns and rows of a picture.
    size: (u16, u16),
    depth: ColorDepth,
    ascii: bool,
}

impl PreviewCache {
    /// Returns the number of pictures scaled so far.
    pub fn scaled(&self) -> u64 {
        self.scaled
    }

    fn begin(&mut self, frame: Frame) {
        if self.frame == Some(frame) {
            return;
        }
        let same_place = self.frame.is_some_and(|last| Frame { id: frame.id, ..last } == frame);
        let old = std::mem::take(&mut self.pictures);
        self.before = if same_place { old } else { HashMap::new() };
        self.frame = Some(frame);
    }

    fn cells(&mut self, frame: Frame, row: usize, kind: Kind, image: &RgbImage) -> &Cells {
        self.pictures.entry((row, kind)).or_insert_with(|| {
            self.scaled += 1;
            let before = self.before.get(&(row, kind));
            let (columns, rows) = frame.size;
            render_after(before, image, columns, rows, frame.depth, frame.ascii)
        })
    }
}

/// How triples are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grid {
    /// Whether the three pictures stand one above the other.
    stacked: bool,
    /// Triples side by side.
    across: u16,
    /// Triples shown at once.
    shown: usize,
    /// The columns of a picture.
    columns: u16,
    rows: u16,
}

impl Grid {
    /// Returns the grid with the most triples of comfortable pictures, and among those the one with the largest
    /// pictures; `None` if not even one triple fits.
    fn choose(width: u16, height: u16, triples: usize) -> Option<Self> {
        // No terminal shows more than this.
        let most = triples.min(64);
        let best = |shown: usize| {
            let ways = (1..=shown as u16).flat_map(|across| [(across, false), (across, true)]);
            let grids = ways
                .filter_map(|(across, stacked)| Self::sized(width, height, shown, across, stacked));
            // Of equals the first is taken, which has the fewest triples side by side.
            grids.reduce(|best, grid| if grid.columns > best.columns { grid } else { best })
        };
        let comfortable = |grid: &Self| grid.columns >= COMFORTABLE;
        let grid = (2..=most).rev().filter_map(best).find(comfortable);
        grid.or_else(|| if most > 0 { best(1) } else { None })
    }

    fn sized(width: u16, height: u16, shown: usize, across: u16, stacked: bool) -> Option<Self> {
        let down = (shown as u16).div_ceil(across);
        let (pictures_across, pictures_down) = if stacked { (1, 3) } else { (3, 1) };
        let width = (width.checked_sub((across - 1) * TRIPLE_GAP)? / across)
            .checked_sub((pictures_across - 1) * PICTURE_GAP)?;
        // Each picture has a line above it.
        let rows = (height / down / pictures_down).checked_sub(1)?;
        let columns = (width / pictures_across).min(2 * rows).min(LARGEST);
        let grid = Self { stacked, across, shown, columns, rows: columns.div_ceil(2) };
        (columns >= SMALLEST).then_some(grid)
    }

    /// Returns the columns and rows of a triple with its captions.
    fn triple(self) -> (u16, u16) {
        if self.stacked {
            (self.columns, 3 * (self.rows + 1))
        } else {
            (3 * self.columns + 2 * PICTURE_GAP, self.rows + 1)
        }
    }

    /// Returns the area of picture `column` (0 to 2) of the triple in place `slot`, with the line of its caption.
    fn place(self, area: Rect, slot: usize, column: u16) -> Rect {
        let (width, height) = self.triple();
        let slot = slot as u16;
        let (x, y) = (slot % self.across * (width + TRIPLE_GAP), slot / self.across * height);
        let (dx, dy) = if self.stacked {
            (0, column * (self.rows + 1))
        } else {
            (column * (self.columns + PICTURE_GAP), 0)
        };
        Rect::new(area.x + x + dx, area.y + y + dy, self.columns, self.rows + 1).intersection(area)
    }
}

impl Widget for Previews<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(buf.area);
        if area.is_empty() {
            return;
        }
        let Some(sheet) = self.sheet.filter(|sheet| !sheet.rows.is_empty()) else {
            write(buf, area, self.none, self.theme.dim());
            return;
        };
        let info = u16::from(area.height >= ROWS_FOR_INFO);
        let body = Rect { y: area.y + info, height: area.height - info, ..area };
        let Some(grid) = Grid::choose(body.width, body.height, sheet.rows.len()) else {
            write(buf, area, "no room for pictures", self.theme.dim());
            return;
        };
        let count = sheet.rows.len();
        let selected = self.selected.min(count - 1);
        let first = (selected / grid.shown * grid.shown).min(count - grid.shown);
        if info > 0 {
            write(buf, area, &self.info(first, grid.shown, count), self.theme.dim());
        }
        let (id, depth, ascii) = (self.id, self.theme.depth, self.ascii);
        let frame = Frame { id, size: (grid.columns, grid.rows), depth, ascii };
        self.cache.begin(frame);
        for (slot, index) in (first..first + grid.shown).enumerate() {
            let places = [0, 1, 2].map(|column| grid.place(body, slot, column));
            let captions = self.captions(index, index == selected);
            let style = if index == selected { self.theme.focus() } else { self.theme.dim() };
            for ((kind, texts), place) in captions.into_iter().zip(places) {
                let fits = |text: &&String| text.chars().count() <= usize::from(place.width);
                write(buf, place, texts.iter().find(fits).map_or("", |text| text), style);
                let room = Rect { y: place.y + 1, height: place.height.saturating_sub(1), ..place };
                let image = kind.of(&sheet.rows[index]);
                self.cache.cells(frame, index, kind, image).draw(room, buf);
            }
        }
    }
}

impl Previews<'_> {
    fn info(&self, first: usize, shown: usize, count: usize) -> String {
        let what = if self.raw { "raw output" } else { "reconstruction" };
        let step = self.step;
        if shown == count {
            return format!("step {step}, {what}");
        }
        let (from, to) = (first + 1, first + shown);
        let range = if shown == 1 { format!("{from}") } else { format!("{from} to {to}") };
        format!("step {step}, {what}, {range} of {count}")
    }

    /// Returns the pictures of an image, each with its possible captions from long to short.
    fn captions(&self, index: usize, chosen: bool) -> [(Kind, Vec<String>); 3] {
        let mark = match (chosen, self.ascii) {
            (false, _) => "",
            (true, false) => "▸",
            (true, true) => ">",
        };
        let number = format!("{mark}{}", index + 1);
        let psnr = self.psnr.get(index).filter(|psnr| psnr.is_finite());
        let decibels = psnr.map_or_else(String::new, |psnr| format!("{psnr:.1} dB"));
        let (last, names) = if self.raw {
            (Kind::Raw, ["raw output", "raw"])
        } else {
            (Kind::Reconstructed, ["reconstructed", "recon"])
        };
        let long_to_short = names.map(|name| format!("{name} {decibels}").trim_end().to_owned());
        [
            (Kind::Original, vec![format!("{number} original"), number]),
            (Kind::Masked, vec!["masked".to_owned()]),
            (last, long_to_short.into_iter().chain([decibels]).collect()),
        ]
    }
}

/// Writes one line at the top of an area, cut off at its end.
fn write(buf: &mut Buffer, area: Rect, text: &str, style: Style) {
    if !area.is_empty() {
        buf.set_stringn(area.x, area.y, text, usize::from(area.width), style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    /// Sheets without content, for what depends on sizes only.
    fn plain(count: u8) -> Sheet {
        let picture = |value| RgbImage::from_pixel(8, 8, Rgb([value; 3]));
        let row = |i: u8| SheetRow {
            original: picture(10 + i),
            masked: picture(80 + i),
            reconstructed: picture(150 + i),
            raw: picture(220 + i),
        };
        Sheet { rows: (0..count).map(row).collect() }
    }

    fn previews<'a>(sheet: &'a Sheet, cache: &'a mut PreviewCache) -> Previews<'a> {
        let theme = Theme { depth: ColorDepth::True };
        let psnr = &[24.13, 20.5, 18.25, 17.0, 16.0, f64::INFINITY];
        let (id, step) = (1, 1200);
        let (selected, raw, ascii) = (0, false, false);
        let none = "no previews yet";
        Previews { sheet: Some(sheet), none, id, cache, psnr, step, selected, raw, theme, ascii }
    }

    fn text(previews: Previews, width: u16, height: u16) -> Vec<String> {
        let mut buf = Buffer::empty(Rect::new(0, 0, width, height));
        previews.render(buf.area, &mut buf);
        let row = |y| (0..width).map(|x| buf[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn pictures_stand_under_their_names() {
        let (sheet, mut cache) = (plain(1), PreviewCache::default());
        let lines = text(previews(&sheet, &mut cache), 80, 14);
        assert_eq!(lines[0], "step 1200, reconstruction");
        let captions = ["▸1 original", "masked", "reconstructed 24.1 dB"];
        let [first, second, third] = captions;
        assert_eq!(lines[1], format!("{first:<24} {second:<24} {third}"));
        assert_eq!(lines[2], ["▀".repeat(24), "▀".repeat(24), "▀".repeat(24)].join(" "));
        assert_eq!(lines[13], lines[2]);
        let raw = Previews { raw: true, ascii: true, ..previews(&sheet, &mut cache) };
        let lines = text(raw, 80, 14);
        assert_eq!(lines[0], "step 1200, raw output");
        assert!(lines[1].starts_with(">1 original") && lines[1].ends_with("raw output 24.1 dB"));
        assert!(lines.concat().is_ascii());
    }

    #[test]
    fn wide_and_tall_areas_hold_as_many_as_fit() {
        let grid = |width, height, triples| {
            let grid = Grid::choose(width, height, triples).unwrap();
            (grid.shown, grid.across, grid.stacked, grid.columns)
        };
        assert_eq!(grid(50, 55, 6), (6, 1, false, 16));
        assert_eq!(grid(110, 28, 6), (6, 2, false, 16));
        assert_eq!(grid(110, 9, 6), (2, 2, false, 16));
        assert_eq!(grid(110, 6, 6), (1, 1, false, 10), "one is better than six specks");
        assert_eq!(grid(20, 40, 6), (1, 1, true, 20));
        assert_eq!(grid(16, 60, 6), (2, 1, true, 16));
        assert_eq!(grid(300, 80, 1), (1, 1, false, 64));
        assert_eq!(Grid::choose(11, 5, 6), None);
        assert_eq!(Grid::choose(80, 24, 0), None);
    }

    #[test]
    fn the_selected_image_is_always_shown() {
        let (sheet, mut cache) = (plain(6), PreviewCache::default());
        for (width, height) in [(110, 10), (110, 20), (60, 30), (20, 40), (14, 4)] {
            for selected in 0..8 {
                let lines =
                    text(Previews { selected, ..previews(&sheet, &mut cache) }, width, height);
                let mark = format!("▸{}", selected.min(5) + 1);
                assert!(lines.iter().any(|line| line.contains(&mark)), "{lines:#?}");
            }
        }
    }

    #[test]
    fn no_size_is_too_small_or_too_large() {
        let sheets = [None, Some(plain(0)), Some(plain(1)), Some(plain(5))];
        let (any, mut cache) = (plain(1), PreviewCache::default());
        for width in 1..=60 {
            for height in 1..=40 {
                for sheet in &sheets {
                    let sheet = sheet.as_ref();
                    let previews = Previews { sheet, selected: 3, ..previews(&any, &mut cache) };
                    let mut buf = Buffer::empty(Rect::new(2, 3, width, height));
                    previews.render(buf.area, &mut buf);
                }
            }
        }
    }

    #[test]
    fn without_pictures_it_says_so() {
        let (sheet, mut cache) = (plain(0), PreviewCache::default());
        assert_eq!(text(previews(&sheet, &mut cache), 30, 2)[0], "no previews yet");
        let none = Previews { sheet: None, ..previews(&sheet, &mut cache) };
        assert_eq!(text(none, 5, 1)[0], "no pr");
    }

    #[test]
    fn an_unchanged_frame_scales_nothing() {
        let (sheet, mut cache) = (plain(3), PreviewCache::default());
        let mut scaled = |id, raw, height| {
            let before = cache.scaled();
            text(Previews { id, raw, ..previews(&sheet, &mut cache) }, 60, height);
            cache.scaled() - before
        };
        assert_eq!(scaled(1, false, 36), 9);
        assert_eq!(scaled(1, false, 36), 0);
        assert_eq!(scaled(1, true, 36), 3, "only the third column is another");
        assert_eq!(scaled(1, false, 36), 0);
        assert_eq!(scaled(2, false, 36), 9, "another sheet");
        assert_eq!(scaled(2, false, 28), 9, "another size");
    }
}
