//! Computes on several threads and hands over the results in order.

use crate::error::Error;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Results that are begun ahead of the one that is due, for each thread.
const AHEAD: usize = 4;
/// The memory that results may take, in bytes, unless one for each thread takes more.
const MOST_MEMORY: usize = 256 << 20;
/// How often `tick` is called while nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// What is done with the results.
pub(super) trait InOrder<T> {
    /// Takes the result of a position. Positions come in order.
    fn take(&mut self, position: usize, result: T) -> Result<(), Error>;
    /// Is called now and then.
    fn tick(&mut self) -> Result<(), Error>;
}

/// Calls `make` for each position of a range on several threads. `size` is the memory of a result in bytes.
///
/// # Errors
/// Returns the first error of `target`. No further results are then computed.
pub(super) fn in_order<T: Send>(
    positions: Range<usize>,
    threads: usize,
    make: impl Fn(usize) -> T + Sync,
    size: impl Fn(&T) -> usize,
    target: &mut impl InOrder<T>,
) -> Result<(), Error> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (jobs, queue) = unbounded::<(usize, Sender<T>)>();
        for _ in 0..threads.min(positions.len()) {
            let queue = queue.clone();
            let (over, make) = (&over, &make);
            scope.spawn(move || {
                for (position, out) in queue {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let _ = out.send(make(position)); // after an error nobody waits for it
                }
            });
        }
        let done = drive(positions, threads, &jobs, &size, target);
        over.store(true, Ordering::Relaxed);
        drop(jobs);
        done
    })
}

fn drive<T>(
    mut positions: Range<usize>,
    threads: usize,
    jobs: &Sender<(usize, Sender<T>)>,
    size: &impl Fn(&T) -> usize,
    target: &mut impl InOrder<T>,
) -> Result<(), Error> {
    let mut begun: VecDeque<(usize, Receiver<T>)> = VecDeque::new();
    // The size of the largest result; a single one is soon forgotten.
    let mut largest = 1;
    loop {
        let most = (MOST_MEMORY / largest).clamp(threads, threads * AHEAD);
        while begun.len() < most
            && let Some(position) = positions.next()
        {
            let (out, result) = bounded(1);
            let _ = jobs.send((position, out)); // if all threads have ended, the result below never comes
            begun.push_back((position, result));
        }
        let Some((position, result)) = begun.pop_front() else { return Ok(()) };
        let result = loop {
            match result.recv_timeout(TICK) {
                Ok(result) => break result,
                Err(RecvTimeoutError::Timeout) => target.tick()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Failed("a thread that reads images has failed".to_owned()));
                }
            }
        };
        largest = size(&result).max(largest - largest / 64);
        target.tick()?;
        target.take(position, result)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Collected {
        positions: Vec<usize>,
        until: usize,
    }

    impl InOrder<usize> for Collected {
        fn take(&mut self, position: usize, result: usize) -> Result<(), Error> {
            assert_eq!(result, position * 3);
            if position == self.until {
                return Err(Error::Failed("enough".to_owned()));
            }
            self.positions.push(position);
            Ok(())
        }
        fn tick(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    #[test]
    fn results_come_in_order_from_any_number_of_threads() {
        for threads in [1, 2, 7] {
            let mut collected = Collected { positions: Vec::new(), until: usize::MAX };
            let triple = |position: usize| {
                std::thread::sleep(Duration::from_micros((position * 7919 % 13) as u64 * 100));
                position * 3
            };
            in_order(5..80, threads, triple, |_| 1, &mut collected).expect("all come");
            assert_eq!(collected.positions, (5..80).collect::<Vec<_>>());
        }
    }

    #[test]
    fn after_an_error_little_more_is_computed() {
        let made = Mutex::new(0);
        let triple = |position: usize| {
            *made.lock().expect("no panic") += 1;
            position * 3
        };
        let mut collected = Collected { positions: Vec::new(), until: 10 };
        in_order(0..100_000, 2, triple, |_| 1, &mut collected).expect_err("it ends");
        assert_eq!(collected.positions.len(), 10);
        assert!(*made.lock().expect("no panic") <= 10 + 2 * 2 * AHEAD);
    }

    /// Results that were made and not yet taken, and the most of them after the first ones.
    struct Held<'a>(&'a Mutex<i64>, i64);

    impl InOrder<usize> for Held<'_> {
        fn take(&mut self, position: usize, _: usize) -> Result<(), Error> {
            std::thread::sleep(Duration::from_millis(1));
            let mut held = self.0.lock().expect("no panic");
            if position >= 40 {
                self.1 = self.1.max(*held);
            }
            *held -= 1;
            Ok(())
        }
        fn tick(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    #[test]
    fn large_results_are_not_piled_up() {
        for (size, most) in [(MOST_MEMORY, 8), (MOST_MEMORY / 13, 13), (1, 8 * AHEAD as i64)] {
            let made = Mutex::new(0);
            let triple = |position: usize| {
                *made.lock().expect("no panic") += 1;
                position * 3
            };
            let mut held = Held(&made, 0);
            in_order(0..100, 8, triple, |_| size, &mut held).expect("all come");
            assert!((most / 2..=most).contains(&held.1), "{size}: {}", held.1);
        }
    }
}
