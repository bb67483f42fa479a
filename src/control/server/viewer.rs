//! One connection, seen from the server.

use crate::control::lines::Lines;
use crate::control::protocol::{FromClient, FromServer};
use crate::event::{Command, Order};
use crossbeam_channel::Sender;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What may wait for a viewer that reads slowly, bytes. Who falls behind further is sent away, and can catch up from
/// the log.
const OUTBOX: usize = 1 << 20;
/// Longest line from a client, bytes.
const LONGEST_LINE: usize = 4 << 10;
/// Lines from one client within a second: orders wait in the trainer's memory.
const LINES_PER_SECOND: u32 = 100;
/// Lines without sense after which a client is sent away.
const PATIENCE: u32 = 10;
const LONGEST_NAME: usize = 32;

/// The connection is to be closed.
#[derive(Debug)]
pub struct Leaves;

/// One connection.
#[derive(Debug)]
pub struct Viewer {
    stream: UnixStream,
    /// "process 4711".
    process: String,
    name: String,
    input: Lines,
    outbox: VecDeque<u8>,
    senseless: u32,
    window: (Instant, u32),
}

impl Viewer {
    pub fn new(stream: UnixStream, process: String) -> Self {
        Self {
            stream,
            process,
            name: String::new(),
            input: Lines::default(),
            outbox: VecDeque::new(),
            senseless: 0,
            window: (Instant::now(), 0),
        }
    }

    /// Whether something waits to be sent.
    pub fn is_behind(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Puts a line into the outbox.
    pub fn tell(&mut self, line: &[u8]) -> Result<(), Leaves> {
        if self.outbox.len() + line.len() > OUTBOX {
            return Err(Leaves);
        }
        self.outbox.extend(line);
        Ok(())
    }

    /// Sends what the connection takes now.
    pub fn flush(&mut self) -> Result<(), Leaves> {
        while !self.outbox.is_empty() {
            match self.stream.write(self.outbox.as_slices().0) {
                Ok(0) => return Err(Leaves),
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(error) => return later(&error),
            }
        }
        Ok(())
    }

    /// Reads once and carries out what came.
    pub fn hear(&mut self, orders: &Sender<Order>) -> Result<(), Leaves> {
        let mut bytes = [0; LONGEST_LINE];
        let read = match self.stream.read(&mut bytes) {
            Ok(read) => read,
            Err(error) => return later(&error),
        };
        self.input.push(&bytes[..read]);
        while let Some(line) = self.input.next() {
            self.count_line()?;
            self.check_length(line.len())?;
            self.obey(&line, orders)?;
        }
        self.check_length(self.input.waiting())?;
        if read > 0 {
            return Ok(());
        }
        let _ = self.flush(); // the answers to the last lines of one that leaves
        Err(Leaves)
    }

    fn obey(&mut self, line: &[u8], orders: &Sender<Order>) -> Result<(), Leaves> {
        match FromClient::parse(line) {
            Some(FromClient::Introduce { name }) => {
                self.name = clean(&name);
                Ok(())
            }
            Some(FromClient::Command(command)) => self.order(command, orders),
            None => {
                self.senseless += 1;
                if self.senseless > PATIENCE {
                    return Err(self.dismiss("too many unknown messages"));
                }
                self.tell(&refusal("unknown message"))
            }
        }
    }

    fn order(&mut self, command: Command, orders: &Sender<Order>) -> Result<(), Leaves> {
        let by = if self.name.is_empty() {
            self.process.clone()
        } else {
            format!("{}, {}", self.name, self.process)
        };
        let answer = match orders.send(Order::new(command, &by)) {
            Ok(()) => FromServer::Accepted { command, by }.line(),
            Err(_) => refusal("the run has ended"),
        };
        self.tell(&answer)
    }

    fn count_line(&mut self) -> Result<(), Leaves> {
        let (begin, count) = &mut self.window;
        if begin.elapsed() >= Duration::from_secs(1) {
            self.window = (Instant::now(), 0);
        } else if *count >= LINES_PER_SECOND {
            return Err(self.dismiss("too many lines a second"));
        }
        self.window.1 += 1;
        Ok(())
    }

    fn check_length(&mut self, length: usize) -> Result<(), Leaves> {
        if length > LONGEST_LINE { Err(self.dismiss("line too long")) } else { Ok(()) }
    }

    /// Says why, as far as it gets through at once.
    fn dismiss(&mut self, reason: &str) -> Leaves {
        let _ = self.tell(&refusal(reason)).and_then(|()| self.flush());
        Leaves
    }
}

impl AsFd for Viewer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The line that refuses something.
pub fn refusal(reason: &str) -> Vec<u8> {
    FromServer::Refused { reason: reason.to_owned() }.line()
}

/// Nothing can be read or sent at the moment, or never again.
fn later(error: &io::Error) -> Result<(), Leaves> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(Leaves),
    }
}

/// A name that can stand in any log.
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
