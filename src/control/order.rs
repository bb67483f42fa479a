//! Gives one order from the command line and waits for its effect.

use super::client::{ANSWER_LIMIT, Client, Closed, ConnectError};
use super::protocol::FromServer;
use crate::event::state::RunState;
use crate::event::{Command, Event, Reason, Stamped};
use crate::run_dir::digest::Ending;
use crate::run_dir::log_reader::NextEvent;
use crate::run_dir::{EVENTS, Liveness, LogReader, digest, liveness};
use crate::shown;
use crate::text::units::span;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long to wait for the next event, or between two readings of the log when the connection is closed.
const INTERVAL: Duration = Duration::from_millis(50);

/// An order that was carried out, or was accepted if the caller waits for no more.
#[derive(Debug, PartialEq, Serialize)]
pub struct Done {
    pub command: Command,
    /// Who gave the order, as named in the log.
    pub by: String,
    /// The step at which the order was carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// The newest checkpoint, relative to the run directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// How the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// Why an order was not carried out, or not yet.
#[derive(Debug, Error)]
pub enum CtlError {
    #[error("{path}: no process trains this run: {how}", path = shown::path(.path))]
    NoProcess { path: PathBuf, how: String },
    #[error("{path}: it runs as {owner}: give the order there", path = shown::path(.path))]
    Elsewhere { path: PathBuf, owner: String },
    #[error("{path}: {why}", path = shown::path(.path))]
    Unreachable { path: PathBuf, why: String },
    #[error("{path}: {} refused: {reason}", .command.name(), path = shown::path(.path))]
    Refused { path: PathBuf, command: Command, reason: String },
    #[error("{path}: {} not carried out within {limit}; the trainer will still do it", .command.name(), path = shown::path(.path))]
    Timeout { path: PathBuf, command: Command, limit: String },
    #[error("{path}: the run ended before it could {}: {how}", .command.name(), path = shown::path(.path))]
    Ended { path: PathBuf, command: Command, how: String },
}

/// Gives an order to the process that trains a run and waits for its effect, at most for `limit`. Without a limit it
/// waits only until the order is accepted.
///
/// # Errors
/// If the order was not carried out in time; see [`CtlError`].
pub fn order(root: &Path, command: Command, limit: Option<Duration>) -> Result<Done, CtlError> {
    let unreachable = |source| explain(root, &source);
    let (mut client, hello) = Client::connect(root, "ctl").map_err(unreachable)?;
    client.send(command).map_err(|Closed| unreachable(ConnectError::NoSocket))?;
    let mut pending = PendingOrder {
        root,
        command,
        client: Some(client),
        log: LogReader::new(&root.join(EVENTS), hello.log_end),
        // Read after the greeting, so that no event falls between the log and the connection.
        state: digest(root).run,
        ending: Ending::None,
        saved: None,
    };
    let by = pending.wait_for_acceptance()?;
    match limit {
        Some(limit) => pending.wait_for_effect(by, limit),
        None => Ok(Done { command, by, step: None, checkpoint: None, reason: None }),
    }
}

/// Says why there is no connection, from what else is known about the run.
fn explain(root: &Path, source: &ConnectError) -> CtlError {
    let path = root.to_owned();
    if matches!(source, ConnectError::Stranger(_)) {
        return CtlError::Unreachable { path, why: source.to_string() };
    }
    match liveness(root) {
        Liveness::Gone => CtlError::NoProcess { how: digest(root).describe_end(), path },
        Liveness::Remote(owner) => CtlError::Elsewhere { path, owner: owner.describe() },
        Liveness::Local(owner) if matches!(source, ConnectError::NoSocket) => {
            CtlError::Unreachable { path, why: format!("{} takes no orders", owner.describe()) }
        }
        Liveness::Local(_) => CtlError::Unreachable { path, why: source.to_string() },
    }
}

/// An order that was given, and what happens to the run since.
struct PendingOrder<'a> {
    root: &'a Path,
    command: Command,
    /// `None` once the connection is closed. Later events come from the log.
    client: Option<Client>,
    log: LogReader,
    state: RunState,
    ending: Ending,
    /// Step of the newest checkpoint that was written since.
    saved: Option<u64>,
}

