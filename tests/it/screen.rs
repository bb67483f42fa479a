//! The screen of a recorded run: in every state at three sizes as snapshots, and at every size without a panic.
//!
//! `INSTA_UPDATE=always cargo test --release --test it screen::` writes the snapshots anew. Then read the difference.

use crate::common::dashboard::{self, midway_true, press, press_all, shown};
use crossterm::event::KeyCode;
use ratatui::style::{Color, Style};
use simmim_tui::control::Link;
use simmim_tui::event::AlarmKind::{DiskLow, LossSpike};
use simmim_tui::event::{Event, Level, Phase, Stamped, Work, WorkProgress};
use simmim_tui::terminal::colors::ColorDepth::{self, Indexed, Mono, Sixteen, True};
use simmim_tui::ui::app::{App, Msg};
use simmim_tui::ui::panel::Panel;
use std::collections::BTreeSet;

/// Compares the screen at three sizes with the snapshots.
fn assert_looks_as_recorded(name: &str, app: &mut App) {
    for (width, height) in [(80, 24), (120, 40), (200, 60)] {
        let text = shown(app, width, height);
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), text);
        });
    }
}

#[test]
fn before_the_first_event_it_says_that_it_loads() {
    let mut app = dashboard::empty(True, false);
    assert_looks_as_recorded("loading", &mut app);
}

#[test]
fn before_the_first_step_it_says_that_it_compiles() {
    let mut app = dashboard::empty(True, false);
    let events = dashboard::recorded();
    let compiling = |event: &_| matches!(event, Event::Phase { phase: Phase::Compiling });
    let end = events.iter().position(|stamped| compiling(&stamped.event)).expect("recorded");
    dashboard::play(&mut app, events[..=end].iter().cloned());
    assert_looks_as_recorded("compiling", &mut app);
}

#[test]
fn a_long_validation_says_how_far_it_is() {
    let mut app = midway_true();
    let (step, work) = (25, Work::Validation);
    let progress = WorkProgress { step, work, done: 3200, total: 50_000 };
    for event in [Event::Phase { phase: Phase::Evaluating }, Event::Progress(progress)] {
        let stamped = Stamped { time: app.now, event };
        assert_eq!(app.update(Msg::Event(Box::new(stamped))), None);
    }
    assert!(shown(&mut app, 120, 40).contains(" validating 3,200/50,000  step "));
    app.update(Msg::Tick(app.now + 12.0));
    assert!(shown(&mut app, 120, 40).contains(" validating 3,200/50,000 12s  step "));
    let log = app.log.newest().map(|line| line.text.clone()).unwrap_or_default();
    assert!(!log.contains("3,200"), "{log}");
}

#[test]
fn a_run_halfway_has_all_panels_and_pictures() {
    assert_looks_as_recorded("halfway", &mut midway_true());
}

#[test]
fn evaluations_have_a_chart_of_their_own() {
    let mut app = midway_true();
    dashboard::evaluations(&mut app);
    assert_looks_as_recorded("evaluated", &mut app);
    let mut app = dashboard::midway(Mono, true);
    dashboard::evaluations(&mut app);
    assert_looks_as_recorded("evaluated_ascii", &mut app);
}

#[test]
fn the_accuracy_is_hidden_enlarged_and_focused_as_other_panels() {
    let mut app = midway_true();
    assert!(!shown(&mut app, 140, 45).contains("accuracy"));
    press_all(&mut app, "6");
    assert!(shown(&mut app, 140, 45).contains("nothing is evaluated"), "it says why there is none");
    dashboard::evaluations(&mut app);
    let text = shown(&mut app, 140, 45);
    assert!(text.contains(" accuracy ") && text.contains("learning rate"), "{text}");
    let small = shown(&mut app, 80, 24);
    assert!(small.contains(" accuracy ") && !small.contains("learning rate"), "{small}");
    press(&mut app, KeyCode::Tab);
    press(&mut app, KeyCode::Enter);
    let large = shown(&mut app, 80, 24);
    assert!(large.contains(" accuracy ") && !large.contains("previews"), "{large}");
    press(&mut app, KeyCode::Enter);
    press_all(&mut app, "6");
    let small = shown(&mut app, 80, 24);
    assert!(!small.contains(" accuracy ") && small.contains("learning rate"), "{small}");
}

