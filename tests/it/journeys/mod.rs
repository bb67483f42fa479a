//! What people do at the keyboard, one test for each journey: through `App::update`, and through the real event loop on
//! a terminal in memory.

mod alarms;
mod cost;
mod leaving;
mod overlays;
mod viewer;

use crate::common::dashboard::{self, control, midway_true, press, press_all, shown, tell};
use crate::common::memory::Step::{Key, Resize, Saw, Wait};
use crate::common::memory::{self, Script, Source};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use simmim_tui::event::{
    Command, Event, Finished, Level, Phase, Reason, Stamped, Started, StepReport,
};
use simmim_tui::picture::sheet::{Sheet, SheetRow};
use simmim_tui::terminal::colors::ColorDepth;
use simmim_tui::ui::LoopExit;
use simmim_tui::ui::app::{App, Effect, Msg, QuitChoice, Screen};
use simmim_tui::ui::panel::Panel;
use std::time::Duration;

fn asked_for(effect: Option<&Effect>) -> u64 {
    let Some(Effect::LoadSheet(preview)) = effect else { panic!("no sheet is asked for") };
    preview.step
}

/// Returns the next report of the recorded run after the last one that the app has seen.
fn next_report(app: &App) -> StepReport {
    let mut report = app.state.last_step.clone().expect("a report");
    report.step += 5;
    report.elapsed_s += 3.0;
    report
}

#[test]
fn pause_is_sent_once_and_after_the_trainer_paused_the_same_key_resumes() {
    let mut app = midway_true();
    assert_eq!(press(&mut app, KeyCode::Char('p')), Some(Effect::Send(Command::Pause)));
    assert!(shown(&mut app, 80, 24).contains("pausing after this step"));
    // Until the trainer reports the pause, the same key sends the same order again, not its opposite.
    assert_eq!(press(&mut app, KeyCode::Char('p')), Some(Effect::Send(Command::Pause)));
    dashboard::phase(&mut app, Phase::Paused);
    assert!(shown(&mut app, 80, 24).contains("PAUSED"));
    assert_eq!(press(&mut app, KeyCode::Char('p')), Some(Effect::Send(Command::Resume)));
    assert_eq!(press(&mut app, KeyCode::Char('p')), Some(Effect::Send(Command::Resume)));
    dashboard::phase(&mut app, Phase::Running);
    assert_eq!(press(&mut app, KeyCode::Char('p')), Some(Effect::Send(Command::Pause)));
}

#[test]
fn a_checkpoint_is_ordered_and_its_file_is_named() {
    let mut app = midway_true();
    assert_eq!(press(&mut app, KeyCode::Char('c')), Some(Effect::Send(Command::Checkpoint)));
    assert!(shown(&mut app, 80, 24).contains("saving a checkpoint after this step"));
    let path = "checkpoints/step-00000141.safetensors".to_owned();
    tell(&mut app, Event::CheckpointSaved { step: 141, path, bytes: 2048, best: false });
    let text = shown(&mut app, 80, 24);
    assert!(text.contains("saved checkpoints/step-00000141.safetensors (2.0 KiB)"), "{text}");
    app.update(Msg::Tick(app.now + 60.0));
    assert_eq!(app.notice, None, "a notice goes by itself");
}

/// Returns every key that a terminal sends, with and without modifiers.
fn every_key() -> Vec<KeyEvent> {
    use KeyCode::{BackTab, Backspace, Delete, Down, End, Enter, Esc, F, Home, Insert, Left};
    use KeyCode::{PageDown, PageUp, Right, Tab, Up};
    let named = [
        BackTab, Backspace, Delete, Down, End, Enter, Esc, Home, Insert, Left, PageDown, PageUp,
        Right, Tab, Up,
    ];
    let letters = (' '..='~').chain("äß€🙂\u{0}\u{7f}".chars()).map(KeyCode::Char);
    let codes: Vec<KeyCode> = letters.chain((1..=12).map(F)).chain(named).collect();
    let all = [
        KeyModifiers::NONE,
        KeyModifiers::SHIFT,
        KeyModifiers::CONTROL,
        KeyModifiers::ALT,
        KeyModifiers::CONTROL | KeyModifiers::SHIFT,
    ];
    all.iter().flat_map(|&m| codes.iter().map(move |&code| KeyEvent::new(code, m))).collect()
}