impl PendingOrder<'_> {
    /// Waits until the order is accepted. Returns who gave it, as the log will name them.
    fn wait_for_acceptance(&mut self) -> Result<String, CtlError> {
        let end = Instant::now() + ANSWER_LIMIT;
        while let Some(client) = &mut self.client {
            let left = end.saturating_duration_since(Instant::now());
            match client.next(left) {
                Ok(Some(FromServer::Accepted { by, .. })) => return Ok(by),
                Ok(Some(FromServer::Refused { reason })) => {
                    let (path, command) = (self.root.to_owned(), self.command);
                    return Err(CtlError::Refused { path, command, reason });
                }
                Ok(Some(FromServer::Event { end, stamped })) => {
                    self.log.skip_to(end);
                    self.apply(&stamped);
                }
                Ok(Some(FromServer::Hello(_))) => {}
                Ok(None) => return Err(explain(self.root, &ConnectError::Silent)),
                Err(Closed) => break,
            }
        }
        Err(explain(self.root, &ConnectError::NoSocket))
    }

    /// Waits until the order is carried out.
    fn wait_for_effect(&mut self, by: String, limit: Duration) -> Result<Done, CtlError> {
        let end = Instant::now() + limit;
        let mut gone = false; // whether the process was gone before the log was last read
        loop {
            match self.next_event() {
                NextEvent::Event(stamped) => {
                    self.apply(&stamped);
                    if self.is_done(&stamped.event, &by) {
                        return Ok(self.done(by));
                    }
                    if matches!(stamped.event, Event::Finished(_)) {
                        return Err(self.ended());
                    }
                }
                NextEvent::More => {}
                NextEvent::End => {
                    let failed = matches!(self.ending, Ending::Failed(_));
                    if self.client.is_none() && (gone || failed) {
                        return Err(self.ended());
                    }
                    gone = self.client.is_none() && liveness(self.root) == Liveness::Gone;
                    if self.client.is_none() {
                        std::thread::sleep(INTERVAL);
                    }
                }
            }
            if Instant::now() >= end {
                let (path, command) = (self.root.to_owned(), self.command);
                return Err(CtlError::Timeout { path, command, limit: span(limit.as_secs_f64()) });
            }
        }
    }

    /// Returns the next event from the connection or, without one, from the log.
    fn next_event(&mut self) -> NextEvent {
        let Some(client) = &mut self.client else { return self.log.next_event() };
        match client.next(INTERVAL) {
            Ok(Some(FromServer::Event { end, stamped })) => {
                self.log.skip_to(end);
                NextEvent::Event(stamped)
            }
            Ok(Some(_)) => NextEvent::More,
            Ok(None) => NextEvent::End,
            Err(Closed) => {
                self.client = None;
                NextEvent::More
            }
        }
    }

    fn apply(&mut self, stamped: &Stamped) {
        self.state.apply(stamped);
        self.ending.take(&stamped.event);
        if let Event::CheckpointSaved { step, .. } = stamped.event {
            self.saved = Some(step);
        }
    }

    /// Returns whether an event says that the order was carried out: for a stop the end of the run, for every other
    /// order the trainer's `obeyed`.
    fn is_done(&self, event: &Event, by: &str) -> bool {
        match event {
            Event::Obeyed(order) => {
                order.by == by && order.command == self.command && order.command != Command::Stop
            }
            Event::Finished(_) => self.command == Command::Stop,
            _ => false,
        }
    }

    fn done(&self, by: String) -> Done {
        let saves = matches!(self.command, Command::Checkpoint | Command::Stop);
        // The trainer does not save a state again that it has saved before. Then the newest checkpoint is of this step.
        let written = self.saved.filter(|_| self.command == Command::Checkpoint);
        Done {
            command: self.command,
            by,
            step: Some(written.unwrap_or_else(|| self.state.step())),
            checkpoint: self.state.checkpoint.clone().filter(|_| saves),
            reason: self.state.finished.as_ref().map(|finished| finished.reason),
        }
    }

    /// Returns the error for a run that ended before it could carry out the order.
    fn ended(&self) -> CtlError {
        let (path, command) = (self.root.to_owned(), self.command);
        CtlError::Ended { path, command, how: digest(self.root).describe_end() }
    }
}

impl Done {
    /// Returns what was done, in one line for people.
    pub fn text(&self) -> String {
        let Some(step) = self.step else { return format!("{} accepted", self.command.name()) };
        match self.command {
            Command::Pause => format!("paused at step {step}"),
            Command::Resume => format!("resumed at step {step}"),
            Command::Checkpoint => {
                let path = self.checkpoint.as_deref().map(shown::line).unwrap_or_default();
                format!("checkpoint {path} at step {step}")
            }
            Command::Stop => {
                let reason = self.reason.unwrap_or(Reason::Stopped);
                format!("{} at step {step}", reason.in_full())
            }
        }
    }
}
