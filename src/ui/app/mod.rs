//! The state of the screen, and how messages change it. This module knows no channel, no clock and no terminal.

mod banner;
mod fold;
mod keys;
mod viewer;

pub use banner::Banner;

use super::chart_view::{ChartView, Extent};
use super::clock::Clock;
use super::host::Host;
use super::log_pane::LogPane;
use super::marks::Mark;
use super::metrics::Metrics;
use super::overlay::{Overlay, extent_with};
use super::panel::Panel;
use super::series::{Series, column_of};
use super::theme::Theme;
use crate::control::Link;
use crate::event::state::RunState;
use crate::event::{Alarm, Command, Event, Phase, PreviewFile, Stamped};
use crate::picture::sheet::Sheet;
use crate::shown;
use crate::terminal::colors::Detected;
use crossterm::event::KeyEvent;
use std::borrow::Cow;
use std::collections::BTreeSet;
use viewer::Seat;

/// Seconds that a notice stays on the screen.
const NOTICE_S: f64 = 6.0;

/// A message to the screen. Nothing else changes its state.
#[derive(Debug, Clone)]
pub enum Msg {
    Key(KeyEvent),
    Event(Box<Stamped>),
    /// The sheet that [`Effect::LoadSheet`] asked for; `None` if it can't be read.
    SheetLoaded {
        step: u64,
        sheet: Option<Sheet>,
    },
    Host(Host),
    /// The trainer of this process has ended, with the text of its error if it failed.
    Ended(Option<String>),
    /// What became of the process that a viewer watches.
    Link(Link),
    /// The time, in seconds since 1970-01-01 UTC.
    Tick(f64),
    /// Bytes written to the terminal so far.
    Written(u64),
    /// A frame was drawn.
    Drawn(Drawn),
}

/// Sizes that only drawing knows and the meaning of the next key depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// Columns of the loss chart's plot.
    pub chart_columns: u16,
    /// How far the help can be scrolled, if it is on the screen.
    pub help_end: Option<u16>,
}

/// What the loop has to do for the screen.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Send(Command),
    /// Read the sheet of this preview.
    LoadSheet(PreviewFile),
    /// Show the selected picture on the whole screen until a key.
    FullPicture,
    /// Leave the screen while training goes on.
    Detach,
    /// Leave the screen of a run that has ended.
    Leave,
}

/// What is on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    Dashboard,
    Help {
        scroll: u16,
    },
    Quit(QuitChoice),
    /// The run failed. Its error and its directory are shown until a key is pressed.
    Failed,
    /// The run ended in order. The dashboard stays until a key is pressed.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuitChoice {
    Detach,
    Stop,
    Cancel,
}

impl QuitChoice {
    pub const ALL: [Self; 3] = [Self::Detach, Self::Stop, Self::Cancel];

    pub fn text(self) -> &'static str {
        match self {
            Self::Detach => "detach",
            Self::Stop => "stop and save",
            Self::Cancel => "cancel",
        }
    }
}

/// How near the end of the trainer of this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TrainerEnd {
    Ahead,
    /// The log has told the end, and the user leaves as soon as it has come.
    Awaited,
    Reached,
}

