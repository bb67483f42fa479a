//! The lines of the log, with what filters and scrolling show of them.

use crate::event::Level;
use std::collections::VecDeque;

/// The number of lines kept. Older ones are in `events.jsonl`.
const KEPT: usize = 5000;

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// Seconds since 1970-01-01 UTC.
    pub time: f64,
    pub level: Level,
    pub text: String,
}

/// The log and what the pane shows of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogPane {
    lines: VecDeque<LogLine>,
    /// Only lines that hold this text are shown, in upper or lower case. An empty filter shows all.
    pub filter: String,
    /// Whether the user is typing the filter.
    pub editing: bool,
    /// Whether only warnings and errors are shown.
    pub warnings_only: bool,
    /// The number of lines from the newest to the lowest one shown.
    pub scroll: usize,
}

impl LogPane {
    pub fn push(&mut self, line: LogLine) {
        if self.scroll > 0 && self.matches(&line) {
            self.scroll += 1; // the lines that someone reads stay in place
        }
        self.lines.push_back(line);
        if self.lines.len() > KEPT {
            self.lines.pop_front();
        }
    }

    fn matches(&self, line: &LogLine) -> bool {
        let level = !self.warnings_only || line.level != Level::Info;
        level
            && (self.filter.is_empty()
                || line.text.to_lowercase().contains(&self.filter.to_lowercase()))
    }

    /// Returns the newest `height` lines that match, up to the scroll position, oldest first.
    pub fn visible(&self, height: usize) -> Vec<&LogLine> {
        let matching = self.lines.iter().rev().filter(|line| self.matches(line));
        let mut lines: Vec<_> = matching.skip(self.scroll).take(height).collect();
        lines.reverse();
        lines
    }

    /// Scrolls by a number of lines; a positive one goes back in time.
    pub fn scroll_by(&mut self, lines: i64) {
        let count = self.lines.iter().filter(|line| self.matches(line)).count();
        let last = count.saturating_sub(1) as i64;
        self.scroll = (self.scroll as i64 + lines).clamp(0, last.max(0)) as usize;
    }

    /// Returns the newest line, for the notice line.
    pub fn newest(&self) -> Option<&LogLine> {
        self.lines.back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pane() -> LogPane {
        let mut pane = LogPane::default();
        for i in 0..10 {
            let level = if i % 5 == 0 { Level::Warning } else { Level::Info };
            pane.push(LogLine { time: f64::from(i), level, text: format!("Line {i}") });
        }
        pane
    }

    fn texts(pane: &LogPane, height: usize) -> Vec<&str> {
        pane.visible(height).into_iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn filters_combine_and_ignore_case() {
        let mut pane = pane();
        pane.warnings_only = true;
        assert_eq!(texts(&pane, 9), ["Line 0", "Line 5"]);
        pane.filter = "lINE 5".to_owned();
        assert_eq!(texts(&pane, 9), ["Line 5"]);
    }

    #[test]
    fn scrolling_stops_at_both_ends_and_holds_its_place() {
        let mut pane = pane();
        pane.scroll_by(3);
        assert_eq!(texts(&pane, 2), ["Line 5", "Line 6"]);
        pane.push(LogLine { time: 10.0, level: Level::Info, text: "new".to_owned() });
        assert_eq!(texts(&pane, 2), ["Line 5", "Line 6"], "new lines don't move it");
        pane.scroll_by(-100);
        assert_eq!(texts(&pane, 1), ["new"]);
        pane.scroll_by(100);
        assert_eq!(texts(&pane, 5), ["Line 0"]);
    }
}
