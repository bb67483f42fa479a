//! The status line, the notice line, the key hints, and the title of the loss chart.

use crate::control::Link;
use crate::event::{Level, Phase, Reason};
use crate::shown;
use crate::text::shell::for_shell;
use crate::text::units::span;
use crate::ui::app::{App, Banner, Screen};
use crate::ui::series::XAxis;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

/// Draws the status line. What matters most is at the left, where a narrow screen still shows it.
pub(super) fn draw(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let theme = app.theme();
    let (word, style) = phase(app);
    let dot = if app.ascii { "*" } else { "●" };
    let mut parts = vec![Span::styled(format!("{dot} {word}"), style)];
    if let Some(started) = &app.state.started {
        let (total, epochs) = (started.total_steps, started.epochs_text());
        match &app.state.last_step {
            Some(report) => {
                let step = format!("  step {}/{total}", report.step);
                parts.push(Span::styled(step, theme.title()));
                // A run that ends within an epoch may be a part of one.
                let digits = if epochs.contains('.') { 2 } else { 1 };
                parts.push(Span::raw(format!("  epoch {:.digits$}/{epochs}", report.epoch)));
                parts.push(Span::raw(format!("  {:.1} img/s", report.images_per_s)));
                if app.state.finished.is_none() && app.is_live() {
                    parts.push(Span::raw(format!("  ETA {}", span(report.eta_s))));
                }
                parts.push(Span::raw(format!("  elapsed {}", span(app.elapsed_s()))));
            }
            None => parts.push(Span::raw(format!("  step {}/{total}", started.step))),
        }
        parts.push(Span::styled(format!("  {}", started.computes_on()), theme.dim()));
    }
    if app.is_frozen() {
        parts.insert(1, Span::styled("  FROZEN", theme.warning()));
    }
    if matches!(app.link(), Some(Link::WatchOnly(_))) {
        parts.insert(1, Span::styled("  watching only", theme.dim()));
    }
    let alarms = app.alarms().len();
    if alarms > 0 {
        parts.insert(1, Span::styled(format!(" !{alarms}"), theme.alarm()));
    }
    frame.render_widget(Line::from(parts), area);
}

/// Returns what the trainer is doing, in a word or two, and the style of that.
fn phase(app: &App) -> (Cow<'static, str>, Style) {
    let (word, style) = word(app);
    let text = match &app.state.progress {
        Some(progress) if word == VALIDATING => progress.text(),
        _ if [LOADING, PREPARING, VALIDATING].contains(&word) => word.to_owned(),
        _ => return (word.into(), style),
    };
    // The clock of the training stands still before the first step, so the wait gets one of its own.
    let since = if app.state.phase.is_some() { app.state.phase_since } else { app.begun };
    let waited = app.now - since;
    let shown = app.is_live() && since > 0.0 && waited >= LONG;
    let waited = if shown { format!(" {}", span(waited)) } else { String::new() };
    ((text + &waited).into(), style)
}

/// Seconds after which a wait is told.
const LONG: f64 = 1.5;
const LOADING: &str = "loading...";
const PREPARING: &str = "preparing the device...";

const VALIDATING: &str = "validating";

fn word(app: &App) -> (&'static str, Style) {
    let theme = app.theme();
    match app.link() {
        None if app.is_reading() => return ("reading...", theme.warning()),
        Some(Link::Gone(_)) => return ("DEAD", theme.error()),
        Some(Link::Lost) => return ("no connection", theme.warning()),
        Some(Link::Over) if app.ended_by().is_none() => return ("failed", theme.error()),
        _ if app.error.is_some() => return ("failed", theme.error()),
        _ => {}
    }
    match app.ended_by() {
        Some(Reason::Completed) => return ("finished", theme.good()),
        Some(Reason::Stopped) => return ("stopped", theme.warning()),
        None => {}
    }
    match app.state.phase {
        None | Some(Phase::Starting) => (LOADING, theme.warning()),
        Some(Phase::Compiling) => (PREPARING, theme.warning()),
        Some(Phase::Running) => ("running", theme.good()),
        Some(Phase::Paused) => ("PAUSED", theme.warning()),
        Some(Phase::Evaluating) => (VALIDATING, theme.val()),
        Some(Phase::Saving) => ("saving", theme.lr()),
        Some(Phase::Stopping) => ("stopping", theme.warning()),
    }
}

/// Returns the title of the loss panel with all modes of the chart.
pub(super) fn chart_modes(app: &App) -> String {
    let chart = &app.chart;
    let mut title = "loss".to_owned();
    if chart.log_y {
        title += "  log";
    }
    if chart.beta() > 0.0 {
        let _ = write!(title, "  smooth {}", chart.beta()); // writing to a string can't fail
    }
    if chart.axis == XAxis::Time {
        title += "  by time";
    }
    if chart.alone && !app.overlays.is_empty() {
        title += "  earlier runs hidden";
    }
    let extent = app.extent();
    if chart.is_zoomed() && chart.window(extent) != (extent.start, extent.end) {
        title += if chart.follows() { "  zoom, following" } else { "  zoom" };
    }
    title
}

