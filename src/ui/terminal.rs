//! The real terminal: it is set up for the screen, its bytes are counted, and it is given back in any case.

use super::Console;
use super::backend::RealBackend;
use crate::control::socket;
use crate::files;
use crate::terminal::colors::ColorDepth;
use crate::terminal::size::clamped;
use crossterm::event::{self, Event};
use crossterm::{cursor, execute, terminal as tty};
use image::RgbImage;
use ratatui::Terminal;
use rustix::event::{PollFd, PollFlags};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

/// Whether the screen is up. A panic's message is then held back, since it would be drawn over.
static ACTIVE: AtomicBool = AtomicBool::new(false);
/// The first panic while the screen was up.
static PANIC: Mutex<Option<String>> = Mutex::new(None);
/// Whether a signal has asked for the end, after which nothing may wait for a key.
static LEAVING: AtomicBool = AtomicBool::new(false);
/// How long [`RealConsole`] waits for a key before it looks whether it still has to wait.
const PATIENCE: Duration = Duration::from_millis(250);
/// A wait just long enough for crossterm to look for input once.
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
pub(crate) type Tty = Terminal<RealBackend<Counted>>;

/// The terminal while the screen is up. Dropping the guard gives it back.
pub(crate) struct TerminalGuard {
    stderr: Option<OwnedFd>,
    down: bool,
}

impl TerminalGuard {
    /// Enters raw mode and the alternate screen, and sends standard error to `stderr_log`, so that no library writes
    /// over the screen.
    ///
    /// # Errors
    /// If standard output is not a terminal that takes this.
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
        let backend = RealBackend::new(Counted(BufWriter::with_capacity(1 << 16, out)));
        Ok((guard, Terminal::new(backend)?))
    }

    /// Gives the terminal back. A second call does nothing. Errors are ignored, as they mean that it is gone already.
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

/// Leaves the alternate screen and raw mode. Another thread may call this just before it ends the process. It doesn't
/// write through standard output, whose buffer keeps what a terminal that is gone didn't take.
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

/// Gives the terminal back if the screen is up. Nothing may be drawn afterwards.
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

/// Takes the message of a panic that happened while the screen was up.
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
    let file = if log == Path::new("/dev/null") {
        File::options().append(true).open(log)?
    } else {
        files::open_log(log)?
    };
    rustix::stdio::dup2_stderr(&file)?;
    Ok(before)
}

/// The keys and pictures of the real terminal. One thread reads and draws, because viuer and crossterm must not read
/// at the same time.
pub(crate) struct RealConsole {
    pub depth: ColorDepth,
    /// Set by a signal or by the watch over the terminal when the terminal is gone.
    pub hung_up: Arc<AtomicBool>,
    /// Set when the process goes on after a stop. The shell has changed the terminal meanwhile.
    pub woken: Arc<AtomicBool>,
}

/// Returns what the terminal has sent, or its new size, without waiting.
///
/// crossterm spins for the last millisecond of every wait, and with a wait of zero it doesn't look at all.
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
            // crossterm believes that raw mode is still on, so it has to be turned off first.
            tty::disable_raw_mode()?;
            tty::enable_raw_mode()?;
            execute!(io::stdout(), tty::EnterAlternateScreen, cursor::Hide)?;
            let (columns, rows) = tty::size()?;
            return Ok(Some(Event::Resize(columns, rows))); // makes the loop draw everything again
        }
        // `wait` doesn't see what crossterm has already read.
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
        let (columns, rows) = clamped(columns, rows);
        execute!(io::stdout(), tty::Clear(tty::ClearType::All))?;
        crate::terminal::graphics::zoom(picture, columns, rows, self.depth == ColorDepth::True)
            .map_err(io::Error::other)?;
        // If a signal ends the run meanwhile, nobody will press a key.
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
        // tmux 3.3 ignores synchronized updates, and later versions resend the whole pane for each.
        std::env::var_os("TMUX").is_none()
    }
}