#[test]
fn no_single_key_ends_or_leaves_a_run() {
    type Prepare = fn() -> App;
    let states: [(&str, Prepare); 6] = [
        ("before the first event", || dashboard::empty(ColorDepth::True, false)),
        ("halfway", midway_true),
        ("paused", || {
            let mut app = midway_true();
            dashboard::phase(&mut app, Phase::Paused);
            app
        }),
        ("help", || after("?")),
        ("frozen", || after("f")),
        ("filter", || after("/")),
    ];
    for (name, prepare) in states {
        for key in every_key() {
            let effect = prepare().update(Msg::Key(key));
            let harmful = matches!(
                effect,
                Some(Effect::Detach | Effect::Leave | Effect::Send(Command::Stop))
            );
            assert!(!harmful, "{name}: {key:?} does {effect:?}");
        }
    }
}

/// Returns the recorded run, halfway, after these keys.
fn after(keys: &str) -> App {
    let mut app = midway_true();
    press_all(&mut app, keys);
    app
}

#[test]
fn the_quit_box_leaves_by_letters_and_by_arrows() {
    assert_eq!(press(&mut after("q"), KeyCode::Char('d')), Some(Effect::Detach));
    let stop = Some(Effect::Send(Command::Stop));
    let mut app = after("q");
    assert_eq!(press(&mut app, KeyCode::Char('s')), stop);
    assert_eq!(app.screen, Screen::Dashboard, "the screen stays until the run has ended");
    assert!(shown(&mut app, 80, 24).contains("stopping: the step ends"));
    for key in [KeyCode::Char('c'), KeyCode::Char('n'), KeyCode::Esc, KeyCode::Enter] {
        let mut app = after("q");
        assert_eq!(app.screen, Screen::Quit(QuitChoice::Cancel), "cancel is the first choice");
        assert_eq!(press(&mut app, key), None);
        assert_eq!(app.screen, Screen::Dashboard, "{key:?} cancels");
    }
    for (arrows, effect) in [
        (&[KeyCode::Left][..], stop.clone()),
        (&[KeyCode::Right], Some(Effect::Detach)),
        (&[KeyCode::Right, KeyCode::Tab], stop.clone()),
        (&[KeyCode::Left, KeyCode::Up], Some(Effect::Detach)),
        (&[KeyCode::Left, KeyCode::Left, KeyCode::BackTab], None),
        (&[KeyCode::Down, KeyCode::Down], stop),
    ] {
        let mut app = after("q");
        for &arrow in arrows {
            assert_eq!(press(&mut app, arrow), None);
        }
        assert_eq!(press(&mut app, KeyCode::Enter), effect, "{arrows:?}");
    }
    let mut app = after("q");
    press_all(&mut app, "pxz?fq");
    assert_eq!(app.screen, Screen::Quit(QuitChoice::Cancel), "other keys do nothing");
}

#[test]
fn ctrl_c_opens_the_quit_box_wherever_it_is_pressed() {
    for keys in ["", "f", "/tex"] {
        let mut app = after(keys);
        assert_eq!(app.update(Msg::Key(control('c'))), None);
        assert!(matches!(app.screen, Screen::Quit(_)), "after {keys:?}");
        assert_eq!(press(&mut app, KeyCode::Char('d')), Some(Effect::Detach), "after {keys:?}");
    }
    let mut app = after("");
    for _ in 0..9 {
        assert_eq!(app.update(Msg::Key(control('c'))), None, "over and over it does no harm");
    }
}

