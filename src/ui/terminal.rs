//! The real terminal: entered, counted, and always given back.

use super::Console;
use crate::control::socket;
use crate::terminal::colors::ColorDepth;
use crossterm::event::{self, Event};
use crossterm::{cursor, execute, terminal as tty};
use image::RgbImage;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use rustix::event::{PollFd, PollFlags};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

/// Whether the screen is up: a panic message must then wait.
static ACTIVE: AtomicBool = AtomicBool::new(false);
/// The first panic while the screen was up.
static PANIC: Mutex<Option<String>> = Mutex::new(None);
/// A signal asked for the end: nothing may wait for a key any more.
static LEAVING: AtomicBool = AtomicBool::new(false);
/// How long a key is waited for before looking whether it still matters.
const PATIENCE: Duration = Duration::from_millis(250);
/// Long enough for crossterm to look once.
const GLANCE: Duration = Duration::from_micros(50);
/// The terminal of the screen while it is up.
static SCREEN: Mutex<Option<File>> = Mutex::new(None);
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Buffered standard output that counts its bytes.
pub(crate) struct Counted(BufWriter<File>);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        WRITTEN.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// ratatui's terminal on standard output.
pub(crate) type Tty = Terminal<CrosstermBackend<Counted>>;

/// The terminal while it is ours. Dropping it gives the terminal back.
pub(crate) struct TerminalGuard {
    stderr: Option<OwnedFd>,
    down: bool,
}

impl TerminalGuard {
    /// Raw mode and alternate screen; standard error goes to `stderr_log`, so that no library writes over the screen.
    ///
    /// # Errors
    /// Standard output is no terminal that takes this.
    pub(crate) fn enter(stderr_log: &Path) -> io::Result<(Self, Tty)> {
        hold_back_panics();
        tty::enable_raw_mode()?;
        ACTIVE.store(true, Ordering::SeqCst);
        let mut guard = Self { stderr: None, down: false };
        let own = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        *SCREEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        execute!(io::stdout(), tty::EnterAlternateScreen, cursor::Hide)?;
        guard.stderr = redirect_stderr(stderr_log).ok();
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let backend = CrosstermBackend::new(Counted(BufWriter::with_capacity(1 << 16, out)));
        Ok((guard, Terminal::new(backend)?))
    }

    /// Gives the terminal back; a second call does nothing. Errors mean that it is gone already.
    pub(crate) fn leave(&mut self) {
        if std::mem::replace(&mut self.down, true) {
            return;
        }
        give_back();
        if let Some(stderr) = self.stderr.take() {
            let _ = rustix::stdio::dup2_stderr(&stderr);
        }
        ACTIVE.store(false, Ordering::SeqCst);
    }
}

/// Alternate screen and raw mode off. Also for the moment before the process is ended from another thread. Not through
/// standard output, which keeps what a terminal that is gone didn't take.
fn give_back() {
    if let Some(mut screen) = SCREEN.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = execute!(screen, tty::LeaveAlternateScreen, cursor::Show);
    }
    let _ = tty::disable_raw_mode();
}

/// Ends every wait for a key.
pub(crate) fn stop_waiting() {
    LEAVING.store(true, Ordering::Relaxed);
}

/// Gives the terminal back if the screen is up; nothing else may be drawn afterwards.
pub(crate) fn abandon() {
    if ACTIVE.swap(false, Ordering::SeqCst) {
        give_back();
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The message of a panic that happened while the screen was up.
pub(crate) fn held_back_panic() -> Option<String> {
    PANIC.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn hold_back_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if ACTIVE.load(Ordering::SeqCst) {
                let mut slot = PANIC.lock().unwrap_or_else(PoisonError::into_inner);
                slot.get_or_insert_with(|| info.to_string());
            } else {
                usual(info);
            }
        }));
    });
}

fn redirect_stderr(log: &Path) -> io::Result<OwnedFd> {
    let before = io::stderr().as_fd().try_clone_to_owned()?;
    let file = File::options().create(true).append(true).open(log)?;
    rustix::stdio::dup2_stderr(&file)?;
    Ok(before)
}

/// Keys and pictures of the real terminal. One thread reads and draws: viuer and crossterm must not read at once.
pub(crate) struct RealConsole {
    pub depth: ColorDepth,
    /// The terminal is gone, as a signal or its watch has told.
    pub hung_up: Arc<AtomicBool>,
    /// The process was stopped: its shell has set up the terminal as it likes.
    pub woken: Arc<AtomicBool>,
}

/// What the terminal has sent, or its new size, without a wait.
///
/// crossterm spins for the last millisecond of every wait, and a zero wait doesn't look at all.
fn ready() -> io::Result<Option<Event>> {
    if event::poll(GLANCE)? { event::read().map(Some) } else { Ok(None) }
}

impl RealConsole {
    fn still_there(&self) -> io::Result<()> {
        if self.hung_up.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

impl Console for RealConsole {
    fn next(&mut self, wait: Duration) -> io::Result<Option<Event>> {
        self.still_there()?;
        if self.woken.swap(false, Ordering::Relaxed) {
            // Off first: crossterm takes the mode for what it has set itself.
            tty::disable_raw_mode()?;
            tty::enable_raw_mode()?;
            execute!(io::stdout(), tty::EnterAlternateScreen, cursor::Hide)?;
            let (columns, rows) = tty::size()?;
            return Ok(Some(Event::Resize(columns, rows))); // everything is drawn again
        }
        // What crossterm has read already isn't seen by `wait`.
        let event = match ready()? {
            None => {
                let stdin = io::stdin();
                let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
                socket::wait(&mut fds, Some(wait));
                if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                ready()?
            }
            event => event,
        };
        self.still_there()?;
        Ok(event)
    }

    fn full_picture(&mut self, picture: &RgbImage) -> io::Result<()> {
        let (columns, rows) = tty::size()?;
        execute!(io::stdout(), tty::Clear(tty::ClearType::All))?;
        crate::terminal::graphics::zoom(picture, columns, rows, self.depth == ColorDepth::True)
            .map_err(io::Error::other)?;
        // A signal may end the run meanwhile, and nobody presses a key then.
        while ACTIVE.load(Ordering::SeqCst) && !LEAVING.load(Ordering::Relaxed) {
            self.still_there()?;
            if event::poll(PATIENCE)? && matches!(event::read()?, Event::Key(_) | Event::Resize(..))
            {
                break;
            }
        }
        Ok(())
    }

    fn written(&self) -> u64 {
        WRITTEN.load(Ordering::Relaxed)
    }

    fn synchronized(&self) -> bool {
        // tmux 3.3 ignores it, later ones resend the whole pane for it.
        std::env::var_os("TMUX").is_none()
    }
}
