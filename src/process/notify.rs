//! Runs the user's command (`--notify`) at alarms and at the end of the run.

use super::launcher;
use crate::event::{Event, Level, Listener, Reason, Stamped};
use crate::files;
use crate::shown;
use crate::text::units::percent;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid,
};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A command that runs longer is ended, with all that it has started.
const PATIENCE: Duration = Duration::from_mins(1);
/// At the end of the run commands have this long.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
/// What is asked to end has this long before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked at what goes on.
const TICK: Duration = Duration::from_millis(20);
/// At most this many calls wait while a command runs. Further ones are dropped; the log has their events.
const QUEUE: usize = 32;

/// One call of the command.
struct News {
    /// `alarm`, `over`, `finished`, `stopped` or `failed`.
    event: &'static str,
    /// Kind of the alarm as in `events.jsonl`; else empty.
    alarm: String,
    step: u64,
    message: String,
}

/// A listener that hands what matters to `sh -c COMMAND`, one at a time, on a thread of its own.
pub struct Notifier {
    news: Option<Sender<News>>,
    /// The newest step that an event named.
    step: u64,
    /// Disconnected when the command has run for all news.
    served: Receiver<()>,
    /// Dropped when commands have no more time.
    leave: Option<Sender<()>>,
}

impl Notifier {
    pub fn new(command: String, run: PathBuf) -> Self {
        let (news, queue) = bounded(QUEUE);
        let (serving, served) = bounded::<()>(0);
        let (leave, left) = bounded::<()>(0);
        // The path is made absolute, as the command may change its directory.
        let run = std::path::absolute(&run).unwrap_or(run);
        let thread = thread::Builder::new().name("notify".to_owned());
        let _ = thread.spawn(move || {
            let _serving = serving;
            serve(&command, &run, &queue, &left);
        }); // without a thread the queue is disconnected, and nothing waits for it
        Self { news: Some(news), step: 0, served, leave: Some(leave) }
    }
}

impl Listener for Notifier {
    fn hear(&mut self, stamped: &Stamped, _log_end: u64) {
        match &stamped.event {
            Event::Started(started) => self.step = started.step,
            Event::Step(report) => self.step = report.step,
            _ => {}
        }
        if let (Some(news), Some(queue)) = (news(&stamped.event, self.step), &self.news) {
            let _ = queue.try_send(news); // a full queue drops it: the log has it
        }
    }
}

impl Drop for Notifier {
    /// Waits a while for the commands about the end of the run, and ends what takes longer.
    fn drop(&mut self) {
        drop(self.news.take());
        if self.served.recv_timeout(LAST_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            drop(self.leave.take());
            let _ = self.served.recv_timeout(2 * GRACE); // a killed process that hangs in the system is left alone
        }
    }
}

/// Returns the call that an event is worth, if it is.
fn news(event: &Event, step: u64) -> Option<News> {
    let plain = |event, step, message: String| News { event, alarm: String::new(), step, message };
    Some(match event {
        Event::Alarm(alarm) => {
            let kind = serde_json::to_value(alarm.kind).unwrap_or_default();
            News {
                event: if alarm.active { "alarm" } else { "over" },
                alarm: kind.as_str().unwrap_or_default().to_owned(),
                step: alarm.step,
                message: format!("{}: {}", alarm.kind.name(), alarm.message),
            }
        }
        Event::Finished(finished) => {
            let loss = finished
                .best_val_loss
                .map_or(String::new(), |loss| format!(", best val_loss {loss:.4}"));
            let event = match finished.reason {
                Reason::Completed => "finished",
                Reason::Stopped => "stopped",
            };
            let top1 = finished.best_accuracy.map(percent);
            let top1 = top1.map_or(String::new(), |top1| format!(", best top-1 {top1}"));
            plain(event, finished.step, format!("{event} at step {}{loss}{top1}", finished.step))
        }
        Event::Log { level: Level::Error, message } => plain("failed", step, message.clone()),
        _ => return None,
    })
}

