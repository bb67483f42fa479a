//! What the screen may do in the trainer's own process, and in another one that watches the run.

use super::{App, Effect, Screen, TrainerEnd, drawn};
use crate::control::Link;
use crate::event::Reason;

/// The process that the screen runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seat {
    /// The trainer's own.
    Trainer,
    /// One that watches, with what it knows of the trainer. It knows nothing while it reads the log so far.
    Viewer(Option<Link>),
}

impl App {
    /// Turns the state into that of a process that watches a run. What it may do follows from the [`Link`]s that it
    /// is told.
    #[must_use]
    pub fn viewer(self) -> Self {
        Self { seat: Seat::Viewer(None), ..self }
    }

    pub fn is_viewer(&self) -> bool {
        self.seat != Seat::Trainer
    }

    /// Returns what a viewer knows of the process behind the run.
    pub fn link(&self) -> Option<&Link> {
        match &self.seat {
            Seat::Trainer => None,
            Seat::Viewer(link) => link.as_ref(),
        }
    }

    /// Whether a viewer still reads what happened before it was started.
    pub fn is_reading(&self) -> bool {
        self.seat == Seat::Viewer(None)
    }

    /// Whether the run is known to go on, so that its clock runs.
    pub fn is_live(&self) -> bool {
        match self.link() {
            None => !self.is_viewer() && !self.has_ended(),
            Some(link) => matches!(link, Link::Steerable | Link::WatchOnly(_)),
        }
    }

    /// Whether the trainer of this process has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.trainer_end == TrainerEnd::Reached
    }

    /// Whether the trainer has ended.
    pub fn is_over(&self) -> bool {
        self.has_ended() || matches!(self.link(), Some(Link::Gone(_) | Link::Over))
    }

    /// Whether orders reach the trainer.
    pub fn can_steer(&self) -> bool {
        match self.link() {
            None => !self.is_viewer() && !self.has_ended(),
            Some(link) => *link == Link::Steerable,
        }
    }

    /// Returns how a run that is over ended; `None` if it failed.
    pub fn ended_by(&self) -> Option<Reason> {
        self.state.finished.as_ref().map(|finished| finished.reason)
    }

    /// Returns why a viewer sends no order.
    fn refusal(&self) -> String {
        match self.link() {
            None => "no orders yet: the run is being read".to_owned(),
            Some(Link::WatchOnly(reason)) => format!("watching only: {reason}"),
            Some(Link::Lost) => "no orders: connection lost, trying again".to_owned(),
            Some(Link::Gone(_)) => "no orders: the process is gone".to_owned(),
            Some(Link::Steerable | Link::Over) => "no orders: the run has ended".to_owned(),
        }
    }

    /// Shows why a viewer sends no order. The trainer's own screen shows by itself that the run has ended.
    pub(super) fn refuse(&mut self) {
        if self.is_viewer() {
            self.notify(self.refusal());
        }
    }

    /// Takes in what became of the process behind the run, with a notice if that changes what keys can do.
    pub(super) fn relink(&mut self, link: Link) -> Option<Effect> {
        let link = match link {
            Link::WatchOnly(why) => Link::WatchOnly(drawn(why)),
            Link::Gone(why) => Link::Gone(drawn(why)),
            link => link,
        };
        let before = self.link().cloned();
        let news = match (&before, &link) {
            (Some(before), link) if before == link => return None,
            (_, Link::WatchOnly(reason)) => Some(format!("watching only: {reason}")),
            (Some(Link::Lost), Link::Steerable) => Some("connected again".to_owned()),
            (Some(Link::Gone(_) | Link::Over), Link::Steerable) => {
                Some("the run goes on".to_owned())
            }
            _ => None,
        };
        self.seat = Seat::Viewer(Some(link));
        if let Some(news) = news {
            self.notify(news);
        }
        if !self.can_steer() && matches!(self.screen, Screen::Quit(_)) {
            self.screen = Screen::Dashboard; // without orders the box has nothing to choose from
        }
        let thawed = if self.is_over() { self.thaw() } else { None };
        if before.is_none() { self.load_nearest().or(thawed) } else { thawed }
    }
}
