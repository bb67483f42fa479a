//! The state of the screen and how messages change it: no channel, no clock, no terminal.

use super::host::Host;
use super::keys::{self, Action, Panel};
use super::log_pane::{LogLine, LogPane};
use super::series::{Point, Series, XAxis};
use super::theme::{ColorDepth, Detected};
use super::view::chart::ChartView;
use super::view::loss::{Mark, MarkKind};
use crate::event::{Command, Event, Level, Phase, PreviewFile, Stamped};
use crate::progress::{self, RunState};
use crate::sheet::Sheet;
use crossterm::event::{KeyCode, KeyEvent};

/// Seconds that a notice stays.
const NOTICE_S: f64 = 6.0;

/// What reaches the screen.
#[derive(Debug, Clone)]
pub enum Msg {
    Key(KeyEvent),
    Event(Box<Stamped>),
    /// The sheet asked for by [`Effect::LoadSheet`].
    SheetLoaded {
        step: u64,
        sheet: Option<Sheet>,
    },
    Host(Host),
    /// The trainer ended; the text of its error if it failed.
    Ended(Option<String>),
    /// The time, seconds since 1970-01-01 UTC.
    Tick(f64),
    /// Bytes written to the terminal so far.
    Written(u64),
}

/// What the screen wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Send(Command),
    /// Read the sheet of this preview.
    LoadSheet(PreviewFile),
    /// Show the selected picture on the whole screen until a key.
    FullPicture,
    /// Leave the screen; training goes on.
    Detach,
    /// The run has ended: leave.
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
    /// The run failed: its error and folder, until a key.
    Failed,
    /// The run ended in order: the dashboard stays until a key.
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

/// Everything that the views read.
pub struct App {
    /// Run folder, for titles and messages.
    pub run: String,
    pub state: RunState,
    pub train: Series,
    pub val: Series,
    pub grad_norm: Series,
    pub rate: Series,
    pub marks: Vec<Mark>,
    pub log: LogPane,
    pub chart: ChartView,
    /// Learning rate by step: the function that trains.
    pub lr: Box<dyn Fn(u64) -> f64 + Send>,
    pub previews: Vec<PreviewFile>,
    /// The sheet on the screen and its step.
    pub sheet: Option<(u64, Sheet)>,
    /// Step of the sheet that was asked for.
    loading: Option<u64>,
    pub selected: usize,
    pub raw: bool,
    pub focus: Panel,
    hidden: Vec<Panel>,
    pub enlarged: Option<Panel>,
    pub screen: Screen,
    /// Events that came while the view is frozen.
    frozen: Option<Vec<Stamped>>,
    pub host: Host,
    pub notice: Option<(String, f64)>,
    pub error: Option<String>,
    pub colors: Detected,
    pub ascii: bool,
    pub now: f64,
    /// Seconds of training up to `running_since`, pauses left out.
    worked_s: f64,
    /// Since when the clock runs, seconds since 1970-01-01 UTC; it stands still in a pause.
    running_since: Option<f64>,
    pub written: u64,
    /// The trainer has ended.
    over: bool,
    /// Columns of the loss chart in the last frame, for cursor moves of one column.
    pub chart_columns: u16,
}

