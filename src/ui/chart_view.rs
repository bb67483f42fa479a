//! How the charts look at their data: axis, window, cursor and smoothing. Nothing here draws.

use super::series::{XAxis, column_of};

/// The factors of the moving average that the user can choose from.
pub(super) const SMOOTHING: [f64; 5] = [0.0, 0.6, 0.9, 0.97, 0.99];
/// The least width of a window, in steps or seconds.
const LEAST_WINDOW: f64 = 4.0;

/// The range of all data, in steps or seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extent {
    pub start: f64,
    /// Where the live run is now.
    pub newest: f64,
    /// Where the longest of the runs ends.
    pub end: f64,
}

impl From<(f64, f64)> for Extent {
    /// Returns the extent of a live run without earlier ones.
    fn from((start, end): (f64, f64)) -> Self {
        Self { start, newest: end, end }
    }
}

impl Extent {
    /// Returns an extent that has some width, even if this one is a single place or no range at all.
    fn widened(self) -> Self {
        let Self { start, newest, end } = self;
        if !start.is_finite() || !end.is_finite() || start > end {
            (0.0, 1.0).into()
        } else if end - start < 1e-9 * start.abs().max(1.0) {
            (start - 1.0, end + 1.0).into()
        } else {
            Self { newest: newest.max(start).min(end), ..self }
        }
    }

    /// Returns where a window of this width has to start to show the newest data.
    fn following(self, width: f64) -> f64 {
        (self.newest - width).max(self.start)
    }
}

/// How the charts look at their data. Ranges and places are in steps or seconds, as `axis` says. The parameter `full`
/// of the functions is the extent of all data.
#[derive(Debug, Clone, PartialEq)]
pub struct ChartView {
    pub axis: XAxis,
    pub log_y: bool,
    /// Index into [`SMOOTHING`].
    pub smoothing: usize,
    /// Earlier runs are hidden.
    pub alone: bool,
    zoomed: Option<Window>,
    cursor: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    start: f64,
    width: f64,
    /// The window moves on with the newest data.
    follows: bool,
}

impl Default for ChartView {
    fn default() -> Self {
        Self {
            axis: XAxis::Step,
            log_y: false,
            smoothing: 2,
            alone: false,
            zoomed: None,
            cursor: None,
        }
    }
}

impl ChartView {
    /// Returns the factor of the moving average.
    pub fn beta(&self) -> f64 {
        SMOOTHING[self.smoothing.min(SMOOTHING.len() - 1)]
    }

    /// Returns the visible range, which is never empty.
    pub fn window(&self, full: impl Into<Extent>) -> (f64, f64) {
        let full = full.into().widened();
        let Some(Window { start, width, follows }) = self.zoomed else {
            return (full.start, full.end);
        };
        let width = width.min(full.end - full.start);
        let wanted = if follows { full.following(width) } else { start };
        let start = wanted.clamp(full.start, full.end - width);
        (start, start + width)
    }

    /// Shows half as much: around the cursor if it is visible, or else at the newest data if the window is there.
    pub fn zoom_in(&mut self, full: impl Into<Extent>) {
        self.zoom(0.5, full.into());
    }

    /// Shows twice as much, up to everything.
    pub fn zoom_out(&mut self, full: impl Into<Extent>) {
        self.zoom(2.0, full.into());
    }

    fn zoom(&mut self, factor: f64, full: Extent) {
        let (start, end) = self.window(full);
        let width = ((end - start) * factor).max(LEAST_WINDOW.min(end - start));
        let seen = self.cursor.filter(|cursor| (start..=end).contains(cursor));
        let start = match seen {
            // The data under the cursor stays under it.
            Some(cursor) => cursor - (cursor - start) / (end - start) * width,
            None if self.follows() => full.widened().following(width),
            None => f64::midpoint(start, end) - width / 2.0,
        };
        self.show(start, width, full);
    }

    /// Whether the newest data stays visible.
    pub fn follows(&self) -> bool {
        self.zoomed.is_none_or(|window| window.follows)
    }

    /// Whether only a part is shown.
    pub fn is_zoomed(&self) -> bool {
        self.zoomed.is_some()
    }

    fn show(&mut self, start: f64, width: f64, full: Extent) {
        let full = full.widened();
        let slack = width * 1e-6;
        if width >= full.end - full.start - slack {
            self.zoomed = None;
            return;
        }
        let start = start.clamp(full.start, full.end - width);
        let follows = (start - full.following(width)).abs() <= slack;
        self.zoomed = Some(Window { start, width, follows });
    }

    /// Shows everything again and removes the cursor.
    pub fn reset(&mut self) {
        self.zoomed = None;
        self.cursor = None;
    }

    /// Moves the window by a fifth of its width, back (-1) or forward (1). A window that would pass the newest data
    /// stops there and follows them.
    pub fn pan(&mut self, direction: i32, full: impl Into<Extent>) {
        if self.zoomed.is_some() {
            let full = full.into();
            let (start, end) = self.window(full);
            let width = end - start;
            let wanted = start + f64::from(direction) * width / 5.0;
            let newest = full.widened().following(width);
            let slack = width * 1e-6;
            let passes = (start - newest) * (wanted - newest) < 0.0;
            let stop = passes && (start - newest).abs() > slack;
            self.show(if stop { newest } else { wanted }, width, full);
        }
    }

