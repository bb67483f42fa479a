//! ratatui's access to the real terminal.

use super::MaybeSynchronized;
use crate::terminal::size::clamped;
use ratatui::backend::{Backend, ClearType, CrosstermBackend, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use std::io::{self, Write};

/// The terminal by crossterm. It is never larger than what can be drawn: ratatui allocates every cell.
pub(crate) struct RealBackend<W: Write>(CrosstermBackend<W>);

impl<W: Write> RealBackend<W> {
    pub fn new(out: W) -> Self {
        Self(CrosstermBackend::new(out))
    }
}

fn clamped_size(size: Size) -> Size {
    clamped(size.width, size.height).into()
}

impl<W: Write> Backend for RealBackend<W> {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        self.0.draw(content)
    }

    fn append_lines(&mut self, count: u16) -> io::Result<()> {
        self.0.append_lines(count)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.0.hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.0.show_cursor()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        self.0.get_cursor_position()
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.0.set_cursor_position(position)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.0.clear()
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.0.clear_region(region)
    }

    fn size(&self) -> io::Result<Size> {
        self.0.size().map(clamped_size)
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        let WindowSize { columns_rows, pixels } = self.0.window_size()?;
        Ok(WindowSize { columns_rows: clamped_size(columns_rows), pixels })
    }

    fn flush(&mut self) -> io::Result<()> {
        Backend::flush(&mut self.0)
    }
}

impl<W: Write> MaybeSynchronized for RealBackend<W> {
    fn begin(&mut self, synchronized: bool) -> io::Result<()> {
        self.0.begin(synchronized)
    }

    fn end(&mut self, synchronized: bool) -> io::Result<()> {
        self.0.end(synchronized)
    }
}
