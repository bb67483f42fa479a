//! The number of bytes that the screen sends over a terminal line.

use super::next_report;
use crate::common::dashboard::{self, midway_true, tell};
use crate::common::memory;
use simmim_tui::event::Event;
use simmim_tui::terminal::colors::ColorDepth;
use simmim_tui::ui::app::{App, Msg};

/// Returns the bytes that a change of the app takes on a terminal that shows the app as it was before.
fn cost(app: &mut App, change: impl FnOnce(&mut App)) -> usize {
    let mut screen = memory::Bytes::new(120, 40);
    screen.draw(app);
    change(app);
    screen.draw(app)
}

#[test]
fn an_unchanged_frame_costs_at_most_100_bytes() {
    for depth in [ColorDepth::True, ColorDepth::Indexed, ColorDepth::Mono] {
        let bytes = cost(&mut dashboard::midway(depth, false), |_| ());
        eprintln!("unchanged, {depth:?}: {bytes} bytes");
        assert!(bytes <= 100, "{depth:?}: {bytes} bytes");
    }
}

#[test]
fn a_second_and_a_report_cost_little() {
    let mut app = midway_true();
    let second = cost(&mut app, |app| drop(app.update(Msg::Tick(app.now + 1.0))));
    let report = next_report(&app);
    let report = cost(&mut app, |app| drop(tell(app, Event::Step(report))));
    eprintln!("a second: {second} bytes, a report: {report} bytes");
    assert!(second <= 200, "{second} bytes for a second");
    assert!(report <= 8000, "{report} bytes for a report");
}

#[test]
fn new_pictures_of_the_same_images_cost_at_most_8_kb_and_2_kb_in_256_colours() {
    for (depth, most) in [(ColorDepth::True, 8000), (ColorDepth::Indexed, 2000)] {
        let mut app = dashboard::midway(depth, false);
        let steps = [100, 125].map(|step| {
            let preview = app.previews.iter().find(|preview| preview.step == step);
            let sheet = dashboard::sheet(preview.expect("recorded")).expect("recorded");
            (step, sheet)
        });
        let [old, new] = steps;
        app.sheet = Some(old);
        let bytes = cost(&mut app, |app| app.sheet = Some(new));
        eprintln!("new pictures, {depth:?}: {bytes} bytes");
        assert!(bytes <= most, "{depth:?}: {bytes} bytes");
    }
}

#[test]
fn the_whole_screen_costs_less_than_a_second_of_a_slow_line() {
    for (depth, most) in [(ColorDepth::True, 60_000), (ColorDepth::Indexed, 40_000)] {
        let mut screen = memory::Bytes::new(120, 40);
        let bytes = screen.draw(&mut dashboard::midway(depth, false));
        eprintln!("whole screen, {depth:?}: {bytes} bytes");
        assert!(bytes <= most, "{depth:?}: {bytes} bytes");
        let text = screen.text();
        assert!(text.contains("● running  step 140/400"), "{text}");
    }
}