#[test]
fn tab_goes_round_the_visible_panels() {
    let mut app = midway_true();
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(app.focus);
        press(&mut app, KeyCode::Tab);
    }
    let mut filled = Panel::ALL.to_vec();
    filled.retain(|&panel| panel != Panel::Accuracy); // Nothing was evaluated, so this panel is empty.
    assert_eq!(seen, filled);
    assert_eq!(app.focus, Panel::Loss, "round");
    press(&mut app, KeyCode::BackTab);
    assert_eq!(app.focus, Panel::Log, "and back");
    press_all(&mut app, "14");
    press(&mut app, KeyCode::Tab);
    assert_eq!(app.focus, Panel::Previews, "a hidden panel is passed over");
    press(&mut app, KeyCode::Tab);
    press(&mut app, KeyCode::Tab);
    assert_eq!(app.focus, Panel::Log);
}

#[test]
fn digits_hide_panels_and_show_them_again() {
    let titles = ["┌ loss", "┌ previews", "┌ learning rate", "┌ figures", "┌ log"];
    let mut app = midway_true();
    for (digit, title) in (1..).zip(titles) {
        assert!(shown(&mut app, 120, 40).contains(title), "{title}");
        press_all(&mut app, &digit.to_string());
        assert!(!shown(&mut app, 120, 40).contains(title), "{title} is hidden");
        press_all(&mut app, &digit.to_string());
    }
    press_all(&mut app, "12345");
    let text = shown(&mut app, 120, 40);
    assert!(titles.iter().all(|title| !text.contains(title)), "{text}");
    assert!(text.contains("running") && text.contains("? help"), "{text}");
    press_all(&mut app, "5");
    assert!(shown(&mut app, 80, 24).contains("┌ log"), "alone it has room on a small screen");
}

#[test]
fn enter_enlarges_the_focused_panel_and_enter_or_escape_ends_it() {
    let mut app = midway_true();
    for end in [KeyCode::Enter, KeyCode::Esc] {
        press(&mut app, KeyCode::Tab);
        press(&mut app, KeyCode::Enter);
        assert_eq!(app.enlarged, Some(app.focus));
        let text = shown(&mut app, 120, 40);
        assert_eq!(text.matches('┌').count(), 1, "{text}");
        press(&mut app, end);
        assert_eq!(app.enlarged, None);
        assert_eq!(shown(&mut app, 120, 40).matches('┌').count(), 5);
    }
    press(&mut app, KeyCode::Enter);
    press(&mut app, KeyCode::Tab);
    assert_eq!(app.enlarged, Some(app.focus), "Tab goes on to the next panel, as large");
}

#[test]
fn the_cursor_brings_the_pictures_of_its_step() {
    let mut app = with_all_pictures();
    shown(&mut app, 120, 40);
    assert_eq!(app.sheet.as_ref().map(|(step, _)| *step), Some(125));
    let mut asked = Vec::new();
    for _ in 0..=app.chart_columns {
        let effect = press(&mut app, KeyCode::Left);
        if effect.is_some() {
            let step = asked_for(effect.as_ref());
            let cursor = app.chart.cursor().expect("a cursor");
            assert!((cursor - step as f64).abs() < 14.0, "{step} is nearest to {cursor}");
            asked.push(step);
        }
        if let Some(Effect::LoadSheet(preview)) = effect {
            let sheet = Some(Sheet { rows: vec![row()] });
            app.update(Msg::SheetLoaded { step: preview.step, sheet });
        }
    }
    assert_eq!(asked, [100, 75, 50, 25, 0]);
    assert_eq!(
        asked_for(press(&mut app, KeyCode::Esc).as_ref()),
        125,
        "without a cursor the newest"
    );
}

