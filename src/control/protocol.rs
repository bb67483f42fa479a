//! The messages on `RUN/control.sock`: JSON lines, each an object with one key.
//!
//! The server greets the client, then sends every event, and answers each order:
//! ```text
//! {"hello":{"version":1,"pid":4711,"log_end":1234}}
//! {"event":{"end":1300,"stamped":{"time":1795441968.5,"event":"phase","phase":"running"}}}
//! {"accepted":{"command":"pause","by":"ctl, process 4712"}}
//! {"refused":{"reason":"unknown message"}}
//! ```
//! `log_end` and `end` are offsets in `events.jsonl`. The log up to `log_end` and the events sent after the greeting
//! together are every event exactly once. `end` lies behind the event's own line, so a client that has read further in
//! the log recognises an event that it knows already. An event that could not be logged, for example on a full disk, is
//! sent with the `end` of the event before.
//!
//! A client may give its name, and sends orders:
//! ```text
//! {"introduce":{"name":"attach"}}
//! {"command":"pause"}
//! ```
//! `accepted` says that the trainer will get the order. The event `obeyed` with the same `by` says that it was carried
//! out.
//!
//! Keys and messages may be added without a new version: both sides ignore those that they don't know, and the server
//! answers an unknown message with `refused`. A client does not talk to a server of a higher [`VERSION`].

use crate::event::{Command, Stamped};
use serde::{Deserialize, Serialize};

/// Version of the protocol.
pub const VERSION: u32 = 1;

/// The greeting of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    #[serde(default)]
    pub pid: u32,
    /// Offset behind the newest event in the log. Later events are sent on this connection.
    #[serde(default)]
    pub log_end: u64,
}

/// A message of the server.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FromServer {
    Hello(Hello),
    Event {
        /// Offset behind the event's line in the log.
        end: u64,
        stamped: Box<Stamped>,
    },
    /// The trainer will get this order.
    Accepted {
        command: Command,
        /// Who gave the order, as the log will name them.
        by: String,
    },
    /// A message was not understood, or the client is not permitted or sends too much.
    Refused {
        reason: String,
    },
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FromClient {
    Introduce { name: String },
    Command(Command),
}

impl FromServer {
    /// Reads a line. Returns `None` for a message that this release does not know.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let known: KnownFromServer = serde_json::from_slice(line).ok()?;
        let hello = known.hello.map(Self::Hello);
        let event =
            || known.event.map(|EventMessage { end, stamped }| Self::Event { end, stamped });
        let accepted =
            || known.accepted.map(|Accepted { command, by }| Self::Accepted { command, by });
        let refused = || known.refused.map(|Refused { reason }| Self::Refused { reason });
        hello.or_else(event).or_else(accepted).or_else(refused)
    }

    /// Returns the message as a line with its line feed.
    pub fn line(&self) -> Vec<u8> {
        line(self)
    }
}

impl FromClient {
    /// Reads a line. Returns `None` for a message that this release does not know.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let known: KnownFromClient = serde_json::from_slice(line).ok()?;
        let introduce = known.introduce.map(|Introduce { name }| Self::Introduce { name });
        introduce.or_else(|| known.command.map(Self::Command))
    }

    /// Returns the message as a line with its line feed.
    pub fn line(&self) -> Vec<u8> {
        line(self)
    }
}

fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// A line of the server with all keys optional, so that unknown keys and messages can be read too.
#[derive(Deserialize)]
struct KnownFromServer {
    hello: Option<Hello>,
    event: Option<EventMessage>,
    accepted: Option<Accepted>,
    refused: Option<Refused>,
}

#[derive(Deserialize)]
struct EventMessage {
    end: u64,
    stamped: Box<Stamped>,
}

#[derive(Deserialize)]
struct Accepted {
    command: Command,
    by: String,
}

#[derive(Deserialize)]
struct Refused {
    reason: String,
}

/// A line of a client with all keys optional, so that unknown keys and messages can be read too.
#[derive(Deserialize)]
struct KnownFromClient {
    introduce: Option<Introduce>,
    command: Option<Command>,
}

#[derive(Deserialize)]
struct Introduce {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Phase};

    #[test]
    fn every_message_comes_back_from_its_documented_line() {
        let stamped =
            Stamped { time: 1_795_441_968.5, event: Event::Phase { phase: Phase::Running } };
        let table = [
            (
                FromServer::Hello(Hello { version: 1, pid: 4711, log_end: 1234 }),
                r#"{"hello":{"version":1,"pid":4711,"log_end":1234}}"#,
            ),
            (
                FromServer::Event { end: 1300, stamped: Box::new(stamped) },
                r#"{"event":{"end":1300,"stamped":{"time":1795441968.5,"event":"phase","phase":"running"}}}"#,
            ),
            (
                FromServer::Accepted {
                    command: Command::Pause,
                    by: "ctl, process 4712".to_owned(),
                },
                r#"{"accepted":{"command":"pause","by":"ctl, process 4712"}}"#,
            ),
            (
                FromServer::Refused { reason: "unknown message".to_owned() },
                r#"{"refused":{"reason":"unknown message"}}"#,
            ),
        ];
        for (message, line) in table {
            assert_eq!(message.line(), format!("{line}\n").as_bytes());
            assert_eq!(FromServer::parse(line.as_bytes()), Some(message));
        }
        let table = [
            (
                FromClient::Introduce { name: "attach".to_owned() },
                r#"{"introduce":{"name":"attach"}}"#,
            ),
            (FromClient::Command(Command::Pause), r#"{"command":"pause"}"#),
        ];
        for (message, line) in table {
            assert_eq!(message.line(), format!("{line}\n").as_bytes());
            assert_eq!(FromClient::parse(line.as_bytes()), Some(message));
        }
    }

    #[test]
    fn what_a_later_release_adds_is_passed_over() {
        let hello = FromServer::parse(br#"{"hello":{"version":2,"moons":[1]},"extra":7}"#);
        assert_eq!(hello, Some(FromServer::Hello(Hello { version: 2, pid: 0, log_end: 0 })));
        let stop = FromClient::parse(br#"{"command":"stop","why":"lunch"}"#);
        assert_eq!(stop, Some(FromClient::Command(Command::Stop)));
        for line in
            ["{}", "", "{\"moons\":1}", "[]", "\"hello\"", "{\"command\":\"fly\"}", "\u{fffd}"]
        {
            assert_eq!(FromServer::parse(line.as_bytes()), None, "{line}");
            assert_eq!(FromClient::parse(line.as_bytes()), None, "{line}");
        }
    }
}
