//! The screen: a front end that draws what the trainer tells and passes on what keys say.
//!
//! One thread reads keys, takes events and draws ([`event_loop()`]). It shares nothing with the trainer but channels.
//! [`run`] shows the run of this process, [`watch`] that of another.

pub mod app;
mod backend;
mod chart_view;
mod clock;
mod event_loop;
pub mod host;
mod keymap;
mod log_pane;
mod marks;
mod metrics;
pub mod overlay;
pub mod panel;
pub mod series;
pub(crate) mod terminal;
mod theme;
pub mod view;

pub use event_loop::{Console, Feed, LoopExit, MaybeSynchronized, event_loop};

use crate::control::follow::News;
use crate::event::state::RunState;
use crate::event::{Command, Order};
use crate::process::flags::Flags;
use crate::train::{RunSummary, Session, TrainError};
use app::App;
use crossbeam_channel::TryRecvError;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use terminal::{RealConsole, TerminalGuard};

/// What became of the run of this process when its screen ended.
pub enum ScreenExit {
    RunOver(Result<RunSummary, TrainError>),
    RunGoesOn { session: Session, reason: LeaveReason, state: Box<RunState> },
}

/// Why a screen ended before the run of its process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaveReason {
    /// The user left it.
    Detached,
    /// The terminal is gone.
    TerminalGone,
    /// The screen couldn't be shown, or panicked; with the error.
    Failed(String),
}

/// Runs the screen of the trainer in this process until it is left. Without anyone at the keyboard it leaves by itself
/// when the run has ended.
pub fn run(session: Session, mut app: App, root: &Path, flags: &Flags) -> ScreenExit {
    let unattended = Arc::clone(&flags.unattended);
    let mut live = Live { unattended, session: Some(session), result: None };
    let log = root.join("stderr.log");
    let reason = match on_terminal(&mut live, &mut app, root, &log, flags) {
        Ok(LoopExit::Closed | LoopExit::Detached) => LeaveReason::Detached,
        Err(NoScreen::Gone(_)) => LeaveReason::TerminalGone,
        Err(error) => LeaveReason::Failed(error.to_string()),
    };
    flags.screen.store(false, Ordering::Relaxed);
    match (live.session, live.result) {
        (Some(session), _) => ScreenExit::RunGoesOn { session, reason, state: Box::new(app.state) },
        (None, Some(result)) => ScreenExit::RunOver(result),
        (None, None) => {
            ScreenExit::RunOver(Err(TrainError::Panic("the trainer left no result".to_owned())))
        }
    }
}

/// Shows a run that another process trains until the screen is left. The app has to be made by [`App::viewer`].
///
/// # Errors
/// If this terminal takes no screen, if it is gone, or if the screen failed. The terminal is given back in any case.
pub fn watch(
    feed: &mut impl Feed,
    mut app: App,
    root: &Path,
    flags: &Flags,
) -> io::Result<LoopExit> {
    // A viewer leaves no trace in the run directory.
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
) -> Result<LoopExit, NoScreen> {
    let (mut guard, mut tty) = TerminalGuard::enter(stderr_log).map_err(NoScreen::Refused)?;
    let (hung_up, woken) = (Arc::clone(&flags.hung_up), Arc::clone(&flags.woken));
    let mut console = RealConsole { depth: app.colors.depth, hung_up, woken };
    let ended =
        catch_unwind(AssertUnwindSafe(|| event_loop(&mut tty, &mut console, feed, app, root)));
    guard.leave();
    // Dropping ratatui's terminal prints to a terminal that may be gone, and panics there.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(tty)));
    match ended {
        Ok(exit) => exit.map_err(NoScreen::Gone),
        Err(_) => Err(NoScreen::Panicked(terminal::held_back_panic().unwrap_or_default())),
    }
}

/// The trainer of this process as a feed.
struct Live {
    /// Set by a signal: whoever sent it doesn't sit at the keyboard.
    unattended: Arc<AtomicBool>,
    /// `None` once the trainer has ended.
    session: Option<Session>,
    /// What the trainer returned; `None` while it runs.
    result: Option<Result<RunSummary, TrainError>>,
}

impl Feed for Live {
    fn poll(&mut self) -> News {
        let Some(session) = &self.session else { return News::Nothing };
        match session.events.try_recv() {
            Ok(event) => News::Event(Box::new(event)),
            Err(TryRecvError::Empty) => News::Nothing,
            Err(TryRecvError::Disconnected) => {
                let result = self.session.take().map(Session::join);
                let error = result.as_ref().and_then(|r| r.as_ref().err()).map(ToString::to_string);
                self.result = result;
                News::Ended(error)
            }
        }
    }

    fn send(&mut self, command: Command) {
        if let Some(session) = &self.session {
            // If the trainer has ended, the next poll says so.
            let _ = session.orders.send(Order::new(command, "the screen"));
        }
    }

    fn unattended(&self) -> bool {
        self.unattended.load(Ordering::Relaxed)
    }
}
