//! Runs the user's command (`--notify`) at alarms and at the end of the run.

use super::launcher;
use crate::event::{Event, Level, Listener, Reason, Stamped};
use crate::shown;
use crate::text::units::percent;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A command that runs longer is killed.
const PATIENCE: Duration = Duration::from_mins(1);
/// At the end of the run the process waits this long for commands.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
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
}

impl Notifier {
    pub fn new(command: String, run: PathBuf) -> Self {
        let (news, queue) = bounded(QUEUE);
        let (serving, served) = bounded::<()>(0);
        // The path is made absolute, as the command may change its directory.
        let run = std::path::absolute(&run).unwrap_or(run);
        let thread = thread::Builder::new().name("notify".to_owned());
        let _ = thread.spawn(move || {
            let _serving = serving;
            serve(&command, &run, &queue);
        }); // without a thread the queue is disconnected, and nothing waits for it
        Self { news: Some(news), step: 0, served }
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
    /// Waits a while for the commands about the end of the run.
    fn drop(&mut self) {
        drop(self.news.take());
        let _ = self.served.recv_timeout(LAST_PATIENCE); // a command that takes longer goes on alone
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

/// Runs the command for one piece of news after another, until the queue is closed.
fn serve(command: &str, run: &Path, queue: &Receiver<News>) {
    for news in queue {
        let child = start(command, run, &news);
        let Ok(mut child) = child else { continue };
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill(); // fails if it has ended, which is the usual case
        let _ = child.wait();
    }
}

/// Starts the command. Its output goes to `notify.log`.
fn start(command: &str, run: &Path, news: &News) -> std::io::Result<Child> {
    let log = File::options().create(true).append(true).open(run.join("notify.log"));
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
        .spawn()
}
