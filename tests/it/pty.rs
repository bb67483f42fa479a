//! The program on a real terminal: which keys it takes, what the terminal shows, and how the program leaves it.

use crate::common::{
    self,
    pty::{self, Tty},
};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// A common terminal size.
const USUAL: (u16, u16) = (100, 32);
const ENTER_ALTERNATE: &[u8] = b"\x1b[?1049h";
const LEAVE_ALTERNATE: &[u8] = b"\x1b[?1049l";

/// Starts a tiny endless run that logs just enough to be followed on the screen.
fn endless(folder: &Path, size: (u16, u16), env: &[(&str, Option<&str>)]) -> Tty {
    let quiet = ["--set", "train.val_every=1000000", "--set", "train.log_every=100"];
    let extra = [&["--run-dir", "run"][..], &common::ENDLESS, &quiet].concat();
    Tty::start(folder, &common::tiny(&extra), size, env)
}

/// Stops a run with the quit box and leaves the screen after the end of the run.
fn stop(mut tty: Tty) -> pty::Left {
    tty.press("q");
    tty.until_shown("leave?");
    tty.press("s");
    // A key between the last event and the end of the run would open the box again, and the end would close it.
    tty.until_shown("Any other key leaves");
    tty.press("q");
    tty.end().expect(0)
}

#[test]
fn a_whole_session_steers_the_run_and_gives_the_terminal_back() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let run = temp.path().join("run");
    let mut tty = endless(temp.path(), USUAL, &[]);
    tty.until_shown("● running");
    tty.until_shown("┌ loss");
    tty.press("p");
    tty.until_shown("● PAUSED");
    let saved = || std::fs::read_dir(run.join("checkpoints")).map_or(0, Iterator::count);
    let before = saved();
    tty.press("c");
    tty.until("a checkpoint is saved while paused", |_| saved() > before);
    tty.until_shown("● PAUSED");
    tty.press("p");
    tty.until_shown("● running");
    tty.press("?");
    tty.until_shown("this help");
    tty.press("jjjjjjjjjj");
    tty.until_shown("COLORTERM says so");
    tty.press("\x1b");
    tty.until_hidden("help: any key");
    tty.until_shown("step 0, reconstruction");
    tty.press("z");
    tty.until_hidden("running");
    tty.until("a picture is shown", |tty| tty.text().matches('▄').count() > 100);
    tty.press(" ");
    tty.until_shown("● running");
    tty.until_shown("┌ previews");
    let left = stop(tty);
    assert!(left.has(ENTER_ALTERNATE) && left.has(LEAVE_ALTERNATE));
    assert!(left.text.contains("run run"), "the last line says where it is: {}", left.text);
    common::assert_finished(&run, "stopped");
}

#[test]
fn a_run_that_ends_by_itself_waits_for_a_key() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let mut tty = Tty::start(temp.path(), &common::tiny(&["--run-dir", "run"]), USUAL, &[]);
    tty.until_shown("● finished");
    tty.until_shown("Any other key leaves");
    tty.press(" ");
    tty.end().expect(0);
    common::assert_finished(&temp.path().join("run"), "completed");
}

type Env<'a> = &'a [(&'a str, Option<&'a str>)];

#[test]
fn every_kind_of_terminal_gets_its_colours() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let cases: [(Env, bool, bool, &str); 4] = [
        (&[], true, true, "True (COLORTERM says so)"),
        (&[("COLORTERM", None)], false, true, "Indexed (COLORTERM is not set)"),
        (&[("NO_COLOR", Some("1"))], false, false, "Mono (NO_COLOR is set)"),
        (&[("COLORTERM", None), ("TERM", Some("linux"))], false, false, "Sixteen (TERM is linux)"),
    ];
    for (number, (env, rgb, indexed, facts)) in cases.into_iter().enumerate() {
        let folder = temp.path().join(number.to_string());
        std::fs::create_dir(&folder).expect("writable");
        let mut tty = endless(&folder, (120, 45), env);
        tty.until_shown("● running");
        tty.until_shown("step 0, reconstruction");
        tty.press("?");
        tty.until_shown(facts);
        tty.press(" ");
        tty.until_hidden("help: any key");
        let left = stop(tty);
        assert_eq!(left.has(b"8;2;"), rgb, "{env:?}: 24-bit colours");
        assert_eq!(left.has(b"8;5;"), indexed || facts.starts_with("Sixteen"), "{env:?}: others");
        assert!(!left.has(b"\x1b[6n") && !left.has(b"\x1b[c"), "{env:?}: nothing is asked");
    }
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let arguments = common::tiny(&["--run-dir", "run"]);
    let left =
        Tty::start(temp.path(), &arguments, USUAL, &[("TERM", Some("dumb"))]).end().expect(0);
    let text = String::from_utf8_lossy(&left.bytes);
    assert!(text.contains("TERM is dumb or not set: headless, as with --no-ui"), "{text}");
    assert!(text.contains("step ") && !text.contains('\x1b'), "plain lines only: {text}");
}

