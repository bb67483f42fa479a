//! The small process that the shell waits for while the screen is up.
//!
//! A program can't give its shell the prompt back and go on. Therefore the process that the shell started does nothing
//! but start itself again as the worker, wait, and end with the worker's exit code. When the worker detaches, it says
//! so through a pipe and the launcher ends at once, while the worker goes on in a session of its own.

use super::signals::COPIES;
use crate::text::say::say;
use crate::text::shell::for_shell;
use crossbeam_channel::{Sender, bounded};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// The environment variable that tells the worker which pipe leads to its launcher: `PROCESS:NUMBER`.
pub const VARIABLE: &str = "SIMMIM_TUI_LAUNCHER";
/// What the worker tells its launcher: the run directory, up to a zero byte, and that it has detached.
const RUN: u8 = b'r';
const DETACHED: u8 = b'd';
/// How long the launcher waits for the last news of a worker that has ended.
const LAST_NEWS: Duration = Duration::from_secs(1);
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

    /// Tells the launcher which run it is, so that it can say how to go on should the worker be killed.
    pub fn name_run(&self, root: &Path) {
        let news = [&[RUN], root.as_os_str().as_bytes(), &[0]].concat();
        let _ = rustix::io::write(&self.0, &news); // without it the launcher only says less
    }

    /// Lets the launcher end: the shell gets its prompt back.
    pub fn release(self) {
        let _ = File::from(self.0).write_all(&[DETACHED]); // the launcher may have ended already
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
    let (sender, run) = bounded(1);
    std::thread::spawn(move || hear(BufReader::new(File::from(reader)), &sender));
    let status = worker.wait()?;
    if let Some(signal) = status.signal() {
        terminal.iter().for_each(give_back);
        say(&mut io::stderr(), &killed(signal, run.recv_timeout(LAST_NEWS).ok().as_deref()));
    }
    Ok(exit_code(status))
}

/// Takes in what the worker tells, until it has ended.
fn hear(mut news: impl BufRead, run: &Sender<PathBuf>) {
    let mut kind = [0];
    while news.read_exact(&mut kind).is_ok() {
        if kind == [DETACHED] {
            detached();
            continue;
        }
        let mut root = Vec::new();
        let _ = news.read_until(0, &mut root); // what is missing is cut off below
        root.pop();
        let _ = run.try_send(OsString::from_vec(root).into()); // it is told once
    }
}

/// Returns what to say of a worker that a signal ended, and how to go on with its run.
fn killed(signal: i32, run: Option<&Path>) -> String {
    let name = signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned);
    let why = match signal {
        SIGKILL => ", perhaps by the system because memory ran out",
        _ => "",
    };
    let way_on = match run {
        Some(root) => format!("go on with: simmim-tui --resume {}", for_shell(root)),
        None => "the run had not begun".to_owned(),
    };
    format!("simmim-tui: the training process was ended by {name}{why}; {way_on}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_by_a_signal_is_told_with_the_way_on() {
        let (sender, run) = bounded(1);
        hear(&b"rruns/my run\0"[..], &sender);
        let root = run.try_recv().expect("the run is named");
        assert_eq!(
            killed(SIGKILL, Some(&root)),
            "simmim-tui: the training process was ended by SIGKILL, perhaps by the system because memory ran out; go \
             on with: simmim-tui --resume 'runs/my run'"
        );
        assert_eq!(
            killed(SIGTERM, None),
            "simmim-tui: the training process was ended by SIGTERM; the run had not begun"
        );
    }
}