#[test]
fn held_arrow_keys_ask_for_each_sheet_once() {
    let mut app = with_all_pictures();
    shown(&mut app, 120, 40);
    let effects: Vec<_> =
        (0..app.chart_columns).filter_map(|_| press(&mut app, KeyCode::Char('h'))).collect();
    assert_eq!(effects.len(), 5, "100, 75, 50, 25 and 0: {effects:?}");
    // The sheets arrive late and in order, and only the one that was asked for last is shown.
    for effect in effects {
        let Effect::LoadSheet(preview) = effect else { panic!("{effect:?}") };
        let sheet = Some(Sheet { rows: vec![row()] });
        app.update(Msg::SheetLoaded { step: preview.step, sheet });
        let shown = app.sheet.as_ref().map(|(step, _)| *step);
        assert_eq!(shown, Some(if preview.step == 0 { 0 } else { 125 }));
    }
}

/// Returns the recorded run, halfway, with pictures also at the steps whose pictures were not recorded.
fn with_all_pictures() -> App {
    let mut app = dashboard::empty(ColorDepth::True, false);
    for event in dashboard::recorded_to(dashboard::MIDWAY) {
        if let Some(Effect::LoadSheet(preview)) = app.update(Msg::Event(Box::new(event))) {
            let sheet = Some(Sheet { rows: vec![row()] });
            app.update(Msg::SheetLoaded { step: preview.step, sheet });
        }
    }
    app
}

fn row() -> SheetRow {
    let (_, sheet) = midway_true().sheet.expect("recorded");
    sheet.rows[0].clone()
}

#[test]
fn a_sheet_that_cannot_be_read_leaves_the_old_one() {
    let mut app = midway_true();
    let Event::Preview(mut preview) = preview_event() else { panic!("a preview") };
    preview.step = 150;
    assert_eq!(asked_for(tell(&mut app, Event::Preview(preview)).as_ref()), 150);
    app.update(Msg::SheetLoaded { step: 150, sheet: None });
    assert_eq!(app.sheet.as_ref().map(|(step, _)| *step), Some(125));
    shown(&mut app, 80, 24);
    for key in [KeyCode::Left, KeyCode::Right, KeyCode::Esc] {
        assert_eq!(press(&mut app, key), None, "it isn't asked for again");
    }
}

#[test]
fn in_place_of_missing_pictures_the_next_nearest_are_asked_for_once() {
    let mut app = dashboard::empty(ColorDepth::True, false);
    let mut asked = Vec::new();
    for event in dashboard::recorded_to(dashboard::MIDWAY) {
        let mut effect = app.update(Msg::Event(Box::new(event)));
        while let Some(Effect::LoadSheet(preview)) = effect {
            asked.push(preview.step);
            effect = app.update(Msg::SheetLoaded { step: preview.step, sheet: None });
        }
    }
    assert_eq!(asked, [0, 25, 50, 75, 100, 125]);
    shown(&mut app, 120, 40);
    for _ in 0..app.chart_columns {
        assert_eq!(press(&mut app, KeyCode::Left), None, "none of them is there");
    }
}

#[test]
fn the_help_scrolls_back_at_once_from_its_end() {
    let mut app = midway_true();
    press_all(&mut app, "?");
    press_all(&mut app, &"j".repeat(500));
    let end = shown(&mut app, 80, 24);
    press_all(&mut app, "k");
    assert_ne!(shown(&mut app, 80, 24), end, "the line before the end");
}

#[test]
fn a_run_that_was_stopped_is_not_called_finished() {
    let mut app = midway_true();
    let (step, elapsed_s) = (140, 97.0);
    let finished = Finished {
        step,
        reason: Reason::Stopped,
        best_val_loss: None,
        best_accuracy: None,
        elapsed_s,
    };
    tell(&mut app, Event::Finished(finished));
    assert!(shown(&mut app, 80, 24).starts_with("● stopped "));
}

fn preview_event() -> Event {
    let all = dashboard::recorded().into_iter().map(|stamped| stamped.event);
    all.rev().find(|event| matches!(event, Event::Preview(_))).expect("recorded")
}