    /// Moves the cursor by columns of a plot that is `width` cells wide, labels not counted. A cursor that wasn't
    /// there appears at the newest data. At an end of the window it pushes the window on.
    pub fn cursor_move(&mut self, columns: i32, width: u16, full: impl Into<Extent>) {
        let full = full.into();
        let plot = usize::from(width).max(1);
        let (start, end) = self.window(full);
        let column = (end - start) / plot as f64;
        let inside = |x: f64| column_of(x.clamp(start, end), (start, end), plot).unwrap_or(0);
        let Some(cursor) = self.cursor else {
            let newest = inside(full.widened().newest);
            self.cursor = Some(start + (newest as f64 + 0.5) * column);
            return;
        };
        let wanted = inside(cursor) as f64 + f64::from(columns);
        let inside = wanted.clamp(0.0, (plot - 1) as f64);
        if wanted.to_bits() != inside.to_bits() && self.zoomed.is_some() {
            self.show(start + (wanted - inside) * column, end - start, full);
        }
        let start = self.window(full).0;
        self.cursor = Some(start + (inside + 0.5) * column);
    }

    pub fn cursor_off(&mut self) {
        self.cursor = None;
    }

    /// Returns the place of the cursor, in steps or seconds.
    pub fn cursor(&self) -> Option<f64> {
        self.cursor
    }

    /// Changes between steps and time, and shows everything again: a window in steps means nothing in seconds.
    pub fn toggle_axis(&mut self) {
        self.axis = match self.axis {
            XAxis::Step => XAxis::Time,
            XAxis::Time => XAxis::Step,
        };
        self.reset();
    }

    pub fn toggle_log(&mut self) {
        self.log_y = !self.log_y;
    }

    pub fn more_smoothing(&mut self) {
        self.smoothing = (self.smoothing + 1).min(SMOOTHING.len() - 1);
    }

    pub fn less_smoothing(&mut self) {
        self.smoothing = self.smoothing.min(SMOOTHING.len() - 1).saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: (f64, f64) = (0.0, 1000.0);

    #[test]
    fn a_window_at_the_newest_data_follows_it_and_a_window_panned_back_stays() {
        let mut view = ChartView::default();
        assert_eq!(view.window(FULL), FULL);
        view.zoom_in(FULL);
        assert_eq!(view.window(FULL), (500.0, 1000.0));
        assert_eq!(view.window((0.0, 1200.0)), (700.0, 1200.0), "it follows");
        view.pan(-1, FULL);
        assert_eq!(view.window(FULL), (400.0, 900.0));
        assert_eq!(view.window((0.0, 1200.0)), (400.0, 900.0), "it stays");
        view.pan(1, FULL);
        assert_eq!(view.window((0.0, 1200.0)), (700.0, 1200.0), "it follows again");
        assert_eq!(view.window((0.0, 300.0)), (0.0, 300.0), "truncation");
        view.zoom_out(FULL);
        assert_eq!(view, ChartView::default());
        (0..99).for_each(|_| view.pan(-1, FULL));
        assert_eq!(view.window(FULL), FULL, "nowhere to go");
        (0..99).for_each(|_| view.zoom_in(FULL));
        assert_eq!(view.window(FULL), (996.0, 1000.0), "not without end");
    }

    #[test]
    fn with_a_longer_run_behind_it_the_live_run_is_followed() {
        let full = |newest| Extent { start: 0.0, newest, end: 1000.0 };
        let mut view = ChartView::default();
        assert_eq!(view.window(full(300.0)), (0.0, 1000.0), "where the earlier run ended, too");
        view.cursor_move(1, 100, full(300.0));
        assert_eq!(view.cursor(), Some(305.0), "it appears at the newest column");
        view.cursor_off();
        view.zoom_in(full(300.0));
        assert_eq!(view.window(full(300.0)), (0.0, 500.0), "a start of nothing isn't shown");
        view.zoom_in(full(300.0));
        assert_eq!(view.window(full(300.0)), (50.0, 300.0));
        assert_eq!(view.window(full(400.0)), (150.0, 400.0), "it follows");
        view.pan(1, full(300.0));
        assert_eq!(view.window(full(400.0)), (100.0, 350.0), "panned on, it stays");
        assert!(!view.follows());
        view.pan(1, full(340.0));
        view.pan(-1, full(390.0));
        assert_eq!(view.window(full(390.0)), (140.0, 390.0), "it stops at the newest");
        assert!(view.follows());
        view.pan(-1, full(390.0));
        assert_eq!(view.window(full(390.0)), (90.0, 340.0), "and goes on from there");
        assert_eq!(view.window((0.0, 320.0)), (70.0, 320.0), "the earlier run is hidden");
    }

    #[test]
    fn the_cursor_steps_by_columns_pushes_the_window_and_anchors_the_zoom() {
        let mut view = ChartView::default();
        view.cursor_move(1, 100, FULL);
        assert_eq!(view.cursor(), Some(995.0), "the centre of the last of 100 columns");
        view.cursor_move(9, 100, FULL);
        assert_eq!(view.cursor(), Some(995.0));
        view.cursor_move(-50, 100, FULL);
        assert_eq!(view.cursor(), Some(495.0));
        view.zoom_in(FULL);
        assert_eq!(view.window(FULL), (247.5, 747.5), "the cursor keeps its place");
        view.cursor_move(-60, 100, FULL);
        assert_eq!(view.window(FULL), (192.5, 692.5), "pushed by eleven columns");
        view.toggle_axis();
        assert_eq!((view.cursor(), view.axis), (None, XAxis::Time));
        assert_eq!(view.window(FULL), FULL);
        for width in 0..40 {
            view.cursor_move(-3, width, (0.0, f64::NAN));
        }
    }
}
