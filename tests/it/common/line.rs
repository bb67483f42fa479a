//! A terminal line that can drop: a pseudo-terminal whose master has no other owner.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// How the program is started on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The program is the leader of the session, like the command of an ssh call.
    SessionLeader,
    ChildOfShell,
    /// The shell ignores SIGHUP, so the program never receives one.
    ChildOfTrappingShell,
    /// The program is typed at the prompt of an interactive shell.
    InteractiveJob,
}

pub const STYLES: [Style; 4] =
    [Style::SessionLeader, Style::ChildOfShell, Style::ChildOfTrappingShell, Style::InteractiveJob];

pub struct Line {
    master: Option<Arc<OwnedFd>>,
    child: Child,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    read: Arc<Mutex<Vec<u8>>>,
}

/// Returns the words as one command line, quoted for a shell.
fn quoted(words: &[&str]) -> String {
    let quote = |word: &&str| format!("'{}'", word.replace('\'', "'\\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

impl Line {
    /// Starts simmim-tui in `folder`. Unless `reads`, the other end of the line never reads what the program writes.
    pub fn start(folder: &Path, arguments: &[&str], style: Style, reads: bool) -> Self {
        let program = env!("CARGO_BIN_EXE_simmim-tui");
        let words = [&[program], arguments].concat();
        let shell = format!("{}; true", quoted(&words));
        let trapping = format!("trap '' HUP; {shell}");
        let command: Vec<&str> = match style {
            Style::SessionLeader => words.clone(),
            Style::ChildOfShell => vec!["sh", "-c", &shell],
            Style::ChildOfTrappingShell => vec!["sh", "-c", &trapping],
            Style::InteractiveJob => vec!["bash", "--norc", "--noprofile", "-i"],
        };
        let line = Self::run(folder, &command, reads);
        if style == Style::InteractiveJob {
            line.write(format!("{}\n", quoted(&words)).as_bytes());
        }
        line
    }

    fn run(folder: &Path, command: &[&str], reads: bool) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let master = master.expect("a new pty");
        grantpt(&master).expect("a new pty");
        unlockpt(&master).expect("a new pty");
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("a new pty");
        let name = ptsname(&master, Vec::new()).expect("a new pty");
        let slave = || {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            rustix::fs::open(&name, flags, Mode::empty()).expect("the pty has another end")
        };
        // The child gets a session of its own with the pseudo-terminal as its controlling terminal.
        let child = Command::new("setsid")
            .arg("--ctty")
            .args(command)
            .current_dir(folder)
            .env("TERM", "xterm-256color")
            .env("COLORTERM", "truecolor")
            .env("LANG", "C.UTF-8")
            .env_remove("NO_COLOR")
            .env_remove("TMUX")
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .expect("setsid of util-linux starts");
        let master = Arc::new(master);
        let (stop, read) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let reader = reads.then(|| {
            let (master, stop, read) = (Arc::clone(&master), Arc::clone(&stop), Arc::clone(&read));
            thread::spawn(move || take_in(&master, &stop, &read))
        });
        Self { master: Some(master), child, stop, reader, read }
    }

    pub fn write(&self, bytes: &[u8]) {
        let master = self.master.as_ref().expect("the line has not dropped");
        rustix::io::write(master, bytes).expect("the line takes keys");
    }

    /// Returns the text that has arrived so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.read.lock().expect("no thread panicked while holding it"))
            .into_owned()
    }

    /// Drops the line.
    pub fn hang_up(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader doesn't panic");
        }
        let master = self.master.take().expect("it drops once");
        drop(Arc::into_inner(master).expect("nobody else holds it"));
    }

    /// Returns the process that was started, which may be a shell.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended already.
        let _ = self.child.wait();
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn take_in(master: &OwnedFd, stop: &AtomicBool, read: &Mutex<Vec<u8>>) {
    let wait = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let mut buffer = [0; 1 << 14];
    while !stop.load(Ordering::Relaxed) {
        let mut polled = [PollFd::new(master, PollFlags::IN)];
        if poll(&mut polled, Some(&wait)).is_ok_and(|ready| ready > 0) {
            match rustix::io::read(master, &mut buffer) {
                Ok(count) if count > 0 => {
                    read.lock()
                        .expect("no thread panicked while holding it")
                        .extend(&buffer[..count]);
                }
                _ => return,
            }
        }
    }
}