/// Runs the command for one piece of news after another, until the queue is closed and all that they started is over.
/// `leave` is disconnected when there is no more time.
fn serve(command: &str, run: &Path, queue: &Receiver<News>, leave: &Receiver<()>) {
    let mut groups: Vec<Group> = Vec::new();
    loop {
        // Nothing is looked at in the usual case that every command has ended.
        let wait = if groups.is_empty() { PATIENCE } else { TICK };
        match queue.recv_timeout(wait) {
            Ok(news) if !is_over(leave) => groups.extend(Group::start(command, run, &news)),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if groups.is_empty() => return,
            Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK),
        }
        // One command at a time; what it leaves running in the background holds up nothing.
        while groups.last_mut().is_some_and(Group::command_runs) && !is_over(leave) {
            groups.retain_mut(Group::is_going_on);
            thread::sleep(TICK);
        }
        if is_over(leave) {
            groups.iter_mut().for_each(Group::hurry);
        }
        groups.retain_mut(Group::is_going_on);
    }
}

fn is_over(leave: &Receiver<()>) -> bool {
    leave.try_recv() == Err(TryRecvError::Disconnected)
}

/// A command and all that it has started, as far as that has not left its process group.
struct Group {
    child: Child,
    id: Pid,
    /// Whether the command itself goes on.
    runs: bool,
    /// When the group is asked to end, and then when it is killed.
    end: Instant,
    /// What was sent to it already.
    sent: Option<Signal>,
}

impl Group {
    /// Starts the command. A command that can't be started is passed over: `sh` says why in `notify.log`.
    fn start(command: &str, run: &Path, news: &News) -> Option<Self> {
        let child = start(command, run, news).ok()?;
        let id = Pid::from_child(&child);
        Some(Self { child, id, runs: true, end: Instant::now() + PATIENCE, sent: None })
    }

    fn command_runs(&mut self) -> bool {
        self.runs = self.runs && matches!(self.child.try_wait(), Ok(None));
        self.runs
    }

    /// Asks the group to end now, if it has not been asked yet.
    fn hurry(&mut self) {
        if self.sent.is_none() {
            self.end = Instant::now();
        }
    }

    /// Returns whether anything of the group is there, and ends it when its time is over. The number of the group is not
    /// given to another one as long as a process is in it.
    fn is_going_on(&mut self) -> bool {
        if !self.command_runs() {
            // In a container nobody else may collect what the command has left to this process.
            let _ = waitpgid(self.id, WaitOptions::NOHANG);
            if test_kill_process_group(self.id).is_err() {
                return false;
            }
        }
        if Instant::now() < self.end {
            return true;
        }
        let signal = match self.sent {
            None => Signal::TERM,
            Some(Signal::TERM) => Signal::KILL,
            Some(_) => return false, // it hangs in the system, or nobody collects what has ended
        };
        let _ = kill_process_group(self.id, signal); // it may have ended just now
        self.end = Instant::now() + GRACE;
        self.sent = Some(signal);
        true
    }
}

/// Starts the command. Its output goes to `notify.log`.
fn start(command: &str, run: &Path, news: &News) -> std::io::Result<Child> {
    let log = files::open_log(&run.join("notify.log"));
    let output = || match &log {
        Ok(log) => log.try_clone().map_or(Stdio::null(), Stdio::from),
        Err(_) => Stdio::null(), // a full disk must not silence the alarm about it
    };
    Command::new("sh")
        .args(["-c", command])
        .env("SIMMIM_EVENT", news.event)
        .env("SIMMIM_ALARM", &news.alarm)
        .env("SIMMIM_STEP", news.step.to_string())
        .env("SIMMIM_MESSAGE", &*shown::line(&news.message))
        .env("SIMMIM_RUN", run)
        .env_remove(launcher::VARIABLE)
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .process_group(0)
        .spawn()
}
