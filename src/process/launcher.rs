//! The small process that the shell waits for while the screen is up.
//!
//! A program can't give its shell the prompt back and go on. Therefore the process that the shell started does nothing
//! but start itself again as the worker, wait, and end with the worker's exit code. When the worker detaches, it says
//! so through a pipe and the launcher ends at once, while the worker goes on in a session of its own.

use super::signals::COPIES;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// The environment variable that tells the worker which pipe leads to its launcher: `PROCESS:NUMBER`.
pub const VARIABLE: &str = "SIMMIM_TUI_LAUNCHER";
/// Shells add this to the number of the signal that ended a process.
const SIGNAL_BASE: i32 = 128;

/// The worker's pipe to its launcher.
#[derive(Debug)]
pub struct Launcher(OwnedFd);

impl Launcher {
    /// Returns the launcher of this process, if it has one. Must be called only once.
    pub fn of_this_process() -> Option<Self> {
        let value = std::env::var(VARIABLE).ok()?;
        let (process, number) = value.split_once(':')?;
        // Grandchildren may inherit the variable, but the launcher isn't their parent.
        let parent = rustix::process::getppid()?.as_raw_nonzero().to_string();
        if process != parent {
            return None;
        }
        super::inherited::pipe(number.parse().ok()?).map(Self)
    }

    /// Lets the launcher end: the shell gets its prompt back.
    pub fn release(self) {
        let _ = File::from(self.0).write_all(b"d"); // the launcher may have ended already
    }

    /// Returns the pipe, which breaks when the launcher ends.
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Starts this program again as the worker and waits until it ends or detaches. Returns its exit code.
///
/// # Errors
/// If there is no second process; then nothing has happened.
pub fn launch() -> io::Result<i32> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // The signals are caught before the worker exists, so that none of them can end the launcher alone.
    let signals = Signals::new([SIGINT, SIGHUP, SIGTERM, SIGUSR1, SIGUSR2])?;
    let terminal = tcgetattr(io::stdin()).ok();
    let mut arguments = std::env::args_os();
    let mut command = Command::new(own_program()?);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    command.env(VARIABLE, format!("{}:{}", std::process::id(), writer.as_raw_fd()));
    fcntl_setfd(&writer, FdFlags::empty())?; // only the worker keeps this end: it is closed here at once
    let mut worker = command.spawn()?;
    drop(writer);
    pass_on(signals, worker.id());
    std::thread::spawn(move || {
        if File::from(reader).read(&mut [0]).is_ok_and(|bytes| bytes > 0) {
            detached();
        }
    });
    let status = worker.wait()?;
    if let (Some(_), Some(terminal)) = (status.signal(), terminal) {
        give_back(&terminal);
    }
    Ok(exit_code(status))
}

/// Ends the launcher, as the worker has detached.
fn detached() {
    // The end of a container's first process would end all others, so there the launcher stays.
    if std::process::id() != 1 {
        std::process::exit(0);
    }
}

/// Returns the path of this program's file. If an upgrade has replaced the file, only the system still has it, under a
/// name that says little in lists of processes.
fn own_program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    let named = std::env::current_exe()?;
    let identity = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino())).ok();
    let replaced = identity(running).is_some_and(|own| identity(&named) != Some(own));
    Ok(if replaced { running.to_owned() } else { named })
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| SIGNAL_BASE + status.signal().unwrap_or(0))
}

/// Passes signals on to the worker. Signals to stop are passed on as their copies, since the worker may get the
/// originals itself.
fn pass_on(mut signals: Signals, worker: u32) {
    let Some(worker) = Pid::from_raw(worker as i32) else { return };
    std::thread::spawn(move || {
        for number in signals.forever() {
            let copy = COPIES.iter().find(|&&(own, _)| own == number).map(|&(_, copy)| copy);
            if let Some(signal) = Signal::from_named_raw(copy.unwrap_or(number)) {
                let _ = kill_process(worker, signal); // the worker may have ended
            }
        }
    });
}

/// Gives the terminal back for a worker that was killed and couldn't do so itself.
fn give_back(terminal: &Termios) {
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, terminal);
    let _ = write!(io::stdout(), "\x1b[?1049l\x1b[?25h\x1b[0m");
    let _ = io::stdout().flush();
}