#[test]
fn a_tiny_terminal_shows_the_status_and_can_still_be_left() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let mut tty = endless(temp.path(), (20, 5), &[]);
    tty.until_shown("● running  step");
    tty.until_shown("enlarge the terminal");
    tty.press("q");
    tty.until_shown("leave?");
    tty.press("s");
    tty.until_shown("● stopped");
    tty.press("q");
    tty.end().expect(0);
}

#[test]
fn a_storm_of_sizes_costs_little_and_ends_well() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let mut tty = endless(temp.path(), (120, 40), &[]);
    tty.until_shown("step 0, reconstruction");
    tty.press("p");
    tty.until_shown("● PAUSED");
    let before = tty.written();
    for i in 0..40 {
        tty.resize(60 + i * 7 % 80, 15 + i * 5 % 40);
        thread::sleep(Duration::from_millis(10));
    }
    tty.resize(130, 42);
    tty.until_shown("f freeze");
    tty.until_shown("┌ log");
    let cost = tty.written() - before;
    eprintln!("41 sizes: {cost} bytes");
    assert!(cost < 200_000, "{cost} bytes for 41 sizes");
    tty.resize(20, 5);
    tty.until_shown("enlarge the terminal");
    tty.resize(100, 30);
    tty.until_shown("┌ log");
    stop(tty);
}

#[test]
fn answers_of_the_terminal_are_no_keys() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let mut tty = endless(temp.path(), USUAL, &[]);
    tty.until_shown("● running");
    // Late answers to queries that other programs sent: device attributes, cursor position, focus, a paste.
    tty.press("\x1b[?62;c\x1b[12;40R\x1b[?1;2c\x1b[I\x1b[O\x1b[200~q\x1b[201~");
    tty.press("?");
    tty.until_shown("this help");
    tty.press("\x1b");
    tty.until_hidden("this help");
    assert!(tty.text().contains("● running"), "{}", tty.text());
    stop(tty);
}

#[test]
fn a_failed_run_shows_why_and_ends_with_its_code_after_a_key() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let hot: Vec<&str> = common::HOT.into_iter().flat_map(|set| ["--set", set]).collect();
    let extra = [&["--run-dir", "run"][..], &hot].concat();
    let mut tty = Tty::start(temp.path(), &common::tiny(&extra), USUAL, &[]);
    tty.until_shown("the run failed");
    tty.until_shown("not a number");
    tty.until_shown("any key leaves");
    tty.press("x");
    let left = tty.end().expect(3);
    assert!(left.text.contains("lower schedule.base_lr"), "told after the screen: {}", left.text);
}

#[test]
fn sigterm_saves_and_ends_without_a_key() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let mut tty = endless(temp.path(), USUAL, &[]);
    tty.until_shown("● running");
    tty.signal(&["TERM"]);
    tty.end().expect(0);
    common::assert_finished(&temp.path().join("run"), "stopped");
}

#[test]
fn a_second_sigterm_aborts_and_gives_the_terminal_back() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let mut tty = endless(temp.path(), USUAL, &[]);
    tty.until_shown("● running");
    tty.signal(&["TERM", "INT"]);
    let left = tty.end();
    assert!([0, 130].contains(&left.code), "{left:?}");
    let code = left.code;
    left.expect(code);
}
