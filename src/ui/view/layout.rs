//! Which panel stands where: a function of the state and the size of the screen.
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

use super::axes::gutter;
use crate::ui::app::App;
use crate::ui::panel::Panel;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::widgets::Block;

/// Panels of at least this height have room for the accuracy under the loss, in rows.
const ROOM_BELOW: u16 = 30;

/// The parts of the dashboard.
pub(super) struct Places {
    pub status: Rect,
    /// The visible panels, each with its frame.
    pub panels: Vec<(Panel, Rect)>,
    pub notice: Rect,
    pub hints: Rect,
}

impl Places {
    pub(super) fn new(app: &App, area: Rect) -> Self {
        let [status, middle, notice, hints] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(0),
            Constraint::Length(1),
            Constraint::Length(1),
        ])
        .areas(area);
        let panels = match app.enlarged {
            Some(panel) => vec![(panel, middle)],
            None => arrange(app, middle),
        };
        Self { status, panels, notice, hints }
    }

    /// Columns of the loss chart's plot; `None` if it is not on the screen.
    pub(super) fn chart_columns(&self) -> Option<u16> {
        let (_, place) = self.panels.iter().find(|(panel, _)| *panel == Panel::Loss)?;
        let inner = Block::bordered().inner(*place);
        (!inner.is_empty()).then(|| inner.width.saturating_sub(gutter(inner.width)).max(1))
    }
}

/// One or more panels side by side and the height that they share.
type Row = (Vec<Panel>, Constraint);

/// Gives each visible panel its place.
fn arrange(app: &App, area: Rect) -> Vec<(Panel, Rect)> {
    // A short screen has no room for a chart under the loss. The accuracy then takes the place of the learning rate.
    let below_loss =
        app.shows(Panel::Accuracy) && app.shows(Panel::Loss) && area.height >= ROOM_BELOW;
    let rows = rows(app, area, below_loss);
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

/// Returns the rows of panels from the top.
fn rows(app: &App, area: Rect, below_loss: bool) -> Vec<Row> {
    let shown = |panels: &[Panel]| -> Vec<Panel> {
        panels.iter().copied().filter(|&panel| app.shows(panel)).collect()
    };
    let wide = area.width >= 70;
    let main = shown(&[Panel::Loss, Panel::Previews]);
    let lower = match (app.shows(Panel::Accuracy) && !below_loss, wide) {
        (true, true) => shown(&[Panel::Accuracy, Panel::Figures]),
        (true, false) => shown(&[Panel::Accuracy, Panel::Schedule, Panel::Figures]),
        (false, _) => shown(&[Panel::Schedule, Panel::Figures]),
    };
    let log_height = if area.height >= 50 { 12 } else { (area.height / 4).clamp(4, 8) };
    let lower_height = if area.height >= 50 { 11 } else { (area.height / 3).clamp(6, 9) };
    let mut rows: Vec<Row> = Vec::new();
    if wide {
        rows.push((main, Constraint::Min(5)));
        rows.push((lower, Constraint::Length(lower_height)));
    } else {
        let single = main.into_iter().chain(lower);
        rows.extend(single.map(|panel| (vec![panel], Constraint::Fill(1))));
    }
    let log = app.shows(Panel::Log);
    if log && (area.height >= 26 || rows.iter().all(|(panels, _)| panels.is_empty())) {
        rows.push((vec![Panel::Log], Constraint::Length(log_height)));
    }
    rows.retain(|(panels, _)| !panels.is_empty());
    let fixed = rows.iter().all(|(_, height)| matches!(height, Constraint::Length(_)));
    if fixed && let Some((_, height)) = rows.first_mut() {
        *height = Constraint::Min(3); // one row has to take the rest of the space
    }
    // A short screen drops rows from below instead of squeezing all of them.
    rows.truncate(usize::from(area.height / 5).max(1));
    rows
}
