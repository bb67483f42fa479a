//! Tests of the loss chart, by what stands in the cells.

use super::*;
use crate::ui::marks::MarkKind::{Alarm, Checkpoint, Resume};
use crate::ui::series::{Point, XAxis, extent};
use crate::ui::view::numbers::format_value;

fn series(every: usize, values: impl IntoIterator<Item = f64>) -> Series {
    let mut series = Series::new();
    for (index, value) in values.into_iter().enumerate() {
        let step = (index * every) as f64;
        series.push(Point { step, time: step / 2.0, value });
    }
    series
}

fn view(smoothing: usize) -> ChartView {
    let mut view = ChartView::default();
    view.smoothing = smoothing;
    view
}

/// Rows of the chart; colourless.
fn draw(
    size: (u16, u16),
    live: (&Series, &Series),
    view: &ChartView,
    marks: &[Mark],
    ascii: bool,
) -> Vec<String> {
    draw_over(size, live, &[], view, marks, ascii)
}

/// [`draw`] over earlier runs.
fn draw_over(
    (width, height): (u16, u16),
    (train, val): (&Series, &Series),
    overlays: &[Overlay],
    view: &ChartView,
    marks: &[Mark],
    ascii: bool,
) -> Vec<String> {
    let mut buf = Buffer::empty(Rect::new(0, 0, width, height));
    let theme = Theme { depth: ColorDepth::Mono };
    LossChart { train, val, overlays, marks, view, theme, ascii }.render(buf.area, &mut buf);
    let row = |y| (0..width).map(|x| buf[(x, y)].symbol().to_owned()).collect();
    (0..height).map(row).collect()
}

fn column(row: &str, glyph: char) -> Option<usize> {
    row.chars().position(|found| found == glyph)
}

/// Noise between 0 and 1.
fn noise(index: usize) -> f64 {
    ((index as f64 * 12.9898).sin() * 43_758.545).fract().abs()
}

