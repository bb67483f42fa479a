//! Leaving the screen around the end of a run.

use crate::common::dashboard::{self, press};
use crossterm::event::KeyCode;
use simmim_tui::terminal::colors::ColorDepth;
use simmim_tui::ui::app::{Effect, Msg, Screen};

/// The log has the end a moment before the trainer has ended.
#[test]
fn who_leaves_between_the_end_of_the_log_and_that_of_the_trainer_has_left() {
    let mut app = dashboard::empty(ColorDepth::True, false);
    dashboard::play(&mut app, dashboard::recorded());
    assert_eq!(press(&mut app, KeyCode::Char('q')), None);
    assert_eq!(app.screen, Screen::Dashboard, "there is nothing to choose any more");
    assert_eq!(app.update(Msg::Ended(None)), Some(Effect::Leave));
    let mut app = dashboard::empty(ColorDepth::True, false);
    dashboard::play(&mut app, dashboard::recorded());
    press(&mut app, KeyCode::Char('q'));
    assert_eq!(app.update(Msg::Ended(Some("the disk is full".to_owned()))), None);
    assert_eq!(app.screen, Screen::Failed, "an error is to be read");
}