#[test]
fn a_restart_takes_lost_evaluations_off_the_chart() {
    let mut app = midway_true();
    dashboard::evaluations(&mut app);
    let mut started = app.state.started.clone().expect("recorded");
    (started.step, started.resumed) = (60, true);
    dashboard::tell(&mut app, Event::Started(started));
    let steps: Vec<f64> =
        app.metrics.curves()[0].1.points().iter().map(|point| point.step).collect();
    assert_eq!(steps, [0.0, 50.0]);
}

#[test]
fn a_paused_run_says_so_and_offers_to_go_on() {
    let mut app = midway_true();
    dashboard::phase(&mut app, Phase::Paused);
    assert_looks_as_recorded("paused", &mut app);
}

#[test]
fn the_help_lists_the_keys_and_how_the_screen_is_drawn() {
    let mut app = midway_true();
    press_all(&mut app, "?");
    assert_looks_as_recorded("help", &mut app);
}

#[test]
fn the_help_scrolls_to_its_end_on_a_small_screen() {
    let mut app = midway_true();
    press_all(&mut app, "?");
    assert!(!shown(&mut app, 80, 24).contains("run      "), "it has more lines than that");
    press_all(&mut app, &"j".repeat(40));
    let text = shown(&mut app, 80, 24);
    assert!(text.contains("run      ") && text.contains("pictures "), "{text}");
}

#[test]
fn the_quit_box_shows_three_ways() {
    let mut app = midway_true();
    press_all(&mut app, "q");
    assert_looks_as_recorded("quit", &mut app);
    let text = shown(&mut app, 80, 24);
    assert!(text.contains("training goes on") && text.contains("[ cancel ]"), "{text}");
}

#[test]
fn a_failed_run_shows_its_error_and_how_to_go_on() {
    let mut app = midway_true();
    let error = "the loss, its gradient or a weight is not a number at step 141: the run is stopped without saving";
    let message = error.to_owned();
    dashboard::tell(&mut app, Event::Log { level: Level::Error, message });
    app.update(Msg::Ended(Some(error.to_owned())));
    assert_looks_as_recorded("failed", &mut app);
}

#[test]
fn a_finished_run_stays_until_a_key() {
    let mut app = dashboard::empty(True, false);
    dashboard::play(&mut app, dashboard::recorded());
    app.update(Msg::Ended(None));
    assert_looks_as_recorded("ended", &mut app);
}

#[test]
fn a_filter_is_seen_while_it_is_typed() {
    let mut app = midway_true();
    press_all(&mut app, "/Best");
    assert_looks_as_recorded("filter", &mut app);
    for (width, height) in [(80, 24), (120, 40), (40, 12)] {
        let text = shown(&mut app, width, height);
        assert!(text.contains("/Best_"), "at {width}x{height}:\n{text}");
    }
}

#[test]
fn the_enlarged_loss_has_a_cursor_and_a_logarithmic_scale() {
    let mut app = midway_true();
    press_all(&mut app, "y");
    assert_eq!(press(&mut app, KeyCode::Enter), None);
    shown(&mut app, 120, 40); // The cursor moves by columns of the last frame.
    for _ in 0..30 {
        let effect = press(&mut app, KeyCode::Left);
        dashboard::serve(&mut app, effect);
    }
    assert_looks_as_recorded("cursor", &mut app);
}

#[test]
fn a_frozen_view_says_so() {
    let mut app = midway_true();
    press_all(&mut app, "f");
    assert_looks_as_recorded("frozen", &mut app);
}

/// Returns the recorded run, halfway, with two alarms.
fn alarmed(depth: ColorDepth, ascii: bool) -> App {
    let mut app = dashboard::midway(depth, ascii);
    dashboard::tell(&mut app, dashboard::alarm(DiskLow, true, 120, "3.2 GiB left"));
    let message =
        "loss 3.1, median 0.42 over 100 steps; the weights before it are in step-00000125";
    dashboard::tell(&mut app, dashboard::alarm(LossSpike, true, 138, message));
    app
}

/// Returns the recorded run, halfway, over two earlier runs, with the cursor between the ends of those.
fn overlaid(depth: ColorDepth, ascii: bool) -> App {
    let mut app = dashboard::midway(depth, ascii);
    app.overlays = dashboard::overlays();
    app
}

fn dead() -> App {
    dashboard::viewer(Link::Gone("process 4711 ended without a word, perhaps killed".to_owned()))
}