#[test]
fn a_spike_of_one_step_is_seen_at_every_width_smoothing_and_zoom() {
    for spike in [1.4, 60.0] {
        let values = |index| if index == 7777 { spike } else { 1.0 + 0.1 * noise(index) };
        let (train, val) = (series(1, (0..10_000).map(values)), Series::new());
        for width in [30, 64, 100, 211, 400] {
            for smoothing in 1..5 {
                let mut view = view(smoothing);
                let full = (0.0, 9999.0);
                view.cursor_move(0, width, full);
                while view.cursor().is_some_and(|x| x > 7800.0) {
                    view.cursor_move(-1, width, full);
                }
                while (view.window(full).0..=view.window(full).1).contains(&7777.0) {
                    let rows = draw((width, 20), (&train, &val), &view, &[], true);
                    let label = |row: &String| row[..7].trim().parse::<f64>().ok();
                    // Unless it is above the top, it is on the scale, far over the noise.
                    let whole = rows.iter().filter_map(label).any(|loss| loss > spike / 2.0);
                    let glyph = if whole { '.' } else { '^' };
                    let seen = rows[1..8].iter().any(|row| row[8..].contains(glyph));
                    assert!(seen, "{spike} {width} {view:?} {rows:#?}");
                    let before = view.window(full);
                    view.zoom_in(full);
                    if view.window(full) == before {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn nan_is_marked_under_the_plot_and_a_lone_point_between_nan_is_drawn() {
    let values = (0..100).map(|step| if step == 50 { 0.5 } else { f64::NAN });
    let (train, val) = (series(1, values), Series::new());
    for (ascii, nan, dot) in [(true, '!', '*'), (false, '✗', '\u{2800}')] {
        let rows = draw((108, 10), (&train, &val), &view(0), &[], ascii);
        assert_eq!(column(&rows[8], nan), Some(8), "{rows:#?}");
        let plot: Vec<char> = rows[1..8].iter().flat_map(|row| row.chars().skip(8)).collect();
        let drawn = |found: &&char| match dot {
            '*' => **found == '*',
            _ => ('\u{2801}'..='\u{28ff}').contains(*found),
        };
        assert_eq!(plot.iter().filter(drawn).count(), 1, "{rows:#?}");
    }
    let none = series(1, [f64::NAN; 9]);
    let rows = draw((60, 10), (&none, &val), &view(2), &[], true);
    assert!(rows.concat().contains("no finite loss") && rows[8].contains('!'), "{rows:#?}");
}

#[test]
fn the_log_axis_is_a_true_logarithm_below_one() {
    let train = series(1, (0..=400).map(|step| 10_f64.powf(-f64::from(step) / 100.0)));
    let mut view = view(0);
    view.toggle_log();
    let rows = draw((89, 44), (&train, &Series::new()), &view, &[], true);
    let row = |label: &str| rows.iter().position(|row| row.trim_start().starts_with(label));
    let labels = ["1+", "0.1+", "0.01+", "0.001+", "0.0001+"].map(row);
    let rows_of: Vec<usize> = labels.into_iter().flatten().collect();
    assert_eq!(rows_of.len(), 5, "{rows:#?}");
    assert!(rows_of.windows(2).all(|pair| pair[1] - pair[0] == 10), "{rows_of:?}");
    // An exponential decay is straight: two columns a row.
    for (index, text) in rows[1..42].iter().enumerate() {
        let first = text.chars().skip(8).position(|c| c == '*').map(|c| c.abs_diff(index * 2));
        assert!(first.is_some_and(|off| off <= 2), "{index} {rows:#?}");
    }
    let negative = series(1, [-1.0, 0.0]);
    let rows = draw((60, 10), (&negative, &Series::new()), &view, &[], true);
    assert!(rows.concat().contains("no loss above 0"), "{rows:#?}");
    assert!(!rows[8].contains('!'), "left out is not NaN");
}

#[test]
fn train_and_validation_of_one_step_share_a_column() {
    let train = series(1, (0..1000).map(|step| if step == 620 { 9.0 } else { 8.0 }));
    let val = series(620, [7.0, 7.1]);
    for axis in [XAxis::Step, XAxis::Time] {
        let mut view = view(0);
        view.axis = axis;
        for width in [40, 61, 108, 333] {
            let rows = draw((width, 14), (&train, &val), &view, &[], true);
            let points: Vec<usize> = rows[1..12]
                .iter()
                .flat_map(|row| row.chars().enumerate().filter(|(_, c)| *c == 'o'))
                .map(|(column, _)| column)
                .collect();
            let peak = rows[1..12].iter().find_map(|row| column(row, '*'));
            assert_eq!(points.iter().max(), peak.as_ref(), "{rows:#?}");
        }
    }
}

#[test]
fn the_cursor_reads_the_values_nearest_to_it() {
    let train = series(10, (0..=100).map(|index| f64::from(index) / 100.0));
    let val = series(250, [4.0, 3.0, 2.0, 1.0, 0.5]);
    let mut view = view(1);
    let rows = draw((108, 12), (&train, &val), &view, &[], true);
    assert!(rows[0].contains("raw 1.0000") && rows[0].contains("val 0.5000 @1000"), "{rows:#?}");
    view.cursor_move(0, 100, (0.0, 1000.0));
    view.cursor_move(-49, 100, (0.0, 1000.0));
    let rows = draw((108, 12), (&train, &val), &view, &[], true);
    assert!(rows[0].starts_with("step 500"), "{rows:#?}");
    let smooth = smoothed_at(&train, 50);
    for part in [&smooth, "raw 0.5000", "val 2.0000 @500", "4m10s", "ema 0.6"] {
        assert!(rows[0].contains(part), "{part} {rows:#?}");
    }
    let line = rows[1..10].iter().filter(|row| column(row, '|') == Some(7));
    assert!(line.filter(|row| row.chars().nth(8 + 50) == Some('|')).count() > 3, "{rows:#?}");
}

fn smoothed_at(series: &Series, index: usize) -> String {
    let mean = crate::ui::series::smoothed(series.points(), 0.6)[index];
    format!("train {}", format_value(mean))
}

#[test]
fn marks_stand_at_their_steps_and_the_weightier_one_wins() {
    let train = series(1, (0..=1000).map(|_| 0.25));
    let mark = |step, kind| Mark { step, time: step / 2.0, kind, text: String::new() };
    let marks = [
        mark(205.0, Checkpoint),
        mark(505.0, Alarm),
        mark(505.0, Checkpoint),
        mark(805.0, Resume),
        mark(-1.0, Alarm),
    ];
    let rows = draw((108, 12), (&train, &Series::new()), &view(2), &marks, false);
    let found: Vec<_> = ['c', '!', 'r'].map(|glyph| column(&rows[10], glyph)).to_vec();
    assert_eq!(found, [Some(28), Some(58), Some(88)], "{rows:#?}");
    assert!(rows.iter().any(|row| row.contains("0.25┤⠤⠤")), "a constant has its label: {rows:#?}");
}

#[test]
fn without_colour_the_curves_differ_by_their_characters() {
    let train = series(1, (0..900).map(noise));
    let val = series(100, [0.2, 0.9, 0.1, 0.8, 0.2]);
    let text = draw((100, 20), (&train, &val), &view(3), &[], false).concat();
    assert!(['.', 'o', '+'].iter().all(|&glyph| text.contains(glyph)), "{text}");
    assert!(text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)));
    let text = draw((100, 20), (&train, &val), &view(3), &[], true).concat();
    assert!(text.is_ascii() && ['.', 'o', '+', '*'].iter().all(|&glyph| text.contains(glyph)));
}

#[test]
fn validation_is_connected_also_where_its_points_lie_outside_the_window() {
    let (train, val) = (series(1, (0..1000).map(|_| 0.5)), series(999, [1.0, 0.6]));
    let mut view = view(0);
    (0..3).for_each(|_| view.zoom_in((0.0, 999.0)));
    view.pan(-1, (0.0, 999.0));
    let rows = draw((108, 20), (&train, &val), &view, &[], true);
    let line = (8..108).all(|x| rows[1..18].iter().any(|row| row.chars().nth(x) == Some('+')));
    assert!(line, "{rows:#?}");
}

#[test]
fn any_size_and_any_data_are_drawn() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e308, 1e308, 0.0, 5e-324, 1.0, 1e9];
    let full_of = |train: &Series, val: &Series, axis| extent(&[train, val], axis);
    for round in 0..600 {
        let random = |index: usize| (noise(round * 31 + index) * 1e6) as usize;
        let length = random(1) % 60;
        let value = |index| match random(2) % 3 {
            0 => odd[random(index + 9) % odd.len()],
            1 => odd[random(3) % odd.len()],
            _ => noise(index),
        };
        let train = series(1 + random(4) % 1000, (0..length).map(value));
        let val = series(1 + random(5) % 5000, (0..random(6) % 5).map(value));
        let size = if round % 50 == 0 {
            (400, 100)
        } else {
            ((random(7) % 60) as u16, (random(8) % 14) as u16)
        };
        let mut view = view(random(9) % 7);
        (view.log_y, view.axis) = (round % 2 == 0, [XAxis::Step, XAxis::Time][random(10) % 2]);
        let full = full_of(&train, &val, view.axis);
        for action in 0..random(11) % 9 {
            match random(20 + action) % 5 {
                0 => view.zoom_in(full),
                1 => view.zoom_out(full),
                2 => view.pan(1 - 2 * (action as i32 % 2), full),
                _ => view.cursor_move(random(40 + action) as i32 % 50 - 25, size.0, full),
            }
        }
        let marks = [Mark { step: 3.0, time: f64::NAN, kind: Alarm, text: String::new() }];
        let rows = draw(size, (&train, &val), &view, &marks, round % 3 == 0);
        if length == 0 && val.is_empty() && size.0 > 20 && size.1 > 0 {
            assert!(rows.concat().contains("no data yet"), "{rows:#?}");
        }
    }
}

#[test]
fn a_million_points_are_drawn() {
    let train = series(1, (0..1_000_000).map(|index| 0.5 + noise(index)));
    for _ in 0..10 {
        let rows = draw((200, 50), (&train, &Series::new()), &view(3), &[], false);
        assert!(rows[0].contains("train"));
    }
}

fn earlier(name: &str, length: usize, loss: f64) -> Overlay {
    let (name, train) = (name.to_owned(), series(1, vec![loss; length]));
    Overlay { name, train, val: series(length - 1, [loss + 0.1; 2]) }
}

#[test]
fn earlier_runs_lie_behind_by_number_to_their_own_end() {
    let (train, val) = (series(1, vec![1.0; 500]), series(250, [1.1; 2]));
    let runs = [earlier("runs/a", 1001, 2.0), earlier("runs/b", 251, 3.0)];
    let rows = draw_over((108, 23), (&train, &val), &runs, &view(1), &[], true);
    let widest = |glyph| {
        let at = |row: &String| row.chars().skip(8).collect::<String>().rfind(glyph);
        rows[1..21].iter().filter_map(at).max()
    };
    assert_eq!(widest('*'), Some(49), "the live run is half as long: {rows:#?}");
    let of = |glyph: char| rows[1..20].iter().filter(move |row| row[8..].contains(glyph));
    assert!(of('1').any(|row| row.matches('1').count() >= 100), "solid training: {rows:#?}");
    assert!(of('1').any(|row| row[8..].contains("1 1 1 1 1")), "dashed validation: {rows:#?}");
    let second = of('2').map(|row| row[8..].matches('2').count()).max();
    assert!(second.is_some_and(|count| (20..=27).contains(&count)), "{rows:#?}");
    for text in ["1 runs/a  2.0000  2.1000", "2 runs/b  3.0000  3.1000"] {
        assert!(rows.iter().any(|row| row.ends_with(text)), "{text}: {rows:#?}");
    }
}

#[test]
fn the_legend_reads_at_the_cursor_and_says_where_a_run_has_not_been() {
    let (train, val) = (series(1, vec![1.0; 500]), Series::new());
    let rising = Overlay {
        name: "rising".to_owned(),
        train: series(1, (0..=1000).map(|step| f64::from(step) / 100.0)),
        val: Series::new(),
    };
    let runs = [rising, earlier("short", 251, 3.0)];
    let full = extent_with(&[&train, &val], &runs, XAxis::Step);
    let mut view = view(0);
    view.cursor_move(0, 100, full);
    let rows = |view: &ChartView| draw_over((108, 23), (&train, &val), &runs, view, &[], true);
    let text = rows(&view);
    assert!(text[0].starts_with("step 495") && text[0].contains("train 1.0000"), "{text:#?}");
    assert!(text.iter().any(|row| row.ends_with("1 rising  4.9500       -")), "{text:#?}");
    assert!(text.iter().any(|row| row.ends_with("2 short        -       -")), "{text:#?}");
    view.cursor_move(20, 100, full);
    let text = rows(&view);
    assert!(text[0].starts_with("step 695  not reached yet"), "{text:#?}");
    assert!(text.iter().any(|row| row.ends_with("1 rising  6.9500       -")), "{text:#?}");
}

#[test]
fn a_legend_gives_up_values_then_names_then_runs() {
    let train = series(1, vec![1.0; 500]);
    let runs: Vec<Overlay> =
        (0..8).map(|i| earlier(&format!("runs/default-{i:03}"), 501, f64::from(i + 2))).collect();
    let rows = |width, height| {
        draw_over((width, height), (&train, &Series::new()), &runs, &view(1), &[], true)
    };
    let large = rows(108, 30).join("\n");
    assert!(large.contains("8 runs/default-007  9.0000  9.1000"), "{large}");
    let medium = rows(50, 13).join("\n");
    assert!(medium.contains("2 runs/default-001  3.0000"), "{medium}");
    assert!(medium.contains("+6 more") && !medium.contains("default-002"), "{medium}");
    let small = rows(34, 9).join("\n");
    assert!(small.contains("1 ../default-000") && small.contains("+7 more"), "{small}");
    let tiny = rows(28, 9).join("\n");
    assert!(!tiny.contains("more"), "{tiny}");
}

#[test]
fn an_earlier_run_is_seen_before_the_live_one_has_a_step_and_any_size_is_drawn() {
    let none = (&Series::new(), &Series::new());
    let odd = Overlay {
        name: "ä€🙂".repeat(9),
        train: series(1, [f64::NAN, 1e308, -1e308, 0.5]),
        val: series(1, [f64::NEG_INFINITY]),
    };
    let runs = [earlier("runs/a", 90, 2.0), odd];
    let rows = draw_over((60, 12), none, &runs[..1], &view(1), &[], true);
    assert!(rows.concat().contains("1 runs/a") && rows.concat().contains("11111"), "{rows:#?}");
    for width in 0..70 {
        for height in 0..25 {
            for smoothing in [0, 3] {
                let mut view = view(smoothing);
                view.log_y = width % 2 == 0;
                draw_over((width, height), none, &runs, &view, &[], height % 2 == 0);
            }
        }
    }
}

#[test]
fn infinite_losses_are_marked_on_both_scales() {
    let values = |odd| (0..100).map(move |step| if step == 60 { odd } else { 0.5 });
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for log in [false, true] {
            let mut view = view(2);
            view.log_y = log;
            let train = series(1, values(odd));
            let rows = draw((108, 10), (&train, &Series::new()), &view, &[], false);
            assert_eq!(column(&rows[8], '✗'), Some(68), "{odd} {log} {rows:#?}");
            assert!(rows.iter().any(|row| row.contains("0.5")), "the scale stands: {rows:#?}");
        }
    }
}
