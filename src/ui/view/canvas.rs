//! A canvas of braille or ASCII dots.

use crate::ui::series::Bucket;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// Layers of dots. A cell has 2 × 4 braille dots, or a single one in ASCII.
pub(super) struct Canvas {
    pub width: usize,
    pub height: usize,
    /// Dots of a cell across and down.
    pub dots: (usize, usize),
    /// A byte of braille bits for each layer and cell.
    layers: Vec<u8>,
}

impl Canvas {
    /// Returns an empty canvas of `width` × `height` cells.
    pub(super) fn new(width: usize, height: usize, layers: usize, ascii: bool) -> Self {
        let dots = if ascii { (1, 1) } else { (2, 4) };
        Self { width, height, dots, layers: vec![0; width * height * layers] }
    }

    /// Returns the bits of a layer in the cell at `column` and `row`.
    pub(super) fn bits(&self, layer: usize, column: usize, row: usize) -> u8 {
        self.layers[(layer * self.height + row) * self.width + column]
    }

    /// Sets the dot in dot column `x` and dot row `y` from the top. A dot outside the canvas is left out.
    pub(super) fn dot(&mut self, layer: usize, (x, y): (usize, usize)) {
        const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
        let (column, row) = (x / self.dots.0, y / self.dots.1);
        if column < self.width && row < self.height {
            let bit = BITS[x % self.dots.0][y % self.dots.1];
            self.layers[(layer * self.height + row) * self.width + column] |= bit;
        }
    }

    /// Draws a straight line of dots without gaps.
    pub(super) fn line(&mut self, layer: usize, from: (usize, usize), to: (usize, usize)) {
        let length = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1));
        for index in 0..=length {
            let share = index as f64 / length.max(1) as f64;
            let between = |a: usize, b: usize| (a as f64 + (b as f64 - a as f64) * share).round();
            self.dot(layer, (between(from.0, to.0) as usize, between(from.1, to.1) as usize));
        }
    }

    /// Draws each cell for which `look` returns a pen and the bits of its dots.
    pub(super) fn draw(
        &self,
        plot: Rect,
        look: impl Fn(usize, usize) -> Option<(Pen, u8)>,
        buf: &mut Buffer,
    ) {
        for row in 0..self.height {
            for column in 0..self.width {
                if let Some((pen, bits)) = look(column, row) {
                    let cell = &mut buf[(plot.x + column as u16, plot.y + row as u16)];
                    cell.set_char(pen.draw(bits)).set_style(pen.style);
                }
            }
        }
    }

    /// Draws a connected curve with a bar from the least to the greatest value in each dot column. NaN interrupts the
    /// curve, and a point between two NaN is a single dot.
    pub(super) fn curve(
        &mut self,
        layer: usize,
        buckets: &[Option<Bucket>],
        row: impl Fn(f64) -> usize,
    ) {
        let mut before: Option<(usize, usize)> = None;
        for (x, bucket) in buckets.iter().enumerate() {
            let Some(bucket) = bucket else { continue };
            if bucket.is_finite() {
                let (top, bottom) = (row(bucket.max), row(bucket.min));
                self.line(layer, (x, top), (x, bottom));
                if let Some(from) = before.filter(|_| !bucket.nan) {
                    self.line(layer, from, (x, from.1.clamp(top, bottom.max(top))));
                }
            }
            let joins = bucket.is_finite() && !bucket.nan;
            before = joins.then(|| (x, row(bucket.last)));
        }
    }
}

/// How a layer looks: the glyph of every cell that has dots, or their braille character if there is no glyph.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pen {
    pub glyph: Option<char>,
    pub style: Style,
}

impl Pen {
    /// Returns the character of a cell with these dots.
    pub(super) fn draw(self, bits: u8) -> char {
        self.glyph.or_else(|| char::from_u32(0x2800 + u32::from(bits))).unwrap_or('*')
    }
}