impl App {
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
            marks: Vec::new(),
            log: LogPane::default(),
            chart: ChartView::default(),
            lr,
            previews: Vec::new(),
            sheet: None,
            loading: None,
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
            colors,
            ascii,
            now: 0.0,
            worked_s: 0.0,
            running_since: None,
            written: 0,
            over: false,
            chart_columns: 60,
        }
    }

    /// Takes in one message.
    pub fn update(&mut self, message: Msg) -> Option<Effect> {
        match message {
            Msg::Key(key) => self.key(&key),
            Msg::Event(event) => match &mut self.frozen {
                Some(waiting) => {
                    waiting.push(*event);
                    None
                }
                None => self.event(&event),
            },
            Msg::SheetLoaded { step, sheet } => {
                if self.loading == Some(step) {
                    self.loading = None;
                    self.sheet = sheet.map(|sheet| (step, sheet)).or(self.sheet.take());
                }
                None
            }
            Msg::Host(host) => {
                self.host = host;
                None
            }
            Msg::Ended(error) => {
                let effect = self.thaw();
                self.worked_s = self.elapsed_s();
                self.running_since = None;
                self.over = true;
                self.log.editing = false; // keys leave now
                self.screen = if error.is_some() { Screen::Failed } else { Screen::Ended };
                self.error = error;
                effect
            }
            Msg::Tick(now) => {
                self.now = now;
                if self.notice.as_ref().is_some_and(|(_, until)| *until < now) {
                    self.notice = None;
                }
                None
            }
            Msg::Written(bytes) => {
                self.written = bytes;
                None
            }
        }
    }

    /// Whether the trainer has ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    pub fn shows(&self, panel: Panel) -> bool {
        !self.hidden.contains(&panel)
    }

    /// Whether training is paused.
    pub fn paused(&self) -> bool {
        self.state.phase == Some(Phase::Paused)
    }

    /// First and last x of the chart: from the start of the run to the newest point.
    pub fn extent(&self) -> (f64, f64) {
        let x = |point: &Point| match self.chart.axis {
            XAxis::Step => point.step,
            XAxis::Time => point.time,
        };
        let ends = [self.train.last(), self.val.last()].into_iter().flatten().map(x);
        (0.0, ends.fold(1.0, f64::max))
    }

    /// Seconds of training, pauses left out, going on between reports.
    pub fn elapsed_s(&self) -> f64 {
        let since = self.running_since.map_or(0.0, |since| (self.now - since).max(0.0));
        self.worked_s + since
    }

    /// Keeps the clock: reports set it, pauses stop it.
    fn keep_time(&mut self, stamped: &Stamped) {
        match &stamped.event {
            Event::Step(report) => {
                self.worked_s = report.elapsed_s;
                self.running_since = (!self.paused()).then_some(stamped.time);
            }
            Event::Phase { phase: Phase::Paused } => {
                let since = self.running_since.take().unwrap_or(stamped.time);
                self.worked_s += (stamped.time - since).max(0.0);
            }
            // Saving in a pause doesn't end it.
            Event::Phase { phase: Phase::Saving } => {}
            Event::Phase { .. } if self.state.last_step.is_some() => {
                self.running_since.get_or_insert(stamped.time);
            }
            Event::Finished(finished) => {
                self.worked_s = finished.elapsed_s;
                self.running_since = None;
            }
            _ => {}
        }
    }

    fn notify(&mut self, text: String) {
        self.notice = Some((text, self.now + NOTICE_S));
    }

    fn thaw(&mut self) -> Option<Effect> {
        let mut effect = None;
        for event in self.frozen.take().unwrap_or_default() {
            effect = self.event(&event).or(effect);
        }
        effect
    }

    fn event(&mut self, stamped: &Stamped) -> Option<Effect> {
        self.state.apply(stamped);
        self.keep_time(stamped);
        let (time, mut level) = (stamped.time, Level::Info);
        let mut line = None;
        let mut effect = None;
        match &stamped.event {
            Event::Started(started) => {
                let step = started.step as f64;
                if started.resumed {
                    for series in
                        [&mut self.train, &mut self.val, &mut self.grad_norm, &mut self.rate]
                    {
                        series.truncate_after(step);
                    }
                    self.marks.retain(|mark| mark.step <= step);
                    self.mark(step, MarkKind::Resume);
                    line = Some(format!("going on after step {}", started.step));
                }
            }
            Event::Step(report) => {
                let first = report.step - (report.losses.len() as u64).min(report.step);
                let old = self.train.last().map_or(0.0, |point| point.time);
                let count = report.losses.len() as f64;
                for (i, &loss) in report.losses.iter().enumerate() {
                    let share = (i + 1) as f64 / count;
                    self.train.push(Point {
                        step: (first + i as u64 + 1) as f64,
                        time: old + (report.elapsed_s - old) * share,
                        value: f64::from(loss),
                    });
                }
                let point =
                    |value| Point { step: report.step as f64, time: report.elapsed_s, value };
                self.grad_norm.push(point(f64::from(report.grad_norm)));
                self.rate.push(point(report.images_per_s));
            }
            Event::Validated(validation) => {
                let time = self.state.last_step.as_ref().map_or(0.0, |report| report.elapsed_s);
                let step = validation.step as f64;
                self.val.push(Point { step, time, value: validation.val_loss });
                line = Some(format!(
                    "step {}: val_loss {:.4}, psnr {:.2} dB, ssim {:.3}{}",
                    validation.step,
                    validation.val_loss,
                    validation.psnr,
                    validation.ssim,
                    if validation.best { ", best so far" } else { "" }
                ));
            }
            Event::Preview(preview) => {
                self.previews.retain(|old| old.step < preview.step);
                self.previews.push(preview.clone());
                effect = self.load_nearest();
            }
            Event::CheckpointSaved { step, path, bytes, best } => {
                self.mark(*step as f64, MarkKind::Checkpoint);
                let best = if *best { ", best so far" } else { "" };
                let size = progress::bytes(*bytes);
                let text = format!("step {step}: saved {path} ({size}{best})");
                self.notify(text.clone());
                line = Some(text);
            }
            Event::Log { level: own, message } => {
                level = *own;
                line = Some(message.clone());
                if level != Level::Info {
                    self.notify(message.clone());
                }
            }
            Event::Obeyed(order) => {
                line = Some(format!("{}, ordered by {}", order.command.name(), order.by));
            }
            Event::Alarm(alarm) => {
                level = Level::Warning;
                if alarm.active {
                    self.mark(alarm.step as f64, MarkKind::Alarm);
                }
                let over = if alarm.active { "" } else { " is over" };
                let text = format!("{}{over}: {}", alarm.kind.name(), alarm.message);
                self.notify(text.clone());
                line = Some(text);
            }
            Event::Finished(finished) => {
                line = Some(format!("{:?} at step {}", finished.reason, finished.step));
            }
            Event::Phase { phase: Phase::Paused } => line = Some("paused".to_owned()),
            Event::Phase { .. } => {}
        }
        if let Some(text) = line {
            self.log.push(LogLine { time, level, text });
        }
        effect
    }

    fn mark(&mut self, step: f64, kind: MarkKind) {
        let time = self.train.last().map_or(0.0, |point| point.time);
        self.marks.push(Mark { step, time, kind });
    }

    /// The preview nearest to the chart's cursor, or the newest, unless it is there already.
    fn load_nearest(&mut self) -> Option<Effect> {
        let wanted = match self.chart.cursor() {
            None => self.previews.last()?,
            Some(x) => {
                let step = match self.chart.axis {
                    XAxis::Step => x,
                    XAxis::Time => self.train.nearest(x, XAxis::Time).map_or(0.0, |p| p.step),
                };
                let distance = |preview: &&PreviewFile| (preview.step as f64 - step).abs();
                self.previews.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))?
            }
        };
        let shown = self.loading.or(self.sheet.as_ref().map(|(step, _)| *step));
        if shown == Some(wanted.step) {
            return None;
        }
        self.loading = Some(wanted.step);
        Some(Effect::LoadSheet(wanted.clone()))
    }

    fn key(&mut self, key: &KeyEvent) -> Option<Effect> {
        let action = keys::action(key);
        let interrupt = action == Some(Action::Quit) && key.code == KeyCode::Char('c');
        self.log.editing &= !interrupt; // Ctrl-C is no text
        if self.log.editing {
            self.type_filter(key.code);
            return None;
        }
        match self.screen {
            Screen::Failed => Some(Effect::Leave),
            Screen::Ended if matches!(action, None | Some(Action::Quit | Action::Back)) => {
                Some(Effect::Leave)
            }
            Screen::Help { scroll } => {
                self.screen = match action {
                    Some(Action::Down) => Screen::Help { scroll: scroll.saturating_add(1) },
                    Some(Action::Up) => Screen::Help { scroll: scroll.saturating_sub(1) },
                    _ => self.base(),
                };
                None
            }
            Screen::Quit(choice) => self.quit_key(choice, key.code, action),
            Screen::Dashboard | Screen::Ended => action.and_then(|action| self.act(action)),
        }
    }

    /// The screen under a box.
    fn base(&self) -> Screen {
        if self.over { Screen::Ended } else { Screen::Dashboard }
    }

    fn quit_key(
        &mut self,
        choice: QuitChoice,
        code: KeyCode,
        action: Option<Action>,
    ) -> Option<Effect> {
        let all = QuitChoice::ALL;
        let at = all.iter().position(|&c| c == choice).unwrap_or(0);
        match (code, action) {
            (KeyCode::Char('d'), _) => return self.choose(QuitChoice::Detach),
            (KeyCode::Char('s'), _) => return self.choose(QuitChoice::Stop),
            (KeyCode::Enter, _) => return self.choose(choice),
            (_, Some(Action::Right | Action::Down | Action::FocusNext)) => {
                self.screen = Screen::Quit(all[(at + 1) % all.len()]);
            }
            (_, Some(Action::Left | Action::Up | Action::FocusPrevious)) => {
                self.screen = Screen::Quit(all[(at + all.len() - 1) % all.len()]);
            }
            (KeyCode::Char('c' | 'n') | KeyCode::Esc, _) => self.screen = self.base(),
            _ => {}
        }
        None
    }

    fn choose(&mut self, choice: QuitChoice) -> Option<Effect> {
        self.screen = self.base();
        match choice {
            QuitChoice::Detach => Some(Effect::Detach),
            QuitChoice::Stop => {
                self.notify("stopping: the step ends, then a checkpoint is saved".to_owned());
                Some(Effect::Send(Command::Stop))
            }
            QuitChoice::Cancel => None,
        }
    }

    fn act(&mut self, action: Action) -> Option<Effect> {
        let full = self.extent();
        match action {
            // Nobody is left to obey.
            Action::PauseResume | Action::Checkpoint if self.over => return None,
            Action::PauseResume => {
                let command = if self.paused() { Command::Resume } else { Command::Pause };
                self.notify(
                    if self.paused() { "resuming" } else { "pausing after this step" }.into(),
                );
                return Some(Effect::Send(command));
            }
            Action::Checkpoint => {
                self.notify("saving a checkpoint after this step".to_owned());
                return Some(Effect::Send(Command::Checkpoint));
            }
            Action::Quit => self.screen = Screen::Quit(QuitChoice::Cancel),
            Action::Help => self.screen = Screen::Help { scroll: 0 },
            Action::FocusNext => self.move_focus(1),
            Action::FocusPrevious => self.move_focus(-1),
            Action::Left | Action::Right => {
                let columns = if action == Action::Left { -1 } else { 1 };
                self.chart.cursor_move(columns, self.chart_columns, full);
                return self.load_nearest();
            }
            Action::Up | Action::Down => {
                let down = action == Action::Down;
                if self.focus == Panel::Log {
                    self.log.scroll_by(if down { -1 } else { 1 });
                } else {
                    let rows = self.sheet.as_ref().map_or(0, |(_, sheet)| sheet.rows.len());
                    let last = rows.saturating_sub(1);
                    self.selected = if down {
                        (self.selected + 1).min(last)
                    } else {
                        self.selected.saturating_sub(1)
                    };
                }
            }
            Action::Enlarge => {
                self.enlarged = if self.enlarged.is_some() { None } else { Some(self.focus) };
            }
            Action::Back => {
                if self.enlarged.take().is_none() {
                    self.chart.cursor_off();
                    return self.load_nearest();
                }
            }
            Action::Toggle(panel) => {
                if self.shows(panel) {
                    self.hidden.push(panel);
                    if self.focus == panel {
                        self.move_focus(1);
                    }
                } else {
                    self.hidden.retain(|&hidden| hidden != panel);
                }
            }
            Action::LogScale => self.chart.toggle_log(),
            Action::Smoother => self.chart.more_smoothing(),
            Action::Rougher => self.chart.less_smoothing(),
            Action::ZoomIn => self.chart.zoom_in(full),
            Action::ZoomOut => self.chart.zoom_out(full),
            Action::ZoomReset => self.chart.reset(),
            Action::PanLeft => self.chart.pan(-1, full),
            Action::PanRight => self.chart.pan(1, full),
            Action::XAxis => self.chart.toggle_axis(),
            Action::Freeze => {
                if self.frozen.is_some() {
                    return self.thaw();
                }
                self.frozen = Some(Vec::new());
            }
            Action::Filter => {
                self.log.editing = true;
                self.focus = Panel::Log;
                self.hidden.retain(|&panel| panel != Panel::Log);
            }
            Action::Level => {
                self.log.warnings_only = !self.log.warnings_only;
                self.log.scroll = 0;
            }
            Action::Raw => self.raw = !self.raw,
            Action::FullPicture => {
                if self.colors.depth == ColorDepth::Mono || self.ascii {
                    self.notify("pictures on the whole screen need colours".to_owned());
                    return None;
                }
                return self.sheet.as_ref().map(|_| Effect::FullPicture);
            }
        }
        None
    }

    fn move_focus(&mut self, by: i64) {
        let all = Panel::ALL;
        let count = all.len() as i64;
        let at = all.iter().position(|&panel| panel == self.focus).unwrap_or(0) as i64;
        let next = (1..=count).map(|k| all[(at + by * k).rem_euclid(count) as usize]);
        if let Some(panel) = next.into_iter().find(|&panel| self.shows(panel)) {
            self.focus = panel;
        }
        if self.enlarged.is_some() {
            self.enlarged = Some(self.focus);
        }
    }

    fn type_filter(&mut self, code: KeyCode) {
        self.log.scroll = 0;
        match code {
            KeyCode::Enter => self.log.editing = false,
            KeyCode::Esc => {
                self.log.editing = false;
                self.log.filter.clear();
            }
            KeyCode::Backspace => drop(self.log.filter.pop()),
            KeyCode::Char(c) => self.log.filter.push(c),
            _ => {}
        }
    }
}
