//! What is around the curves of every chart: the levels at the left, the line with its labels below, the cursor, and
//! the values in the top row.

use super::numbers::x_ticks;
use crate::ui::chart_view::ChartView;
use crate::ui::series::{XAxis, column_of};
use crate::ui::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// Cells of a label at the left.
const LABEL: usize = 7;
/// Cells left of a plot: a label and the line.
const GUTTER: u16 = LABEL as u16 + 1;

/// Where the parts of a chart are, and how its axes are drawn. A part that has no room is `None`.
pub(super) struct Axes {
    pub plot: Rect,
    pub header: Option<Rect>,
    /// The row of the line under the plot.
    pub line: Option<u16>,
    /// The row of the labels under the line.
    labels: Option<u16>,
    gutter: u16,
    theme: Theme,
    ascii: bool,
}

impl Axes {
    /// Divides an area. What is low gives up the labels first, then the header, then the line.
    pub(super) fn new(area: Rect, theme: Theme, ascii: bool) -> Self {
        let gutter = gutter(area.width);
        let header = area.height >= 3;
        let line = area.height >= 2;
        let labels = area.height >= 5;
        let rows = u16::from(header) + u16::from(line) + u16::from(labels);
        let plot = Rect {
            x: area.x + gutter,
            y: area.y + u16::from(header),
            width: area.width - gutter,
            height: area.height - rows,
        };
        Self {
            plot,
            header: header.then_some(Rect { height: 1, ..area }),
            line: line.then_some(plot.bottom()),
            labels: labels.then_some(plot.bottom() + 1),
            gutter,
            theme,
            ascii,
        }
    }

    /// Draws the line at the left with the label of each level: its row in the plot and its text. Where two share a
    /// row, the first is drawn.
    pub(super) fn draw_levels(
        &self,
        levels: impl IntoIterator<Item = (usize, String)>,
        buf: &mut Buffer,
    ) {
        if self.gutter == 0 {
            return;
        }
        let (line, tick) = if self.ascii { ("|", "+") } else { ("│", "┤") };
        let (x, dim) = (self.plot.x - 1, self.theme.dim());
        for y in self.plot.top()..self.plot.bottom() {
            buf.set_string(x, y, line, dim);
        }
        let mut taken = None;
        for (row, label) in levels {
            if taken != Some(row) {
                let y = self.plot.y + row as u16;
                buf.set_stringn(x - LABEL as u16, y, format!("{label:>LABEL$}"), LABEL, dim);
                buf.set_string(x, y, tick, dim);
                taken = Some(row);
            }
        }
    }

    /// Draws the line under the plot with its labels.
    pub(super) fn draw_line(&self, range: (f64, f64), axis: XAxis, buf: &mut Buffer) {
        let (Some(y), plot, dim) = (self.line, self.plot, self.theme.dim()) else { return };
        let [line, corner, tick] = if self.ascii { ["-", "+", "+"] } else { ["─", "└", "┬"] };
        for x in plot.left()..plot.right() {
            buf.set_string(x, y, line, dim);
        }
        if self.gutter > 0 {
            buf.set_string(plot.x - 1, y, corner, dim);
        }
        if let Some(labels) = self.labels {
            let row = Rect { y: labels, height: 1, ..plot };
            let ticks = x_ticks(range, usize::from(plot.width), axis);
            for column in draw_labels(&ticks, row, dim, buf) {
                buf.set_string(plot.x + column as u16, y, tick, dim);
            }
        }
    }

    /// Writes what the labels under the plot count to the left of them.
    pub(super) fn draw_name(&self, axis: XAxis, buf: &mut Buffer) {
        if let Some(labels) = self.labels.filter(|_| self.gutter > 0) {
            let name = if axis == XAxis::Step { "step" } else { "time" };
            buf.set_stringn(self.plot.x - self.gutter, labels, name, LABEL, self.theme.dim());
        }
    }

    /// Draws the cursor if it is in the visible range.
    pub(super) fn draw_cursor(&self, view: &ChartView, range: (f64, f64), buf: &mut Buffer) {
        let column = |x| column_of(x, range, usize::from(self.plot.width));
        if let Some(column) = view.cursor().and_then(column) {
            let line = if self.ascii { '|' } else { '│' };
            self.draw_upright(column, line, self.theme.cursor(), buf);
        }
    }

    /// Draws an upright line behind the curves: only empty cells take it.
    pub(super) fn draw_upright(&self, column: usize, line: char, style: Style, buf: &mut Buffer) {
        for y in self.plot.top()..self.plot.bottom() {
            let cell = &mut buf[(self.plot.x + column as u16, y)];
            if cell.symbol() == " " {
                cell.set_char(line).set_style(style);
            }
        }
    }
}

/// Returns the cells that labels take from the left of an area of this width: none if it is narrow.
pub(super) fn gutter(width: u16) -> u16 {
    if width >= 3 * GUTTER { GUTTER } else { 0 }
}

/// Writes texts side by side. The first that has no room ends the row.
pub(super) fn draw_parts(
    parts: impl IntoIterator<Item = (String, Style)>,
    row: Rect,
    buf: &mut Buffer,
) {
    let mut left = usize::from(row.left());
    let right = usize::from(row.right());
    for (text, style) in parts {
        if left >= right || left + text.trim_end().chars().count() > right {
            break;
        }
        buf.set_stringn(left as u16, row.y, &text, right - left, style);
        left += text.chars().count() + 2;
    }
}

/// Writes a short text in the middle of an area.
pub(super) fn note(buf: &mut Buffer, area: Rect, text: &str, style: Style) {
    if !area.is_empty() {
        let left = (usize::from(area.width).saturating_sub(text.len()) / 2) as u16;
        let (x, y) = (area.x + left, area.y + area.height / 2);
        buf.set_stringn(x, y, text, usize::from(area.width - left), style);
    }
}

/// Centres each label under its column where it doesn't touch the one before. Returns the columns of those drawn.
fn draw_labels(ticks: &[(usize, String)], row: Rect, style: Style, buf: &mut Buffer) -> Vec<usize> {
    let width = usize::from(row.width);
    let mut free = 0;
    let mut drawn = Vec::new();
    for (column, label) in ticks {
        let Some(last) = width.checked_sub(label.len()) else { continue };
        let start = column.saturating_sub(label.len() / 2).min(last);
        if start >= free {
            buf.set_string(row.x + start as u16, row.y, label, style);
            drawn.push(*column);
            free = start + label.len() + 1;
        }
    }
    drawn
}
