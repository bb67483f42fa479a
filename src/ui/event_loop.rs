//! The loop of the screen: it takes in keys, events and the clock, and draws after a change.
//!
//! It draws at most ten times a second, and more rarely when the terminal takes long to swallow a frame.

use super::app::{App, Effect, Msg};
use super::host::Monitor;
use super::view::{self, PreviewCache};
use crate::control::follow::News;
use crate::data::decode;
use crate::event::{Command, PreviewFile, now};
use crate::picture::sheet::{self, Sheet};
use crate::run_dir;
use crossterm::event::{Event as TerminalEvent, KeyEventKind};
use image::RgbImage;
use ratatui::Terminal;
use ratatui::backend::Backend;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Shortest time between two frames.
const FRAME: Duration = Duration::from_millis(100);
/// How long the loop waits for the next change of size before it draws: each size costs a full repaint.
const SETTLE: Duration = Duration::from_millis(120);
/// A frame that took long (a stalled line) is followed by a rest of this many times its own time.
const REST: u32 = 4;

/// How the screen was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopExit {
    /// The user left it while the run goes on.
    Detached,
    /// The run has ended, or a signal asked a viewer to end.
    Closed,
}

/// Takes in messages and draws until the screen is left. `root` is the run directory, which has the pictures.
///
/// # Errors
/// If the terminal is gone.
pub fn event_loop<B>(
    terminal: &mut Terminal<B>,
    console: &mut impl Console,
    feed: &mut impl Feed,
    app: &mut App,
    root: &Path,
) -> io::Result<LoopExit>
where
    B: Backend + MaybeSynchronized,
    B::Error: Into<io::Error>,
{
    let (monitor, pace) = (Monitor::new(), Pace::new());
    let mut screen =
        ScreenLoop { terminal, console, feed, app, root, monitor, pace, second: 0, behind: false };
    let mut cache = PreviewCache::default();
    loop {
        for message in screen.gather()? {
            if let Some(exit) = screen.take(message)? {
                return Ok(exit);
            }
        }
        if screen.feed.unattended() && (screen.app.is_over() || screen.app.is_viewer()) {
            return Ok(LoopExit::Closed);
        }
        if screen.pace.is_due() {
            screen.draw(&mut cache)?;
        }
    }
}

/// What the loop needs from a terminal beside drawing.
pub trait Console {
    /// Returns the next key or change of size, waiting at most `wait`.
    ///
    /// # Errors
    /// If the terminal is gone.
    fn next(&mut self, wait: Duration) -> io::Result<Option<TerminalEvent>>;

    /// Shows one picture on the whole screen until a key.
    ///
    /// # Errors
    /// If the terminal is gone.
    fn full_picture(&mut self, picture: &RgbImage) -> io::Result<()>;

    /// Returns the bytes written to the terminal so far.
    fn written(&self) -> u64;

    /// Whether frames are wrapped in synchronized updates.
    fn synchronized(&self) -> bool;
}

/// Where events come from and commands go.
pub trait Feed {
    /// Returns the next piece of news without waiting for one.
    fn poll(&mut self) -> News;

    fn send(&mut self, command: Command);

    /// Whether the end of the run is the end of the screen, without waiting for a key.
    fn unattended(&self) -> bool {
        false
    }
}

/// Frames that appear at once where the terminal can do it.
pub trait MaybeSynchronized {
    /// Begins a synchronized update.
    ///
    /// # Errors
    /// If the terminal is gone.
    fn begin(&mut self, synchronized: bool) -> io::Result<()> {
        let _ = synchronized;
        Ok(())
    }

    /// Ends a synchronized update.
    ///
    /// # Errors
    /// If the terminal is gone.
    fn end(&mut self, synchronized: bool) -> io::Result<()> {
        let _ = synchronized;
        Ok(())
    }
}

impl MaybeSynchronized for ratatui::backend::TestBackend {}

impl<W: Write> MaybeSynchronized for ratatui::backend::CrosstermBackend<W> {
    fn begin(&mut self, synchronized: bool) -> io::Result<()> {
        if synchronized {
            crossterm::queue!(self, crossterm::terminal::BeginSynchronizedUpdate)?;
        }
        Ok(())
    }

    fn end(&mut self, synchronized: bool) -> io::Result<()> {
        if synchronized {
            crossterm::execute!(self, crossterm::terminal::EndSynchronizedUpdate)?;
        }
        Ok(())
    }
}

/// What the parts of the loop work on.
struct ScreenLoop<'a, B: Backend, C, F> {
    terminal: &'a mut Terminal<B>,
    console: &'a mut C,
    feed: &'a mut F,
    app: &'a mut App,
    root: &'a Path,
    monitor: Monitor,
    pace: Pace,
    /// The second that the clocks on the screen show.
    second: u64,
    /// The feed has more to tell than one round took.
    behind: bool,
}

