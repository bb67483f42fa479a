//! The screen of a program that was built without one.

use crate::command::train::reactions::Reactions;
use crate::error::Error;
use crate::event::state::RunState;
use crate::train::{Job, Session};

/// Arguments about the look of the screen: none.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LookArgs {}

/// Returns why there can be no screen.
#[expect(clippy::unnecessary_wraps, reason = "a build with a screen may have no obstacle")]
pub fn obstacle() -> Option<&'static str> {
    Some("this build has no screen")
}

/// There is no value of this type.
pub enum LiveScreen {}

impl LiveScreen {
    pub fn new(_job: &Job, _look: &LookArgs) -> Self {
        unreachable!("a screen is made only if nothing stands in its way")
    }

    pub fn show(
        self,
        _session: Session,
        _reactions: &Reactions,
    ) -> Result<Option<(Session, RunState)>, Error> {
        match self {}
    }
}

pub fn stop_waiting() {}

pub fn abandon() {}
