//! Going on without a terminal, after a hangup or because the user detached.

use super::launcher::Launcher;
use crate::files;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Returns the file that gets the output of a process that has left its terminal.
pub fn log_path(root: &Path) -> PathBuf {
    root.join("output.log")
}

/// Takes a process out of its terminal. Several threads may ask for it; the first one does it.
pub struct Background {
    root: PathBuf,
    /// Which of the three standard streams are given up. Streams that are files stay as they are.
    given_up: [bool; 3],
    state: Mutex<State>,
}

struct State {
    launcher: Option<Launcher>,
    left: bool,
    /// Write end of the pipe that replaces standard input. It stays open so that reads wait instead of failing.
    input: Option<OwnedFd>,
    /// Write end of a pipe whose drop ends the watching thread, the last one that holds the terminal open.
    watch: Option<OwnedFd>,
}

impl Background {
    /// Terminals will be given up, and with `detach` also pipes, whose readers would otherwise wait for the end of the
    /// run.
    pub fn new(root: PathBuf, launcher: Option<Launcher>, detach: bool) -> Self {
        let given_up = [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()]
            .map(|stream| stream.is_terminal() || (detach && is_pipe(stream)));
        let state = State { launcher, left: false, input: None, watch: None };
        Self { root, given_up, state: Mutex::new(state) }
    }

    /// Whether a launcher waits, so that a shell can get its prompt back.
    #[cfg(feature = "tui")]
    pub fn has_launcher(&self) -> bool {
        self.lock().launcher.is_some()
    }

    /// Whether the terminal has been left.
    pub fn has_left(&self) -> bool {
        self.lock().left
    }

    /// Leaves the terminal for good: reads wait, output goes to [`log_path`], the process gets a session of its own,
    /// and the launcher ends.
    pub fn leave(&self) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.left, true) {
            return;
        }
        if self.given_up[0]
            && let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        {
            let _ = dup2_stdin(&read);
            state.input = Some(write);
        }
        if let Ok(null) = File::options().write(true).open("/dev/null") {
            self.redirect(&null);
        }
        // This fails for the leader of a process group, but then no shell waits for it any more.
        let _ = rustix::process::setsid();
        drop(state.watch.take());
        if let Some(launcher) = state.launcher.take() {
            launcher.release();
        }
        // The log is opened last, as the disk may hang.
        if let Ok(log) = files::open_log(&log_path(&self.root)) {
            self.redirect(&log);
        }
    }

    fn redirect(&self, file: &File) {
        // There is no place left to report an error.
        if self.given_up[1] {
            let _ = dup2_stdout(file);
        }
        if self.given_up[2] {
            let _ = dup2_stderr(file);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `hung_up` when the terminal is gone or the launcher was killed. A thread waits for that without using CPU
    /// time. The signal alone would not do: it doesn't reach the child of a parent that ignores it.
    ///
    /// # Errors
    /// If the system gives no thread or no pipe.
    pub fn watch(&self, hung_up: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let streams =
            [io::stdin().as_fd().try_clone_to_owned(), io::stdout().as_fd().try_clone_to_owned()];
        let terminal = streams.into_iter().flatten().find(io::IsTerminal::is_terminal);
        let mut state = self.lock();
        let launcher = state.launcher.as_ref().and_then(|l| l.pipe().try_clone_to_owned().ok());
        if terminal.is_none() && launcher.is_none() {
            return Ok(());
        }
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        state.watch = Some(stop);
        std::thread::Builder::new().name("hangup".to_owned()).spawn(move || {
            let watched = [Some(stopped), terminal, launcher];
            let watched: Vec<OwnedFd> = watched.into_iter().flatten().collect();
            // No events are asked for, so only errors and hangups are reported.
            let mut polled: Vec<PollFd<'_>> =
                watched.iter().map(|fd| PollFd::new(fd, PollFlags::empty())).collect();
            while let Err(error) = poll(&mut polled, None) {
                if error != Errno::INTR {
                    return;
                }
            }
            let stopped = !polled[0].revents().is_empty();
            drop(polled);
            drop(watched);
            if stopped {
                return;
            }
            hung_up();
        })?;
        Ok(())
    }
}

fn is_pipe(stream: BorrowedFd<'_>) -> bool {
    let kind = rustix::fs::fstat(stream).map(|file| FileType::from_raw_mode(file.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}
