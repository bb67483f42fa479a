//! A panic in the screen ends the screen, a panic in the trainer ends the run, and both leave the terminal restored.
//!
//! Nothing in the program can be made to panic from outside. So the tests start this test program again on a terminal,
//! where the ignored test functions use a screen or a data set that panics.

use crate::common;
use crate::common::pty::Tty;
use image::RgbImage;
use simmim_tui::config::file;
use simmim_tui::control::Link;
use simmim_tui::control::follow::News;
use simmim_tui::data::{self, ImageError, ImageSource};
use simmim_tui::event::Command;
use simmim_tui::process::flags::Flags;
use simmim_tui::run_dir::RunDir;
use simmim_tui::terminal::colors::{ColorDepth, Detected};
use simmim_tui::train::{self, Inbox, Job, Session, Start, TrainError};
use simmim_tui::ui::ScreenExit;
use simmim_tui::ui::app::App;
use simmim_tui::ui::{Feed, LoopExit};
use std::path::Path;
use std::sync::Arc;

/// A data set that panics as soon as its images are counted.
struct Cursed;

impl ImageSource for Cursed {
    fn len(&self) -> usize {
        panic!("these images are cursed")
    }
    fn name(&self, _index: usize) -> String {
        String::new()
    }
    fn label(&self, _index: usize) -> Option<u32> {
        None
    }
    fn read(&self, _index: usize) -> Result<Arc<RgbImage>, ImageError> {
        Err(ImageError::new("", ""))
    }
}

fn job(cursed: bool) -> Job {
    let sets: Vec<String> = common::TINY.map(str::to_owned).into();
    let config = file::load(None, &sets).expect("valid");
    let data = data::open(&config.data).expect("the photos are inside");
    let run = RunDir::create(Path::new("run")).expect("a new run");
    let mut job = common::job(config, data, run, Start::Fresh);
    if cursed {
        job.data.val = Arc::new(Cursed);
    }
    job
}

fn app(lr: impl Fn(u64) -> f64 + Send + 'static) -> App {
    let colors = Detected { depth: ColorDepth::True, reason: "a test".to_owned() };
    App::new("run".to_owned(), Box::new(lr), colors, false)
}

fn show(session: Session, app: App) -> Result<u64, TrainError> {
    let summary = match simmim_tui::ui::run(session, app, Path::new("run"), &Flags::default()) {
        ScreenExit::RunOver(result) => result?,
        ScreenExit::RunGoesOn { session, reason, .. } => {
            println!("{reason:?}");
            session.join()?
        }
    };
    Ok(summary.finished.step)
}

#[test]
#[ignore = "run on a terminal by the test of the screen"]
fn child_with_a_screen_that_panics() {
    let session = train::spawn(job(false), Inbox::new(), Vec::new()).expect("a thread");
    let steps = show(session, app(|_| panic!("this schedule is cursed"))).expect("in order");
    println!("the run made {steps} steps");
}

#[test]
#[ignore = "run on a terminal by the test of the trainer"]
fn child_with_a_trainer_that_panics() {
    let session = train::spawn(job(true), Inbox::new(), Vec::new()).expect("a thread");
    let error = show(session, app(|_| 0.1)).expect_err("the trainer panicked").to_string();
    println!("the error is: {error}");
}

/// The feed of a viewer. The run it watches is over, or the feed panics.
struct Told {
    cursed: bool,
    over: Option<Link>,
}

impl Feed for Told {
    fn poll(&mut self) -> News {
        assert!(!self.cursed, "this feed is cursed");
        self.over.take().map_or(News::Nothing, News::Link)
    }

    fn send(&mut self, _: Command) {}
}

fn watch(cursed: bool) -> std::io::Result<LoopExit> {
    let mut feed = Told { cursed, over: Some(Link::Over) };
    simmim_tui::ui::watch(&mut feed, app(|_| 0.1).viewer(), Path::new("run"), &Flags::default())
}

#[test]
#[ignore = "run on a terminal by the test of the viewer's panic"]
fn child_with_a_viewer_that_panics() {
    println!("the error is: {}", watch(true).expect_err("the feed panicked"));
}

#[test]
#[ignore = "run on a terminal by the test of the viewer"]
fn child_with_a_viewer_that_is_left() {
    println!("it ended with {:?}", watch(false).expect("in order"));
}

fn on_a_terminal(folder: &Path, child: &str) -> Tty {
    let own = std::env::current_exe().expect("a program");
    let arguments =
        ["--exact", &format!("panics::{child}"), "--ignored", "--nocapture", "--test-threads=1"];
    Tty::start_program(&own, folder, &arguments, (100, 30), &[])
}

#[test]
fn a_panic_in_the_screen_gives_the_terminal_back_and_the_run_goes_on() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let left = on_a_terminal(temp.path(), "child_with_a_screen_that_panics").end();
    assert_eq!(left.code, 0, "the run ends in order: {}", left.text);
    left.terminal_is_back();
    assert!(left.has(b"\x1b[?1049h"), "the screen was up");
    assert!(left.has(b"the screen failed"), "it says so: {}", left.text);
    assert!(left.has(b"this schedule is cursed"), "and why: {}", left.text);
    assert!(left.has(b"the run made 42 steps"), "no step is missing: {}", left.text);
    common::assert_finished(&temp.path().join("run"), "completed");
}

#[test]
fn a_panic_in_the_trainer_is_shown_and_the_terminal_given_back() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let mut tty = on_a_terminal(temp.path(), "child_with_a_trainer_that_panics");
    tty.until_shown("the run failed");
    tty.until_shown("these images are cursed");
    tty.press("x");
    let left = tty.end();
    assert_eq!(left.code, 0, "the child found its error: {}", left.text);
    left.terminal_is_back();
    assert!(left.has(b"the error is: the trainer panicked: these images are cursed"));
}

#[test]
fn a_viewer_gives_the_terminal_back_when_it_is_left_and_when_it_panics() {
    for (child, key, word) in [
        ("child_with_a_viewer_that_is_left", Some("q"), "it ended with Closed"),
        ("child_with_a_viewer_that_panics", None, "the error is: the screen failed: "),
    ] {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let mut tty = on_a_terminal(temp.path(), child);
        if let Some(key) = key {
            tty.until_shown("FAILED without a word");
            tty.press(key);
        }
        let left = tty.end();
        assert_eq!(left.code, 0, "{child}: {}", left.text);
        left.terminal_is_back();
        assert!(left.has(b"\x1b[?1049h"), "{child}: the screen was up");
        assert!(left.has(word.as_bytes()), "{child}: {}", left.text);
        assert!(key.is_some() || left.has(b"this feed is cursed"), "and why: {}", left.text);
        assert!(!temp.path().join("run").exists(), "a viewer writes nothing");
    }
}
