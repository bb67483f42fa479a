//! Alarms on the screen: they appear, are acknowledged and disappear.

use super::next_report;
use crate::common::dashboard::{self, alarm, midway_true, press, press_all, shown, tell};
use crossterm::event::KeyCode;
use ratatui::style::Modifier;
use simmim_tui::control::Link;
use simmim_tui::event::AlarmKind::{DiskLow, LossSpike, Stalled};
use simmim_tui::event::{Event, Level, StepReport};
use simmim_tui::terminal::colors::ColorDepth;
use simmim_tui::ui::app::{App, Effect, Msg};

const SPIKE: &str = "loss 3.1, median 0.42";

fn spiking() -> App {
    let mut app = midway_true();
    tell(&mut app, alarm(LossSpike, true, 138, SPIKE));
    app
}

/// Returns the line of notices.
fn notices(app: &mut App, width: u16) -> String {
    let text = shown(app, width, 24);
    text.lines().nth(22).expect("24 lines").to_owned()
}

#[test]
fn an_alarm_stays_until_it_is_over() {
    let mut app = spiking();
    let banner = format!(" ALARM loss spike at step 138: {SPIKE}");
    app.update(Msg::Tick(app.now + 3600.0));
    assert_eq!(notices(&mut app, 80), banner);
    let text = shown(&mut app, 80, 24);
    assert!(text.starts_with("● running !1  step 140/400"), "{text}");
    assert!(text.contains("p pause") && text.contains("Esc hide alarm"), "{text}");
    let line = format!("step 138: loss spike: {SPIKE}");
    assert!(app.log.newest().is_some_and(|l| l.text == line && l.level == Level::Warning));
    tell(&mut app, alarm(LossSpike, false, 150, "loss 0.5"));
    let text = shown(&mut app, 80, 24);
    assert!(!text.contains("ALARM") && !text.contains("!1") && !text.contains("Esc"), "{text}");
    assert!(text.contains("loss spike is over: loss 0.5"), "{text}");
}

#[test]
fn an_acknowledged_alarm_is_counted_and_a_new_one_is_shown() {
    let mut app = spiking();
    assert_eq!(press(&mut app, KeyCode::Esc), None);
    let text = shown(&mut app, 80, 24);
    assert!(!text.contains("ALARM") && !text.contains("hide alarm"), "{text}");
    assert!(text.starts_with("● running !1 "), "it still holds: {text}");
    assert!(shown(&mut app, 120, 40).contains("loss spike: loss 3.1"), "the log keeps it");
    tell(&mut app, alarm(Stalled, true, 140, "no step for 60s"));
    let banner = notices(&mut app, 80);
    assert_eq!(banner, " ALARM stalled at step 140: no step for 60s", "the new one alone");
    tell(&mut app, alarm(Stalled, false, 140, "a step ended"));
    assert!(!shown(&mut app, 80, 24).contains("ALARM"), "the old one stays acknowledged");
    tell(&mut app, alarm(LossSpike, false, 145, "loss 0.5"));
    tell(&mut app, alarm(LossSpike, true, 138, SPIKE));
    assert!(notices(&mut app, 80).starts_with(" ALARM loss spike at step 138"), "once more");
    press(&mut app, KeyCode::Esc);
    tell(&mut app, alarm(LossSpike, true, 160, SPIKE));
    assert!(notices(&mut app, 80).starts_with(" ALARM loss spike at step 160"), "and another");
}

#[test]
fn of_several_alarms_the_newest_is_shown_with_the_number_of_the_others() {
    let mut app = spiking();
    tell(&mut app, alarm(DiskLow, true, 139, "3.2 GiB left"));
    tell(&mut app, alarm(Stalled, true, 140, "no step for 60s"));
    assert_eq!(notices(&mut app, 80), " ALARM stalled at step 140: no step for 60s +2 more");
    assert!(shown(&mut app, 80, 24).starts_with("● running !3 "));
    let narrow = notices(&mut app, 34);
    assert_eq!(narrow, " ALARM stalled at step 1… +2 more", "what it is and how many others");
    press(&mut app, KeyCode::Esc);
    assert!(notices(&mut app, 80).contains("ALARM disk nearly full at step 139"));
    assert!(notices(&mut app, 80).ends_with("+1 more"));
    press(&mut app, KeyCode::Esc);
    assert!(notices(&mut app, 80).contains("ALARM loss spike"));
    press(&mut app, KeyCode::Esc);
    assert!(!notices(&mut app, 80).contains("ALARM"));
    assert!(shown(&mut app, 80, 24).starts_with("● running !3 "), "they all hold");
}

#[test]
fn notices_and_a_filter_are_seen_beside_the_banner() {
    let mut app = spiking();
    press(&mut app, KeyCode::Char('p'));
    let line = notices(&mut app, 80);
    assert_eq!(line, format!(" ALARM loss spike at step 138: {SPIKE}  pausing after this step"));
    let line = notices(&mut app, 60);
    assert_eq!(line, " ALARM loss spike at step 138: los…  pausing after this step");
    press_all(&mut app, "/ssim");
    let line = notices(&mut app, 80);
    assert!(line.contains("ALARM loss spike") && line.ends_with(" /ssim_"), "{line}");
}

