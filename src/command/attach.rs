//! The `attach` command: the screen on a run of another process, which may have ended.

use super::screen::{self, LookArgs, obstacle};
use crate::config::file;
use crate::control::follow::{Follower, News};
use crate::engine::schedule::Schedule;
use crate::error::Error;
use crate::event::{Command, Event, Started};
use crate::process::background::Background;
use crate::process::flags::Flags;
use crate::process::signals::{self, Reaction};
use crate::run_dir::{self, event_log};
use crate::shown;
use crate::text::say::tell;
use crate::text::shell::for_shell;
use crate::ui::app::App;
use crate::ui::overlay::Overlay;
use crate::ui::{self, Feed, LoopExit};
use std::io::{IsTerminal as _, stdout};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, clap::Args)]
pub struct AttachArgs {
    /// Directory of the run
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Only watch: no key gives an order to the run
    #[arg(long)]
    pub read_only: bool,
    /// Draw the losses of these runs behind those of the run
    #[arg(long, value_name = "RUN", num_args = 1..)]
    pub compare: Vec<PathBuf>,
    #[command(flatten)]
    pub look: LookArgs,
}

/// Shows a run until the user leaves.
///
/// # Errors
/// If there is no such run or no terminal, or if a run to compare with can't be read.
pub fn run(args: &AttachArgs) -> Result<(), Error> {
    let root = &args.run;
    let follower = Follower::open(root, "attach", args.read_only)?;
    if let Some(why) = obstacle() {
        return Err(Error::Usage(format!(
            "attach needs a terminal ({why}); simmim-tui ctl {} status tells the same in a few lines",
            for_shell(root)
        )));
    }
    let rates = Rates::default();
    let (colors, ascii) = args.look.detect();
    let lr = {
        let rates = rates.clone();
        Box::new(move |step| rates.lr(step))
    };
    let mut app = App::new(shown::text(root), lr, colors, ascii).viewer();
    app.overlays = overlays(&args.compare)?;

    let flags = Flags::default();
    let leaving = Leaving {
        flags: flags.clone(),
        background: Arc::new(Background::new(root.clone(), None, false)),
    };
    let watcher = leaving.clone();
    let watch = leaving.background.watch(move || watcher.gone());
    watch.map_err(Error::system("cannot watch the terminal"))?;
    signals::catch().map_err(Error::system("cannot catch signals"))?.react(leaving);

    let unattended = flags.clone();
    let mut feed = Watched { follower, root: root.clone(), rates, flags: unattended };
    let exit = ui::watch(&mut feed, app, root, &flags);
    // The screen may fail on a dropped line before the thread that watches the line has noticed.
    let dropped = exit.is_err() && !stdout().is_terminal();
    if dropped || flags.hung_up.load(Ordering::Relaxed) {
        return Ok(()); // the terminal is gone, so nobody would read a message
    }
    let exit = exit.map_err(Error::system("attach"))?;
    if exit == LoopExit::Detached {
        let line = format!("goes on; back to it: simmim-tui attach {}", for_shell(root));
        tell(&format!("run {} {line}", shown::path(root)))?;
    }
    Ok(())
}

/// Reads runs to compare with. Their names are short where that tells them apart, else their paths.
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
                shown::path(run)
            )));
        }
        let events =
            event_log::read(&run.join("events.jsonl")).map_err(Error::system("--compare"))?;
        let name = name.clone().filter(|_| unique(name));
        let name = name.unwrap_or_else(|| shown::path(run).to_string());
        Ok(Overlay::from_events(shown::line(&name), &events))
    };
    runs.iter().zip(&names).map(read).collect()
}

/// The learning rates of a run, which are known once its log has said how long it is.
#[derive(Clone, Default)]
struct Rates(Arc<Mutex<Option<Schedule>>>);

impl Rates {
    /// Takes the schedule from the configuration that the run has now: a resume may have changed it.
    fn learn(&self, root: &Path, started: &Started) {
        let config = file::saved(&run_dir::config_path(root));
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
    fn poll(&mut self) -> News {
        let update = self.follower.poll();
        if let News::Event(event) = &update
            && let Event::Started(started) = &event.event
        {
            self.rates.learn(&self.root, started);
        }
        update
    }

    fn send(&mut self, command: Command) {
        self.follower.send(command); // the run itself tells what came of it
    }

    fn unattended(&self) -> bool {
        self.flags.unattended.load(Ordering::Relaxed)
    }
}

/// Ends the viewer at a signal or a hangup. The run isn't touched.
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
        screen::stop_waiting();
    }

    fn checkpoint(&mut self, _signal: &'static str) {}

    fn hang_up(&mut self) {
        self.gone();
    }

    fn wake(&mut self) {
        self.flags.woken.store(true, Ordering::Relaxed);
    }

    fn abort(&mut self) {
        screen::abandon();
    }
}
