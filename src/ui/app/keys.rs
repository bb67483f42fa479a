//! What keys do.

use super::{App, Effect, QuitChoice, Screen};
use crate::event::Command;
use crate::terminal::colors::ColorDepth;
use crate::ui::keys::{self, Action, Panel};
use crossterm::event::{KeyCode, KeyEvent};

impl App {
    pub(super) fn key(&mut self, key: &KeyEvent) -> Option<Effect> {
        let action = keys::action(key);
        let interrupt = action == Some(Action::Quit) && key.code == KeyCode::Char('c');
        self.log.editing &= !interrupt; // Ctrl-C is no text
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

    /// The screen under a box.
    fn base(&self) -> Screen {
        if self.over { Screen::Ended } else { Screen::Dashboard }
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
        let full = self.extent();
        match action {
            Action::PauseResume | Action::Checkpoint if !self.can_steer() => self.refuse(),
            Action::PauseResume => {
                let command = if self.paused() { Command::Resume } else { Command::Pause };
                self.notify(
                    if self.paused() { "resuming" } else { "pausing after this step" }.into(),
                );
                return Some(Effect::Send(command));
            }
            Action::Checkpoint => {
                self.notify("saving a checkpoint after this step".to_owned());
                return Some(Effect::Send(Command::Checkpoint));
            }
            Action::Quit if self.can_steer() => self.screen = Screen::Quit(QuitChoice::Cancel),
            // There is nothing to choose.
            Action::Quit if self.is_over() => return Some(Effect::Leave),
            Action::Quit => return Some(Effect::Detach),
            Action::Help => self.screen = Screen::Help { scroll: 0 },
            Action::FocusNext => self.move_focus(1),
            Action::FocusPrevious => self.move_focus(-1),
            Action::Left | Action::Right => {
                let columns = if action == Action::Left { -1 } else { 1 };
                self.chart.cursor_move(columns, self.chart_columns, full);
                return self.load_nearest();
            }
            Action::Up | Action::Down => {
                let down = action == Action::Down;
                if self.focus == Panel::Log {
                    self.log.scroll_by(if down { -1 } else { 1 });
                } else {
                    let rows = self.sheet.as_ref().map_or(0, |(_, sheet)| sheet.rows.len());
                    let last = rows.saturating_sub(1);
                    self.selected = if down {
                        (self.selected + 1).min(last)
                    } else {
                        self.selected.saturating_sub(1)
                    };
                }
            }
            Action::Enlarge => {
                self.enlarged = if self.enlarged.is_some() { None } else { Some(self.focus) };
            }
            Action::Back => {
                if !self.acknowledge() && self.enlarged.take().is_none() {
                    self.chart.cursor_off();
                    return self.load_nearest();
                }
            }
            Action::Toggle(Panel::Accuracy) if self.metrics.is_empty() => {
                self.notify("nothing is evaluated: set eval.every".to_owned());
            }
            Action::Toggle(panel) => {
                if self.shows(panel) {
                    self.hidden.push(panel);
                    if self.focus == panel {
                        self.move_focus(1);
                    }
                } else {
                    self.hidden.retain(|&hidden| hidden != panel);
                }
            }
            Action::LogScale => self.chart.toggle_log(),
            Action::Smoother => self.chart.more_smoothing(),
            Action::Rougher => self.chart.less_smoothing(),
            Action::ZoomIn => self.chart.zoom_in(full),
            Action::ZoomOut => self.chart.zoom_out(full),
            Action::ZoomReset => self.chart.reset(),
            Action::PanLeft => self.chart.pan(-1, full),
            Action::PanRight => self.chart.pan(1, full),
            Action::XAxis => self.chart.toggle_axis(),
            Action::Overlays if self.overlays.is_empty() => {
                self.notify("there is no earlier run to show".to_owned());
            }
            Action::Overlays => self.chart.alone = !self.chart.alone,
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
            Action::FullPicture => {
                if self.colors.depth == ColorDepth::Mono || self.ascii {
                    self.notify("pictures on the whole screen need colours".to_owned());
                    return None;
                }
                return self.sheet.as_ref().map(|_| Effect::FullPicture);
            }
        }
        None
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
