//! Keeps some shards open: opening a file for each image takes long on a network, and ten thousand open files are more
//! than a process may have.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The most files that are open at once, where the limit of the process allows it.
const MOST: usize = 1024;

/// Open shards by number.
pub(super) struct OpenShards {
    most: usize,
    held: Mutex<Held>,
}

struct Held {
    files: Vec<Option<Arc<File>>>,
    /// Numbers of the open files, the oldest first.
    order: VecDeque<usize>,
}

impl OpenShards {
    pub fn new(shards: usize) -> Self {
        // A data set has two parts, and other files are open as well.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let share = limit.map_or(MOST, |limit| usize::try_from(limit / 8).unwrap_or(MOST));
        Self::with_room_for(shards, share.clamp(4, MOST))
    }

    pub fn with_room_for(shards: usize, most: usize) -> Self {
        let held = Held { files: vec![None; shards], order: VecDeque::new() };
        Self { most, held: Mutex::new(held) }
    }

    /// Returns a shard, and opens it at `path` if it isn't open.
    ///
    /// # Errors
    /// Returns an error if it can't be opened.
    pub fn get(&self, shard: usize, path: impl AsRef<Path>) -> io::Result<Arc<File>> {
        if let Some(Some(file)) = self.held().files.get(shard) {
            return Ok(Arc::clone(file));
        }
        // Meanwhile other threads read what is open.
        let opened = File::open(&path).or_else(|error| {
            if error.raw_os_error() != Some(rustix::io::Errno::MFILE.raw_os_error()) {
                return Err(error);
            }
            self.held().close_all();
            File::open(&path)
        });
        let file = Arc::new(opened?);
        let mut held = self.held();
        if held.order.len() >= self.most {
            held.close_oldest();
        }
        if let Some(slot @ None) = held.files.get_mut(shard) {
            *slot = Some(Arc::clone(&file));
            held.order.push_back(shard);
        }
        Ok(file)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        // A thread that panics can't leave it half changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn open_now(&self) -> usize {
        self.held().files.iter().flatten().count()
    }
}

impl Held {
    fn close_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front() {
            self.files[oldest] = None;
        }
    }

    fn close_all(&mut self) {
        self.files.fill(None);
        self.order.clear();
    }
}
