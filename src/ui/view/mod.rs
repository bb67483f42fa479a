//! What is drawn where.
//!
//! ```text
//! ● running  step 120/400 …                         status line
//! ┌ loss ───────────────────┐┌ previews ──────────┐
//! │                         ││                    │  main row; one above the other on narrow, tall screens;
//! │                         ││                    │  under the loss the accuracy, or in the lower row on short ones
//! └─────────────────────────┘└────────────────────┘
//! ┌ learning rate ──────────┐┌ figures ───────────┐  lower row
//! └─────────────────────────┘└────────────────────┘
//! ┌ log ──────────────────────────────────────────┐  where there is room
//! notice or newest log line
//! keys
//! ```

pub mod accuracy;
pub mod boxes;
pub mod canvas;
pub mod chart;
mod curve;
pub mod figures;
pub mod log;
pub mod loss;
pub mod previews;
mod readout;
pub mod schedule;
pub mod sparks;
pub mod status;

use super::app::{App, Screen};
use super::keys::Panel;
use super::theme::Theme;
use crate::event::TaskKind;
use accuracy::AccuracyChart;
use loss::LossChart;
use previews::{PreviewCache, Previews};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::widgets::{Block, Paragraph};
use schedule::ScheduleChart;

/// Smaller screens get a line that says so, and the status.
const SMALLEST: (u16, u16) = (30, 8);

/// Rows of the panels from which on the accuracy has its place under the loss.
const ROOM_BELOW: u16 = 30;

/// Draws the whole screen.
pub fn draw(app: &mut App, cache: &mut PreviewCache, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        draw_smallest(app, area, frame);
    } else {
        let [top, middle, notice, hints] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(0),
            Constraint::Length(1),
            Constraint::Length(1),
        ])
        .areas(area);
        status::draw(app, top, frame);
        match app.enlarged {
            Some(panel) => draw_panel(app, cache, panel, middle, frame),
            None => {
                for (panel, place) in arrange(app, middle) {
                    draw_panel(app, cache, panel, place, frame);
                }
            }
        }
        status::notice(app, notice, frame);
        status::hints(app, hints, frame);
    }
    match app.screen {
        Screen::Dashboard | Screen::Ended => {}
        Screen::Help { scroll } => {
            let last = boxes::help(app, scroll, frame);
            app.screen = Screen::Help { scroll: scroll.min(last) };
        }
        Screen::Quit(choice) => boxes::quit(app, choice, frame),
        Screen::Failed => boxes::failed(app, frame),
    }
}

/// The status, what must not be missed, and why there is no more.
fn draw_smallest(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let mut rows = area.rows();
    if let Some(row) = rows.next() {
        status::draw(app, row, frame);
    }
    if app.banner().is_some()
        && let Some(row) = rows.next()
    {
        status::notice(app, row, frame);
    }
    if let Some(row) = rows.next() {
        let text = Paragraph::new("enlarge the terminal to see more").style(app.theme().dim());
        frame.render_widget(text, row);
    }
}

