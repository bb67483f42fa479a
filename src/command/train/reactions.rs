//! How a training run reacts to signals and to the loss of its terminal.

use crate::command::args::OnHangup;
use crate::command::screen;
use crate::error::{self, Error};
use crate::event::{Command, Order};
use crate::process::background::Background;
use crate::process::flags::Flags;
use crate::process::signals::{Caught, Reaction};
use crate::shown;
use crate::text::say::{say, tell};
use crate::text::shell::for_shell;
use crate::train::{FailureKind, Session};
use crossbeam_channel::{Receiver, Sender};
use std::io::stderr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// After a signal the process ends this long after its trainer, even if its output is blocked.
const DEADLINE: Duration = Duration::from_secs(3);

/// What signal handlers and the watch over the terminal need to act on a run. Each of their threads has a clone.
#[derive(Clone)]
pub struct Reactions {
    pub root: PathBuf,
    orders: Sender<Order>,
    /// Gets how the run ended once the trainer has ended.
    ended: Receiver<Result<(), FailureKind>>,
    pub background: Arc<Background>,
    pub flags: Flags,
    policy: OnHangup,
}

impl Reactions {
    pub(super) fn new(
        session: &Session,
        root: PathBuf,
        background: Background,
        policy: OnHangup,
        screen: bool,
    ) -> Self {
        let flags = Flags::default();
        flags.screen.store(screen, Ordering::Relaxed);
        Self {
            root,
            orders: session.orders.clone(),
            ended: session.ended.clone(),
            background: Arc::new(background),
            flags,
            policy,
        }
    }

    /// Lets signals and the loss of the terminal act on the run from now on.
    ///
    /// # Errors
    /// If the terminal can't be watched.
    pub(super) fn begin(&self, caught: &Caught) -> Result<(), Error> {
        let watcher = self.clone();
        let watch = self.background.watch(move || watcher.hang_up());
        watch.map_err(Error::system("cannot watch the terminal"))?;
        caught.react(self.clone());
        Ok(())
    }

    /// Sends an order to the trainer, which may have ended already.
    pub fn order(&self, command: Command, giver: &'static str) {
        let _ = self.orders.send(Order::new(command, giver));
    }

    /// Tells how to come back to the run, and leaves the terminal.
    pub fn detach(&self) {
        let (run, name) = (shown::path(&self.root), for_shell(&self.root));
        let way_back = format!("goes on in the background; back to it: simmim-tui attach {name}");
        if let Err(error) = tell(&format!("run {run} {way_back}")) {
            say(&mut stderr(), &format!("warning: {error}"));
        }
        self.background.leave();
    }

    /// Acts on the loss of the terminal. Several threads may notice it; only the first call has an effect.
    pub fn hang_up(&self) {
        if self.flags.hung_up.swap(true, Ordering::Relaxed) || self.background.has_left() {
            return;
        }
        let command = match self.policy {
            OnHangup::Continue => Command::Checkpoint,
            OnHangup::Stop => Command::Stop,
        };
        self.order(command, "hangup");
        self.flags.unattended.store(true, Ordering::Relaxed);
        // A screen leaves the terminal first: the terminal may still be there although a signal says that it isn't.
        if !self.flags.screen.load(Ordering::Relaxed) {
            self.background.leave();
        }
    }

    /// Ends the process some time after the trainer, even if nobody reads the output that blocks it.
    fn set_deadline(&self) {
        let reactions = self.clone();
        thread::spawn(move || {
            let ended = reactions.ended.recv().unwrap_or(Err(FailureKind::Other));
            thread::sleep(DEADLINE);
            reactions.give_terminal_back();
            std::process::exit(i32::from(error::run_exit_code(ended)));
        });
    }

    fn give_terminal_back(&self) {
        if self.flags.screen.load(Ordering::Relaxed) {
            screen::abandon();
        }
    }
}

impl Reaction for Reactions {
    fn stop(&mut self, signal: &'static str) {
        self.flags.unattended.store(true, Ordering::Relaxed);
        screen::stop_waiting();
        self.order(Command::Stop, signal);
        self.set_deadline();
    }

    fn checkpoint(&mut self, signal: &'static str) {
        self.order(Command::Checkpoint, signal);
    }

    fn hang_up(&mut self) {
        if self.background.has_left() {
            self.checkpoint("SIGHUP"); // the run has no terminal to lose any more
        } else {
            Reactions::hang_up(self);
        }
    }

    fn wake(&mut self) {
        self.flags.woken.store(true, Ordering::Relaxed);
    }

    fn abort(&mut self) {
        self.give_terminal_back();
    }
}
