//! A run without a trainer: it has a folder, a log and a socket.

use crossbeam_channel::{Receiver, unbounded};
use simmim_tui::control::Link;
use simmim_tui::control::follow::{Follower, News};
use simmim_tui::control::server::{Broadcast, Server};
use simmim_tui::event::{
    Event, Finished, Level, Listener as _, Order, Reason, Stamped, Started, StepReport, TaskKind,
    TimeSplit,
};
use simmim_tui::run_dir::{EventLog, Owner, RunDir};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The time after which a wait has failed. Nothing here takes a tenth of it on an idle machine.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// Stands for the process that trains, as other processes see it.
pub struct Fake {
    pub root: PathBuf,
    pub log: EventLog,
    pub broadcast: Broadcast,
    pub orders: Receiver<Order>,
    server: Option<Server>,
    _run: RunDir,
}

impl Fake {
    /// Starts a run, or resumes it if it has a log.
    pub fn start(root: &Path) -> Self {
        let mut run = None;
        // A child process that another test is starting holds a copy of the last run's lock until it executes its
        // own program.
        until("the run can be written", || {
            let goes_on = root.join("events.jsonl").exists();
            run = if goes_on { RunDir::open(root) } else { RunDir::create(root) }.ok();
            run.is_some()
        });
        let run = run.expect("waited for");
        let log = EventLog::open(&run.events_path()).expect("writable");
        let (sender, orders) = unbounded();
        let (server, broadcast) = Server::start(root, sender, log.end()).expect("a socket");
        Self { root: root.to_owned(), log, broadcast, orders, server: Some(server), _run: run }
    }

    /// Logs an event and broadcasts it.
    pub fn say(&mut self, event: Event) {
        let stamped = Stamped::now(event);
        self.log.append(&stamped).expect("written");
        self.broadcast.hear(&stamped, self.log.end());
    }

    /// Broadcasts an event that isn't logged, as when the disk is full.
    pub fn say_unlogged(&mut self, event: Event) {
        let stamped = Stamped { time: simmim_tui::event::now(), event };
        self.broadcast.hear(&stamped, self.log.end());
    }

    /// Closes the socket in an orderly way while the process goes on.
    pub fn hang_up(&mut self) {
        self.server = None;
    }

    /// Leaves the run as after `kill -9`: it is not locked, and the process that wrote it is gone.
    pub fn die(self) {
        let root = self.root.clone();
        drop(self);
        bury(&root);
    }
}

/// Names a process that is gone as the one that wrote the run last.
pub fn bury(root: &Path) {
    let dead = Owner { pid: 4711, started: 1, boot: "an earlier one".to_owned(), ..Owner::me() };
    own(root, &dead);
}

/// Writes the owner of the run into its lock file.
pub fn own(root: &Path, owner: &Owner) {
    let lock = File::options().create(true).truncate(false).write(true).open(root.join("lock"));
    owner.write(&lock.expect("writable")).expect("written");
}

pub fn numbered(number: u64) -> Event {
    Event::Log { level: Level::Info, message: number.to_string() }
}

/// Returns the number of a [`numbered`] event.
pub fn number(stamped: &Stamped) -> Option<u64> {
    match &stamped.event {
        Event::Log { level: Level::Info, message } => message.parse().ok(),
        _ => None,
    }
}

pub fn failed() -> Event {
    Event::Log { level: Level::Error, message: "it went wrong".to_owned() }
}

pub fn finished(step: u64) -> Event {
    Event::Finished(Finished {
        step,
        reason: Reason::Stopped,
        best_val_loss: None,
        best_accuracy: None,
        elapsed_s: 1.0,
    })
}

pub fn started(step: u64) -> Event {
    Event::Started(Started {
        step,
        total_steps: 1000,
        steps_per_epoch: 10,
        epochs: 100,
        warmup_steps: 0,
        parameters: 1,
        device: "cpu".to_owned(),
        precision: "fp32".to_owned(),
        data: "none".to_owned(),
        task: TaskKind::default(),
        resumed: step > 0,
        version: "0".to_owned(),
    })
}

pub fn step(step: u64) -> Event {
    Event::Step(StepReport {
        step,
        epoch: step as f64 / 10.0,
        loss: 0.5,
        losses: vec![0.5; 10],
        lr: 1e-3,
        grad_norm: 1.0,
        images_per_s: 100.0,
        data_wait: 0.0,
        spent: TimeSplit::default(),
        eta_s: 60.0,
        elapsed_s: 1.0,
    })
}

pub fn follow(root: &Path) -> Follower {
    Follower::open(root, "test", false).expect("a run to follow")
}

/// Polls until `enough` returns true for an update. Returns all updates so far.
pub fn collect(follower: &mut Follower, mut enough: impl FnMut(&News) -> bool) -> Vec<News> {
    let end = Instant::now() + DEADLINE;
    let mut updates = Vec::new();
    loop {
        assert!(Instant::now() < end, "waited in vain; so far {:?}", updates.last());
        match follower.poll() {
            News::Nothing => follower.wait(Duration::from_millis(20)),
            update => {
                let last = enough(&update);
                updates.push(update);
                if last {
                    return updates;
                }
            }
        }
    }
}

/// Polls until the follower reports `link`.
pub fn until_link(follower: &mut Follower, link: &Link) -> Vec<News> {
    collect(follower, |update| matches!(update, News::Link(found) if found == link))
}

/// Polls until the event with the number `last` arrives.
pub fn until_number(follower: &mut Follower, last: u64) -> Vec<News> {
    collect(
        follower,
        |update| matches!(update, News::Event(stamped) if number(stamped) == Some(last)),
    )
}

/// Returns the numbers of the events among the updates.
pub fn numbers(updates: &[News]) -> Vec<u64> {
    let number = |update: &News| match update {
        News::Event(stamped) => number(stamped),
        News::Link(_) | News::Ended(_) | News::Nothing => None,
    };
    updates.iter().filter_map(number).collect()
}

/// Returns the links among the updates.
pub fn links(updates: &[News]) -> Vec<Link> {
    let link = |update: &News| match update {
        News::Link(link) => Some(link.clone()),
        News::Event(_) | News::Ended(_) | News::Nothing => None,
    };
    updates.iter().filter_map(link).collect()
}

pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Returns a new temporary folder and the root of a run in it.
pub fn place() -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().join("run");
    (temp, root)
}

/// Returns the names of the entries of a run's folder.
pub fn names(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).expect("readable").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