/// The state of the screen: everything that drawing reads.
pub struct App {
    /// The run directory, for titles and messages.
    pub(crate) run: String,
    pub state: RunState,
    pub train: Series,
    pub val: Series,
    pub grad_norm: Series,
    pub rate: Series,
    /// The accuracies that evaluations measured.
    pub metrics: Metrics,
    pub marks: Vec<Mark>,
    /// Earlier runs that are drawn behind the loss.
    pub overlays: Vec<Overlay>,
    pub log: LogPane,
    pub chart: ChartView,
    /// The learning rate of a step, by the function that training uses.
    pub(crate) lr: Box<dyn Fn(u64) -> f64 + Send>,
    pub previews: Vec<PreviewFile>,
    /// The sheet on the screen and its step.
    pub sheet: Option<(u64, Sheet)>,
    /// The step of the sheet that was asked for and has not come yet.
    loading: Option<u64>,
    /// The steps of sheets that could not be read.
    missing: BTreeSet<u64>,
    pub selected: usize,
    pub(crate) raw: bool,
    pub focus: Panel,
    hidden: Vec<Panel>,
    pub enlarged: Option<Panel>,
    pub screen: Screen,
    /// The events that have come since the view was frozen; `None` if it isn't.
    frozen: Option<Vec<Stamped>>,
    pub(crate) host: Host,
    pub notice: Option<(String, f64)>,
    /// The error that ended the trainer of this process.
    pub(crate) error: Option<String>,
    /// The newest error that the run's log tells of.
    failure: Option<String>,
    /// The alarms that hold and that someone has acknowledged.
    seen_alarms: Vec<Alarm>,
    pub(crate) colors: Detected,
    pub(crate) ascii: bool,
    pub now: f64,
    /// The first value of `now`.
    pub(crate) begun: f64,
    clock: Clock,
    pub(crate) written: u64,
    seat: Seat,
    trainer_end: TrainerEnd,
    /// Columns of the loss chart in the last frame: the cursor moves by one of them.
    pub chart_columns: u16,
}

impl App {
    /// Returns the state of a screen in the trainer's own process. [`Self::viewer`] makes it that of another process.
    pub fn new(
        run: String,
        lr: Box<dyn Fn(u64) -> f64 + Send>,
        colors: Detected,
        ascii: bool,
    ) -> Self {
        Self {
            run,
            state: RunState::default(),
            train: Series::new(),
            val: Series::new(),
            grad_norm: Series::new(),
            rate: Series::new(),
            metrics: Metrics::default(),
            marks: Vec::new(),
            overlays: Vec::new(),
            log: LogPane::default(),
            chart: ChartView::default(),
            lr,
            previews: Vec::new(),
            sheet: None,
            loading: None,
            missing: BTreeSet::new(),
            selected: 0,
            raw: false,
            focus: Panel::Loss,
            hidden: Vec::new(),
            enlarged: None,
            screen: Screen::Dashboard,
            frozen: None,
            host: Host::default(),
            notice: None,
            error: None,
            failure: None,
            seen_alarms: Vec::new(),
            colors,
            ascii,
            now: 0.0,
            begun: 0.0,
            clock: Clock::default(),
            written: 0,
            seat: Seat::Trainer,
            trainer_end: TrainerEnd::Ahead,
            chart_columns: 60,
        }
    }

    /// Takes in one message. Returns what is to be done outside because of it.
    pub fn update(&mut self, message: Msg) -> Option<Effect> {
        match message {
            Msg::Key(key) => self.key(&key),
            Msg::Event(event) => match &mut self.frozen {
                Some(waiting) => {
                    // Progress is about its moment alone.
                    waiting.extend(Some(*event).filter(|new| !is_progress(new)));
                    None
                }
                None => self.event(&event),
            },
            Msg::SheetLoaded { step, sheet } => self.take_sheet(step, sheet),
            Msg::Host(host) => {
                self.host = host;
                None
            }
            Msg::Ended(error) if self.is_viewer() => {
                self.failure = error.map(drawn).or(self.failure.take());
                self.relink(Link::Over)
            }
            Msg::Ended(error) => self.end(error.map(drawn)),
            Msg::Link(link) => self.relink(link),
            Msg::Tick(now) => {
                self.now = now;
                if self.begun == 0.0 {
                    self.begun = now;
                }
                if self.notice.as_ref().is_some_and(|(_, until)| *until < now) {
                    self.notice = None;
                }
                None
            }
            Msg::Written(bytes) => {
                self.written = bytes;
                None
            }
            Msg::Drawn(drawn) => {
                self.chart_columns = drawn.chart_columns;
                if let (Screen::Help { scroll }, Some(end)) = (&mut self.screen, drawn.help_end) {
                    *scroll = (*scroll).min(end);
                }
                None
            }
        }
    }

