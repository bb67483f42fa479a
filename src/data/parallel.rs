//! Runs many small requests to a file system at once. On a network each takes a round trip, and a processor serves many.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests that are under way at once.
const THREADS: usize = 32;
/// Fewer requests than this don't pay for another thread.
const EACH: usize = 4;
/// Threads of all calls that are under way, those inside others too.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Threads that a call may start.
struct Share(usize);

impl Share {
    fn of(wanted: usize) -> Self {
        let mut share = 0;
        let take = |running: usize| {
            share = wanted.min(THREADS.saturating_sub(running));
            Some(running + share)
        };
        let _ = RUNNING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        Self(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        RUNNING.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Returns the result of `work` for each number below `count`, in order. Several threads do it, and nothing depends on
/// how many.
pub(super) fn in_parallel<R: Send>(count: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    in_parallel_chunks(count, 1, EACH, work)
}

/// As [`in_parallel`], for work that is so short that threads take many numbers at a time.
pub(super) fn in_parallel_many<R: Send>(count: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    in_parallel_chunks(count, 256, 256, work)
}

fn in_parallel_chunks<R: Send>(
    count: usize,
    chunk: usize,
    each: usize,
    work: impl Fn(usize) -> R + Sync,
) -> Vec<R> {
    let share = Share::of((count / each).saturating_sub(1));
    if share.0 == 0 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done: Vec<(usize, Vec<R>)> = Vec::new();
        loop {
            let first = next.fetch_add(chunk, Ordering::Relaxed);
            if first >= count {
                return done;
            }
            done.push((first, (first..count.min(first + chunk)).map(&work).collect()));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, take).ok();
        // A thread that the system refuses leaves its share to the others.
        let others: Vec<_> = (0..share.0).map_while(spawn).collect();
        let mut done = take();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|&(first, _)| first);
    done.into_iter().flat_map(|(_, results)| results).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_once_and_in_order() {
        for count in [0, 1, 7, 255, 256, 5000] {
            let expected: Vec<usize> = (0..count).map(|at| at * 3).collect();
            assert_eq!(in_parallel(count, |at| at * 3), expected);
            assert_eq!(in_parallel_many(count, |at| at * 3), expected);
        }
    }

    #[test]
    fn calls_inside_calls_share_the_threads() {
        let most = AtomicUsize::new(0);
        in_parallel(100, |_| {
            in_parallel(100, |_| most.fetch_max(RUNNING.load(Ordering::Relaxed), Ordering::Relaxed))
        });
        assert!((1..=THREADS).contains(&most.load(Ordering::Relaxed)));
    }
}