#[test]
fn up_and_down_choose_a_picture_within_the_sheet() {
    let mut app = midway_true();
    for key in ["k", "j", "j"] {
        press_all(&mut app, key);
    }
    assert_eq!(app.selected, 2);
    press_all(&mut app, &"j".repeat(20));
    assert_eq!(app.selected, 5, "there are six");
    assert!(shown(&mut app, 120, 40).contains("▸6"));
    assert_eq!(press(&mut app, KeyCode::Char('z')), Some(Effect::FullPicture));
    let wide = app.full_picture().expect("a picture").dimensions();
    assert_eq!(wide, (3 * 64 + 4, 64));
    let mut app = dashboard::empty(ColorDepth::True, false);
    assert_eq!(press(&mut app, KeyCode::Char('z')), None, "nothing to show yet");
}

#[test]
fn a_frozen_view_stands_still_and_catches_up() {
    let mut app = midway_true();
    press_all(&mut app, "f");
    let before = (app.train.len(), app.previews.len(), app.state.phase);
    let report = next_report(&app);
    let points = report.losses.len();
    tell(&mut app, Event::Step(report));
    tell(&mut app, preview_event());
    dashboard::phase(&mut app, Phase::Evaluating);
    assert_eq!((app.train.len(), app.previews.len(), app.state.phase), before);
    assert!(app.is_frozen() && shown(&mut app, 120, 40).contains("FROZEN"));
    // Orders are still sent.
    assert_eq!(press(&mut app, KeyCode::Char('p')), Some(Effect::Send(Command::Pause)));
    let effect = press(&mut app, KeyCode::Char('f'));
    assert_eq!(asked_for(effect.as_ref()), 400, "the pictures that came meanwhile");
    assert_eq!(app.train.len(), before.0 + points);
    assert_eq!(app.state.phase, Some(Phase::Evaluating));
    assert!(!shown(&mut app, 120, 40).contains("FROZEN"));
}

#[test]
fn the_end_of_the_run_thaws_the_view_with_its_last_pictures() {
    let mut app = after("f");
    tell(&mut app, preview_event());
    let effect = app.update(Msg::Ended(None));
    assert!(!app.is_frozen());
    assert_eq!(asked_for(effect.as_ref()), 400);
}

#[test]
fn a_filter_takes_every_letter_and_enter_or_escape_ends_it() {
    let mut app = midway_true();
    press_all(&mut app, "5/");
    assert!(app.shows(Panel::Log) && app.focus == Panel::Log, "the log is there to be seen");
    press_all(&mut app, "qpc?z1fX");
    press(&mut app, KeyCode::Backspace);
    assert_eq!(app.log.filter, "qpc?z1f", "keys of the dashboard are letters here");
    assert_eq!(app.screen, Screen::Dashboard);
    press(&mut app, KeyCode::Esc);
    assert_eq!((app.log.filter.as_str(), app.log.editing), ("", false));
    press_all(&mut app, "/ssim");
    press(&mut app, KeyCode::Enter);
    assert!(!app.log.editing);
    let lines: Vec<_> = app.log.visible(100).into_iter().map(|line| line.text.clone()).collect();
    assert_eq!(lines.len(), 6, "one per validation: {lines:?}");
    assert!(lines.iter().all(|line| line.contains("ssim")));
    press_all(&mut app, "kk");
    assert_eq!(app.log.scroll, 2, "the log has the focus, arrows scroll it");
    assert!(shown(&mut app, 120, 40).contains("log  /ssim  2 newer below"));
}

#[test]
fn warnings_are_told_of_and_found_again() {
    let mut app = midway_true();
    let message = "cannot read photo.jpg, left out".to_owned();
    tell(&mut app, Event::Log { level: Level::Warning, message: message.clone() });
    assert_eq!(app.notice.as_ref().map(|(text, _)| text), Some(&message));
    press_all(&mut app, "v");
    let lines = app.log.visible(100);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].text, message);
    assert!(shown(&mut app, 120, 40).contains("log  warnings"));
}

