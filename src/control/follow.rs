//! Follows a run, past and present, whether or not a process trains it.
//!
//! A follower first reads the log, then what the process sends. While the process can't be reached, the log is read
//! again once a second; if the connection breaks, the missed events come from the log. Offsets in the log make sure
//! that every event is handed out exactly once.

use super::Link;
use super::client::{ANSWER_LIMIT, Client, ConnectError};
use super::protocol::FromServer;
use crate::event::state::RunState;
use crate::event::{Command, Stamped};
use crate::files;
use crate::run_dir::digest::{Ending, describe_gone};
use crate::run_dir::log_reader::NextEvent;
use crate::run_dir::{self, EVENTS, Liveness, LogReader, liveness};
use crate::shown;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long to wait between two readings of the log while there is no connection.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait before the first attempt to connect again. Each further wait is twice as long, up to [`INTERVAL`].
const RETRY: Duration = Duration::from_millis(100);
/// How long a broken connection is reported as lost while the process is running.
const LOST: Duration = Duration::from_secs(3);
/// The most actions without news that one poll takes.
const ACTIONS: usize = 64;

/// Why a run can't be followed.
#[derive(Debug, Error)]
pub enum FollowError {
    #[error("no run at {path}: a run directory holds an events.jsonl", path = shown::path(.path))]
    NotARun { path: PathBuf },
    #[error("cannot read {path}: {source}", path = shown::path(.path))]
    Unreadable { path: PathBuf, source: io::Error },
}

/// One piece of news of a run, for whoever shows it.
#[derive(Debug, PartialEq)]
pub enum News {
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
    source: Source,
    /// The link that was reported last.
    link: Option<Link>,
    /// When the connection broke, until there is a new one or the process is gone.
    lost: Option<Instant>,
    /// How long to wait before the next attempt to connect again.
    retry: Duration,
    state: RunState,
    ending: Ending,
}

/// Where the next news comes from.
#[derive(Debug)]
enum Source {
    /// From the log up to its end, then from the process. `gone` says that there was no process before this reading
    /// began.
    Log { gone: bool },
    /// From the greeting of the process, which has not arrived yet.
    Greeting { client: Client, since: Instant },
    /// From the log up to where the connection begins.
    CatchingUp { client: Client, until: u64, since: Instant },
    /// From the process. `last_end` is the `end` of the newest event it has sent.
    Process { client: Client, last_end: u64 },
    /// From nowhere until then.
    Waiting { until: Instant },
}

impl Follower {
    /// Follows the run at `root`. `name` stands for the viewer in the run's log. With `read_only` it gives no orders.
    ///
    /// # Errors
    /// If the directory holds no run, or its log can't be read.
    pub fn open(root: &Path, name: &str, read_only: bool) -> Result<Self, FollowError> {
        if !run_dir::holds_run(root) {
            return Err(FollowError::NotARun { path: root.to_owned() });
        }
        let path = root.join(EVENTS);
        // A run that is just beginning has no log yet.
        if path.exists()
            && let Err(source) = files::open(&path)
        {
            return Err(FollowError::Unreadable { path, source });
        }
        Ok(Self {
            root: root.to_owned(),
            name: name.to_owned(),
            read_only,
            log: LogReader::new(&path, 0),
            source: Source::Log { gone: false },
            link: None,
            lost: None,
            retry: RETRY,
            state: RunState::default(),
            ending: Ending::None,
        })
    }

    /// Returns the next news, without waiting for it.
    pub fn poll(&mut self) -> News {
        for _ in 0..ACTIONS {
            let source = std::mem::replace(&mut self.source, Source::Log { gone: false });
            let next = match source {
                Source::Log { gone } => self.read_log(gone),
                Source::Greeting { client, since } => self.await_greeting(client, since),
                Source::CatchingUp { client, until, since } => self.catch_up(client, until, since),
                Source::Process { client, last_end } => self.receive(client, last_end),
                Source::Waiting { until } => self.wait_until(until),
            };
            match next {
                Next::Return(update) => return update,
                Next::Wait => return News::Nothing,
                Next::Continue => {}
            }
        }
        News::Nothing
    }

    /// Waits until there may be news, at most for `limit`.
    pub fn wait(&self, limit: Duration) {
        match &self.source {
            Source::Greeting { client, .. } | Source::Process { client, .. } => client.wait(limit),
            Source::Waiting { until } => {
                std::thread::sleep(limit.min(until.saturating_duration_since(Instant::now())));
            }
            Source::Log { .. } | Source::CatchingUp { .. } => {
                std::thread::sleep(limit.min(Duration::from_millis(10)));
            }
        }
    }

    /// Gives an order. Returns whether it could be sent; the event `obeyed` says when it was carried out.
    pub fn send(&mut self, command: Command) -> bool {
        match &mut self.source {
            Source::Process { client, .. } => !self.read_only && client.send(command).is_ok(),
            _ => false,
        }
    }

    /// Returns how many lines of the log were not events.
    pub fn skipped(&self) -> u64 {
        self.log.skipped()
    }

    fn read_log(&mut self, gone: bool) -> Next {
        match self.log.next_event() {
            NextEvent::Event(stamped) => {
                self.source = Source::Log { gone };
                self.event(stamped)
            }
            NextEvent::More => {
                self.source = Source::Log { gone };
                Next::Continue
            }
            NextEvent::End if gone => self.report_gone(),
            NextEvent::End => self.connect(),
        }
    }

