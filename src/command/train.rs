//! The process around a training run: its launcher, its terminal, signals, sockets, and the front end that it has.

use super::args::{OnHangup, TrainArgs};
use super::prepare;
use crate::control::server::Server;
use crate::error::Error;
use crate::event::state::RunState;
use crate::event::{Command, Event, Level, Listener, Order, Stamped};
use crate::headless::{self, Style};
use crate::process::background::Background;
use crate::process::flags::Flags;
use crate::process::launcher::{self, Launcher};
use crate::process::notify::Notifier;
use crate::process::signals::{self, Reaction};
use crate::text::say::say;
use crate::train::trainer::Job;
use crate::train::{self, Inbox};
#[cfg(feature = "tui")]
use crate::ui;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::{IsTerminal as _, stderr, stdin, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// After a signal the process ends this long after its trainer, whatever its output is blocked by.
const DEADLINE: Duration = Duration::from_secs(3);

/// Trains as the command line says.
///
/// # Errors
/// Returns every error that ends the program with another exit code than 0.
pub fn run(args: &TrainArgs) -> Result<(), Error> {
    train(args, || prepare::prepare(args))
}

/// Trains as the command line says. `prepare` is called once signals are caught, and in the process that trains alone.
///
/// # Errors
/// Anything that ends in another exit code than 0.
pub(super) fn train(
    args: &TrainArgs,
    prepare: impl FnOnce() -> Result<Job, Error>,
) -> Result<(), Error> {
    let launcher = Launcher::of_this_process();
    let plain = args.no_ui || args.json;
    let obstacle = if plain || args.detach { None } else { no_screen() };
    let screen = !plain && !args.detach && obstacle.is_none();
    if (screen || args.detach) && launcher.is_none() {
        match launcher::launch() {
            Ok(code) => std::process::exit(code),
            Err(error) => say(&mut stderr(), &format!("detaching won't work: {error}")),
        }
    }
    let system = |what| move |source| Error::System { what, source };
    let caught = signals::catch().map_err(system("cannot catch signals"))?;
    let mut job = prepare()?;
    let root = job.run.root().to_owned();
    if let Some(why) = obstacle {
        say(&mut stderr(), &format!("{why}: headless, as with --no-ui"));
    }
    say(&mut stderr(), &format!("run {}", root.display()));

    let inbox = Inbox::new();
    let orders = inbox.sender.clone();
    let (begun, beginning) = bounded(1);
    let mut listeners: Vec<Box<dyn Listener>> = vec![Box::new(Begin(begun))];
    if let Some(command) = &args.notify {
        listeners.push(Box::new(Notifier::new(command.clone(), root.clone())));
    }
    // Viewers are served until the last event has reached them.
    let _server = serve(&mut job, &orders, &mut listeners);
    #[cfg(feature = "tui")]
    let app = screen.then(|| self::app(&job, &args.look));
    let background = Arc::new(Background::new(root.clone(), launcher, args.detach));
    let session =
        train::spawn(job, inbox, listeners).map_err(system("cannot start the trainer"))?;
    let flags = Flags::default();
    flags.screen.store(screen, Ordering::Relaxed);
    let terminal = Terminal {
        orders,
        ended: session.ended.clone(),
        background: Arc::clone(&background),
        flags: flags.clone(),
        policy: args.on_hangup,
    };
    let (watcher, reaction) = (terminal.clone(), terminal.clone());
    background.watch(move || watcher.gone()).map_err(system("cannot watch the terminal"))?;
    caught.react(reaction);

    let style = if args.json { Style::Json } else { Style::Text };
    let (out, err) = (&mut stdout(), &mut stderr());
    // A trainer that fails before it begins ends the channel without a word.
    if args.detach && beginning.recv().is_ok() {
        say_detached(&root, out);
        background.leave();
    }
    let state = RunState::default();
    #[cfg(feature = "tui")]
    let (session, state) = match app {
        None => (session, state),
        Some(app) => match ui::run(session, app, &root, &flags) {
            ui::ScreenExit::RunOver(result) => {
                result?;
                say(out, &format!("run {}", root.display()));
                return Ok(());
            }
            ui::ScreenExit::RunGoesOn { session, reason, state } => {
                terminal.leave_screen(&reason, &root);
                (session, *state)
            }
        },
    };
    headless::follow(session, state, style, out, err)?;
    Ok(())
}

/// Opens the socket of the run; without one it goes on all the same, and says so.
fn serve(
    job: &mut Job,
    orders: &Sender<Order>,
    listeners: &mut Vec<Box<dyn Listener>>,
) -> Option<Server> {
    let log_end = std::fs::metadata(job.run.events_path()).map_or(0, |log| log.len());
    match Server::start(job.run.root(), orders.clone(), log_end) {
        Ok((server, broadcast)) => {
            listeners.push(Box::new(broadcast));
            Some(server)
        }
        Err(error) => {
            let text = format!(
                "attach can only watch, and ctl won't work: no socket in the run folder ({error})"
            );
            job.notices.push((Level::Warning, text));
            None
        }
    }
}

fn say_detached(root: &Path, out: &mut impl std::io::Write) {
    let name = for_shell(root);
    let line = format!("goes on in the background; back to it: simmim-tui attach {name}");
    say(out, &format!("run {} {line}", root.display()));
}

/// A path as it can be typed, or pasted, at a prompt.
pub fn for_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Passes on that the run has begun.
struct Begin(Sender<()>);

impl Listener for Begin {
    fn hear(&mut self, stamped: &Stamped, _log_end: u64) {
        if matches!(stamped.event, Event::Started(_)) {
            let _ = self.0.try_send(()); // mostly nobody waits for it
        }
    }
}

/// Why there can be no screen, if so.
pub fn no_screen() -> Option<&'static str> {
    if cfg!(not(feature = "tui")) {
        return Some("this build has no screen");
    }
    if !stdout().is_terminal() || !stdin().is_terminal() {
        return Some("no terminal");
    }
    std::env::var_os("TERM").is_none_or(|term| term == "dumb").then_some("TERM is dumb or not set")
}