/// Gives each visible panel its place.
fn arrange(app: &App, area: Rect) -> Vec<(Panel, Rect)> {
    let shown = |panels: &[Panel]| -> Vec<Panel> {
        panels.iter().copied().filter(|&panel| app.shows(panel)).collect()
    };
    let wide = area.width >= 70;
    // Rows of panels from the top, each with its share of the height.
    let mut rows: Vec<(Vec<Panel>, Constraint)> = Vec::new();
    let main = shown(&[Panel::Loss, Panel::Previews]);
    // A short screen has no room for a chart under the loss: there the accuracy tells more than the learning rate.
    let accuracy = app.shows(Panel::Accuracy);
    let below_loss = accuracy && app.shows(Panel::Loss) && area.height >= ROOM_BELOW;
    let lower = match (accuracy && !below_loss, wide) {
        (true, true) => shown(&[Panel::Accuracy, Panel::Figures]),
        (true, false) => shown(&[Panel::Accuracy, Panel::Schedule, Panel::Figures]),
        (false, _) => shown(&[Panel::Schedule, Panel::Figures]),
    };
    let log_height = if area.height >= 50 { 12 } else { (area.height / 4).clamp(4, 8) };
    let lower_height = if area.height >= 50 { 11 } else { (area.height / 3).clamp(6, 9) };
    let log = app.shows(Panel::Log) && area.height >= 26;
    if wide {
        rows.push((main, Constraint::Min(5)));
        rows.push((lower, Constraint::Length(lower_height)));
    } else {
        let single = main.into_iter().chain(lower);
        rows.extend(single.map(|panel| (vec![panel], Constraint::Fill(1))));
    }
    if log || (app.shows(Panel::Log) && rows.iter().all(|(panels, _)| panels.is_empty())) {
        rows.push((vec![Panel::Log], Constraint::Length(log_height)));
    }
    rows.retain(|(panels, _)| !panels.is_empty());
    let fixed = rows.iter().all(|(_, height)| matches!(height, Constraint::Length(_)));
    if fixed && let Some((_, height)) = rows.first_mut() {
        *height = Constraint::Min(3); // somebody takes the space
    }
    // A short screen drops rows from below rather than squeezing all.
    let most = usize::from(area.height / 5).max(1);
    rows.truncate(most);
    let heights: Vec<Constraint> = rows.iter().map(|(_, height)| *height).collect();
    let places = Layout::vertical(heights).split(area);
    let mut out = Vec::new();
    for ((panels, _), place) in rows.into_iter().zip(places.iter()) {
        let widths = match panels.as_slice() {
            [Panel::Loss, Panel::Previews] if area.width >= 160 => vec![3, 4],
            [Panel::Loss, Panel::Previews] => vec![4, 3],
            other => vec![1; other.len()],
        };
        let widths: Vec<Constraint> = widths.into_iter().map(Constraint::Fill).collect();
        let columns = Layout::horizontal(widths).split(*place);
        out.extend(panels.into_iter().zip(columns.iter().copied()));
    }
    if below_loss && let Some((_, place)) = out.iter_mut().find(|(panel, _)| *panel == Panel::Loss)
    {
        let shares = [Constraint::Fill(3), Constraint::Fill(2)];
        let [upper, lower] = Layout::vertical(shares).areas(*place);
        *place = upper;
        out.push((Panel::Accuracy, lower));
    }
    out
}

fn draw_panel(
    app: &mut App,
    cache: &mut PreviewCache,
    panel: Panel,
    area: Rect,
    frame: &mut Frame<'_>,
) {
    let theme = app.theme();
    let inner = framed(app, panel, area, frame);
    if inner.is_empty() {
        return;
    }
    match panel {
        Panel::Loss => {
            app.chart_columns = inner.width.saturating_sub(chart::gutter(inner.width)).max(1);
            let chart = LossChart {
                train: &app.train,
                val: &app.val,
                overlays: app.overlays_shown(),
                marks: &app.marks,
                view: &app.chart,
                theme,
                ascii: app.ascii,
            };
            frame.render_widget(chart, inner);
        }
        Panel::Accuracy => {
            let chart = AccuracyChart {
                metrics: &app.metrics,
                extent: app.extent(),
                view: &app.chart,
                theme,
                ascii: app.ascii,
            };
            frame.render_widget(chart, inner);
        }
        Panel::Previews => {
            let step = app.sheet.as_ref().map_or(0, |(step, _)| *step);
            let psnr = app.previews.iter().find(|preview| preview.step == step);
            let previews = Previews {
                sheet: app.sheet.as_ref().map(|(_, sheet)| sheet),
                none: match app.state.started.as_ref().map(|started| started.task) {
                    Some(TaskKind::Classification) => "a classifier has no previews",
                    _ => "no previews yet",
                },
                id: step,
                cache,
                psnr: psnr.map_or(&[], |preview| &preview.psnr),
                step,
                selected: app.selected,
                raw: app.raw,
                theme,
                ascii: app.ascii,
            };
            frame.render_widget(previews, inner);
        }
        Panel::Schedule => {
            let Some(started) = &app.state.started else { return };
            let chart = ScheduleChart {
                lr: app.lr.as_ref(),
                total_steps: started.total_steps,
                warmup_steps: started.warmup_steps,
                step: app.state.last_step.as_ref().map_or(started.step, |report| report.step),
                theme,
                ascii: app.ascii,
            };
            frame.render_widget(chart, inner);
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

impl App {
    pub fn theme(&self) -> Theme {
        Theme { depth: self.colors.depth }
    }

    /// The selected pictures side by side, for the whole screen.
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
}