    fn connect(&mut self) -> Next {
        match Client::dial(&self.root, &self.name) {
            Ok(client) => {
                self.source = Source::Greeting { client, since: Instant::now() };
                Next::Continue
            }
            Err(error) => self.report_unreachable(&error),
        }
    }

    fn await_greeting(&mut self, mut client: Client, since: Instant) -> Next {
        match client.greeting(Duration::ZERO) {
            Ok(Some(hello)) => {
                let until = hello.log_end;
                self.source = Source::CatchingUp { client, until, since: Instant::now() };
                Next::Continue
            }
            Ok(None) if since.elapsed() < ANSWER_LIMIT => {
                self.source = Source::Greeting { client, since };
                Next::Wait
            }
            Ok(None) => self.report_unreachable(&ConnectError::Silent),
            Err(error) => self.report_unreachable(&error),
        }
    }

    /// Reads the log up to where the connection begins.
    fn catch_up(&mut self, client: Client, until: u64, since: Instant) -> Next {
        if self.log.offset() >= until {
            return self.listen_to_process(client, until);
        }
        let found = self.log.next_event();
        if found == NextEvent::End && since.elapsed() > ANSWER_LIMIT {
            self.log.skip_to(until); // the log was removed or cut
            return self.listen_to_process(client, until);
        }
        self.source = Source::CatchingUp { client, until, since };
        match found {
            NextEvent::Event(stamped) => self.event(stamped),
            NextEvent::More => Next::Continue,
            NextEvent::End => Next::Wait,
        }
    }

    fn listen_to_process(&mut self, client: Client, last_end: u64) -> Next {
        self.source = Source::Process { client, last_end };
        self.lost = None;
        self.retry = RETRY;
        if self.read_only {
            self.report(Link::WatchOnly("--read-only".to_owned()))
        } else {
            self.report(Link::Steerable)
        }
    }

    fn receive(&mut self, mut client: Client, last_end: u64) -> Next {
        let received = client.next(Duration::ZERO);
        if received.is_err() {
            return self.report_lost();
        }
        let Ok(Some(FromServer::Event { end, stamped })) = received else {
            let idle = matches!(received, Ok(None));
            self.source = Source::Process { client, last_end };
            return if idle { Next::Wait } else { Next::Continue };
        };
        self.source = Source::Process { client, last_end: end.max(last_end) };
        // An event that could not be logged has the end of the event before.
        let logged = end > last_end;
        if logged && end <= self.log.offset() {
            return Next::Continue; // known from the log
        }
        self.log.skip_to(end);
        self.event(stamped)
    }

    /// The connection broke.
    fn report_lost(&mut self) -> Next {
        self.lost = Some(Instant::now());
        self.source = Source::Log { gone: false };
        if matches!(self.ending, Ending::Finished(_)) {
            return self.report(Link::Over);
        }
        self.report(Link::Lost)
    }

    /// There is no connection. Finds out from the run directory what that means.
    fn report_unreachable(&mut self, error: &ConnectError) -> Next {
        let liveness = liveness(&self.root);
        if liveness == Liveness::Gone {
            // The process may have logged its last events after the log was read, so the log is read once more.
            self.source = Source::Log { gone: true };
            return Next::Continue;
        }
        let wait = if self.lost.is_some() { self.retry } else { INTERVAL };
        self.retry = INTERVAL.min(self.retry * 2);
        self.source = Source::Waiting { until: Instant::now() + wait };
        if self.ending != Ending::None {
            return self.report(Link::Over); // the process still shows on its own screen how the run ended
        }
        if self.lost.is_some_and(|since| since.elapsed() < LOST) {
            return self.report(Link::Lost);
        }
        let reason = match (liveness, error) {
            (Liveness::Remote(owner), _) => format!("it runs as {}", owner.describe()),
            (Liveness::Local(owner), ConnectError::NoSocket) => {
                format!("{} takes no orders", owner.describe())
            }
            (Liveness::Local(_) | Liveness::Gone, error) => error.to_string(),
        };
        self.report(Link::WatchOnly(reason))
    }

    /// The process is gone, and its log has been read to the end.
    fn report_gone(&mut self) -> Next {
        if liveness(&self.root) != Liveness::Gone {
            return Next::Continue; // meanwhile another process has resumed the run
        }
        self.source = Source::Waiting { until: Instant::now() + INTERVAL };
        self.lost = None;
        self.retry = RETRY;
        if self.ending != Ending::None {
            return self.report(Link::Over);
        }
        if matches!(self.link, Some(Link::Gone(_))) {
            return Next::Wait; // only the age in the text has changed
        }
        self.report(Link::Gone(describe_gone(&self.root, self.state.time, self.state.step())))
    }

    fn wait_until(&mut self, until: Instant) -> Next {
        if Instant::now() < until {
            self.source = Source::Waiting { until };
            return Next::Wait;
        }
        self.source = Source::Log { gone: false };
        Next::Continue
    }

    fn event(&mut self, stamped: Box<Stamped>) -> Next {
        self.state.apply(&stamped);
        self.ending.take(&stamped.event);
        Next::Return(News::Event(stamped))
    }

    /// Reports a link unless it is the one reported last.
    fn report(&mut self, link: Link) -> Next {
        if self.link.as_ref() == Some(&link) {
            return Next::Continue;
        }
        self.link = Some(link.clone());
        Next::Return(News::Link(link))
    }
}

/// How a poll goes on after one action.
enum Next {
    /// There is news.
    Return(News),
    /// The next action can follow at once.
    Continue,
    /// Nothing can be done at the moment.
    Wait,
}
