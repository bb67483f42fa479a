//! Earlier runs behind the loss curve.

use super::next_report;
use crate::common::dashboard::{self, midway_true, overlays, press, press_all, shown, tell};
use crossterm::event::KeyCode;
use simmim_tui::event::Event;
use simmim_tui::ui::app::App;

fn with_overlays() -> App {
    let mut app = midway_true();
    app.overlays = overlays();
    app
}

#[test]
fn earlier_runs_are_shown_to_their_end_and_hidden_by_a_key() {
    let mut app = with_overlays();
    assert_eq!((app.extent().newest, app.extent().end), (140.0, 400.0));
    let text = shown(&mut app, 120, 40);
    assert!(text.contains("━ runs/earlier-001") && text.contains("━ runs/earlier-002"), "{text}");
    press_all(&mut app, "o");
    let text = shown(&mut app, 120, 40);
    assert!(!text.contains("earlier-001") && text.contains("earlier runs hidden"), "{text}");
    assert_eq!((app.extent().newest, app.extent().end), (140.0, 140.0));
    press_all(&mut app, "o");
    assert!(shown(&mut app, 120, 40).contains("earlier-001"));
    let mut alone = midway_true();
    press_all(&mut alone, "o");
    assert!(shown(&mut alone, 120, 40).contains("there is no earlier run to show"));
}

#[test]
fn the_cursor_and_the_zoom_begin_at_the_live_run() {
    let mut app = with_overlays();
    shown(&mut app, 120, 40);
    press(&mut app, KeyCode::Left);
    let cursor = app.chart.cursor().expect("a cursor");
    assert!((cursor - 140.0).abs() < 8.0, "{cursor}");
    let text = shown(&mut app, 120, 40);
    assert!(text.contains("train 0.7"), "{text}");
    for _ in 0..9 {
        let effect = press(&mut app, KeyCode::Right);
        dashboard::serve(&mut app, effect);
    }
    let text = shown(&mut app, 120, 40);
    assert!(text.contains("not reached yet"), "{text}");
    press(&mut app, KeyCode::Esc);
    press_all(&mut app, "++");
    let newest = |app: &App| app.chart.window(app.extent()).1;
    assert!(app.chart.follows());
    assert!((newest(&app) - 140.0).abs() < 1e-6, "the live run fills the window");
    assert!(shown(&mut app, 120, 40).contains("zoom, following"));
    let report = next_report(&app);
    tell(&mut app, Event::Step(report));
    assert!((newest(&app) - 145.0).abs() < 1e-6, "and is followed");
    press_all(&mut app, "]");
    assert!(!app.chart.follows() && newest(&app) > 150.0, "on to where the earlier ones went");
}
