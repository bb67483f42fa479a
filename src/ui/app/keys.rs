//! What keys do to the state: the effect of each [`Action`], and of the keys of a box or the log's filter.
//!
//! Which key means which action is in `ui/keymap.rs`.

use super::{App, Effect, QuitChoice, Screen, TrainerEnd};
use crate::event::Command;
use crate::terminal::colors::ColorDepth;
use crate::ui::keymap::{self, Action, ChartAction};
use crate::ui::panel::Panel;
use crossterm::event::{KeyCode, KeyEvent};

impl App {
    pub(super) fn key(&mut self, key: &KeyEvent) -> Option<Effect> {
        let action = keymap::action(key);
        let interrupt = action == Some(Action::Quit) && key.code == KeyCode::Char('c');
        self.log.editing &= !interrupt; // Ctrl-C quits even while the filter is typed
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

    /// Returns the screen that a box lies over.
    fn base(&self) -> Screen {
        if self.has_ended() { Screen::Ended } else { Screen::Dashboard }
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
            QuitChoice::Stop if !self.can_steer() => {
                self.refuse();
                None
            }
            QuitChoice::Detach => Some(Effect::Detach),
            QuitChoice::Stop => {
                self.notify("stopping: the step ends, then a checkpoint is saved".to_owned());
                Some(Effect::Send(Command::Stop))
            }
            QuitChoice::Cancel => None,
        }
    }

    fn act(&mut self, action: Action) -> Option<Effect> {
        match action {
            Action::PauseResume => return self.pause_or_resume(),
            Action::Checkpoint => return self.save_checkpoint(),
            Action::Quit => return self.quit(),
            Action::Help => self.screen = Screen::Help { scroll: 0 },
            Action::FocusNext => self.move_focus(1),
            Action::FocusPrevious => self.move_focus(-1),
            Action::Left => return self.move_cursor(-1),
            Action::Right => return self.move_cursor(1),
            Action::Up => self.move_up_or_down(false),
            Action::Down => self.move_up_or_down(true),
            Action::Enlarge => {
                self.enlarged = if self.enlarged.is_some() { None } else { Some(self.focus) };
            }
            Action::Back => {
                if !self.acknowledge() && self.enlarged.take().is_none() {
                    self.chart.cursor_off();
                    return self.load_nearest();
                }
            }
            Action::Toggle(panel) => self.toggle(panel),
            Action::Chart(change) => self.change_chart(change),
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
            Action::FullPicture if self.colors.depth == ColorDepth::Mono || self.ascii => {
                self.notify("pictures on the whole screen need colours".to_owned());
            }
            Action::FullPicture => return self.sheet.as_ref().map(|_| Effect::FullPicture),
        }
        None
    }

    fn pause_or_resume(&mut self) -> Option<Effect> {
        if !self.can_steer() {
            self.refuse();
            return None;
        }
        let (notice, command) = if self.paused() {
            ("resuming", Command::Resume)
        } else {
            ("pausing after this step", Command::Pause)
        };
        self.notify(notice.to_owned());
        Some(Effect::Send(command))
    }

    fn save_checkpoint(&mut self) -> Option<Effect> {
        if !self.can_steer() {
            self.refuse();
            return None;
        }
        self.notify("saving a checkpoint after this step".to_owned());
        Some(Effect::Send(Command::Checkpoint))
    }

    /// Asks how to leave where there is a choice, or else leaves.
    fn quit(&mut self) -> Option<Effect> {
        if !self.is_viewer() && self.state.finished.is_some() && !self.has_ended() {
            // The run has told its end, and its trainer is about to follow: there is no choice any more.
            self.trainer_end = TrainerEnd::Awaited;
            return None;
        }
        if self.can_steer() {
            self.screen = Screen::Quit(QuitChoice::Cancel);
            return None;
        }
        Some(if self.is_over() { Effect::Leave } else { Effect::Detach })
    }

    fn change_chart(&mut self, change: ChartAction) {
        let full = self.extent();
        match change {
            ChartAction::LogScale => self.chart.toggle_log(),
            ChartAction::Smoother => self.chart.more_smoothing(),
            ChartAction::Rougher => self.chart.less_smoothing(),
            ChartAction::ZoomIn => self.chart.zoom_in(full),
            ChartAction::ZoomOut => self.chart.zoom_out(full),
            ChartAction::ZoomReset => self.chart.reset(),
            ChartAction::PanLeft => self.chart.pan(-1, full),
            ChartAction::PanRight => self.chart.pan(1, full),
            ChartAction::XAxis => self.chart.toggle_axis(),
            ChartAction::Overlays if self.overlays.is_empty() => {
                self.notify("there is no earlier run to show".to_owned());
            }
            ChartAction::Overlays => self.chart.alone = !self.chart.alone,
        }
    }

    /// Moves the cursor of the charts; the previews follow it.
    fn move_cursor(&mut self, columns: i32) -> Option<Effect> {
        let full = self.extent();
        self.chart.cursor_move(columns, self.chart_columns, full);
        self.load_nearest()
    }

    /// Scrolls the log if it has the focus, or else selects another picture.
    fn move_up_or_down(&mut self, down: bool) {
        if self.focus == Panel::Log {
            self.log.scroll_by(if down { -1 } else { 1 });
        } else if down {
            let rows = self.sheet.as_ref().map_or(0, |(_, sheet)| sheet.rows.len());
            self.selected = (self.selected + 1).min(rows.saturating_sub(1));
        } else {
            self.selected = self.selected.saturating_sub(1);
        }
    }

    fn toggle(&mut self, panel: Panel) {
        if panel == Panel::Accuracy && self.metrics.is_empty() {
            self.notify("nothing is evaluated: set eval.every".to_owned());
        } else if self.shows(panel) {
            self.hidden.push(panel);
            if self.focus == panel {
                self.move_focus(1);
            }
        } else {
            self.hidden.retain(|&hidden| hidden != panel);
        }
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
