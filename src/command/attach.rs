//! The screen on a run of another process, living or not.

use super::train::{for_shell, no_screen};
use crate::process::flags::Flags;

use super::args::LookArgs;
use crate::config::file;
use crate::control::follow::{Follower, Update};
use crate::engine::schedule::Schedule;
use crate::error::Error;
use crate::event::{Command, Event, Started};
use crate::process::background::Background;
use crate::process::signals::{self, Reaction};
use crate::run_dir::{self, event_log};
use crate::text::say::say;
use crate::ui::app::App;
use crate::ui::overlay::Overlay;
use crate::ui::{self, Feed, LoopExit};
use std::io::stdout;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, clap::Args)]
pub struct AttachArgs {
    /// The run's directory
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Only watch: no key gives an order
    #[arg(long)]
    pub read_only: bool,
    /// Draw the loss of these runs behind
    #[arg(long, value_name = "RUN", num_args = 1..)]
    pub compare: Vec<PathBuf>,
    #[command(flatten)]
    pub look: LookArgs,
}

/// Shows a run until the user leaves.
///
/// # Errors
/// There is no such run, no terminal, or an earlier run to compare with can't be read.
pub fn run(args: &AttachArgs) -> Result<(), Error> {
    let root = &args.run;
    let follower = Follower::open(root, "attach", args.read_only)?;
    if let Some(why) = no_screen() {
        return Err(Error::Usage(format!(
            "attach needs a terminal ({why}); simmim-tui ctl {} status tells the same in a few lines",
            root.display()
        )));
    }
    let rates = Rates::default();
    let (colors, ascii) = args.look.detect();
    let lr = {
        let rates = rates.clone();
        Box::new(move |step| rates.lr(step))
    };
    let mut app = App::new(root.display().to_string(), lr, colors, ascii).viewer();
    app.overlays = overlays(&args.compare)?;

    let flags = Flags::default();
    let leaving = Leaving {
        flags: flags.clone(),
        background: Arc::new(Background::new(root.clone(), None, false)),
    };
    let system = |what| move |source| Error::System { what, source };
    let watcher = leaving.clone();
    let watch = leaving.background.watch(move || watcher.gone());
    watch.map_err(system("cannot watch the terminal"))?;
    signals::catch().map_err(system("cannot catch signals"))?.react(leaving);

    let unattended = flags.clone();
    let mut feed = Watched { follower, root: root.clone(), rates, flags: unattended };
    let exit = ui::watch(&mut feed, app, root, &flags);
    if flags.hung_up.load(Ordering::Relaxed) {
        return Ok(()); // nobody is there to be told
    }
    let exit = exit.map_err(|source| Error::System { what: "attach", source })?;
    if exit == LoopExit::Detached {
        let line = format!("goes on; back to it: simmim-tui attach {}", for_shell(root));
        say(&mut stdout(), &format!("run {} {line}", root.display()));
    }
    Ok(())
}

/// Earlier runs, with as short names as tell them apart.
fn overlays(runs: &[PathBuf]) -> Result<Vec<Overlay>, Error> {
    let short = |path: &Path| {
        let name = path.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned();
        Some(name)
    };
    let names: Vec<_> = runs.iter().map(|run| short(run)).collect();
    let unique = |name: &Option<String>| names.iter().filter(|other| *other == name).count() == 1;
    let read = |(run, name): (&PathBuf, &Option<String>)| {
        if !run_dir::holds_run(run) {
            return Err(Error::Usage(format!(
                "no run at {}: --compare takes run directories",
                run.display()
            )));
        }
        let events = event_log::read(&run.join("events.jsonl"))
            .map_err(|source| Error::System { what: "--compare", source })?;
        let name = name.clone().filter(|_| unique(name));
        let name = name.unwrap_or_else(|| run.display().to_string());
        Ok(Overlay::from_events(name, &events))
    };
    runs.iter().zip(&names).map(read).collect()
}

/// The learning rates of a run: known once its log has said how long it is.
#[derive(Clone, Default)]
struct Rates(Arc<Mutex<Option<Schedule>>>);

impl Rates {
    /// By the configuration that the run has now; a resume may have changed it.
    fn learn(&self, root: &Path, started: &Started) {
        let config = file::load(Some(&run_dir::config_path(root)), &[]);
        let schedule = config.ok().map(|config| Schedule::new(&config, started.steps_per_epoch));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = schedule;
    }

    fn lr(&self, step: u64) -> f64 {
        let schedule = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        schedule.as_ref().map_or(0.0, |schedule| schedule.lr(step))
    }
}

/// A followed run as a feed of the screen.
struct Watched {
    follower: Follower,
    root: PathBuf,
    rates: Rates,
    flags: Flags,
}

impl Feed for Watched {
    fn poll(&mut self) -> Update {
        let update = self.follower.poll();
        if let Update::Event(event) = &update
            && let Event::Started(started) = &event.event
        {
            self.rates.learn(&self.root, started);
        }
        update
    }

    fn send(&mut self, command: Command) {
        self.follower.send(command); // what came of it is told by the run
    }

    fn unattended(&self) -> bool {
        self.flags.unattended.load(Ordering::Relaxed)
    }
}

/// Signals and hangups end a viewer; the run is none of its business.
#[derive(Clone)]
struct Leaving {
    flags: Flags,
    background: Arc<Background>,
}

impl Leaving {
    fn gone(&self) {
        self.flags.hung_up.store(true, Ordering::Relaxed);
    }
}

impl Reaction for Leaving {
    fn stop(&mut self, _signal: &'static str) {
        self.flags.unattended.store(true, Ordering::Relaxed);
        ui::terminal::stop_waiting();
    }

    fn checkpoint(&mut self, _signal: &'static str) {}

    fn hang_up(&mut self) {
        self.gone();
    }

    fn wake(&mut self) {
        self.flags.woken.store(true, Ordering::Relaxed);
    }

    fn abort(&mut self) {
        crate::command::train::abandon(true);
    }
}
