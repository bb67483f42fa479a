//! Alarms and other news that stay on the screen.

use super::App;
use crate::control::Link;
use crate::event::Alarm;

/// A line that stays on the screen as long as its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Banner {
    pub word: &'static str,
    pub text: String,
    /// The number of other alarms that wait to be shown.
    pub more: usize,
}

const ALARM: &str = "ALARM";

impl Banner {
    /// Whether it can be acknowledged.
    pub fn is_alarm(&self) -> bool {
        self.word == ALARM
    }
}

impl App {
    /// Returns what has to be seen until it is over: that the process is gone or has failed, or the newest alarm that
    /// nobody has acknowledged.
    pub fn banner(&self) -> Option<Banner> {
        let failure = || self.failure.clone().unwrap_or_else(|| "without a word".to_owned());
        match self.link() {
            Some(Link::Gone(text)) => {
                return Some(Banner { word: "DEAD", text: text.clone(), more: 0 });
            }
            Some(Link::Over) if self.ended_by().is_none() => {
                return Some(Banner { word: "FAILED", text: failure(), more: 0 });
            }
            _ => {}
        }
        let held = self.alarms();
        let mut unseen = held.iter().rev().filter(|alarm| !self.seen_alarms.contains(alarm));
        let newest = unseen.next()?;
        let text = format!("{} at step {}: {}", newest.kind.name(), newest.step, newest.message);
        Some(Banner { word: ALARM, text, more: unseen.count() })
    }

    /// Returns the alarms that hold, oldest first. A run that is over has none, nor has one that is still being read.
    pub fn alarms(&self) -> &[Alarm] {
        if self.is_over() || self.is_reading() { &[] } else { &self.state.alarms }
    }

    /// Hides the newest alarm in the banner. Returns whether there was one.
    pub(super) fn acknowledge(&mut self) -> bool {
        let unseen = |alarm: &&Alarm| !self.seen_alarms.contains(alarm);
        let Some(newest) = self.alarms().iter().rev().find(unseen).cloned() else { return false };
        self.seen_alarms.retain(|seen| seen.kind != newest.kind);
        self.seen_alarms.push(newest);
        true
    }
}
