//! The program in a real tmux. The test is skipped with a message if there is no tmux.

use crate::common;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A private tmux server with one pane. Dropping this ends the server.
struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// Runs the program with `arguments` at 80x24. Returns `None` if there is no tmux.
    fn start(folder: &Path, arguments: &[&str]) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            eprintln!("skipped: there is no tmux here");
            return None;
        }
        let tmux = Self { socket: folder.join("socket") };
        let path = folder.to_str().expect("a plain path");
        // The shell prints the exit code and keeps the pane open, because tmux itself sometimes misses the code.
        let shell = r#""$0" "$@"; echo "exit code $?"; cat"#;
        let end = ["-c", path, "sh", "-c", shell, env!("CARGO_BIN_EXE_simmim-tui")];
        let start = [
            &["set", "-g", "default-terminal", "tmux-256color", ";"][..],
            &["set", "-as", "terminal-features", ",*:RGB", ";"],
            &["new-session", "-d", "-s", "test", "-x", "80", "-y", "24"],
            &["-e", "COLORTERM=truecolor", "-e", "NO_COLOR=", "-e", "LC_ALL=C.UTF-8"],
            &end,
            arguments,
        ];
        let output = tmux.command(&start.concat());
        assert!(output.status.success(), "tmux starts: {output:?}");
        Some(tmux)
    }

    fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(["-f", "/dev/null"]).args(arguments);
        command.env_remove("TMUX").env("LC_ALL", "C.UTF-8").output().expect("tmux runs")
    }

    /// Returns the contents of the pane with colours as escape sequences.
    fn pane(&self) -> String {
        let output = self.command(&["capture-pane", "-e", "-p", "-t", "test"]);
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn text(&self) -> String {
        let output = self.command(&["capture-pane", "-p", "-t", "test"]);
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn until_shown(&self, text: &str) {
        common::until(&format!("{text:?} is shown"), || self.text().contains(text));
    }

    fn until_hidden(&self, text: &str) {
        common::until(&format!("{text:?} is gone"), || !self.text().contains(text));
    }

    fn press(&self, key: &str) {
        assert!(self.command(&["send-keys", "-t", "test", key]).status.success(), "{key}");
    }

    fn ask(&self, format: &str) -> String {
        let output = self.command(&["display-message", "-p", "-t", "test", format]);
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.command(&["kill-server"]);
    }
}

#[test]
fn a_whole_session_in_tmux() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let run = temp.path().join("run");
    let quiet = ["--set", "train.val_every=1000000", "--set", "train.log_every=100"];
    let extra = [&["--run-dir", "run"][..], &common::ENDLESS, &quiet].concat();
    let Some(tmux) = Tmux::start(temp.path(), &common::tiny(&extra)) else { return };
    tmux.until_shown("● running");
    tmux.until_shown("step 0, reconstruction");
    assert_eq!(tmux.ask("#{alternate_on} #{cursor_flag}"), "1 0", "alternate screen, no cursor");
    common::until("pictures are in colour", || {
        let pane = tmux.pane();
        pane.contains('▀') && pane.contains("38;2;") && pane.contains("48;2;")
    });
    tmux.press("p");
    tmux.until_shown("● PAUSED");
    tmux.press("c");
    let saved = || std::fs::read_dir(run.join("checkpoints")).map_or(0, Iterator::count);
    common::until("a checkpoint is saved", || saved() > 0);
    tmux.press("p");
    tmux.until_shown("● running");
    tmux.press("?");
    tmux.until_shown("this help");
    tmux.press("Escape");
    tmux.until_hidden("this help");
    tmux.press("z");
    tmux.until_hidden("running");
    tmux.press("Space");
    tmux.until_shown("● running");
    // After the pane is split and whole again, everything is painted anew.
    tmux.command(&["split-window", "-d", "-v", "-t", "test", "sleep 600"]);
    tmux.until_hidden("┌ learning rate");
    tmux.command(&["kill-pane", "-a", "-t", "test"]);
    tmux.until_shown("┌ learning rate");
    tmux.press("C-c");
    tmux.until_shown("leave?");
    tmux.press("s");
    tmux.until_shown("● stopped");
    tmux.press("q");
    tmux.until_shown("exit code 0");
    assert_eq!(tmux.ask("#{alternate_on} #{cursor_flag}"), "0 1", "the terminal is as before");
    common::assert_finished(&run, "stopped");
}
