//! The status line, the notice line and the key hints.

use crate::event::{Level, Phase};
use crate::progress::span;
use crate::ui::app::{App, Screen};
use crate::ui::series::XAxis;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use std::fmt::Write as _;

/// What the trainer is doing, in a word, and how it looks.
fn phase(app: &App) -> (&'static str, Style) {
    let theme = app.theme();
    if app.error.is_some() {
        return ("failed", theme.error());
    }
    if app.state.finished.is_some() {
        return ("finished", theme.good());
    }
    match app.state.phase {
        None | Some(Phase::Starting) => ("loading...", theme.warning()),
        Some(Phase::Compiling) => ("compiling/autotuning...", theme.warning()),
        Some(Phase::Running) => ("running", theme.good()),
        Some(Phase::Paused) => ("PAUSED", theme.warning()),
        Some(Phase::Evaluating) => ("validating", theme.val()),
        Some(Phase::Saving) => ("saving", theme.lr()),
        Some(Phase::Stopping) => ("stopping", theme.warning()),
    }
}

/// One line; what matters most stands left and survives a narrow screen.
pub fn draw(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let theme = app.theme();
    let (word, style) = phase(app);
    let dot = if app.ascii { "*" } else { "●" };
    let mut parts = vec![Span::styled(format!("{dot} {word}"), style)];
    if let Some(started) = &app.state.started {
        let (total, epochs) = (started.total_steps, started.epochs);
        match &app.state.last_step {
            Some(report) => {
                let step = format!("  step {}/{total}", report.step);
                parts.push(Span::styled(step, theme.title()));
                parts.push(Span::raw(format!("  epoch {:.1}/{epochs}", report.epoch)));
                parts.push(Span::raw(format!("  {:.1} img/s", report.images_per_s)));
                if app.state.finished.is_none() {
                    parts.push(Span::raw(format!("  ETA {}", span(report.eta_s))));
                }
                parts.push(Span::raw(format!("  elapsed {}", span(app.elapsed_s()))));
            }
            None => parts.push(Span::raw(format!("  step {}/{total}", started.step))),
        }
        parts.push(Span::styled(format!("  {}", started.device), theme.dim()));
    }
    if app.is_frozen() {
        parts.insert(1, Span::styled("  FROZEN", theme.warning()));
    }
    frame.render_widget(Line::from(parts), area);
}

/// Title of the loss panel with all modes of the chart.
pub fn chart_modes(app: &App) -> String {
    let chart = &app.chart;
    let mut title = "loss".to_owned();
    if chart.log_y {
        title += "  log";
    }
    if chart.beta() > 0.0 {
        let _ = write!(title, "  smooth {}", chart.beta()); // a string takes everything
    }
    if chart.axis == XAxis::Time {
        title += "  by time";
    }
    if chart.window(app.extent()) != app.extent() {
        title += if chart.follows() { "  zoom, following" } else { "  zoom" };
    }
    title
}

/// The notice of the moment, or the newest line of the log.
pub fn notice(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let theme = app.theme();
    let line = match (&app.notice, app.log.newest()) {
        _ if app.screen == Screen::Ended => {
            let text = format!("the run has ended; {} keeps it. Any other key leaves", app.run);
            Line::styled(text, theme.good())
        }
        _ if app.log.editing => Line::styled(format!("/{}_", app.log.filter), theme.focus()),
        (Some((text, _)), _) => Line::styled(text.clone(), theme.warning()),
        (None, Some(line)) => {
            let style = if line.level == Level::Info { theme.dim() } else { theme.warning() };
            Line::styled(line.text.clone(), style)
        }
        (None, None) => Line::styled(app.run.clone(), theme.dim()),
    };
    frame.render_widget(line, area);
}

/// The keys that a newcomer needs first; the rest is behind `?`.
pub fn hints(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let theme = app.theme();
    let pause = if app.paused() { "resume" } else { "pause" };
    let pairs: &[(&str, &str)] = &if app.log.editing {
        vec![("Enter", "keep filter"), ("Esc", "clear it")]
    } else {
        vec![
            ("?", "help"),
            ("q", if app.is_over() { "leave" } else { "quit" }),
            ("Tab", "panel"),
            ("Enter", "enlarge"),
            ("y", "log"),
            ("s", "smooth"),
            ("+", "zoom"),
            ("f", "freeze"),
            ("z", "picture"),
        ]
    };
    // Nobody obeys after the end.
    let steering: &[(&str, &str)] =
        if app.is_over() || app.log.editing { &[] } else { &[("p", pause), ("c", "checkpoint")] };
    let mut parts = Vec::new();
    let mut width = 0;
    for (key, what) in steering.iter().chain(pairs) {
        let len = (key.len() + what.len() + 3) as u16;
        if width + len > area.width {
            break; // no half words
        }
        width += len;
        parts.push(Span::styled((*key).to_owned(), theme.key()));
        parts.push(Span::styled(format!(" {what}  "), theme.dim()));
    }
    frame.render_widget(Line::from(parts), area);
}