#[test]
fn escape_hides_the_alarm_before_it_does_anything_else() {
    let mut app = spiking();
    shown(&mut app, 80, 24);
    let effect = press(&mut app, KeyCode::Left);
    dashboard::serve(&mut app, effect);
    press(&mut app, KeyCode::Enter);
    press(&mut app, KeyCode::Esc);
    assert!(app.banner().is_none() && app.enlarged.is_some() && app.chart.cursor().is_some());
    press(&mut app, KeyCode::Esc);
    assert!(app.enlarged.is_none() && app.chart.cursor().is_some());
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.chart.cursor(), None);
}

#[test]
fn the_banner_is_reversed_with_and_without_colours_and_on_tiny_screens() {
    for depth in [ColorDepth::True, ColorDepth::Sixteen, ColorDepth::Mono] {
        for (width, height) in [(80, 24), (200, 60), (28, 7)] {
            let mut app = dashboard::midway(depth, depth == ColorDepth::Mono);
            tell(&mut app, alarm(LossSpike, true, 138, SPIKE));
            let buffer = dashboard::drawn(&mut app, width, height);
            let text = dashboard::text(&buffer);
            let row = text.lines().position(|line| line.starts_with(" ALARM loss")).expect(&text);
            let cell = &buffer[(3, row as u16)];
            assert!(cell.modifier.contains(Modifier::REVERSED | Modifier::BOLD), "{cell:?}");
            assert!(depth != ColorDepth::Mono || text.is_ascii(), "{text}");
        }
    }
}

#[test]
fn alarms_of_a_run_that_ended_or_is_being_read_are_history() {
    let mut app = dashboard::empty(ColorDepth::True, false).viewer();
    dashboard::play(&mut app, dashboard::recorded_to(dashboard::MIDWAY));
    tell(&mut app, alarm(LossSpike, true, 138, SPIKE));
    assert!(!shown(&mut app, 80, 24).contains("ALARM"), "not known whether it holds");
    let effect = app.update(Msg::Link(Link::Steerable));
    dashboard::serve(&mut app, effect);
    assert!(shown(&mut app, 80, 24).contains("ALARM loss spike"), "it does");
    app.update(Msg::Link(Link::Gone("killed".to_owned())));
    let text = shown(&mut app, 80, 24);
    assert!(text.contains(" DEAD killed") && !text.contains("ALARM"), "{text}");
    assert!(!text.contains("!1"), "{text}");
    let mut own = spiking();
    own.update(Msg::Ended(None));
    assert!(!shown(&mut own, 80, 24).contains("ALARM"));
}

/// Moves the cursor to the column of a step.
fn stand_on(app: &mut App, step: f64) {
    shown(app, 120, 40);
    for _ in 0..app.chart_columns {
        if app
            .chart
            .cursor()
            .is_some_and(|x| x <= step + 0.6 * 140.0 / f64::from(app.chart_columns))
        {
            return;
        }
        let effect = press(app, KeyCode::Left);
        dashboard::serve(app, effect);
    }
    panic!("step {step} has no column");
}

#[test]
fn a_mark_tells_what_it_was_when_the_cursor_stands_on_it() {
    let mut app = midway_true();
    tell(&mut app, alarm(LossSpike, true, 110, SPIKE));
    tell(&mut app, alarm(LossSpike, false, 112, "loss 0.5"));
    app.update(Msg::Tick(app.now + 60.0));
    stand_on(&mut app, 110.0);
    let text = shown(&mut app, 120, 40);
    assert!(text.contains(&format!("\nstep 110: loss spike: {SPIKE}")), "{text}");
    stand_on(&mut app, 100.0);
    let text = shown(&mut app, 120, 40);
    assert!(text.contains("\nstep 100: saved checkpoints/step-00000100"), "{text}");
    tell(&mut app, alarm(Stalled, true, 100, "no step for 60s"));
    press(&mut app, KeyCode::Esc);
    let text = shown(&mut app, 120, 40);
    assert!(text.contains("\nstep 100: stalled: no step for 60s  +1 more"), "{text}");
    press_all(&mut app, "h");
    assert!(!shown(&mut app, 120, 40).contains("no step for 60s  +1"), "not beside it");
}

#[test]
fn losses_that_are_no_numbers_are_marked_and_change_no_scale() {
    let scale = |text: &str| -> Vec<String> {
        let labels = text.lines().filter_map(|line| line.split_once('┤'));
        labels.map(|(label, _)| label.to_owned()).collect()
    };
    for beta in ["", "SS"] {
        let mut app = midway_true();
        press_all(&mut app, beta);
        let before = shown(&mut app, 120, 40);
        let losses = vec![f32::NAN, 0.75, f32::INFINITY, 0.74, f32::NAN];
        let report = next_report(&app);
        let report = StepReport { loss: f32::NAN, grad_norm: f32::NAN, losses, ..report };
        assert_eq!(tell(&mut app, Event::Step(report)), None::<Effect>);
        for log in [false, true] {
            let text = shown(&mut app, 120, 40);
            assert_eq!(text.matches('✗').count(), 2, "log {log}:\n{text}");
            assert!(text.contains("loss       ") && text.contains("    NaN"), "{text}");
            assert!(log || scale(&text) == scale(&before), "{before}\n{text}");
            press_all(&mut app, "y");
        }
    }
}
