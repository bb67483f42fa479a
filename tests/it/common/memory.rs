//! The screen's real event loop on a terminal in memory, with keys from a script and events from a list.

use crossterm::event::{Event as TerminalEvent, KeyEvent};
use image::RgbImage;
use ratatui::backend::{Backend, ClearType, CrosstermBackend, TestBackend, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Rect, Size};
use ratatui::{Terminal, TerminalOptions, Viewport};
use simmim_tui::control::Link;
use simmim_tui::control::follow::News;
use simmim_tui::event::{Command, Event, Phase, Stamped};
use simmim_tui::terminal::colors::ColorDepth;
use simmim_tui::ui::app::{App, Msg};
use simmim_tui::ui::view::{self, PreviewCache};
use simmim_tui::ui::{Console, Feed, LoopExit, MaybeSynchronized, event_loop};
use std::cell::{Cell as Shared, RefCell};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZeroU16;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The time after which a script has failed if what it waits for has not happened.
const DEADLINE: Duration = Duration::from_secs(20);

/// One step of a script: what the person at the terminal does next.
pub enum Step {
    /// Waits until the screen shows this text.
    Saw(&'static str),
    Wait(Duration),
    Key(KeyEvent),
    /// Resizes the terminal.
    Resize(u16, u16),
}

pub struct Script {
    steps: VecDeque<Step>,
}

impl Script {
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }
}

/// A trainer that has sent some events and carries out orders.
pub struct Source {
    events: VecDeque<Stamped>,
    sent: Vec<Command>,
    /// Sends one event per second poll, like a slow trainer.
    pub one_at_a_time: bool,
    pause: bool,
    /// The links that a viewer receives after the events.
    pub links: VecDeque<Link>,
    pub unattended: bool,
    /// Whether the run ends after the events, and with which error.
    #[expect(clippy::option_option, reason = "whether it ends, and with what error")]
    pub ends: Option<Option<String>>,
}

impl Source {
    pub fn obedient(events: Vec<Stamped>) -> Self {
        Self {
            events: events.into(),
            sent: Vec::new(),
            one_at_a_time: false,
            pause: false,
            links: VecDeque::new(),
            unattended: false,
            ends: None,
        }
    }
}

impl Feed for Source {
    fn poll(&mut self) -> News {
        self.pause ^= self.one_at_a_time;
        if self.pause {
            return News::Nothing;
        }
        if let Some(event) = self.events.pop_front() {
            return News::Event(Box::new(event));
        }
        if let Some(link) = self.links.pop_front() {
            return News::Link(link);
        }
        self.ends.take().map_or(News::Nothing, News::Ended)
    }

    fn send(&mut self, command: Command) {
        let phase = match command {
            Command::Pause => Phase::Paused,
            Command::Resume => Phase::Running,
            Command::Checkpoint => Phase::Saving,
            Command::Stop => Phase::Stopping,
        };
        self.sent.push(command);
        self.events.push_back(Stamped { time: 0.0, event: Event::Phase { phase } });
        if command == Command::Stop {
            self.ends = Some(None);
        }
    }

    fn unattended(&self) -> bool {
        self.unattended
    }
}

/// Counts what was done to the terminal in memory.
#[derive(Default)]
struct Counts {
    frames: Shared<u64>,
    clears: Shared<u64>,
}

/// ratatui's backend in memory, shared with the test, which looks at its contents, and with counts.
#[derive(Clone)]
struct Memory {
    inner: Rc<RefCell<TestBackend>>,
    counts: Rc<Counts>,
}

fn never<T>(result: Result<T, std::convert::Infallible>) -> io::Result<T> {
    result.map_err(|error| match error {})
}

impl Backend for Memory {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> io::Result<()> {
        self.counts.frames.set(self.counts.frames.get() + 1);
        never(self.inner.borrow_mut().draw(content))
    }
    fn hide_cursor(&mut self) -> io::Result<()> {
        never(self.inner.borrow_mut().hide_cursor())
    }
    fn show_cursor(&mut self) -> io::Result<()> {
        never(self.inner.borrow_mut().show_cursor())
    }
    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Err(io::Error::other("a real terminal may never answer this"))
    }
    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        never(self.inner.borrow_mut().set_cursor_position(position))
    }
    fn clear(&mut self) -> io::Result<()> {
        self.counts.clears.set(self.counts.clears.get() + 1);
        never(self.inner.borrow_mut().clear())
    }
    fn clear_region(&mut self, what: ClearType) -> io::Result<()> {
        self.counts.clears.set(self.counts.clears.get() + 1);
        never(self.inner.borrow_mut().clear_region(what))
    }
    fn size(&self) -> io::Result<Size> {
        never(self.inner.borrow().size())
    }
    fn window_size(&mut self) -> io::Result<WindowSize> {
        never(self.inner.borrow_mut().window_size())
    }
    fn flush(&mut self) -> io::Result<()> {
        never(self.inner.borrow_mut().flush())
    }
}

impl MaybeSynchronized for Memory {}