#[test]
fn alarms_have_a_banner_and_the_keys_stay() {
    assert_looks_as_recorded("alarm", &mut alarmed(True, false));
}

#[test]
fn a_dead_run_has_a_banner_and_no_end_in_sight() {
    assert_looks_as_recorded("dead", &mut dead());
}

#[test]
fn a_run_that_is_only_watched_offers_no_orders() {
    let mut app = dashboard::viewer(Link::WatchOnly("the run is on another machine".to_owned()));
    assert_looks_as_recorded("watch_only", &mut app);
}

#[test]
fn a_viewer_s_quit_box_says_that_the_run_goes_on() {
    let mut app = dashboard::viewer(Link::Steerable);
    press_all(&mut app, "q");
    assert_looks_as_recorded("quit_viewer", &mut app);
}

#[test]
fn earlier_runs_lie_behind_the_live_one() {
    assert_looks_as_recorded("overlays", &mut overlaid(True, false));
    assert_looks_as_recorded("overlays_mono", &mut overlaid(Mono, false));
    assert_looks_as_recorded("overlays_ascii", &mut overlaid(Mono, true));
    assert!(shown(&mut overlaid(Mono, true), 120, 40).is_ascii());
}

#[test]
fn the_cursor_reads_earlier_runs_where_the_live_one_has_not_been() {
    let mut app = overlaid(True, false);
    press(&mut app, KeyCode::Enter);
    shown(&mut app, 120, 40);
    for _ in 0..50 {
        press(&mut app, KeyCode::Right);
    }
    assert_looks_as_recorded("overlays_cursor", &mut app);
}

#[test]
fn earlier_runs_have_colours_of_their_own() {
    for depth in [True, Indexed, Sixteen] {
        let mut app = dashboard::midway(depth, false);
        let mut overlays = dashboard::overlays().into_iter().cycle();
        app.overlays = (0..6).filter_map(|_| overlays.next()).collect();
        let buffer = dashboard::drawn(&mut app, 200, 60);
        let swatches = buffer.content().iter().filter(|cell| cell.symbol() == "━");
        let colors: BTreeSet<String> = swatches.map(|cell| format!("{:?}", cell.fg)).collect();
        assert_eq!(colors.len(), 6, "{depth:?}: {colors:?}");
        let theme = app.theme();
        for live in [theme.train(), theme.val(), theme.error()] {
            let color = live.fg.expect("a colour");
            assert!(!colors.contains(&format!("{color:?}")), "{color:?} is the live run's");
        }
        // Each curve has the colour of its name.
        let mut two = overlaid(depth, false);
        let buffer = dashboard::drawn(&mut two, 200, 60);
        for index in 0..2 {
            let color = theme.overlay(index).fg;
            let braille =
                |symbol: &str| symbol.starts_with(|c| ('\u{2801}'..='\u{28ff}').contains(&c));
            let cells = buffer.content().iter().filter(|cell| braille(cell.symbol()));
            let count = cells.filter(|cell| Some(cell.fg) == color).count();
            assert!(count > 20, "{count} cells of run {index} in {depth:?}");
        }
    }
}

#[test]
fn with_ascii_and_without_colours_every_character_is_ascii() {
    let mut app = dashboard::midway(Mono, true);
    assert_looks_as_recorded("ascii", &mut app);
    for keys in ["", "?", "q", "/x"] {
        let mut app = dashboard::midway(Mono, true);
        press_all(&mut app, keys);
        for (width, height) in [(80, 24), (120, 40), (200, 60), (40, 50), (20, 5)] {
            let text = shown(&mut app, width, height);
            let odd: String = text.chars().filter(|c| !c.is_ascii()).collect();
            assert_eq!(odd, "", "after {keys:?} at {width}x{height}:\n{text}");
        }
    }
    app.update(Msg::Ended(Some("broken".to_owned())));
    assert!(shown(&mut app, 80, 24).is_ascii());
    let mut app = dashboard::empty(Mono, true);
    assert!(shown(&mut app, 120, 40).is_ascii());
}

/// Returns every style on the screen.
fn styles(app: &mut App) -> Vec<Style> {
    let buffer = dashboard::drawn(app, 120, 40);
    buffer.content().iter().map(ratatui::buffer::Cell::style).collect()
}

fn colors(app: &mut App) -> BTreeSet<String> {
    let all = styles(app).into_iter().flat_map(|style| [style.fg, style.bg]);
    all.flatten().filter(|&c| c != Color::Reset).map(|c| format!("{c:?}")).collect()
}

