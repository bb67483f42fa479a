//! Journeys of a viewer, who watches a run from another process.

use super::{asked_for, every_key, next_report};
use crate::common::dashboard::{self, control, press, press_all, shown, tell, viewer};
use crate::common::memory::Step::{Key, Saw};
use crate::common::memory::{self, Script, Source};
use crossterm::event::{KeyCode, KeyModifiers};
use simmim_tui::control::Link;
use simmim_tui::event::{Command, Event, Finished, Level, Phase, Reason, Started};
use simmim_tui::terminal::colors::ColorDepth;
use simmim_tui::ui::LoopExit;
use simmim_tui::ui::app::{App, Effect, Msg, Screen};
use std::collections::BTreeSet;

fn watch_only() -> Link {
    Link::WatchOnly("another user's run".to_owned())
}

fn dead() -> Link {
    Link::Gone("process 4711 ended without a word".to_owned())
}

/// Returns a viewer of the whole recorded run, which ended for this reason, or failed if there is none.
fn over(reason: Option<Reason>) -> App {
    let mut app = dashboard::empty(ColorDepth::True, false).viewer();
    let mut events = dashboard::recorded();
    let end = events.pop().expect("the end");
    dashboard::play(&mut app, events);
    let Event::Finished(finished) = end.event else { panic!("{end:?}") };
    let message = "the disk is full".to_owned();
    let failed = Event::Log { level: Level::Error, message };
    let last = reason.map(|reason| Event::Finished(Finished { reason, ..finished }));
    tell(&mut app, last.unwrap_or(failed));
    let effect = app.update(Msg::Link(Link::Over));
    dashboard::serve(&mut app, effect);
    app
}

#[test]
fn a_steerable_run_takes_orders_and_its_quit_box_speaks_of_the_viewer() {
    let mut app = viewer(Link::Steerable);
    assert!(app.is_live() && app.can_steer() && !app.is_over());
    assert_eq!(press(&mut app, KeyCode::Char('p')), Some(Effect::Send(Command::Pause)));
    assert_eq!(press(&mut app, KeyCode::Char('c')), Some(Effect::Send(Command::Checkpoint)));
    press_all(&mut app, "q");
    let text = shown(&mut app, 80, 24);
    assert!(text.contains("leave the viewer, the run goes on"), "{text}");
    assert!(!text.contains("the shell comes back"), "{text}");
    assert_eq!(press(&mut app, KeyCode::Char('d')), Some(Effect::Detach));
    press_all(&mut app, "q");
    assert_eq!(press(&mut app, KeyCode::Char('s')), Some(Effect::Send(Command::Stop)));
    assert_eq!(app.screen, Screen::Dashboard, "it stays");
}

#[test]
fn no_single_key_leaves_or_ends_a_steerable_run() {
    for key in every_key() {
        let effect = viewer(Link::Steerable).update(Msg::Key(key));
        let harmful =
            matches!(effect, Some(Effect::Detach | Effect::Leave | Effect::Send(Command::Stop)));
        assert!(!harmful, "{key:?} does {effect:?}");
    }
}

#[test]
fn a_run_that_can_only_be_watched_refuses_orders_with_the_reason() {
    let mut app = viewer(watch_only());
    let text = shown(&mut app, 80, 24);
    assert!(text.contains("watching only: another user's run"), "told on arrival: {text}");
    assert!(!text.contains("p pause") && !text.contains("c checkpoint"), "{text}");
    assert!(text.contains("q leave") && text.starts_with("● running  watching only"), "{text}");
    for key in ['p', 'c'] {
        app.notice = None;
        assert_eq!(press(&mut app, KeyCode::Char(key)), None);
        let text = shown(&mut app, 80, 24);
        assert!(text.contains("watching only: another user's run"), "{key}: {text}");
    }
    assert!(app.is_live(), "its clock runs");
    assert_eq!(press(&mut app, KeyCode::Char('q')), Some(Effect::Detach), "nothing to choose");
    assert_eq!(app.update(Msg::Key(control('c'))), Some(Effect::Detach));
}

#[test]
fn a_lost_connection_is_told_until_it_is_back() {
    let mut app = viewer(Link::Steerable);
    press_all(&mut app, "q");
    app.update(Msg::Link(Link::Lost));
    assert_eq!(app.screen, Screen::Dashboard, "there is nothing to choose any more");
    let lost = shown(&mut app, 80, 24);
    assert!(lost.starts_with("● no connection "), "{lost}");
    assert!(lost.contains("connection lost, trying again") && !lost.contains("ETA"), "{lost}");
    let elapsed = app.elapsed_s();
    app.update(Msg::Tick(app.now + 3600.0));
    assert!((app.elapsed_s() - elapsed).abs() < 1e-9, "nothing is known of this hour");
    assert!(shown(&mut app, 80, 24).contains("connection lost, trying again"), "an hour later");
    assert_eq!(press(&mut app, KeyCode::Char('p')), None);
    assert!(shown(&mut app, 80, 24).contains("no orders: connection lost"));
    app.update(Msg::Link(Link::Steerable));
    let back = shown(&mut app, 80, 24);
    assert!(back.starts_with("● running ") && back.contains("connected again"), "{back}");
    assert_eq!(press(&mut app, KeyCode::Char('p')), Some(Effect::Send(Command::Pause)));
}

