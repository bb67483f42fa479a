//! The `train` command: the process around a run, from its launcher and its signals to the front end that shows it.

pub(super) mod reactions;

use super::args::TrainArgs;
use super::prepare;
use super::screen::{self, LiveScreen};
use crate::control::server::Server;
use crate::error::Error;
use crate::event::state::RunState;
use crate::event::{Event, Level, Listener, Order, Stamped};
use crate::headless::{self, Style};
use crate::process::background::Background;
use crate::process::launcher::{self, Launcher};
use crate::process::notify::Notifier;
use crate::process::signals;
use crate::shown;
use crate::text::say::say;
use crate::train::{self, Inbox, Job, Session};
use crossbeam_channel::{Receiver, Sender, bounded};
use reactions::Reactions;
use std::io::{stderr, stdout};

/// Trains as the command line says.
///
/// # Errors
/// Returns every error that ends the program with another exit code than 0.
pub fn run(args: &TrainArgs) -> Result<(), Error> {
    train(args, || prepare::prepare(args))
}

/// Trains the job that `prepare` makes. It is called once signals are caught, and only in the process that trains.
///
/// # Errors
/// Returns every error that ends the program with another exit code than 0.
pub(super) fn train(
    args: &TrainArgs,
    prepare: impl FnOnce() -> Result<Job, Error>,
) -> Result<(), Error> {
    let front_end = FrontEnd::of(args);
    let launcher = Launcher::of_this_process();
    if front_end.needs_launcher() && launcher.is_none() {
        become_launcher();
    }
    let caught = signals::catch().map_err(Error::system("cannot catch signals"))?;
    let job = prepare()?;
    let root = job.run.root().to_owned();
    if let Some(launcher) = &launcher {
        launcher.name_run(&root);
    }
    if let FrontEnd::Lines { instead: Some(why) } = front_end {
        say(&mut stderr(), &format!("{why}: headless, as with --no-ui"));
    }
    say(&mut stderr(), &format!("run {}", shown::path(&root)));

    let screen = (front_end == FrontEnd::Screen).then(|| LiveScreen::new(&job, &args.look));
    let background = Background::new(root.clone(), launcher, args.detach);
    // The server is kept to the end: it serves viewers until the last event has reached them.
    let (session, begun, _server) = start(job, args)?;
    let reactions = Reactions::new(&session, root, background, args.on_hangup, screen.is_some());
    reactions.begin(&caught)?;

    // A trainer that fails before it begins closes the channel without a message.
    if args.detach && begun.recv().is_ok() {
        reactions.detach();
    }
    let (session, state) = match screen {
        None => (session, RunState::default()),
        Some(screen) => match screen.show(session, &reactions)? {
            None => return Ok(()),
            Some(left) => left,
        },
    };
    let style = if args.json { Style::Json } else { Style::Text };
    let lost = headless::follow(session, state, style, &mut stdout(), &mut stderr())?;
    // Nobody waits for the output of a run that has left its terminal.
    match lost.filter(|_| !reactions.background.has_left()) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// What shows the run at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrontEnd {
    Screen,
    /// Plain lines, and why there is no screen if nobody asked for lines.
    Lines {
        instead: Option<&'static str>,
    },
    /// Plain lines of a process that leaves its terminal as soon as the run has begun.
    Background,
}

impl FrontEnd {
    fn of(args: &TrainArgs) -> Self {
        if args.detach {
            return Self::Background;
        }
        if args.no_ui || args.json {
            return Self::Lines { instead: None };
        }
        match screen::obstacle() {
            None => Self::Screen,
            why => Self::Lines { instead: why },
        }
    }

    /// Whether the shell may get its prompt back before the run ends.
    fn needs_launcher(self) -> bool {
        matches!(self, Self::Screen | Self::Background)
    }
}

/// Trains in a second process and ends with its exit code. Returns only if there is no second process.
fn become_launcher() {
    match launcher::launch() {
        Ok(code) => std::process::exit(code),
        Err(error) => say(&mut stderr(), &format!("detaching won't work: {error}")),
    }
}

/// Starts the trainer with everything that listens to it. The receiver gets a message when the run has begun.
fn start(mut job: Job, args: &TrainArgs) -> Result<(Session, Receiver<()>, Option<Server>), Error> {
    let inbox = Inbox::new();
    let (beginning, begun) = bounded(1);
    let mut listeners: Vec<Box<dyn Listener>> = vec![Box::new(Begin(beginning))];
    if let Some(command) = &args.notify {
        listeners.push(Box::new(Notifier::new(command.clone(), job.run.root().to_owned())));
    }
    let server = serve(&mut job, &inbox.sender, &mut listeners);
    let session = train::spawn(job, inbox, listeners);
    let session = session.map_err(Error::system("cannot start the trainer"))?;
    Ok((session, begun, server))
}

/// Opens the socket of the run. A run without one trains all the same and logs a warning.
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

/// Passes on that the run has begun.
struct Begin(Sender<()>);

impl Listener for Begin {
    fn hear(&mut self, stamped: &Stamped, _log_end: u64) {
        if matches!(stamped.event, Event::Started(_)) {
            let _ = self.0.try_send(()); // without --detach nobody waits for it
        }
    }
}