    /// Shows a sheet if it is the one that was asked for last. If it can't be read, the next nearest is asked for.
    fn take_sheet(&mut self, step: u64, sheet: Option<Sheet>) -> Option<Effect> {
        let asked = self.loading == Some(step);
        if asked {
            self.loading = None;
        }
        match sheet {
            Some(sheet) if asked => self.sheet = Some((step, sheet)),
            Some(_) => {}
            None => {
                self.missing.insert(step);
                return self.load_nearest();
            }
        }
        None
    }

    fn end(&mut self, error: Option<String>) -> Option<Effect> {
        let effect = self.thaw();
        self.clock.stop(self.now);
        let awaited = self.trainer_end == TrainerEnd::Awaited;
        self.trainer_end = TrainerEnd::Reached;
        self.log.editing = false; // from now on a key leaves
        self.screen = if error.is_some() { Screen::Failed } else { Screen::Ended };
        let leaves = awaited && error.is_none();
        self.error = error;
        if leaves { Some(Effect::Leave) } else { effect }
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    pub fn shows(&self, panel: Panel) -> bool {
        let empty = panel == Panel::Accuracy && self.metrics.is_empty();
        !empty && !self.hidden.contains(&panel)
    }

    /// Whether training is paused.
    pub fn paused(&self) -> bool {
        self.state.phase == Some(Phase::Paused)
    }

    /// Returns the earlier runs to draw.
    pub fn overlays_shown(&self) -> &[Overlay] {
        if self.chart.alone { &[] } else { &self.overlays }
    }

    /// Returns what the charts cover, with the earlier runs that they show.
    pub fn extent(&self) -> Extent {
        extent_with(&[&self.train, &self.val], self.overlays_shown(), self.chart.axis)
    }

    /// Returns the seconds of training without pauses. The count goes on between reports while the run is known to
    /// go on.
    pub fn elapsed_s(&self) -> f64 {
        self.clock.read(if self.is_live() { self.now } else { self.state.time })
    }

    /// Returns the text of the mark under the cursor of a chart this many columns wide: that of the weightiest and
    /// newest, and how many more there are.
    pub fn told_by_mark(&self, columns: u16) -> Option<String> {
        let range = self.chart.window(self.extent());
        let column = |x| column_of(x, range, usize::from(columns));
        let here = column(self.chart.cursor()?)?;
        let marks = || self.marks.iter().filter(|m| column(m.x(self.chart.axis)) == Some(here));
        let text = marks().max_by_key(|mark| mark.kind)?.text.clone();
        let more = marks().count() - 1;
        Some(if more > 0 { format!("{text}  +{more} more") } else { text })
    }

    pub fn theme(&self) -> Theme {
        Theme { depth: self.colors.depth }
    }

    /// Returns the selected pictures side by side, for the whole screen.
    pub fn full_picture(&self) -> Option<image::RgbImage> {
        let (_, sheet) = self.sheet.as_ref()?;
        let row = sheet.rows.get(self.selected).or(sheet.rows.first())?;
        let last = if self.raw { &row.raw } else { &row.reconstructed };
        let (width, height) = row.original.dimensions();
        let mut picture = image::RgbImage::from_pixel(3 * width + 4, height, image::Rgb([0, 0, 0]));
        for (column, part) in [&row.original, &row.masked, last].into_iter().enumerate() {
            let left = column as i64 * i64::from(width + 2);
            image::imageops::replace(&mut picture, part, left, 0);
        }
        Some(picture)
    }

    fn notify(&mut self, text: String) {
        self.notice = Some((text, self.now + NOTICE_S));
    }
}

fn is_progress(stamped: &Stamped) -> bool {
    matches!(stamped.event, Event::Progress(_))
}

/// Returns a text of foreign origin as the screen draws it.
fn drawn(text: String) -> String {
    match shown::line(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(shown) => shown,
    }
}
