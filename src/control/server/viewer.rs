//! The server's side of one connection.

use super::inlet::{Inlet, NotPassedOn};
use crate::control::lines::Lines;
use crate::control::protocol::{FromClient, FromServer};
use crate::control::socket::Peer;
use crate::event::{Command, Order};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes that may wait for a viewer that reads slowly. A viewer that falls further behind is disconnected and can catch
/// up from the log.
const OUTBOX: usize = 1 << 20;
/// Bytes of the longest line from a viewer.
const LONGEST_LINE: usize = 4 << 10;
/// Lines from one viewer within a second.
const LINES_PER_SECOND: u32 = 100;
/// Unknown messages from one viewer that are answered. After one more it is disconnected.
const UNKNOWN_MESSAGES: u32 = 10;
/// Characters of the longest name.
const LONGEST_NAME: usize = 32;

/// The reason to close a connection: the viewer has left, or breaks a rule.
#[derive(Debug)]
pub struct Disconnect;

/// A connected viewer.
#[derive(Debug)]
pub struct Viewer {
    stream: UnixStream,
    peer: Peer,
    /// The name that the viewer gave itself, or nothing.
    name: String,
    input: Lines,
    /// Bytes that are still to be sent.
    outbox: VecDeque<u8>,
    /// How many unknown messages have arrived.
    unknown: u32,
    /// The beginning of the present second, and how many lines have arrived since.
    second: (Instant, u32),
}

impl Viewer {
    pub fn new(stream: UnixStream, peer: Peer) -> Self {
        Self {
            stream,
            peer,
            name: String::new(),
            input: Lines::default(),
            outbox: VecDeque::new(),
            unknown: 0,
            second: (Instant::now(), 0),
        }
    }

    /// Returns whether anything waits to be sent.
    pub fn is_behind(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Puts a line into the outbox.
    pub fn send(&mut self, line: &[u8]) -> Result<(), Disconnect> {
        if self.outbox.len() + line.len() > OUTBOX {
            return Err(Disconnect);
        }
        self.outbox.extend(line);
        Ok(())
    }

    /// Writes as much of the outbox as the connection takes without waiting.
    pub fn flush(&mut self) -> Result<(), Disconnect> {
        while !self.outbox.is_empty() {
            match self.stream.write(self.outbox.as_slices().0) {
                Ok(0) => return Err(Disconnect),
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(error) => return unless_temporary(&error),
            }
        }
        Ok(())
    }

    /// Reads once and handles the messages that have arrived. Orders go to the trainer.
    pub fn receive(&mut self, orders: &mut Inlet) -> Result<(), Disconnect> {
        let mut bytes = [0; LONGEST_LINE];
        let read = match self.stream.read(&mut bytes) {
            Ok(read) => read,
            Err(error) => return unless_temporary(&error),
        };
        self.input.push(&bytes[..read]);
        while let Some(line) = self.input.next() {
            self.count_line()?;
            self.check_length(line.len())?;
            self.handle(&line, orders)?;
        }
        self.check_length(self.input.waiting())?;
        if read > 0 {
            return Ok(());
        }
        let _ = self.flush(); // the viewer may still read the answers to its last lines
        Err(Disconnect)
    }

    fn handle(&mut self, line: &[u8], orders: &mut Inlet) -> Result<(), Disconnect> {
        match FromClient::parse(line) {
            Some(FromClient::Introduce { name }) => {
                self.name = clean(&name);
                Ok(())
            }
            Some(FromClient::Command(command)) => self.order(command, orders),
            None => {
                self.unknown += 1;
                if self.unknown > UNKNOWN_MESSAGES {
                    return Err(self.disconnect("too many unknown messages"));
                }
                self.send(&refusal("unknown message"))
            }
        }
    }

    fn order(&mut self, command: Command, orders: &mut Inlet) -> Result<(), Disconnect> {
        let process = match self.peer.process {
            Some(number) => format!("process {number}"),
            None => "another process".to_owned(),
        };
        let by = if self.name.is_empty() { process } else { format!("{}, {process}", self.name) };
        let answer = match orders.pass_on(self.peer.user, Order::new(command, &by)) {
            Ok(()) => FromServer::Accepted { command, by }.line(),
            Err(NotPassedOn::TooMany) => refusal("too many orders, try again in a second"),
            Err(NotPassedOn::RunOver) => refusal("the run has ended"),
        };
        self.send(&answer)
    }

    fn count_line(&mut self) -> Result<(), Disconnect> {
        let (begin, count) = &mut self.second;
        if begin.elapsed() >= Duration::from_secs(1) {
            self.second = (Instant::now(), 0);
        } else if *count >= LINES_PER_SECOND {
            return Err(self.disconnect("too many lines a second"));
        }
        self.second.1 += 1;
        Ok(())
    }

    fn check_length(&mut self, length: usize) -> Result<(), Disconnect> {
        if length > LONGEST_LINE { Err(self.disconnect("line too long")) } else { Ok(()) }
    }

    /// Tries to tell the viewer why it is disconnected, without waiting.
    fn disconnect(&mut self, reason: &str) -> Disconnect {
        let _ = self.send(&refusal(reason)).and_then(|()| self.flush());
        Disconnect
    }
}

impl AsFd for Viewer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Returns the line that refuses something for a reason.
pub fn refusal(reason: &str) -> Vec<u8> {
    FromServer::Refused { reason: reason.to_owned() }.line()
}

/// Returns `Ok` if nothing can be read or written just now, and [`Disconnect`] if nothing ever can.
fn unless_temporary(error: &io::Error) -> Result<(), Disconnect> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(Disconnect),
    }
}

/// Returns a name that is safe in any log: short and of printable ASCII characters.
fn clean(name: &str) -> String {
    let printable = name.chars().filter(|c| matches!(c, ' '..='~'));
    printable.take(LONGEST_NAME).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_printable() {
        assert_eq!(clean("attach"), "attach");
        assert_eq!(clean(" \x1b[31m\u{202e}ab\n "), "[31mab");
        assert_eq!(clean(&"x".repeat(99)).len(), LONGEST_NAME);
    }
}
