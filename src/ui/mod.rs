//! The screen: a front end that draws what the trainer tells and passes on what keys say.
//!
//! One thread reads keys, takes events and draws. It shares nothing with the trainer but channels, draws only after a
//! change, at most ten times a second, and slower when the terminal takes long to swallow a frame.

pub mod app;
pub mod chart_view;
pub mod clock;
pub mod host;
pub mod keys;
pub mod log_pane;
pub mod marks;
pub mod metrics;
pub mod overlay;
pub mod series;
pub mod terminal;
pub mod theme;
pub mod view;

use crate::control::Link;
use crate::event::state::RunState;
use crate::event::{Command, Order, Stamped, now};
use crate::picture::sheet::{self, Sheet};
use crate::process::flags::Flags;
use crate::train::Session;
use crate::train::trainer::{RunSummary, TrainError};
use app::{App, Effect, Msg};
use crossbeam_channel::TryRecvError;
use crossterm::event::{Event as TerminalEvent, KeyEventKind};
use image::RgbImage;
use ratatui::Terminal;
use ratatui::backend::Backend;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use terminal::{RealConsole, TerminalGuard};
use view::previews::PreviewCache;

/// Shortest time between two frames.
const FRAME: Duration = Duration::from_millis(100);
/// Sizes settle for this long before a frame is drawn for them: each costs a full repaint.
const SETTLE: Duration = Duration::from_millis(120);
/// A frame that took long (a stalled line) is followed by a rest of this many times its own time.
const REST: u32 = 4;

/// What the loop needs from a terminal beside drawing.
pub trait Console {
    /// The next key or change of size, waiting at most `wait`.
    ///
    /// # Errors
    /// The terminal is gone.
    fn next(&mut self, wait: Duration) -> io::Result<Option<TerminalEvent>>;

    /// Shows one picture on the whole screen until a key.
    ///
    /// # Errors
    /// The terminal is gone.
    fn full_picture(&mut self, picture: &RgbImage) -> io::Result<()>;

    /// Bytes written to the terminal so far.
    fn written(&self) -> u64;

    /// Whether frames are wrapped in synchronized updates.
    fn synchronized(&self) -> bool;
}

/// Where events come from and commands go.
pub trait Feed {
    fn poll(&mut self) -> Polled;
    fn send(&mut self, command: Command);

    /// Whether the end of the run is the end of the screen, without waiting for a key.
    fn unattended(&self) -> bool {
        false
    }
}

/// The state of a feed.
pub enum Polled {
    Event(Box<Stamped>),
    Nothing,
    /// Over, for the first time; with the text of the error if it failed.
    Ended(Option<String>),
    /// For a viewer: what became of the process that it watches. The first comes after all that happened before.
    Link(Link),
}

/// How the screen was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Training goes on.
    Detached,
    /// After the end of the run.
    Left,
}

/// A running trainer as a feed.
struct Live {
    /// Set by a signal: whoever sent it doesn't sit at the keyboard.
    unattended: Arc<AtomicBool>,
    session: Option<Session>,
    result: Option<Result<RunSummary, TrainError>>,
}

impl Feed for Live {
    fn poll(&mut self) -> Polled {
        let Some(session) = &self.session else { return Polled::Nothing };
        match session.events.try_recv() {
            Ok(event) => Polled::Event(Box::new(event)),
            Err(TryRecvError::Empty) => Polled::Nothing,
            Err(TryRecvError::Disconnected) => {
                let result = self.session.take().map(Session::join);
                let error = result.as_ref().and_then(|r| r.as_ref().err()).map(ToString::to_string);
                self.result = result;
                Polled::Ended(error)
            }
        }
    }

    fn send(&mut self, command: Command) {
        if let Some(session) = &self.session {
            let _ = session.orders.send(Order::new(command, "the screen")); // the trainer ended: the feed says so next
        }
    }

    fn unattended(&self) -> bool {
        self.unattended.load(Ordering::Relaxed)
    }
}

/// How the screen of a training process ended.
pub enum ScreenExit {
    /// The run has ended.
    Over(Result<RunSummary, TrainError>),
    /// Training goes on.
    Left { session: Session, why: Why, state: Box<RunState> },
}

/// Why the screen was left before the end of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    Detached,
    /// The terminal is gone.
    Gone,
    /// The screen couldn't be shown, or panicked.
    Failed(String),
}

/// Runs the screen on a live trainer until it is left; when unattended it leaves by itself when the run has ended.
pub fn run(session: Session, mut app: App, root: &Path, flags: &Flags) -> ScreenExit {
    let unattended = Arc::clone(&flags.unattended);
    let mut live = Live { unattended, session: Some(session), result: None };
    let log = root.join("stderr.log");
    let why = match on_terminal(&mut live, &mut app, root, &log, flags) {
        Ok(Exit::Left | Exit::Detached) => Why::Detached,
        Err(NoScreen::Gone(_)) => Why::Gone,
        Err(why) => Why::Failed(why.to_string()),
    };
    flags.screen.store(false, Ordering::Relaxed);
    match (live.session, live.result) {
        (Some(session), _) => ScreenExit::Left { session, why, state: Box::new(app.state) },
        (None, Some(result)) => ScreenExit::Over(result),
        (None, None) => {
            ScreenExit::Over(Err(TrainError::Panic("the trainer left no result".to_owned())))
        }
    }
}

/// Shows a run that is trained elsewhere, until the screen is left: for an app made by [`App::viewer`].
///
/// # Errors
/// There is no screen on this terminal, the terminal is gone, or the screen failed; it is given back in any case.
pub fn watch(feed: &mut impl Feed, mut app: App, root: &Path, flags: &Flags) -> io::Result<Exit> {
    // A viewer leaves no trace in the folder of the run.
    let nowhere = Path::new("/dev/null");
    on_terminal(feed, &mut app, root, nowhere, flags).map_err(io::Error::other)
}

