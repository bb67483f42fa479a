//! A count that is shown while something lasts, on standard error: a line that is redrawn on a terminal, elsewhere a line
//! now and then. What is over soon is not shown at all.

use super::say::say;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal as _, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The time after which the count is shown for the first time.
const AFTER: Duration = Duration::from_secs(1);
/// The time between lines where there is no terminal. Nobody shall wait for two seconds without a word.
const BETWEEN: Duration = Duration::from_millis(1800);
/// The time between drawings on a terminal.
const REDRAW: Duration = Duration::from_millis(100);

/// A count that a thread shows until it is dropped.
pub struct Count {
    done: Arc<AtomicUsize>,
    /// Dropping it ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Count {
    /// Begins to count. The text is `what`, the count and `things`: `listing /data: 1200 images`.
    pub fn new(what: String, things: &'static str) -> Self {
        let on_terminal = stderr().is_terminal();
        Self::shown_by(what, things, on_terminal, |line| say(&mut stderr(), line))
    }

    fn shown_by(
        what: String,
        things: &'static str,
        on_terminal: bool,
        mut print: impl FnMut(&str) + Send + 'static,
    ) -> Self {
        let done = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = bounded::<()>(0);
        let count = Arc::clone(&done);
        let text = move || format!("{what}: {} {things}", count.load(Ordering::Relaxed));
        let goes_on = move |time| stopped.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        let thread = std::thread::Builder::new().name("count".to_owned()).spawn(move || {
            if !goes_on(AFTER) {
                return;
            }
            if on_terminal {
                let bar = spinner();
                bar.set_message(crate::shown::line(&text()).into_owned());
                while goes_on(REDRAW) {
                    bar.set_message(crate::shown::line(&text()).into_owned());
                    bar.tick();
                }
                bar.finish_and_clear();
            } else {
                print(&text());
                while goes_on(BETWEEN) {
                    print(&text());
                }
            }
        });
        // Without a thread nothing is shown, and the work is done all the same.
        Self { done, stop: Some(stop), thread: thread.ok() }
    }

    /// Counts so many more.
    pub fn add(&self, more: usize) {
        self.done.fetch_add(more, Ordering::Relaxed);
    }
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

impl Drop for Count {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it prints and counts nothing that anybody else needs
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn what_lasts_is_told_now_and_then_and_what_does_not_is_not() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shown = |lines: &Arc<Mutex<Vec<String>>>| {
            let lines = Arc::clone(lines);
            move |line: &str| lines.lock().unwrap().push(line.to_owned())
        };
        drop(Count::shown_by("listing x".to_owned(), "images", false, shown(&lines)));
        assert!(lines.lock().unwrap().is_empty());
        let count = Count::shown_by("listing x".to_owned(), "images", false, shown(&lines));
        count.add(3);
        std::thread::sleep(AFTER + BETWEEN / 2);
        count.add(4);
        std::thread::sleep(BETWEEN);
        drop(count);
        assert_eq!(*lines.lock().unwrap(), ["listing x: 3 images", "listing x: 7 images"]);
    }
}
