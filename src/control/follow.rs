//! All there is to know of a run, past and present, as one source of news that outlives the process behind it.
//!
//! First comes the log, then what the process tells. When it can't be reached the log is looked at once a second; when
//! the connection breaks, what was missed comes from the log. Offsets in the log see to it that every event comes
//! exactly once.

use super::Link;
use super::client::{Client, ConnectError, PATIENCE};
use super::protocol::FromServer;
use crate::event::state::RunState;
use crate::event::{Command, Stamped};
use crate::run_dir::digest::{Ending, describe_gone};
use crate::run_dir::log_reader::NextEvent;
use crate::run_dir::{self, Liveness, LogReader, liveness};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Between looks at a log that nobody tells about.
const LOOK: Duration = Duration::from_secs(1);
/// Between the first attempts to connect again; each wait is twice the one before, up to [`LOOK`].
const RETRY: Duration = Duration::from_millis(100);
/// For how long a connection that broke counts as lost while the process lives.
const LOST: Duration = Duration::from_secs(3);
/// Pieces of a log without an event in them that one poll reads at most.
const PIECES: usize = 64;

/// Why a run can't be followed.
#[derive(Debug, Error)]
pub enum FollowError {
    #[error("no run at {path}: a run directory holds an events.jsonl")]
    NotARun { path: PathBuf },
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
}

/// One piece of news of a run, for whoever shows it.
#[derive(Debug, PartialEq)]
pub enum Update {
    Event(Box<Stamped>),
    /// What is known of the process changed. A [`Follower`] tells this first after all that happened before.
    Link(Link),
    /// The trainer of this process has ended, with the text of its error if it failed. A [`Follower`] watches other
    /// processes and tells their end as a [`Link`].
    Ended(Option<String>),
    /// Nothing at the moment.
    Nothing,
}

/// A viewer of one run.
#[derive(Debug)]
pub struct Follower {
    root: PathBuf,
    name: String,
    read_only: bool,
    log: LogReader,
    stage: Stage,
    /// What was told last.
    link: Option<Link>,
    /// Since when the connection is broken.
    lost: Option<Instant>,
    retry: Duration,
    state: RunState,
    ending: Ending,
}

/// What comes next.
#[derive(Debug)]
enum Stage {
    /// The log up to its end, then the process. `gone`: there was none before this reading began.
    Reading { gone: bool },
    /// Connected, not yet greeted.
    Greeting { client: Client, since: Instant },
    /// The log up to where the connection begins.
    CatchingUp { client: Client, until: u64, since: Instant },
    /// What the process tells; `told` is the `end` of the newest event.
    Live { client: Client, told: u64 },
    /// Nothing until then.
    Resting { until: Instant },
}

impl Follower {
    /// Looks at a run, under a name for its log. With `read_only` it gives no orders.
    ///
    /// # Errors
    /// The folder holds no run, or its log can't be read.
    pub fn open(root: &Path, name: &str, read_only: bool) -> Result<Self, FollowError> {
        if !run_dir::holds_run(root) {
            return Err(FollowError::NotARun { path: root.to_owned() });
        }
        let path = root.join("events.jsonl");
        // A run that has just begun has no log yet.
        if path.exists()
            && let Err(source) = readable(&path)
        {
            return Err(FollowError::Unreadable { path, source });
        }
        Ok(Self {
            root: root.to_owned(),
            name: name.to_owned(),
            read_only,
            log: LogReader::new(&path, 0),
            stage: Stage::Reading { gone: false },
            link: None,
            lost: None,
            retry: RETRY,
            state: RunState::default(),
            ending: Ending::None,
        })
    }

    /// The next piece of news, without waiting for one.
    pub fn poll(&mut self) -> Update {
        for _ in 0..PIECES {
            let stage = std::mem::replace(&mut self.stage, Stage::Reading { gone: false });
            let step = match stage {
                Stage::Reading { gone } => self.read(gone),
                Stage::Greeting { client, since } => self.greet(client, since),
                Stage::CatchingUp { client, until, since } => self.catch_up(client, until, since),
                Stage::Live { client, told } => self.listen(client, told),
                Stage::Resting { until } => self.rest(until),
            };
            match step {
                Step::News(update) => return update,
                Step::Wait => return Update::Nothing,
                Step::On => {}
            }
        }
        Update::Nothing
    }

    /// Waits until there may be news, at most for `limit`.
    pub fn wait(&self, limit: Duration) {
        match &self.stage {
            Stage::Greeting { client, .. } | Stage::Live { client, .. } => client.wait(limit),
            Stage::Resting { until } => {
                std::thread::sleep(limit.min(until.saturating_duration_since(Instant::now())));
            }
            Stage::Reading { .. } | Stage::CatchingUp { .. } => {
                std::thread::sleep(limit.min(Duration::from_millis(10)));
            }
        }
    }

    /// Gives an order; `false` if nobody takes it. The event `obeyed` tells when it is done.
    pub fn send(&mut self, command: Command) -> bool {
        match &mut self.stage {
            Stage::Live { client, .. } => !self.read_only && client.send(command).is_ok(),
            _ => false,
        }
    }

    /// Lines of the log that were no events.
    pub fn skipped(&self) -> u64 {
        self.log.skipped()
    }

    fn read(&mut self, gone: bool) -> Step {
        match self.log.look() {
            NextEvent::Event(stamped) => {
                self.stage = Stage::Reading { gone };
                self.event(stamped)
            }
            NextEvent::More => {
                self.stage = Stage::Reading { gone };
                Step::On
            }
            NextEvent::End if gone => self.report_gone(),
            NextEvent::End => self.dial(),
        }
    }

