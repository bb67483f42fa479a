//! The boxes over the dashboard: the help, the ways to quit, and the error of a failed run.

use crate::shown;
use crate::text::shell::for_shell;
use crate::text::units::bytes;
use crate::ui::app::{App, QuitChoice};
use crate::ui::keymap::BINDINGS;
use crate::ui::theme::Theme;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};
use std::path::Path;

/// Draws all keys, then how the screen is drawn. Returns how far it can be scrolled.
pub(super) fn help(app: &App, scroll: u16, frame: &mut Frame<'_>) -> u16 {
    let theme = app.theme();
    let mut lines: Vec<Line<'_>> = BINDINGS
        .iter()
        .map(|binding| {
            let key = Span::styled(format!("{:>10}  ", binding.label), theme.key());
            Line::from(vec![key, Span::raw(binding.help)])
        })
        .collect();
    lines.push(Line::default());
    let facts = [
        format!("run      {}", shown::line(&app.run)),
        format!("colours  {} ({})", app.colors.depth.name(), app.colors.reason),
        format!("written  {} to this terminal", bytes(app.written)),
        "pictures half blocks; z uses the terminal's own pictures where it says so".to_owned(),
    ];
    lines.extend(facts.into_iter().map(|fact| Line::styled(fact, theme.dim())));
    let height = lines.len() as u16 + 2;
    let title = "help: any key closes, j k scroll";
    let inner = middle(app, title, (76, height), theme.focus(), frame);
    let last = (lines.len() as u16).saturating_sub(inner.height);
    frame.render_widget(Paragraph::new(lines).scroll((scroll.min(last), 0)), inner);
    last
}

/// Draws the three ways to quit.
pub(super) fn quit(app: &App, choice: QuitChoice, frame: &mut Frame<'_>) {
    let theme = app.theme();
    let inner = middle(app, "leave?", (66, 8), theme.warning(), frame);
    let detach = if app.is_viewer() {
        "d  detach: leave the viewer, the run goes on"
    } else {
        "d  detach: the shell comes back, training goes on"
    };
    let mut lines = vec![
        Line::raw(detach),
        Line::raw("s  stop and save: the step ends, a checkpoint is written"),
        Line::raw("c  cancel"),
        Line::default(),
    ];
    let mut buttons = Vec::new();
    for option in QuitChoice::ALL {
        let style = if option == choice {
            theme.focus().add_modifier(Modifier::REVERSED)
        } else {
            Theme::text()
        };
        buttons.push(Span::styled(format!("[ {} ]", option.text()), style));
        buttons.push(Span::raw("  "));
    }
    lines.push(Line::from(buttons));
    lines.push(Line::styled("arrows and Enter, or the letters", theme.dim()));
    frame.render_widget(Paragraph::new(lines), inner);
}

/// Draws the error of the run and where its files are.
pub(super) fn failed(app: &App, frame: &mut Frame<'_>) {
    const WIDTH: u16 = 78;
    let theme = app.theme();
    let error = app.error.clone().unwrap_or_default();
    // An error with a command in it says better how to go on than a plain resume.
    let names_command = error.contains("simmim-tui ");
    let height = (rows(&error, WIDTH - 2) + 9).max(14);
    let inner = middle(app, "the run failed", (WIDTH, height), theme.error(), frame);
    let mut lines = vec![
        Line::styled(error, theme.error()),
        Line::default(),
        Line::raw(format!("run        {}", shown::line(&app.run))),
        Line::raw(format!("log        {}/events.jsonl and stderr.log", shown::line(&app.run))),
    ];
    if let Some(path) = &app.state.checkpoint {
        lines.push(Line::raw(format!("checkpoint {path}")));
    }
    let run = for_shell(Path::new(&app.run));
    if !names_command {
        lines.push(Line::raw(format!("continue   simmim-tui --resume {run}")));
    }
    lines.push(Line::default());
    lines.push(Line::styled("any key leaves", theme.dim()));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), inner);
}

/// Returns how many rows a text takes that is wrapped at spaces.
fn rows(text: &str, width: u16) -> u16 {
    let width = usize::from(width);
    let (mut rows, mut used) = (1, 0);
    for word in text.split(' ').map(|word| word.chars().count()) {
        if used > 0 && used + 1 + word > width {
            (rows, used) = (rows + 1, 0);
        }
        used += word + usize::from(used > 0);
        while used > width {
            (rows, used) = (rows + 1, used - width);
        }
    }
    rows
}

/// Draws a box of this size in the middle, cut to the screen. Returns the area inside.
fn middle(app: &App, title: &str, size: (u16, u16), style: Style, frame: &mut Frame<'_>) -> Rect {
    let screen = frame.area();
    let (width, height) = (size.0.min(screen.width), size.1.min(screen.height));
    let area = Rect {
        x: screen.x + (screen.width - width) / 2,
        y: screen.y + (screen.height - height) / 2,
        width,
        height,
    };
    let mut block = Block::bordered().border_style(style).title(format!(" {title} "));
    if app.ascii {
        block = block.border_set(super::ASCII_BORDER);
    }
    let inner = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    inner
}
