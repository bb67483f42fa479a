//! Draws the state. Drawing changes nothing in it: a frame returns what the next key depends on ([`Drawn`]).

mod accuracy;
mod axes;
mod boxes;
mod canvas;
mod curve;
mod figures;
mod layout;
mod log;
mod loss;
mod numbers;
mod previews;
mod readout;
mod schedule;
mod sparks;
mod status;

pub use previews::PreviewCache;

use super::app::{App, Drawn, Screen};
use super::panel::Panel;
use accuracy::AccuracyChart;
use layout::Places;
use loss::LossChart;
use previews::Previews;
use ratatui::backend::Backend;
use ratatui::layout::Rect;
use ratatui::widgets::{Block, Paragraph};
use ratatui::{Frame, Terminal};
use schedule::ScheduleChart;

/// Smaller screens show the status and a line that asks for more room.
const SMALLEST: (u16, u16) = (30, 8);

/// Draws one frame on a terminal. The result is for [`App::update`], as [`Msg::Drawn`](super::app::Msg::Drawn).
///
/// # Errors
/// If the terminal is gone.
pub fn draw<B: Backend>(
    terminal: &mut Terminal<B>,
    app: &App,
    cache: &mut PreviewCache,
) -> Result<Drawn, B::Error> {
    let mut drawn = Drawn { chart_columns: app.chart_columns, help_end: None };
    terminal.draw(|frame| drawn = draw_frame(app, cache, frame))?;
    Ok(drawn)
}

fn draw_frame(app: &App, cache: &mut PreviewCache, frame: &mut Frame<'_>) -> Drawn {
    let area = frame.area();
    let mut drawn = Drawn { chart_columns: app.chart_columns, help_end: None };
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        draw_smallest(app, area, frame);
    } else {
        let places = Places::new(app, area);
        drawn.chart_columns = places.chart_columns().unwrap_or(app.chart_columns);
        status::draw(app, places.status, frame);
        for (panel, place) in places.panels {
            draw_panel(app, cache, panel, place, frame);
        }
        status::notice(app, drawn.chart_columns, places.notice, frame);
        status::hints(app, places.hints, frame);
    }
    match app.screen {
        Screen::Dashboard | Screen::Ended => {}
        Screen::Help { scroll } => drawn.help_end = Some(boxes::help(app, scroll, frame)),
        Screen::Quit(choice) => boxes::quit(app, choice, frame),
        Screen::Failed => boxes::failed(app, frame),
    }
    drawn
}

/// Draws the status, the banner if there is one, and why there is no more.
fn draw_smallest(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let mut rows = area.rows();
    if let Some(row) = rows.next() {
        status::draw(app, row, frame);
    }
    if app.banner().is_some()
        && let Some(row) = rows.next()
    {
        status::notice(app, app.chart_columns, row, frame);
    }
    if let Some(row) = rows.next() {
        let text = Paragraph::new("enlarge the terminal to see more").style(app.theme().dim());
        frame.render_widget(text, row);
    }
}

fn draw_panel(
    app: &App,
    cache: &mut PreviewCache,
    panel: Panel,
    area: Rect,
    frame: &mut Frame<'_>,
) {
    let inner = framed(app, panel, area, frame);
    if inner.is_empty() {
        return;
    }
    match panel {
        Panel::Loss => frame.render_widget(LossChart::of(app), inner),
        Panel::Accuracy => frame.render_widget(AccuracyChart::of(app), inner),
        Panel::Previews => frame.render_widget(Previews::of(app, cache), inner),
        Panel::Schedule => {
            if let Some(chart) = ScheduleChart::of(app) {
                frame.render_widget(chart, inner);
            }
        }
        Panel::Figures => figures::draw(app, inner, frame),
        Panel::Log => log::draw(app, inner, frame),
    }
}

/// Draws the frame of a panel and returns what is inside.
fn framed(app: &App, panel: Panel, area: Rect, frame: &mut Frame<'_>) -> Rect {
    let theme = app.theme();
    let focused = app.focus == panel;
    let title = format!(" {} ", panel_title(app, panel));
    let style = if focused { theme.focus() } else { theme.dim() };
    let mut block = Block::bordered().border_style(style).title(title);
    if app.ascii {
        block = block.border_set(ASCII_BORDER);
    }
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

const ASCII_BORDER: ratatui::symbols::border::Set<'static> = ratatui::symbols::border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

fn panel_title(app: &App, panel: Panel) -> String {
    match panel {
        Panel::Loss => status::chart_modes(app),
        Panel::Previews if app.raw => "previews: raw output".to_owned(),
        Panel::Log => log::title(app),
        other => other.title().to_owned(),
    }
}
