//! The screen of a training process.

#![expect(clippy::doc_markdown, reason = "the comments are the help texts")]

use crate::command::train::reactions::Reactions;
use crate::engine::schedule::Schedule;
use crate::error::Error;
use crate::event::Command;
use crate::event::state::RunState;
use crate::shown;
use crate::terminal::colors::{self, ColorDepth, Detected};
use crate::terminal::unicode::has_unicode;
use crate::text::say::{say, tell};
use crate::train::Session;
use crate::train::{Job, RunLength};
use crate::ui::{self, LeaveReason, ScreenExit, app::App};
use std::io::stderr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

pub use crate::terminal::obstacle::obstacle;
pub(crate) use crate::ui::terminal::stop_waiting;

/// How the screen looks.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LookArgs {
    /// Choose the colours; auto decides by NO_COLOR, COLORTERM and TERM
    #[arg(long, value_enum)]
    pub color: Option<Color>,
    /// Draw with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
}

impl LookArgs {
    /// Returns the colours, and whether only ASCII characters are drawn, by options and environment.
    pub fn detect(&self) -> (Detected, bool) {
        let env = |name: &str| std::env::var(name).ok();
        let colors = colors::detect(self.color.and_then(Color::depth), env);
        (colors, self.ascii || !has_unicode(env))
    }
}

/// Colours of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    Auto,
    True,
    #[value(name = "256")]
    Indexed,
    #[value(name = "16")]
    Sixteen,
    None,
}

impl Color {
    fn depth(self) -> Option<ColorDepth> {
        match self {
            Self::Auto => None,
            Self::True => Some(ColorDepth::True),
            Self::Indexed => Some(ColorDepth::Indexed),
            Self::Sixteen => Some(ColorDepth::Sixteen),
            Self::None => Some(ColorDepth::Mono),
        }
    }
}

/// The screen of a run, before its first event.
pub struct LiveScreen(App);

impl LiveScreen {
    pub fn new(job: &Job, look: &LookArgs) -> Self {
        let length = RunLength::new(&job.config, job.data.train.len());
        let schedule = Schedule::new(&job.config, length.steps_per_epoch);
        let name = shown::text(job.run.root());
        let (colors, ascii) = look.detect();
        Self(App::new(name, Box::new(move |step| schedule.lr(step)), colors, ascii))
    }

    /// Shows the run until the run ends or the screen is left. Returns the session and what its events have told so
    /// far if training goes on without the screen.
    ///
    /// # Errors
    /// If the run failed.
    pub fn show(
        self,
        session: Session,
        reactions: &Reactions,
    ) -> Result<Option<(Session, RunState)>, Error> {
        let root = &reactions.root;
        match ui::run(session, self.0, root, &reactions.flags) {
            ScreenExit::RunOver(result) => {
                result?;
                tell(&format!("run {}", shown::path(root)))?;
                Ok(None)
            }
            ScreenExit::RunGoesOn { session, reason, state } => {
                go_on(&reason, reactions);
                Ok(Some((session, *state)))
            }
        }
    }
}

/// Decides where training goes on without its screen: in the background if a shell waits for its prompt or the
/// terminal is gone, else in the terminal.
fn go_on(reason: &LeaveReason, reactions: &Reactions) {
    match reason {
        _ if reactions.flags.hung_up.load(Ordering::Relaxed) => reactions.background.leave(),
        LeaveReason::TerminalGone => {
            reactions.hang_up();
            reactions.background.leave();
        }
        LeaveReason::Detached if reactions.background.has_launcher() => {
            reactions.order(Command::Checkpoint, "detaching");
            reactions.detach();
        }
        LeaveReason::Detached => say(&mut stderr(), "screen left, training goes on"),
        LeaveReason::Failed(error) => say(&mut stderr(), &format!("{error}, training goes on")),
    }
}

/// Gives the terminal back, on a thread of its own: a terminal that takes no more output must not hold up the end.
pub fn abandon() {
    let done = thread::spawn(ui::terminal::abandon);
    for _ in 0..20 {
        if done.is_finished() {
            break;
        }
        thread::sleep(Duration::from_millis(25));
    }
}