    fn dial(&mut self) -> Step {
        match Client::dial(&self.root, &self.name) {
            Ok(client) => {
                self.stage = Stage::Greeting { client, since: Instant::now() };
                Step::On
            }
            Err(error) => self.fail(&error),
        }
    }

    fn greet(&mut self, mut client: Client, since: Instant) -> Step {
        match client.greeting(Duration::ZERO) {
            Ok(Some(hello)) => {
                let until = hello.log_end;
                self.stage = Stage::CatchingUp { client, until, since: Instant::now() };
                Step::On
            }
            Ok(None) if since.elapsed() < PATIENCE => {
                self.stage = Stage::Greeting { client, since };
                Step::Wait
            }
            Ok(None) => self.fail(&ConnectError::Silent),
            Err(error) => self.fail(&error),
        }
    }

    /// Reads the log to where the connection begins.
    fn catch_up(&mut self, client: Client, until: u64, since: Instant) -> Step {
        if self.log.offset() >= until {
            return self.go_live(client, until);
        }
        let found = self.log.look();
        if found == NextEvent::End && since.elapsed() > PATIENCE {
            self.log.skip_to(until); // someone took the log away
            return self.go_live(client, until);
        }
        self.stage = Stage::CatchingUp { client, until, since };
        match found {
            NextEvent::Event(stamped) => self.event(stamped),
            NextEvent::More => Step::On,
            NextEvent::End => Step::Wait,
        }
    }

    fn go_live(&mut self, client: Client, told: u64) -> Step {
        self.stage = Stage::Live { client, told };
        self.lost = None;
        self.retry = RETRY;
        if self.read_only {
            self.tell(Link::WatchOnly("--read-only".to_owned()))
        } else {
            self.tell(Link::Steerable)
        }
    }

    fn listen(&mut self, mut client: Client, told: u64) -> Step {
        let heard = client.next(Duration::ZERO);
        if heard.is_err() {
            return self.lose();
        }
        let Ok(Some(FromServer::Event { end, stamped })) = heard else {
            let idle = matches!(heard, Ok(None));
            self.stage = Stage::Live { client, told };
            return if idle { Step::Wait } else { Step::On };
        };
        self.stage = Stage::Live { client, told: end.max(told) };
        // One that could not be logged has no end of its own.
        let logged = end > told;
        if logged && end <= self.log.offset() {
            return Step::On; // known from the log
        }
        self.log.skip_to(end);
        self.event(stamped)
    }

    /// The connection broke.
    fn lose(&mut self) -> Step {
        self.lost = Some(Instant::now());
        self.stage = Stage::Reading { gone: false };
        if matches!(self.ending, Ending::Finished(_)) {
            return self.tell(Link::Over);
        }
        self.tell(Link::Lost)
    }

    /// There is no connection to be had.
    fn fail(&mut self, error: &ConnectError) -> Step {
        let liveness = liveness(&self.root);
        if liveness == Liveness::Gone {
            // What it wrote before it ended may have come after the log was read.
            self.stage = Stage::Reading { gone: true };
            return Step::On;
        }
        let wait = if self.lost.is_some() { self.retry } else { LOOK };
        self.retry = LOOK.min(self.retry * 2);
        self.stage = Stage::Resting { until: Instant::now() + wait };
        if self.ending != Ending::None {
            return self.tell(Link::Over); // its process still shows how it ended
        }
        if self.lost.is_some_and(|since| since.elapsed() < LOST) {
            return self.tell(Link::Lost);
        }
        let reason = match (liveness, error) {
            (Liveness::Remote(owner), _) => format!("it runs as {}", owner.describe()),
            (Liveness::Local(owner), ConnectError::NoSocket) => {
                format!("{} takes no orders", owner.describe())
            }
            (Liveness::Local(_) | Liveness::Gone, error) => error.to_string(),
        };
        self.tell(Link::WatchOnly(reason))
    }

    /// The process is gone and its log read to the end.
    fn report_gone(&mut self) -> Step {
        if liveness(&self.root) != Liveness::Gone {
            return Step::On; // meanwhile another one goes on with the run
        }
        self.stage = Stage::Resting { until: Instant::now() + LOOK };
        self.lost = None;
        self.retry = RETRY;
        if self.ending != Ending::None {
            return self.tell(Link::Over);
        }
        if matches!(self.link, Some(Link::Dead(_))) {
            return Step::Wait; // told already; only its age changes
        }
        let describe_gone = describe_gone(&self.root, self.state.time, self.state.step());
        self.tell(Link::Dead(describe_gone))
    }

    fn rest(&mut self, until: Instant) -> Step {
        if Instant::now() < until {
            self.stage = Stage::Resting { until };
            return Step::Wait;
        }
        self.stage = Stage::Reading { gone: false };
        Step::On
    }

    fn event(&mut self, stamped: Box<Stamped>) -> Step {
        self.state.apply(&stamped);
        self.ending = Ending::of(&stamped.event);
        Step::News(Update::Event(stamped))
    }

    /// Tells of a link unless it is known.
    fn tell(&mut self, link: Link) -> Step {
        if self.link.as_ref() == Some(&link) {
            return Step::On;
        }
        self.link = Some(link.clone());
        Step::News(Update::Link(link))
    }
}

/// What a step of the work gave.
enum Step {
    News(Update),
    /// Go on at once.
    On,
    /// Nothing can be done now.
    Wait,
}

fn readable(path: &Path) -> io::Result<()> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    std::fs::File::open(path).map(drop)
}
