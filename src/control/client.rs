//! The viewer's side of a connection to the process that trains.

use super::lines::Lines;
use super::protocol::{FromClient, FromServer, Hello, VERSION};
use super::socket;
use crate::event::Command;
use rustix::event::{PollFd, PollFlags};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long a viewer waits for an answer. The process may be stopped, or its machine may be overloaded.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of the longest line that is read. The server never sends one as long.
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
    #[error(
        "its socket is served by another user (uid {0}), not by that of the run: nothing is believed or ordered"
    )]
    Stranger(u32),
    #[error("its process refuses: {0}")]
    Refused(String),
    #[error("its process does not answer")]
    Silent,
    #[error("cannot reach its process: {0}")]
    Io(io::Error),
}

/// The connection was closed by the server, or broke.
#[derive(Debug, Error)]
#[error("the connection was closed")]
pub struct Closed;

/// A connection to the process that trains.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    lines: Lines,
}

impl Client {
    /// Connects and waits for the greeting, at most for [`ANSWER_LIMIT`]. `name` stands for this viewer in the log.
    ///
    /// # Errors
    /// If there is no connection or no greeting; see [`ConnectError`].
    pub fn connect(root: &Path, name: &str) -> Result<(Self, Hello), ConnectError> {
        let end = Instant::now() + ANSWER_LIMIT;
        let mut client = loop {
            match Self::dial(root, name) {
                // Too many connections wait to be accepted.
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

    /// Connects without waiting. The greeting must be received next, by [`Self::greeting`].
    ///
    /// # Errors
    /// If there is no connection; see [`ConnectError`]. `Silent` if too many connections wait to be accepted.
    pub fn dial(root: &Path, name: &str) -> Result<Self, ConnectError> {
        let stream = socket::connect(root).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
                ConnectError::NoSocket
            }
            ErrorKind::PermissionDenied => ConnectError::NotPermitted,
            ErrorKind::WouldBlock => ConnectError::Silent,
            _ => ConnectError::Io(error),
        })?;
        check_server(&stream, root)?;
        let mut client = Self { stream, lines: Lines::default() };
        // If the server has closed the connection already, what it sent before can still be read.
        let _ = client.send_message(&FromClient::Introduce { name: name.to_owned() });
        Ok(client)
    }

    /// Returns the greeting if it arrives within `limit`.
    ///
    /// # Errors
    /// If the server refuses the viewer, is too new, or closes the connection.
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

    /// Sends an order. The answer arrives by [`Self::next`].
    ///
    /// # Errors
    /// If the connection is closed, or the server has stopped reading.
    pub fn send(&mut self, command: Command) -> Result<(), Closed> {
        self.send_message(&FromClient::Command(command))
    }

    fn send_message(&mut self, message: &FromClient) -> Result<(), Closed> {
        // The lines are so short that they fit into the buffers of any server that reads at all.
        self.stream.write_all(&message.line()).map_err(|_| Closed)
    }

    /// Returns the next message if one arrives within `limit`. Messages that this release does not know are ignored.
    ///
    /// # Errors
    /// If the connection is closed and everything that was received has been handed out.
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

    /// Waits until something arrives or `limit` is over.
    pub fn wait(&self, limit: Duration) {
        socket::wait(&mut [PollFd::new(&self.stream, PollFlags::IN)], Some(limit));
    }

    /// Reads once. Returns whether anything had arrived.
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

/// Checks who serves the socket of a run: the user of this process or root, or for root the user whose run it is. Whoever
/// can write the folder can put a socket of his own there.
fn check_server(stream: &UnixStream, root: &Path) -> Result<(), ConnectError> {
    let Some(peer) = socket::peer(stream) else {
        return Err(ConnectError::Io(ErrorKind::InvalidData.into()));
    };
    let owner = || std::fs::metadata(root).is_ok_and(|folder| folder.uid() == peer.user);
    let is_root = rustix::process::geteuid().is_root();
    if peer.is_own_or_root() || (is_root && owner()) {
        return Ok(());
    }
    Err(ConnectError::Stranger(peer.user))
}