#[test]
fn what_a_lost_process_had_done_after_its_checkpoint_goes() {
    let mut app = midway_true();
    let started = app.state.started.clone().expect("started");
    let started = Started { step: 100, resumed: true, ..started };
    tell(&mut app, Event::Started(started));
    assert_eq!(app.train.last().map(|point| point.step), Some(100.0));
    assert_eq!(app.val.last().map(|point| point.step), Some(100.0));
    assert!(app.grad_norm.last().is_some_and(|point| point.step <= 100.0));
    assert!(app.rate.last().is_some_and(|point| point.step <= 100.0));
    assert!(app.marks.iter().all(|mark| mark.step <= 100.0));
    assert!(app.log.newest().is_some_and(|line| line.text == "going on after step 100"));
    shown(&mut app, 120, 40);
}

#[test]
fn after_the_end_looking_around_is_possible_and_other_keys_leave() {
    let ended = || {
        let mut app = dashboard::empty(ColorDepth::True, false);
        dashboard::play(&mut app, dashboard::recorded());
        app.update(Msg::Ended(None));
        assert_eq!(app.screen, Screen::Ended);
        app
    };
    for key in [KeyCode::Char('q'), KeyCode::Esc, KeyCode::Char(' '), KeyCode::Char('w')] {
        assert_eq!(press(&mut ended(), key), Some(Effect::Leave), "{key:?}");
    }
    assert_eq!(ended().update(Msg::Key(control('c'))), Some(Effect::Leave));
    let mut app = ended();
    press_all(&mut app, "y+?");
    assert!(matches!(app.screen, Screen::Help { .. }));
    press_all(&mut app, " pc");
    assert_eq!(app.screen, Screen::Ended, "nobody is there to be paused");
}

#[test]
fn after_a_failure_every_key_leaves() {
    for keys in ["", "?", "q", "f", "/tex"] {
        let mut app = after(keys);
        app.update(Msg::Ended(Some("the disk is full".to_owned())));
        assert!(shown(&mut app, 80, 24).contains("the disk is full"), "after {keys:?}");
        assert_eq!(press(&mut app, KeyCode::Char('x')), Some(Effect::Leave), "after {keys:?}");
    }
}

#[test]
fn the_time_goes_on_between_reports_and_stands_still_while_paused() {
    let mut app = midway_true();
    let report = app.state.last_step.clone().expect("a report");
    let start = app.elapsed_s();
    app.update(Msg::Tick(app.now + 10.0));
    assert!((app.elapsed_s() - start - 10.0).abs() < 1e-6);
    tell(&mut app, Event::Step(StepReport { elapsed_s: report.elapsed_s + 11.0, ..report }));
    dashboard::phase(&mut app, Phase::Paused);
    let paused = app.elapsed_s();
    app.update(Msg::Tick(app.now + 3600.0));
    assert!((app.elapsed_s() - paused).abs() < 1e-6);
}

#[test]
fn the_time_of_a_pause_is_not_added_after_it() {
    let mut app = midway_true();
    dashboard::phase(&mut app, Phase::Paused);
    let paused = app.elapsed_s();
    app.update(Msg::Tick(app.now + 3600.0));
    dashboard::phase(&mut app, Phase::Running);
    assert!(app.elapsed_s() - paused < 5.0, "{} s after the pause", app.elapsed_s() - paused);
}

