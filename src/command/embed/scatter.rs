//! Draws points as text: braille dots in the colour of their class, or a letter for each class.

use super::points::Points;
use crate::shown;
use crate::terminal::colors::ColorDepth;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Colours of classes in the palette of 256. They repeat after the last.
const INDEXED: [u8; 12] = [75, 208, 77, 203, 141, 179, 218, 250, 192, 44, 27, 205];
/// Colours of classes in the palette of 16.
const SIXTEEN: [u8; 6] = [94, 93, 92, 91, 95, 96];
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Most classes that the legend names.
const NAMED: usize = 40;

/// Draws the plot and, below it, its legend.
pub(super) fn lines(points: &Points, style: PlotStyle) -> Vec<String> {
    const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
    let (columns, rows) = (style.columns.max(1), style.rows.max(1));
    let mut cells = vec![Cell::default(); columns * rows];
    for (place, label) in points.scaled().into_iter().zip(&points.labels) {
        let dot = |share: f64, dots: usize| (share * (dots - 1) as f64).round() as usize;
        let (x, y) = (dot(place[0], columns * 2), dot(place[1], rows * 4));
        let cell = &mut cells[y / 4 * columns + x / 2];
        cell.bits |= BITS[x % 2][y % 4];
        *cell.classes.entry(*label).or_default() += 1;
    }
    let line = |row: &[Cell]| {
        let used = row.iter().rposition(|cell| cell.bits > 0).map_or(0, |last| last + 1);
        row[..used].iter().map(|cell| style.cell(cell)).collect::<String>()
    };
    let mut lines: Vec<String> = cells.chunks_exact(columns).map(line).collect();
    lines.push(String::new());
    lines.extend(legend(points, style));
    lines
}

/// How points are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlotStyle {
    pub columns: usize,
    pub rows: usize,
    pub depth: ColorDepth,
    /// Whether only ASCII characters are used.
    pub ascii: bool,
}

/// A cell of the plot.
#[derive(Debug, Default, Clone)]
struct Cell {
    /// The braille dots that are set.
    bits: u8,
    /// Number of points of each class, and of those without a class.
    classes: BTreeMap<Option<u32>, usize>,
}

impl Cell {
    /// Returns the class with the most points, and of equal ones that with the lowest number.
    fn class(&self) -> Option<u32> {
        let most =
            self.classes.iter().max_by_key(|&(class, count)| (*count, std::cmp::Reverse(*class)));
        most.and_then(|(class, _)| *class)
    }
}

impl PlotStyle {
    /// Returns whether letters tell the classes apart, rather than colours.
    fn letters(self) -> bool {
        self.ascii || self.depth == ColorDepth::Mono
    }

    /// Returns a text in the colour of a class.
    fn painted(self, text: &str, class: Option<u32>) -> String {
        let Some(class) = class.map(|class| class as usize) else { return text.to_owned() };
        match self.depth {
            ColorDepth::Mono => text.to_owned(),
            ColorDepth::Sixteen => format!("\x1b[{}m{text}\x1b[0m", SIXTEEN[class % SIXTEEN.len()]),
            ColorDepth::True | ColorDepth::Indexed => {
                format!("\x1b[38;5;{}m{text}\x1b[0m", INDEXED[class % INDEXED.len()])
            }
        }
    }

    /// Returns the letter of a class.
    fn letter(class: Option<u32>) -> char {
        let letter = class.and_then(|class| LETTERS.chars().nth(class as usize % LETTERS.len()));
        letter.unwrap_or('*')
    }

    fn cell(self, cell: &Cell) -> String {
        if cell.bits == 0 {
            return " ".to_owned();
        }
        let class = cell.class();
        let braille = char::from_u32(0x2800 + u32::from(cell.bits));
        let glyph = if self.letters() { Self::letter(class) } else { braille.unwrap_or('*') };
        self.painted(&glyph.to_string(), class)
    }
}

fn legend(points: &Points, style: PlotStyle) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    let counts = points.counts();
    for &(class, count) in counts.iter().take(NAMED) {
        let class_number = Some(class as u32);
        let swatch = if style.letters() { PlotStyle::letter(class_number) } else { '●' };
        let name = format!("{} ({count})", shown::line(&points.classes[class]));
        let width = 2 + name.chars().count();
        if used > 0 && used + 2 + width > style.columns {
            lines.push(String::new());
            used = 0;
        }
        let line = lines.last_mut().expect("there is always a line");
        if used > 0 {
            line.push_str("  ");
            used += 2;
        }
        let _ = write!(line, "{} {name}", style.painted(&swatch.to_string(), class_number));
        used += width;
    }
    if counts.len() > NAMED {
        lines.push(format!("and {} more classes", counts.len() - NAMED));
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Points {
        Points {
            places: vec![[0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [1.0, 1.0]],
            labels: vec![Some(0), Some(1), None, Some(1)],
            classes: ["cat", "dog", "unseen"].map(str::to_owned).to_vec(),
        }
    }

    #[test]
    fn letters_tell_classes_where_colours_do_not() {
        let look = PlotStyle { columns: 9, rows: 3, depth: ColorDepth::Mono, ascii: true };
        let text = lines(&points(), look);
        assert_eq!(text, ["        b", "    *", "a", "", "a cat (1)", "b dog (2)"]);
    }

    #[test]
    fn colours_end_where_they_begin() {
        let look = PlotStyle { columns: 40, rows: 2, depth: ColorDepth::Indexed, ascii: false };
        let text = lines(&points(), look);
        assert!(text[0].ends_with("\x1b[38;5;208m⠈\x1b[0m"), "{:?}", text[0]);
        assert!(text[1].starts_with("\x1b[38;5;75m⡀\x1b[0m"), "{:?}", text[1]);
        assert_eq!(text[3], "\x1b[38;5;75m●\x1b[0m cat (1)  \x1b[38;5;208m●\x1b[0m dog (2)");
    }
}
