//! Says on standard error what goes on while something takes long.

use super::say::say;
use super::units::span;
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::io::stderr;
use std::time::{Duration, Instant};

/// Time between two lines.
const LINES: Duration = Duration::from_millis(1900);

/// Does `work`, and prints a line about it every two seconds until it is done.
pub fn saying<T>(what: &str, work: impl FnOnce() -> T) -> T {
    saying_by(LINES, |after| say(&mut stderr(), &format!("{what}: {}", span(after))), work)
}

fn saying_by<T>(
    interval: Duration,
    mut tell: impl FnMut(f64) + Send,
    work: impl FnOnce() -> T,
) -> T {
    let (end, ended) = bounded::<()>(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        // Without a thread the work is done in silence.
        let _ = std::thread::Builder::new().name("waiting".to_owned()).spawn_scoped(scope, || {
            // The end is taken along, so that it is gone if this thread ends first.
            let ended = ended;
            while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                tell(begin.elapsed().as_secs_f64());
            }
        });
        let done = work();
        drop(end);
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn work_is_told_of_as_long_as_it_lasts() {
        let lines = AtomicUsize::new(0);
        let interval = Duration::from_millis(5);
        let count = |_| {
            lines.fetch_add(1, Ordering::Relaxed);
        };
        let until_told = || {
            while lines.load(Ordering::Relaxed) < 3 {
                std::thread::sleep(interval);
            }
            7
        };
        assert_eq!(saying_by(interval, count, until_told), 7);
        lines.store(0, Ordering::Relaxed);
        assert_eq!(saying_by(Duration::from_mins(10), count, || 8), 8, "it ends with the work");
        assert_eq!(lines.load(Ordering::Relaxed), 0);
    }
}