/// Draws the banner and the notice of the moment, or without both the newest line of the log. `chart_columns` decides
/// which mark is under the cursor.
pub(super) fn notice(app: &App, chart_columns: u16, area: Rect, frame: &mut Frame<'_>) {
    let theme = app.theme();
    let banner = app.banner();
    let beside = if app.log.editing {
        Some((format!("/{}_", app.log.filter), theme.focus()))
    } else {
        of_the_moment(app, chart_columns).or_else(|| banner.is_none().then(|| standing(app)))
    };
    let mut parts = Vec::new();
    if let Some(banner) = banner {
        let width = usize::from(area.width);
        let taken = beside.as_ref().map_or(0, |(text, _)| text.chars().count() + 1);
        let room = width.saturating_sub(taken).max(width / 2);
        parts.push(Span::styled(banner_text(&banner, room, app.ascii), theme.alarm()));
        parts.push(Span::raw(" "));
    }
    parts.extend(beside.map(|(text, style)| Span::styled(text, style)));
    frame.render_widget(Line::from(parts), area);
}

/// Returns a banner in at most `room` cells, with the end of its text cut off if need be.
fn banner_text(banner: &Banner, room: usize, ascii: bool) -> String {
    let more = if banner.more > 0 { format!("+{} more ", banner.more) } else { String::new() };
    let text = format!(" {} {} ", banner.word, banner.text);
    let room = room.saturating_sub(more.len());
    if text.chars().count() <= room {
        return text + &more;
    }
    let end = if ascii { "... " } else { "… " };
    let kept = room.saturating_sub(end.chars().count());
    let cut: String = text.chars().take(kept).collect();
    format!("{}{end}{more}", cut.trim_end())
}

/// Returns what a key asked for or what happened just now.
fn of_the_moment(app: &App, chart_columns: u16) -> Option<(String, Style)> {
    let theme = app.theme();
    let marked = || app.told_by_mark(chart_columns).map(|text| (text, theme.title()));
    if app.screen == Screen::Ended {
        let text =
            format!("the run has ended; {} keeps it. Any other key leaves", shown::line(&app.run));
        return marked().or(Some((text, theme.good())));
    }
    let notice = app.notice.as_ref().map(|(text, _)| (text.clone(), theme.warning()));
    notice.or_else(marked)
}

/// Returns the text and its style while nothing happens.
fn standing(app: &App) -> (String, Style) {
    let theme = app.theme();
    match (app.link(), app.ended_by()) {
        (Some(Link::Lost), _) => {
            return ("connection lost, trying again".to_owned(), theme.warning());
        }
        (Some(Link::Over), Some(Reason::Completed)) => {
            return ("the run has finished; q leaves".to_owned(), theme.good());
        }
        (Some(Link::Over), Some(Reason::Stopped)) => {
            let run = for_shell(Path::new(&app.run));
            let text = format!("stopped and saved: simmim-tui --resume {run}; q leaves");
            return (text, theme.good());
        }
        _ => {}
    }
    match app.log.newest() {
        Some(line) if line.level == Level::Info => (line.text.clone(), theme.dim()),
        Some(line) => (line.text.clone(), theme.warning()),
        None => (shown::line(&app.run).into_owned(), theme.dim()),
    }
}

/// Draws the keys that a newcomer needs first, as many as fit. `?` shows all of them.
pub(super) fn hints(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let theme = app.theme();
    let pause = if app.paused() { "resume" } else { "pause" };
    let leaves = app.is_over() || !app.can_steer();
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    if app.log.editing {
        pairs.extend([("Enter", "keep filter"), ("Esc", "clear it")]);
    } else {
        if app.can_steer() {
            pairs.extend([("p", pause), ("c", "checkpoint")]);
        }
        if app.banner().is_some_and(|banner| banner.is_alarm()) {
            pairs.push(("Esc", "hide alarm"));
        }
        pairs.extend([
            ("?", "help"),
            ("q", if leaves { "leave" } else { "quit" }),
            ("Tab", "panel"),
            ("Enter", "enlarge"),
            ("y", "log"),
            ("s", "smooth"),
            ("+", "zoom"),
            ("f", "freeze"),
            ("z", "picture"),
        ]);
    }
    let mut parts = Vec::new();
    let mut width = 0;
    for (key, what) in &pairs {
        let len = (key.len() + what.len() + 3) as u16;
        if width + len > area.width {
            break; // half a hint would help nobody
        }
        width += len;
        parts.push(Span::styled((*key).to_owned(), theme.key()));
        parts.push(Span::styled(format!(" {what}  "), theme.dim()));
    }
    frame.render_widget(Line::from(parts), area);
}
