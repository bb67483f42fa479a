//! A connection to the process that trains, seen from a viewer.

use super::lines::Lines;
use super::protocol::{FromClient, FromServer, Hello, VERSION};
use super::socket;
use crate::event::Command;
use rustix::event::{PollFd, PollFlags};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long the greeting may take: the process may be stopped, or its machine be overloaded.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The server never sends as long a line.
const LONGEST_LINE: usize = 16 << 20;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("no process takes orders")]
    NoSocket,
    #[error("the run belongs to another user")]
    NotPermitted,
    #[error("its process is of a newer release (protocol {0}): this program must be as new")]
    TooNew(u32),
    #[error("its process refuses: {0}")]
    Refused(String),
    #[error("its process does not answer")]
    Silent,
    #[error("cannot reach its process: {0}")]
    Io(io::Error),
}

/// The connection is no more.
#[derive(Debug, Error)]
#[error("the connection was closed")]
pub struct Closed;

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    lines: Lines,
}

impl Client {
    /// Connects under a name for the log and waits for the greeting, at most [`PATIENCE`].
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(root: &Path, name: &str) -> Result<(Self, Hello), ConnectError> {
        let end = Instant::now() + PATIENCE;
        let mut client = loop {
            match Self::dial(root, name) {
                // Others wait in line.
                Err(ConnectError::Silent) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => break other?,
            }
        };
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if let Some(hello) = client.greeting(left)? {
                return Ok((client, hello));
            }
            if left.is_zero() {
                return Err(ConnectError::Silent);
            }
        }
    }

    /// Connects without waiting; [`Self::greeting`] must come before anything else is heard.
    ///
    /// # Errors
    /// See [`ConnectError`]; `Silent` when too many others wait in line.
    pub fn dial(root: &Path, name: &str) -> Result<Self, ConnectError> {
        let stream = socket::connect(root).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
                ConnectError::NoSocket
            }
            ErrorKind::PermissionDenied => ConnectError::NotPermitted,
            ErrorKind::WouldBlock => ConnectError::Silent,
            _ => ConnectError::Io(error),
        })?;
        let mut client = Self { stream, lines: Lines::default() };
        // Should the server have hung up, what it said before still counts.
        let _ = client.say(&FromClient::Introduce { name: name.to_owned() });
        Ok(client)
    }

    /// The greeting, if it comes within the limit.
    ///
    /// # Errors
    /// The server refuses, is too new, or hangs up.
    pub fn greeting(&mut self, limit: Duration) -> Result<Option<Hello>, ConnectError> {
        match self.next(limit) {
            Ok(None) => Ok(None),
            Ok(Some(FromServer::Hello(hello))) if hello.version <= VERSION => Ok(Some(hello)),
            Ok(Some(FromServer::Hello(hello))) => Err(ConnectError::TooNew(hello.version)),
            Ok(Some(FromServer::Refused { reason })) => Err(ConnectError::Refused(reason)),
            Ok(Some(FromServer::Event { .. } | FromServer::Accepted { .. })) => {
                Err(ConnectError::Io(ErrorKind::InvalidData.into()))
            }
            Err(Closed) => Err(ConnectError::NoSocket),
        }
    }

    /// Gives an order; the answer comes by [`Self::next`].
    ///
    /// # Errors
    /// The connection is closed or takes nothing.
    pub fn send(&mut self, command: Command) -> Result<(), Closed> {
        self.say(&FromClient::Command(command))
    }

    fn say(&mut self, message: &FromClient) -> Result<(), Closed> {
        // Lines are short: they fit into the buffers of any server that listens at all.
        self.stream.write_all(&message.line()).map_err(|_| Closed)
    }

    /// The next message, if one comes within the limit. What this release doesn't know is passed over.
    ///
    /// # Errors
    /// The connection is closed and all that came was handed out.
    pub fn next(&mut self, limit: Duration) -> Result<Option<FromServer>, Closed> {
        let end = Instant::now() + limit;
        loop {
            if let Some(message) = self.lines.find_map(|line| FromServer::parse(&line)) {
                return Ok(Some(message));
            }
            if self.read()? {
                continue;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.wait(left);
        }
    }

    /// Waits until something comes or the time is over.
    pub fn wait(&self, limit: Duration) {
        socket::wait(&mut [PollFd::new(&self.stream, PollFlags::IN)], Some(limit));
    }

    /// Whether something came.
    fn read(&mut self) -> Result<bool, Closed> {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(Closed),
            Ok(_) if self.lines.waiting() > LONGEST_LINE => Err(Closed),
            Ok(read) => {
                self.lines.push(&bytes[..read]);
                Ok(true)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(false),
                _ => Err(Closed),
            },
        }
    }
}