/// The screen's state before the first event.
#[cfg(feature = "tui")]
fn app(job: &Job, look: &crate::command::args::LookArgs) -> ui::app::App {
    let extent = train::trainer::RunLength::new(&job.config, job.data.train.len());
    let schedule = crate::engine::schedule::Schedule::new(&job.config, extent.steps_per_epoch);
    let name = job.run.root().display().to_string();
    let (colors, ascii) = look.detect();
    ui::app::App::new(name, Box::new(move |step| schedule.lr(step)), colors, ascii)
}

/// What happens around the terminal, on threads of its own.
#[derive(Clone)]
struct Terminal {
    orders: Sender<Order>,
    /// The exit code, once the trainer has ended.
    ended: Receiver<u8>,
    background: Arc<Background>,
    flags: Flags,
    policy: OnHangup,
}

impl Terminal {
    /// The line dropped. The first who notices acts.
    fn gone(&self) {
        if self.flags.hung_up.swap(true, Ordering::Relaxed) || self.background.has_left() {
            return;
        }
        let command = match self.policy {
            OnHangup::Continue => Command::Checkpoint,
            OnHangup::Stop => Command::Stop,
        };
        let _ = self.orders.send(Order::new(command, "hangup")); // the trainer may have ended
        self.flags.unattended.store(true, Ordering::Relaxed);
        // A screen gives the terminal back first: the terminal may live, and a signal say otherwise.
        if !self.flags.screen.load(Ordering::Relaxed) {
            self.background.leave();
        }
    }

    /// The screen is gone but training goes on: in the background where a shell waits for its prompt.
    #[cfg(feature = "tui")]
    fn leave_screen(&self, reason: &ui::LeaveReason, root: &Path) {
        match reason {
            _ if self.flags.hung_up.load(Ordering::Relaxed) => self.background.leave(),
            ui::LeaveReason::TerminalGone => {
                self.gone();
                self.background.leave();
            }
            ui::LeaveReason::Detached if self.background.has_launcher() => {
                let _ = self.orders.send(Order::new(Command::Checkpoint, "detaching"));
                say_detached(root, &mut stdout());
                self.background.leave();
            }
            ui::LeaveReason::Detached => say(&mut stderr(), "screen left, training goes on"),
            ui::LeaveReason::Failed(error) => {
                say(&mut stderr(), &format!("{error}, training goes on"));
            }
        }
    }

    /// Ends the process some time after the trainer: nobody may be there to read the output that blocks it.
    fn set_deadline(&self) {
        let (ended, screen) = (self.ended.clone(), Arc::clone(&self.flags.screen));
        thread::spawn(move || {
            let code = ended.recv().unwrap_or(crate::exit::FAILED);
            thread::sleep(DEADLINE);
            abandon(screen.load(Ordering::Relaxed));
            std::process::exit(i32::from(code));
        });
    }
}

impl Reaction for Terminal {
    fn stop(&mut self, signal: &'static str) {
        self.flags.unattended.store(true, Ordering::Relaxed);
        #[cfg(feature = "tui")]
        ui::terminal::stop_waiting();
        let _ = self.orders.send(Order::new(Command::Stop, signal)); // it may have ended
        self.set_deadline();
    }

    fn checkpoint(&mut self, signal: &'static str) {
        let _ = self.orders.send(Order::new(Command::Checkpoint, signal)); // it may have ended
    }

    fn hang_up(&mut self) {
        if self.background.has_left() {
            self.checkpoint("SIGHUP"); // there is no terminal to lose any more
        } else {
            self.gone();
        }
    }

    fn wake(&mut self) {
        self.flags.woken.store(true, Ordering::Relaxed);
    }

    fn abort(&mut self) {
        abandon(self.flags.screen.load(Ordering::Relaxed));
    }
}

/// Gives the terminal back, unless it takes nothing any more.
pub fn abandon(screen: bool) {
    #[cfg(feature = "tui")]
    if screen {
        let done = thread::spawn(ui::terminal::abandon);
        for _ in 0..20 {
            if done.is_finished() {
                break;
            }
            thread::sleep(Duration::from_millis(25));
        }
    }
    #[cfg(not(feature = "tui"))]
    let _ = screen;
}
