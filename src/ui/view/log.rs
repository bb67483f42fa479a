//! The log panel.

use crate::event::Level;
use crate::ui::app::App;
use crate::ui::theme::Theme;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use std::fmt::Write as _;

/// Returns the title, which tells the filters.
pub(super) fn title(app: &App) -> String {
    let log = &app.log;
    let mut title = "log".to_owned();
    if log.warnings_only {
        title += "  warnings";
    }
    if log.editing {
        let _ = write!(title, "  /{}_", log.filter); // writing to a string can't fail
    } else if !log.filter.is_empty() {
        let _ = write!(title, "  /{}", log.filter);
    }
    if log.scroll > 0 {
        let _ = write!(title, "  {} newer below", log.scroll);
    }
    title
}

/// Draws the newest lines, or those at the scroll position.
pub(super) fn draw(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let theme = app.theme();
    let lines = app.log.visible(usize::from(area.height));
    for (line, row) in lines.into_iter().zip(area.rows()) {
        let style = match line.level {
            Level::Info => Theme::text(),
            Level::Warning => theme.warning(),
            Level::Error => theme.error(),
        };
        let clock = Span::styled(format!("{} ", clock(line.time)), theme.dim());
        frame.render_widget(Line::from(vec![clock, Span::styled(line.text.clone(), style)]), row);
    }
}

/// Returns the time of day, UTC.
fn clock(time: f64) -> String {
    let second = time.max(0.0) as u64 % 86_400;
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}