#[test]
fn colours_are_those_of_the_depth_and_without_colours_there_are_none() {
    let of = |depth: ColorDepth| colors(&mut dashboard::midway(depth, false));
    let indexed = of(Indexed);
    assert!(indexed.iter().all(|color| color.starts_with("Indexed(")), "{indexed:?}");
    assert!(indexed.len() > 20, "texts and pictures are coloured: {indexed:?}");
    let rgb = of(True);
    assert!(rgb.iter().any(|color| color.starts_with("Rgb(")), "pictures have all colours");
    let sixteen = of(Sixteen);
    let named = |color: &String| !color.contains('(');
    assert!(sixteen.len() > 4 && sixteen.iter().all(named), "{sixteen:?}");
    assert_eq!(of(Mono), BTreeSet::new());
    let mut app = dashboard::midway(Mono, false);
    for keys in ["?", "?q", "cy/"] {
        for letter in keys.chars() {
            press(&mut app, KeyCode::Char(letter));
        }
        assert_eq!(colors(&mut app), BTreeSet::new(), "after {keys}");
    }
    app.update(Msg::Ended(Some("broken".to_owned())));
    assert_eq!(colors(&mut app), BTreeSet::new(), "the failure");
    let modifiers = styles(&mut app).iter().any(|style| !style.add_modifier.is_empty());
    assert!(modifiers, "bold and dim are left");
}

#[test]
fn no_size_is_too_small_or_too_large() {
    let mut apps =
        vec![dashboard::empty(True, false), midway_true(), dashboard::midway(Mono, true)];
    for keys in ["?", "q", "/a", "y+x", "13", "2345", "r"] {
        let mut app = midway_true();
        for letter in keys.chars() {
            press(&mut app, KeyCode::Char(letter));
        }
        apps.push(app);
    }
    for panel in Panel::ALL {
        let mut app = midway_true();
        app.focus = panel;
        press(&mut app, KeyCode::Enter);
        press(&mut app, KeyCode::Left);
        apps.push(app);
    }
    apps.extend([alarmed(Mono, true), overlaid(True, false), overlaid(Mono, true), dead()]);
    for link in [Link::Lost, Link::Over, Link::WatchOnly("a reason ".repeat(30))] {
        apps.push(dashboard::viewer(link));
    }
    let mut cursor = overlaid(Sixteen, false);
    dashboard::drawn(&mut cursor, 120, 40);
    press_all(&mut cursor, "x+");
    press(&mut cursor, KeyCode::Right);
    apps.push(cursor);
    let mut failed = midway_true();
    failed.update(Msg::Ended(Some("broken ".repeat(60))));
    apps.push(failed);
    let sizes = |last: u16| (1..=last).filter(move |&n| n < 12 || n % 7 == 0 || n == last);
    for app in &mut apps {
        for width in sizes(130) {
            for height in sizes(45) {
                dashboard::drawn(app, width, height);
            }
        }
        dashboard::drawn(app, 400, 100);
    }
}

#[test]
fn every_size_around_the_changes_of_layout_is_drawn() {
    let mut app = midway_true();
    for width in [29, 30, 31, 69, 70, 71, 100, 159, 160] {
        for height in 1..=60 {
            dashboard::drawn(&mut app, width, height);
        }
    }
}

#[test]
fn every_size_up_to_200x60_is_drawn_with_all_but_the_pictures() {
    let mut app = alarmed(True, false);
    app.overlays = dashboard::overlays();
    // Scaling pictures for each size takes long, and other tests do it for some sizes.
    press_all(&mut app, "2");
    dashboard::drawn(&mut app, 120, 40);
    press(&mut app, KeyCode::Left);
    for width in 1..=200 {
        for height in 1..=60 {
            dashboard::drawn(&mut app, width, height);
        }
    }
}

#[test]
fn the_smallest_screens_show_the_status_and_what_to_do() {
    let text = shown(&mut midway_true(), 20, 5);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["● running  step 140/", "enlarge the terminal"]);
    assert_eq!(shown(&mut midway_true(), 9, 1), "● running");
    let text = shown(&mut alarmed(True, false), 28, 5);
    let lines: Vec<&str> = text.lines().collect();
    let banner = " ALARM loss spike… +1 more";
    assert_eq!(lines[..3], ["● running !2  step 140/400", banner, "enlarge the terminal to see"]);
}
