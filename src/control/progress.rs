//! Asks a run how far its validation is. That is in no log: the process tells it to those who listen.

use super::client::Client;
use super::protocol::FromServer;
use crate::event::{Event, WorkProgress};
use std::path::Path;
use std::time::Duration;

/// How long the answer may take. The greeting comes at once, and the progress right behind it.
const GREETING: Duration = Duration::from_millis(500);
const BEHIND: Duration = Duration::from_millis(100);

/// Returns how far the validation or evaluation of a running process is, if it has told that and answers at once.
pub fn progress(root: &Path) -> Option<WorkProgress> {
    let mut client = Client::dial(root, "ctl").ok()?;
    client.greeting(GREETING).ok()??;
    match client.next(BEHIND).ok()?? {
        FromServer::Event { stamped, .. } => match stamped.event {
            Event::Progress(progress) => Some(progress),
            _ => None,
        },
        _ => None,
    }
}