#[test]
fn events_reach_the_screen_and_keys_reach_the_trainer() {
    let script = Script::new([
        Saw("running"),
        Key(dashboard::key(KeyCode::Char('p'))),
        Saw("PAUSED"),
        Key(dashboard::key(KeyCode::Char('p'))),
        Saw("● running"),
        Key(dashboard::key(KeyCode::Char('?'))),
        Saw("this help"),
        Key(dashboard::key(KeyCode::Esc)),
        Key(dashboard::key(KeyCode::Char('z'))),
        Key(dashboard::key(KeyCode::Char('q'))),
        Saw("leave?"),
        Key(dashboard::key(KeyCode::Char('s'))),
        Saw("the run has ended"),
        Key(dashboard::key(KeyCode::Char('?'))),
        Saw("this help"),
        Key(dashboard::key(KeyCode::Esc)),
        Key(dashboard::key(KeyCode::Char('q'))),
    ]);
    let source = Source::obedient(dashboard::recorded_to(dashboard::MIDWAY));
    let ran = memory::run(script, source, (120, 40));
    assert_eq!(ran.exit, LoopExit::Closed);
    assert_eq!(ran.sent, [Command::Pause, Command::Resume, Command::Stop]);
    assert_eq!(ran.pictures, [(196, 64)]);
    assert_eq!(ran.clears, 1, "everything is painted anew after the picture");
}

#[test]
fn detaching_leaves_the_run_alone() {
    let script = Script::new([
        Saw("running"),
        Key(control('c')),
        Saw("leave?"),
        Key(dashboard::key(KeyCode::Char('d'))),
    ]);
    let source = Source::obedient(dashboard::recorded_to(dashboard::MIDWAY));
    let ran = memory::run(script, source, (80, 24));
    assert_eq!((ran.exit, ran.sent), (LoopExit::Detached, Vec::new()));
}

#[test]
fn a_failure_is_shown_until_a_key() {
    let script = Script::new([
        Saw("the disk is full"),
        Saw("any key leaves"),
        Key(dashboard::key(KeyCode::Char('x'))),
    ]);
    let mut source = Source::obedient(dashboard::recorded_to(dashboard::MIDWAY));
    source.ends = Some(Some("the disk is full".to_owned()));
    let ran = memory::run(script, source, (80, 24));
    assert_eq!(ran.exit, LoopExit::Closed);
}

#[test]
fn nothing_is_drawn_while_nothing_changes() {
    let script = Script::new([
        Saw("PAUSED"),
        Wait(Duration::from_millis(2500)),
        Key(control('c')),
        Key(dashboard::key(KeyCode::Char('d'))),
    ]);
    let mut events = dashboard::recorded_to(dashboard::MIDWAY);
    let time = events.last().expect("events").time;
    events.push(Stamped { time, event: Event::Phase { phase: Phase::Paused } });
    let ran = memory::run(script, Source::obedient(events), (120, 40));
    // The first frame, the events, the ticks of three seconds, two readings of the machine's load, and the box.
    assert!(ran.frames <= 10, "{} frames", ran.frames);
}

#[test]
fn a_burst_of_events_and_sizes_is_drawn_a_few_times_only() {
    let burst = (0..300).map(|i| Resize(60 + i % 100, 20 + i % 30));
    let end = [Resize(121, 41), Saw("? help"), Key(control('c')), Saw("leave?")];
    let detach = Key(dashboard::key(KeyCode::Char('d')));
    let steps = [Saw("running")].into_iter().chain(burst).chain(end).chain([detach]);
    let mut source = Source::obedient(dashboard::recorded_to(dashboard::MIDWAY));
    source.one_at_a_time = true;
    let ran = memory::run(Script::new(steps), source, (120, 40));
    let most = 6 + ran.took.as_millis() / 100;
    assert!(u128::from(ran.frames) <= most, "{} frames in {:?}", ran.frames, ran.took);
}

#[test]
fn a_terminal_that_was_small_for_a_moment_is_painted_anew() {
    let script = Script::new([
        Saw("running"),
        Resize(40, 10),
        Resize(120, 40),
        Saw("? help"),
        Key(control('c')),
        Key(dashboard::key(KeyCode::Char('d'))),
    ]);
    let source = Source::obedient(dashboard::recorded_to(dashboard::MIDWAY));
    assert_eq!(memory::run(script, source, (120, 40)).exit, LoopExit::Detached);
}