/// Why there is no screen, or no longer.
#[derive(Debug, thiserror::Error)]
enum NoScreen {
    #[error("no screen on this terminal ({0})")]
    Refused(io::Error),
    #[error("the terminal is gone ({0})")]
    Gone(io::Error),
    #[error("the screen failed: {0}")]
    Panicked(String),
}

/// Runs the loop on the real terminal and gives it back, whatever happens.
fn on_terminal(
    feed: &mut impl Feed,
    app: &mut App,
    root: &Path,
    stderr_log: &Path,
    flags: &Flags,
) -> Result<Exit, NoScreen> {
    let (mut guard, mut tty) = TerminalGuard::enter(stderr_log).map_err(NoScreen::Refused)?;
    let (hung_up, woken) = (Arc::clone(&flags.hung_up), Arc::clone(&flags.woken));
    let mut console = RealConsole { depth: app.colors.depth, hung_up, woken };
    let ended =
        catch_unwind(AssertUnwindSafe(|| event_loop(&mut tty, &mut console, feed, app, root)));
    guard.leave();
    // Its own end prints to a terminal that may be gone, and panics there.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(tty)));
    match ended {
        Ok(exit) => exit.map_err(NoScreen::Gone),
        Err(_) => Err(NoScreen::Panicked(terminal::held_back_panic().unwrap_or_default())),
    }
}

/// Takes in messages and draws until the screen is left.
///
/// # Errors
/// The terminal is gone.
pub fn event_loop<B>(
    terminal: &mut Terminal<B>,
    console: &mut impl Console,
    feed: &mut impl Feed,
    app: &mut App,
    root: &Path,
) -> io::Result<Exit>
where
    B: Backend + MaybeSynchronized,
    B::Error: Into<io::Error>,
{
    let mut monitor = host::Monitor::new();
    let mut cache = PreviewCache::default();
    let mut dirty = true;
    let mut resized = false;
    let mut behind = false;
    let mut not_before = Instant::now();
    let mut second = 0;
    loop {
        let wait = if behind {
            Duration::ZERO
        } else if dirty {
            not_before.saturating_duration_since(Instant::now())
        } else {
            FRAME
        };
        let mut messages = Vec::new();
        match console.next(wait.min(FRAME))? {
            Some(TerminalEvent::Key(key)) if key.kind != KeyEventKind::Release => {
                messages.push(Msg::Key(key));
            }
            Some(TerminalEvent::Resize(..)) => {
                (dirty, resized) = (true, true);
                not_before = Instant::now() + SETTLE;
            }
            _ => {}
        }
        // A long history comes in portions, so that keys are heard meanwhile.
        let portion = Instant::now() + FRAME;
        behind = loop {
            match feed.poll() {
                Polled::Event(event) => messages.push(Msg::Event(event)),
                Polled::Ended(error) => messages.push(Msg::Ended(error)),
                Polled::Link(link) => messages.push(Msg::Link(link)),
                Polled::Nothing => break false,
            }
            if Instant::now() >= portion {
                break true;
            }
        };
        messages.extend(monitor.poll().map(Msg::Host));
        let time = now();
        if time as u64 != second {
            second = time as u64; // clocks on the screen count seconds
            messages.insert(0, Msg::Tick(time));
            messages.insert(1, Msg::Written(console.written()));
        }
        dirty |= !messages.is_empty();
        for message in messages {
            let mut effect = app.update(message);
            while let Some(next) = effect.take() {
                match next {
                    Effect::Send(command) => feed.send(command),
                    Effect::LoadSheet(preview) => {
                        let sheet = load_sheet(&root.join(&preview.path), &preview);
                        effect = app.update(Msg::SheetLoaded { step: preview.step, sheet });
                    }
                    Effect::FullPicture => {
                        if let Some(picture) = app.full_picture() {
                            console.full_picture(&picture)?;
                            let size = terminal.size().map_err(Into::into)?;
                            // Repaints everything, without asking the terminal for its cursor.
                            terminal.resize(size.into()).map_err(Into::into)?;
                        }
                    }
                    Effect::Detach => return Ok(Exit::Detached),
                    Effect::Leave => return Ok(Exit::Left),
                }
            }
        }
        if feed.unattended() && (app.is_over() || app.is_viewer()) {
            return Ok(Exit::Left);
        }
        if dirty && Instant::now() >= not_before {
            let start = Instant::now();
            let synchronized = console.synchronized();
            terminal.backend_mut().begin(synchronized)?;
            if std::mem::take(&mut resized) {
                // The size may be what it was: the terminal has lost cells all the same.
                let size = terminal.size().map_err(Into::into)?;
                terminal.resize(size.into()).map_err(Into::into)?;
            }
            let drawn = view::draw(terminal, app, &mut cache).map_err(Into::into)?;
            app.update(Msg::Drawn(drawn));
            terminal.backend_mut().end(synchronized)?;
            dirty = false;
            not_before = start + FRAME.max(start.elapsed() * REST);
        }
    }
}

/// Frames that appear at once where the terminal can do it.
pub trait MaybeSynchronized {
    /// # Errors
    /// The terminal is gone.
    fn begin(&mut self, synchronized: bool) -> io::Result<()> {
        let _ = synchronized;
        Ok(())
    }
    /// # Errors
    /// The terminal is gone.
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

/// Reads a sheet of previews; `None` if the file is gone or something else.
fn load_sheet(path: &PathBuf, preview: &crate::event::PreviewFile) -> Option<Sheet> {
    let image = image::open(path).ok()?.into_rgb8();
    sheet::split(&image, preview.image, preview.scale, preview.psnr.len())
}