struct Person {
    script: Script,
    screen: Memory,
    pictures: Vec<(u32, u32)>,
    /// When the current step of the script began.
    since: Instant,
}

impl Person {
    fn sees(&self, text: &str) -> bool {
        super::dashboard::text(self.screen.inner.borrow().buffer()).contains(text)
    }
}

impl Console for Person {
    fn next(&mut self, wait: Duration) -> io::Result<Option<TerminalEvent>> {
        let done = match self.script.steps.front() {
            Some(Step::Saw(text)) => self.sees(text),
            Some(Step::Wait(time)) => self.since.elapsed() > *time,
            Some(Step::Key(_) | Step::Resize(..)) => true,
            None => false,
        };
        if done {
            self.since = Instant::now();
            match self.script.steps.pop_front() {
                Some(Step::Key(key)) => return Ok(Some(TerminalEvent::Key(key))),
                Some(Step::Resize(width, height)) => {
                    self.screen.inner.borrow_mut().resize(width, height);
                    return Ok(Some(TerminalEvent::Resize(width, height)));
                }
                _ => return Ok(None),
            }
        }
        if self.since.elapsed() > DEADLINE {
            let text = super::dashboard::text(self.screen.inner.borrow().buffer());
            let waits = match self.script.steps.front() {
                Some(Step::Saw(text)) => text,
                _ => "the end of the loop",
            };
            panic!("waited in vain for {waits:?}:\n{text}");
        }
        std::thread::sleep(wait.min(Duration::from_millis(5)));
        Ok(None)
    }

    fn full_picture(&mut self, picture: &RgbImage) -> io::Result<()> {
        self.pictures.push(picture.dimensions());
        Ok(())
    }

    fn written(&self) -> u64 {
        0
    }

    fn synchronized(&self) -> bool {
        true
    }
}

/// What happened while the event loop ran.
pub struct Ran {
    pub exit: LoopExit,
    pub sent: Vec<Command>,
    pub pictures: Vec<(u32, u32)>,
    pub frames: u64,
    pub clears: u64,
    pub took: Duration,
}

/// Runs the event loop of a trainer's own screen until the script leaves it.
pub fn run(script: Script, source: Source, size: (u16, u16)) -> Ran {
    run_app(super::dashboard::empty(ColorDepth::True, false), script, source, size)
}

/// Runs the event loop of a viewer until the script leaves it.
pub fn watch(script: Script, source: Source, size: (u16, u16)) -> Ran {
    run_app(super::dashboard::empty(ColorDepth::True, false).viewer(), script, source, size)
}

fn run_app(mut app: App, script: Script, mut source: Source, size: (u16, u16)) -> Ran {
    let inner = Rc::new(RefCell::new(TestBackend::new(size.0, size.1)));
    let screen = Memory { inner, counts: Rc::default() };
    let mut terminal = Terminal::new(screen.clone()).expect("no query is made");
    let (start, counts) = (Instant::now(), screen.counts.clone());
    let mut person = Person { script, screen, pictures: Vec::new(), since: start };
    let root = super::dashboard::root();
    let exit = event_loop(&mut terminal, &mut person, &mut source, &mut app, &root);
    let exit = exit.expect("this terminal stays");
    assert!(person.script.steps.is_empty(), "the loop ended before the script");
    let (frames, clears) = (counts.frames.get(), counts.clears.get());
    let (sent, pictures) = (source.sent, person.pictures);
    Ran { exit, sent, pictures, frames, clears, took: start.elapsed() }
}

#[derive(Clone, Default)]
struct Line(Rc<RefCell<Vec<u8>>>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal that counts the bytes sent to it and interprets them.
pub struct Bytes {
    line: Line,
    terminal: Terminal<CrosstermBackend<Line>>,
    cache: PreviewCache,
    shows: vt100::Parser,
}

impl Bytes {
    pub fn new(width: u16, height: u16) -> Self {
        let line = Line::default();
        let viewport = Viewport::Fixed(Rect::new(0, 0, width, height));
        let backend = CrosstermBackend::new(line.clone());
        let terminal = Terminal::with_options(backend, TerminalOptions { viewport });
        let size = |n| NonZeroU16::new(n).expect("a size");
        Self {
            line,
            terminal: terminal.expect("memory"),
            cache: PreviewCache::default(),
            shows: vt100::Parser::new(size(height), size(width), 0),
        }
    }

    /// Draws a frame as the event loop does. Returns the number of bytes that were sent.
    pub fn draw(&mut self, app: &mut App) -> usize {
        self.terminal.backend_mut().begin(true).expect("memory");
        let drawn = view::draw(&mut self.terminal, app, &mut self.cache).expect("memory");
        app.update(Msg::Drawn(drawn));
        self.terminal.backend_mut().end(true).expect("memory");
        let bytes = std::mem::take(&mut *self.line.0.borrow_mut());
        self.shows.process(&bytes);
        bytes.len()
    }

    pub fn text(&self) -> String {
        self.shows.screen().contents()
    }
}