#[test]
fn a_stop_that_is_chosen_when_the_connection_is_gone_goes_nowhere() {
    let mut app = viewer(Link::Steerable);
    app.update(Msg::Link(Link::Lost));
    app.screen = Screen::Quit(simmim_tui::ui::app::QuitChoice::Stop);
    assert_eq!(press(&mut app, KeyCode::Enter), None);
    assert!(shown(&mut app, 80, 24).contains("no orders: connection lost"));
}

#[test]
fn a_dead_run_is_never_shown_as_a_live_one() {
    let mut app = viewer(dead());
    let elapsed = app.elapsed_s();
    for seconds in [0.0, 5.0, 3600.0] {
        app.update(Msg::Tick(app.now + seconds));
        let text = shown(&mut app, 80, 24);
        assert!(text.starts_with("● DEAD  step 140/400"), "{text}");
        assert!(text.contains(" DEAD process 4711 ended without a word"), "{text}");
        assert!(!text.contains("ETA") && !text.contains("running"), "{text}");
        assert!(!text.contains("p pause") && text.contains("q leave"), "{text}");
    }
    assert!((app.elapsed_s() - elapsed).abs() < 1e-9, "its clock stands still");
    let report = app.state.last_step.clone().expect("a report");
    assert!((elapsed - report.elapsed_s).abs() < 1.0, "at its newest event");
    assert_eq!(press(&mut app, KeyCode::Char('p')), None);
    let text = shown(&mut app, 120, 40);
    assert!(text.contains("no orders: the process is gone"), "{text}");
    assert!(text.contains(" DEAD process 4711"), "the banner stays beside it: {text}");
}

/// Returns the keys that end the screen of an app.
fn leaving(prepare: impl Fn() -> App) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for key in every_key() {
        if let Some(effect @ (Effect::Leave | Effect::Detach)) = prepare().update(Msg::Key(key)) {
            assert_eq!(effect, Effect::Leave, "{key:?}: the run is over");
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            found.insert(format!("{}{}", if control { "Ctrl-" } else { "" }, key.code));
        }
    }
    found
}

#[test]
fn a_run_that_is_over_is_browsed_and_only_q_and_ctrl_c_leave() {
    let expected: BTreeSet<String> = ["q", "Ctrl-c"].map(str::to_owned).into();
    assert_eq!(leaving(|| viewer(dead())), expected, "dead");
    for reason in [Some(Reason::Completed), Some(Reason::Stopped), None] {
        let mut app = over(reason);
        assert_eq!(app.update(Msg::Key(control('c'))), Some(Effect::Leave), "{reason:?}");
        assert_eq!(press(&mut app, KeyCode::Char('q')), Some(Effect::Leave), "{reason:?}");
        for letter in " wpcys+-[]xfvrojkhl12345?".chars() {
            let effect = press(&mut app, KeyCode::Char(letter));
            assert!(!matches!(effect, Some(Effect::Leave | Effect::Detach)), "{letter}");
        }
    }
}

#[test]
fn a_run_that_is_over_says_how_it_ended() {
    for (reason, word, text) in [
        (Some(Reason::Completed), "● finished ", "the run has finished; q leaves"),
        (Some(Reason::Stopped), "● stopped ", "stopped and saved: simmim-tui --resume runs/defa"),
        (None, "● failed ", " FAILED the disk is full"),
    ] {
        let mut app = over(reason);
        app.update(Msg::Tick(app.now + 60.0));
        let seen = shown(&mut app, 80, 24);
        assert!(seen.starts_with(word) && seen.contains(text), "{reason:?}:\n{seen}");
        assert!(!seen.contains("ETA") && !seen.contains("p pause"), "{seen}");
        assert_eq!(press(&mut app, KeyCode::Char('c')), None);
        assert!(shown(&mut app, 80, 24).contains("no orders: the run has ended"));
    }
}

#[test]
fn a_feed_that_ends_is_a_run_that_is_over() {
    let mut app = viewer(Link::Steerable);
    app.update(Msg::Ended(Some("the log is gone".to_owned())));
    assert_eq!((app.screen, app.link()), (Screen::Dashboard, Some(&Link::Over)));
    assert!(shown(&mut app, 80, 24).contains(" FAILED the log is gone"));
    assert_eq!(press(&mut app, KeyCode::Char('w')), None, "only q leaves");
}

