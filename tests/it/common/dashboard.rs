//! The dashboard with the events of a recorded run, fixed times, a fixed load of the machine and recorded pictures.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use simmim_tui::control::Link;
use simmim_tui::event::{Alarm, AlarmKind, Evaluated, Event, Metric, Phase, PreviewFile, Stamped};
use simmim_tui::gpu::Gpu;
use simmim_tui::picture::sheet::{self, Sheet};
use simmim_tui::terminal::colors::{ColorDepth, Detected};
use simmim_tui::ui::app::{App, Effect, Msg};
use simmim_tui::ui::host::Host;
use simmim_tui::ui::overlay::Overlay;
use simmim_tui::ui::view::{self, PreviewCache};
use std::path::PathBuf;

/// The step of the recorded run up to which [`midway`] plays it: after the newest recorded pictures.
pub const MIDWAY: u64 = 140;

/// Returns the folder that takes the place of the run's folder: it has the recorded pictures.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))
}

/// Returns all events of the recorded run, which had the default configuration.
pub fn recorded() -> Vec<Stamped> {
    let lines = include_str!("../../data/events.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).expect("a recorded event")).collect()
}

/// Returns the recorded events up to the report of a step.
pub fn recorded_to(step: u64) -> Vec<Stamped> {
    let mut events = recorded();
    let report = |stamped: &Stamped| matches!(&stamped.event, Event::Step(r) if r.step == step);
    let end = events.iter().position(report).expect("a step that was reported");
    events.truncate(end + 1);
    events
}

/// Returns the dashboard of a run that has no events yet.
pub fn empty(depth: ColorDepth, ascii: bool) -> App {
    let lr = |step: u64| {
        let rest = (step as f64 - 20.0) / 380.0;
        let cosine = 0.5 + 0.5 * (std::f64::consts::PI * rest).cos();
        1e-3 * if step < 20 { step as f64 / 20.0 } else { cosine }
    };
    let colors = Detected { depth, reason: "a test".to_owned() };
    App::new("runs/default-001".to_owned(), Box::new(lr), colors, ascii)
}

/// Returns the recorded run, halfway.
pub fn midway(depth: ColorDepth, ascii: bool) -> App {
    let mut app = empty(depth, ascii);
    play(&mut app, recorded_to(MIDWAY));
    app
}

pub fn midway_true() -> App {
    midway(ColorDepth::True, false)
}

/// Returns a viewer of the recorded run, halfway, with this link.
pub fn viewer(link: Link) -> App {
    let mut app = empty(ColorDepth::True, false).viewer();
    play(&mut app, recorded_to(MIDWAY));
    let effect = app.update(Msg::Link(link));
    serve(&mut app, effect);
    app
}

/// Returns the event that an alarm begins or, if not `active`, that it is over.
pub fn alarm(kind: AlarmKind, active: bool, step: u64, message: &str) -> Event {
    Event::Alarm(Alarm { kind, active, step, message: message.to_owned() })
}

/// Returns earlier runs. Each is the recorded run up to some step, with higher losses.
pub fn overlays() -> Vec<Overlay> {
    let run = |number: u64| {
        let mut events = recorded_to(400 - 75 * (number - 1));
        for stamped in &mut events {
            let factor = 1.0 + 0.12 * number as f32;
            match &mut stamped.event {
                Event::Step(report) => report.losses.iter_mut().for_each(|loss| *loss *= factor),
                Event::Validated(validation) => validation.val_loss *= f64::from(factor),
                _ => {}
            }
        }
        Overlay::from_events(format!("runs/earlier-{number:03}"), &events)
    };
    vec![run(1), run(2)]
}

/// Plays events and serves what the app asks for, then sets the time of the last event and the load of the machine.
pub fn play(app: &mut App, events: impl IntoIterator<Item = Stamped>) {
    for event in events {
        let time = event.time;
        let effect = app.update(Msg::Event(Box::new(event)));
        serve(app, effect);
        app.update(Msg::Tick(time));
    }
    app.update(Msg::Tick(app.now + 0.4));
    app.update(Msg::Written(123_456));
    app.update(Msg::Host(Host {
        cpu: 0.87,
        memory_used: 3 << 30,
        memory_total: 16 << 30,
        gpu: Some(Gpu {
            name: "Some GPU".to_owned(),
            utilization: 0.93,
            memory_used: 5 << 30,
            memory_total: 24 << 30,
            power: 212.4,
            temperature: 61,
            slowdown: 90,
        }),
    }));
}

/// Loads the pictures that the app asks for, if they were recorded.
pub fn serve(app: &mut App, mut effect: Option<Effect>) {
    while let Some(Effect::LoadSheet(preview)) = effect {
        let sheet = sheet(&preview);
        effect = app.update(Msg::SheetLoaded { step: preview.step, sheet });
    }
}

pub fn sheet(preview: &PreviewFile) -> Option<Sheet> {
    let image = image::open(root().join(&preview.path)).ok()?.into_rgb8();
    sheet::split(&image, preview.image, preview.scale, preview.psnr.len())
}

/// Sends one more event, a second after the app's time.
pub fn tell(app: &mut App, event: Event) -> Option<Effect> {
    let time = app.now + 1.0;
    let effect = app.update(Msg::Event(Box::new(Stamped { time, event })));
    app.update(Msg::Tick(time));
    effect
}

/// Adds three evaluations to the recorded run.
pub fn evaluations(app: &mut App) {
    let metric = |name: &str, value: f64| Metric {
        name: name.to_owned(),
        value,
        stderr: Some((value * (1.0 - value) / 1000.0).sqrt()),
        interval: None,
    };
    for (step, knn, probe) in [(0, 0.512, 0.673), (50, 0.66, 0.774), (100, 0.704, 0.812)] {
        let metrics = vec![metric("k-NN 20", knn), metric("linear probe", probe)];
        let baselines =
            vec![metric("k-NN 20, raw pixels", 0.799), metric("linear probe, raw pixels", 0.824)];
        let evaluated =
            Evaluated { step, epoch: step as f64 / 5.0, metrics, baselines, seconds: 2.0 };
        tell(app, Event::Evaluated(evaluated));
    }
}

pub fn phase(app: &mut App, phase: Phase) {
    assert_eq!(tell(app, Event::Phase { phase }), None);
}

pub fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

pub fn control(letter: char) -> KeyEvent {
    KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL)
}

pub fn press(app: &mut App, code: KeyCode) -> Option<Effect> {
    app.update(Msg::Key(key(code)))
}

/// Presses the keys of the characters. Fails if one of them has an effect outside of the app.
pub fn press_all(app: &mut App, text: &str) {
    for letter in text.chars() {
        assert_eq!(press(app, KeyCode::Char(letter)), None, "{letter} of {text}");
    }
}

/// Returns the screen at a size.
pub fn drawn(app: &mut App, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("no terminal");
    let mut cache = PreviewCache::default();
    let drawn = view::draw(&mut terminal, app, &mut cache).expect("no terminal");
    app.update(Msg::Drawn(drawn));
    terminal.backend().buffer().clone()
}

/// Returns the characters of a screen, line by line.
pub fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let row = |y| {
        let cells: String = (0..area.width).map(|x| buffer[(x, y)].symbol()).collect();
        cells.trim_end().to_owned()
    };
    (0..area.height).map(row).collect::<Vec<_>>().join("\n")
}

/// Returns the characters that an app shows at a size.
pub fn shown(app: &mut App, width: u16, height: u16) -> String {
    text(&drawn(app, width, height))
}