impl<B, C, F> ScreenLoop<'_, B, C, F>
where
    B: Backend + MaybeSynchronized,
    B::Error: Into<io::Error>,
    C: Console,
    F: Feed,
{
    /// Waits for a key, for the time of the next frame, or a short while, and returns all that has come since.
    fn gather(&mut self) -> io::Result<Vec<Msg>> {
        let wait = if self.behind { Duration::ZERO } else { self.pace.wait() };
        let mut messages = Vec::new();
        match self.console.next(wait)? {
            Some(TerminalEvent::Key(key)) if key.kind != KeyEventKind::Release => {
                messages.push(Msg::Key(key));
            }
            Some(TerminalEvent::Resize(..)) => self.pace.resize(),
            _ => {}
        }
        self.gather_news(&mut messages);
        messages.extend(self.monitor.poll().map(Msg::Host));
        let time = now();
        if time as u64 != self.second {
            self.second = time as u64;
            messages.insert(0, Msg::Tick(time));
            messages.insert(1, Msg::Written(self.console.written()));
        }
        self.pace.dirty |= !messages.is_empty();
        Ok(messages)
    }

    /// Takes news from the feed for at most the time of a frame, so that keys are heard during a long history.
    fn gather_news(&mut self, messages: &mut Vec<Msg>) {
        let end = Instant::now() + FRAME;
        self.behind = loop {
            match self.feed.poll() {
                News::Event(event) => messages.push(Msg::Event(event)),
                News::Ended(error) => messages.push(Msg::Ended(error)),
                News::Link(link) => messages.push(Msg::Link(link)),
                News::Nothing => break false,
            }
            if Instant::now() >= end {
                break true;
            }
        };
    }

    /// Takes in a message and does what it asks for. Returns how the screen is left, if it is.
    fn take(&mut self, message: Msg) -> io::Result<Option<LoopExit>> {
        let mut effect = self.app.update(message);
        while let Some(next) = effect.take() {
            match next {
                Effect::Send(command) => self.feed.send(command),
                Effect::LoadSheet(preview) => {
                    let sheet = load_sheet(self.root, &preview);
                    effect = self.app.update(Msg::SheetLoaded { step: preview.step, sheet });
                }
                Effect::FullPicture => {
                    if let Some(picture) = self.app.full_picture() {
                        self.console.full_picture(&picture)?;
                        self.forget_cells()?;
                    }
                }
                Effect::Detach => return Ok(Some(LoopExit::Detached)),
                Effect::Leave => return Ok(Some(LoopExit::Closed)),
            }
        }
        Ok(None)
    }

    fn draw(&mut self, cache: &mut PreviewCache) -> io::Result<()> {
        let start = Instant::now();
        let synchronized = self.console.synchronized();
        self.terminal.backend_mut().begin(synchronized)?;
        if self.pace.take_resized() {
            // Even if the size is what it was before, the terminal has lost cells.
            self.forget_cells()?;
        }
        let drawn = view::draw(self.terminal, self.app, cache).map_err(Into::into)?;
        self.terminal.backend_mut().end(synchronized)?;
        self.app.update(Msg::Drawn(drawn));
        self.pace.drawn(start);
        Ok(())
    }

    /// Makes the next frame repaint everything. Unlike `Terminal::clear`, it doesn't ask the terminal for its cursor.
    fn forget_cells(&mut self) -> io::Result<()> {
        let size = self.terminal.size().map_err(Into::into)?;
        self.terminal.resize(size.into()).map_err(Into::into)
    }
}

/// When the next frame is drawn.
struct Pace {
    /// Something has changed since the last frame.
    dirty: bool,
    /// The size has changed since the last frame.
    resized: bool,
    /// The next frame is drawn at this time at the earliest.
    not_before: Instant,
}

impl Pace {
    /// The first frame is due at once.
    fn new() -> Self {
        Self { dirty: true, resized: false, not_before: Instant::now() }
    }

    /// How long the loop may wait for a key.
    fn wait(&self) -> Duration {
        if self.dirty {
            self.not_before.saturating_duration_since(Instant::now()).min(FRAME)
        } else {
            FRAME
        }
    }

    fn resize(&mut self) {
        (self.dirty, self.resized) = (true, true);
        self.not_before = Instant::now() + SETTLE;
    }

    fn take_resized(&mut self) -> bool {
        std::mem::take(&mut self.resized)
    }

    fn is_due(&self) -> bool {
        self.dirty && Instant::now() >= self.not_before
    }

    /// A frame has been drawn that was begun at `start`.
    fn drawn(&mut self, start: Instant) {
        self.dirty = false;
        self.not_before = start + FRAME.max(start.elapsed() * REST);
    }
}

/// Reads a sheet of previews. Returns `None` if the file is gone or no such sheet, or is none of the run at `root`.
fn load_sheet(root: &Path, preview: &PreviewFile) -> Option<Sheet> {
    let bytes = run_dir::read_preview(root, Path::new(&preview.path)).ok()?;
    let image = decode::decode(&bytes).ok()?;
    sheet::split(&image, preview.image, preview.scale, preview.psnr.len())
}