#[test]
fn a_dead_run_that_is_resumed_comes_back_to_life() {
    let mut app = viewer(dead());
    let checkpoint = app.train.nearest(100.0, simmim_tui::ui::series::XAxis::Step);
    let worked = checkpoint.expect("a point").time;
    app.update(Msg::Tick(app.now + 1e5));
    app.update(Msg::Link(Link::Steerable));
    assert!(shown(&mut app, 80, 24).contains("the run goes on"));
    let started = app.state.started.clone().expect("started");
    tell(&mut app, Event::Started(Started { step: 100, resumed: true, ..started }));
    dashboard::phase(&mut app, Phase::Compiling);
    app.update(Msg::Tick(app.now + 30.0));
    let found = app.elapsed_s();
    assert!((found - worked).abs() < 1e-6, "{found}: no day of death, no loading");
    let mut report = next_report(&over(Some(Reason::Completed)));
    (report.step, report.elapsed_s) = (105, worked + 4.0);
    tell(&mut app, Event::Step(report));
    dashboard::phase(&mut app, Phase::Running);
    app.update(Msg::Tick(app.now + 10.0));
    assert!((app.elapsed_s() - worked - 14.0).abs() < 1.5, "{}", app.elapsed_s());
    let text = shown(&mut app, 80, 24);
    assert!(text.starts_with("● running  step 105/400") && text.contains("ETA"), "{text}");
    assert_eq!(press(&mut app, KeyCode::Char('p')), Some(Effect::Send(Command::Pause)));
}

#[test]
fn what_happened_before_is_read_without_notices_or_pictures() {
    let mut app = dashboard::empty(ColorDepth::True, false).viewer();
    let events = dashboard::recorded_to(dashboard::MIDWAY);
    let first = events[0].time;
    for event in events {
        assert_eq!(app.update(Msg::Event(Box::new(event))), None, "no picture is asked for");
        assert_eq!(app.notice, None);
    }
    let message = "an old warning".to_owned();
    tell(&mut app, Event::Log { level: Level::Warning, message });
    assert_eq!(app.notice, None);
    app.update(Msg::Tick(first + 1e6));
    let text = shown(&mut app, 80, 24);
    assert!(text.starts_with("● reading...  step 140/400") && !text.contains("ETA"), "{text}");
    let report = app.state.last_step.clone().expect("a report");
    assert!(app.elapsed_s() - report.elapsed_s < 60.0, "the clock isn't that of a live run");
    assert_eq!(app.marks.len(), 5, "checkpoints are marked");
    let lines = app.log.visible(100);
    assert!(lines.iter().any(|line| (line.time - first).abs() < 60.0), "with their own times");
    assert_eq!(press(&mut app, KeyCode::Char('p')), None, "no order before it is known");
    assert_eq!(asked_for(app.update(Msg::Link(Link::Steerable)).as_ref()), 125, "the newest");
    let message = "a new warning".to_owned();
    tell(&mut app, Event::Log { level: Level::Warning, message: message.clone() });
    assert_eq!(app.notice.map(|(text, _)| text), Some(message));
}

#[test]
fn the_death_of_the_run_thaws_a_frozen_view() {
    let mut app = viewer(Link::Steerable);
    press_all(&mut app, "f");
    let report = next_report(&app);
    tell(&mut app, Event::Step(report));
    assert_eq!(app.state.last_step.as_ref().map(|report| report.step), Some(140));
    app.update(Msg::Link(dead()));
    assert!(!app.is_frozen());
    assert!(shown(&mut app, 80, 24).contains("step 145/400"));
}

#[test]
fn a_viewer_of_the_real_loop_steers_and_detaches() {
    let script = Script::new([
        Saw("● running"),
        Key(dashboard::key(KeyCode::Char('p'))),
        Saw("PAUSED"),
        Key(dashboard::key(KeyCode::Char('q'))),
        Saw("leave the viewer"),
        Key(dashboard::key(KeyCode::Char('d'))),
    ]);
    let mut source = Source::obedient(dashboard::recorded_to(dashboard::MIDWAY));
    source.links.push_back(Link::Steerable);
    let ran = memory::watch(script, source, (80, 24));
    assert_eq!((ran.exit, ran.sent), (LoopExit::Detached, vec![Command::Pause]));
}

#[test]
fn a_viewer_of_the_real_loop_browses_a_finished_run() {
    let script = Script::new([
        Saw("the run has finished"),
        Saw("step 125, reconstruction"),
        Key(dashboard::key(KeyCode::Char(' '))),
        Key(dashboard::key(KeyCode::Esc)),
        Key(dashboard::key(KeyCode::Char('?'))),
        Saw("this help"),
        Key(dashboard::key(KeyCode::Char('x'))),
        Saw("the run has finished"),
        Key(control('c')),
    ]);
    let mut source = Source::obedient(dashboard::recorded());
    source.links.push_back(Link::Over);
    assert_eq!(memory::watch(script, source, (80, 24)).exit, LoopExit::Closed);
}

#[test]
fn a_signal_ends_the_viewer_of_a_live_run() {
    let mut source = Source::obedient(dashboard::recorded_to(dashboard::MIDWAY));
    source.links.push_back(Link::Steerable);
    source.unattended = true;
    let ran = memory::watch(Script::new([]), source, (80, 24));
    assert!(ran.sent.is_empty(), "the run isn't stopped: {:?}", ran.sent);
}
