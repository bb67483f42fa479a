//! Makes batches on any number of threads, in an order that doesn't depend on their number.

mod tuning;

pub use tuning::{LoadPeriod, WorkerTuning, cores, most_workers};

use super::augment::Augment;
use super::order::TrainOrder;
use super::worker::{Piece, ReadyPiece, Shared};
use super::{DataError, ImageError, Source};
use crate::config::{Config, Shuffle};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a loader that waits looks whether there are threads left that work for it.
const LOOK: Duration = Duration::from_secs(1);

/// How batches are made. Every size and count is at least 1; a 0 counts as 1.
#[derive(Debug, Clone, Copy)]
pub struct LoaderConfig {
    /// Images per batch.
    pub batch_size: usize,
    /// Height and width of the images, in pixels.
    pub image_size: usize,
    pub seed: u64,
    /// Number of loader threads.
    pub workers: usize,
    /// Number of batches to make ahead of the one asked for.
    pub prefetch: usize,
    /// How training images are cropped and flipped; validation ignores it.
    pub augment: Augment,
    /// In which order training images come.
    pub shuffle: Shuffle,
    /// As `data.buffer`.
    pub buffer: usize,
}

impl LoaderConfig {
    /// Takes the settings from the configuration. Where it leaves the number of threads open, it is one that suits a
    /// loader that nothing measures.
    pub fn from_config(config: &Config) -> Self {
        Self {
            batch_size: config.train.batch_size,
            image_size: config.model.image_size,
            seed: config.train.seed,
            workers: tuning::fixed_workers(config.data.workers),
            prefetch: config.data.prefetch,
            augment: Augment::from_config(&config.data),
            shuffle: config.data.shuffle,
            buffer: config.data.buffer,
        }
    }
}

/// The images of one forward pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Row-major 8-bit RGB. `[len, image_size, image_size, 3]`
    pub images: Vec<u8>,
    /// The index in the source of each image, after unreadable ones were replaced. `[len]`
    pub indices: Vec<usize>,
    /// Number of the first sample, counted from the start of the run.
    pub first_sample: u64,
    /// Unreadable images, and those that were taken with a flaw, that came up in this batch for the first
    /// time. A loader reports each of them once.
    pub faulty: Vec<ImageError>,
}

impl Batch {
    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

/// Makes batches on its own threads, which end when the loader is dropped.
///
/// An unreadable image is replaced by the next readable one of the source. The substitute depends on
/// nothing but the source, so it is the same in every run.
pub struct Loader {
    shared: Arc<Shared>,
    sampling: Sampling,
    batch_size: usize,
    /// Number of threads that work and stay.
    workers: usize,
    prefetch: u64,
    /// Number of the next batch to hand out.
    wanted: u64,
    /// Number of the next batch to request from the threads.
    requested: u64,
    /// Batches that were requested and not handed out yet, by number.
    open: BTreeMap<u64, Assembly>,
    /// Indices of the unreadable or flawed images that a batch has reported.
    reported: BTreeSet<usize>,
    /// Whether the last batch was handed out or an error was returned.
    over: bool,
    /// Work for the threads. Taking the sender away ends them.
    pieces: Option<Sender<Piece>>,
    /// Finished work, or the error that ended a thread.
    ready: Receiver<Result<ReadyPiece, DataError>>,
    /// What threads take from these two. They are kept for those that start later.
    ends: ThreadEnds,
    threads: Vec<JoinHandle<()>>,
    /// Number of threads that were ever started, for their names.
    started: usize,
    /// Why no thread could be started. The first call of [`Self::next`] returns it.
    start_error: Option<DataError>,
}

/// The ends of the channels that a thread works between.
#[derive(Clone)]
struct ThreadEnds {
    incoming: Receiver<Piece>,
    outgoing: Sender<Result<ReadyPiece, DataError>>,
}

/// Which images make a batch.
enum Sampling {
    /// Shuffled images without end.
    Train(Box<TrainOrder>),
    /// Every image once, in the order of the source.
    Validation,
}

/// A batch whose pieces arrive in any order.
struct Assembly {
    images: Vec<u8>,
    indices: Vec<usize>,
    /// Images that haven't arrived yet.
    missing: usize,
    /// Indices of the images that were replaced, or taken with a flaw.
    bad: Vec<usize>,
}

impl Loader {
    /// Returns a loader of shuffled and augmented batches without end. The first one is global batch
    /// `start_batch`. What a global batch holds depends neither on the batch that the loader starts
    /// with nor on the number of threads.
    pub fn train(
        source: Source,
        config: LoaderConfig,
        epoch_batches: u64,
        start_batch: u64,
    ) -> Self {
        let (images, batch_size) = (source.len(), config.batch_size.max(1));
        let order = TrainOrder::new(images, config.seed, batch_size, epoch_batches);
        let order = match config.shuffle {
            Shuffle::Full => order,
            Shuffle::Shards => order.by_shards(source.shards(), config.buffer),
        };
        let augment = Some(config.augment);
        Self::start(source, &config, Sampling::Train(Box::new(order)), augment, start_batch)
    }

    /// Returns a loader of the centre of every image, once and in the order of the source. The last
    /// batch may be short.
    pub fn validation(source: Source, config: LoaderConfig) -> Self {
        Self::start(source, &config, Sampling::Validation, None, 0)
    }

    fn start(
        source: Source,
        config: &LoaderConfig,
        sampling: Sampling,
        augment: Option<Augment>,
        first: u64,
    ) -> Self {
        let shared = Arc::new(Shared::new(source, config.image_size.max(1), config.seed, augment));
        let (pieces, incoming) = unbounded();
        let (outgoing, ready) = unbounded();
        let mut loader = Self {
            shared,
            sampling,
            batch_size: config.batch_size.max(1),
            workers: 0,
            prefetch: config.prefetch.max(1) as u64,
            wanted: first,
            requested: first,
            open: BTreeMap::new(),
            reported: BTreeSet::new(),
            over: false,
            pieces: Some(pieces),
            ready,
            ends: ThreadEnds { incoming, outgoing },
            threads: Vec::new(),
            started: 0,
            start_error: None,
        };
        loader.set_workers(config.workers);
        loader.request_until(first.saturating_add(loader.prefetch));
        loader
    }

    /// Starts more threads, or lets some of them end after the piece of work at hand; 0 counts as 1. Batches don't
    /// depend on it. Returns the number of threads that work from now on, which is smaller if the system gives no more.
    pub fn set_workers(&mut self, count: usize) -> usize {
        let count = count.max(1);
        self.threads.retain(|thread| !thread.is_finished());
        self.shared.dismiss(self.workers.saturating_sub(count));
        self.workers = self.workers.min(count);
        self.workers += self.shared.keep(count - self.workers);
        while self.workers < count {
            match self.start_thread() {
                Ok(thread) => self.threads.push(thread),
                // Fewer threads make the same batches more slowly.
                Err(_) if self.workers > 0 => break,
                Err(error) => {
                    self.start_error =
                        Some(DataError::Worker { message: format!("cannot start one: {error}") });
                    break;
                }
            }
            self.workers += 1;
        }
        self.workers
    }

    /// Returns the number of threads that work and stay.
    pub fn workers(&self) -> usize {
        self.workers
    }

    fn start_thread(&mut self) -> io::Result<JoinHandle<()>> {
        let (shared, ends) = (Arc::clone(&self.shared), self.ends.clone());
        let thread = std::thread::Builder::new().name(format!("loader-{}", self.started));
        self.started += 1;
        thread.spawn(move || shared.work(&ends.incoming, &ends.outgoing))
    }

    /// Waits for the next batch and returns it. Returns `None` after the last validation batch and
    /// after an error.
    ///
    /// # Errors
    /// Returns an error if the source is empty, if none of its images can be read, if no thread could
    /// be started, or if a thread panicked.
    #[allow(clippy::should_implement_trait, reason = "a batch or an error, not an iterator's item")]
    pub fn next(&mut self) -> Result<Option<Batch>, DataError> {
        if self.over {
            return Ok(None);
        }
        let batch = self.advance();
        self.over = !matches!(batch, Ok(Some(_)));
        batch
    }

    fn advance(&mut self) -> Result<Option<Batch>, DataError> {
        if let Some(error) = self.start_error.take() {
            return Err(error);
        }
        if self.shared.source.is_empty() {
            return Err(DataError::Empty {
                place: self.shared.source.origin(),
                looked_for: "at least one".to_owned(),
            });
        }
        self.request_until(self.wanted.saturating_add(1).saturating_add(self.prefetch));
        if !self.open.contains_key(&self.wanted) {
            return Ok(None);
        }
        while self.open.get(&self.wanted).is_some_and(|batch| batch.missing > 0) {
            let piece = self.receive()?;
            self.place(piece);
        }
        Ok(self.open.remove(&self.wanted).map(|assembly| self.finish(assembly)))
    }

    /// Waits for the next piece that is ready.
    fn receive(&self) -> Result<ReadyPiece, DataError> {
        loop {
            if let Ok(piece) = self.ready.recv_timeout(LOOK) {
                return piece;
            }
            // The last thread may have sent its piece between the wait and this.
            if self.threads.iter().all(JoinHandle::is_finished) && self.ready.is_empty() {
                return Err(DataError::Worker {
                    message: "all of them ended before the batch was made".to_owned(),
                });
            }
        }
    }

    /// Requests all batches before batch `end` that the threads don't have yet.
    fn request_until(&mut self, end: u64) {
        while self.requested < end {
            let batch = self.requested;
            let indices = self.indices(batch);
            if indices.is_empty() {
                return;
            }
            let first_sample = batch * self.batch_size as u64;
            let bytes = self.shared.size * self.shared.size * 3;
            // All threads work on the same batch, so that the first one is ready soon.
            let length = indices.len().div_ceil(self.workers.max(1));
            for (number, chunk) in indices.chunks(length).enumerate() {
                let offset = number * length;
                let piece = Piece {
                    batch,
                    offset,
                    first_sample: first_sample + offset as u64,
                    indices: chunk.to_vec(),
                };
                // Sending fails once all threads have ended. Receiving then finds out why.
                let _ = self.pieces.as_ref().map(|pieces| pieces.send(piece));
            }
            let missing = indices.len();
            let images = vec![0; missing * bytes];
            self.open.insert(batch, Assembly { images, indices, missing, bad: Vec::new() });
            self.requested += 1;
        }
    }

    /// Returns the indices of the images of a batch, none past the end.
    fn indices(&mut self, batch: u64) -> Vec<usize> {
        let images = self.shared.source.len();
        match &mut self.sampling {
            _ if images == 0 => Vec::new(),
            Sampling::Train(order) => order.batch(batch),
            Sampling::Validation => {
                let first = usize::try_from(batch).unwrap_or(usize::MAX);
                let first = first.saturating_mul(self.batch_size).min(images);
                (first..first.saturating_add(self.batch_size).min(images)).collect()
            }
        }
    }

    /// Copies a finished piece to its place in its batch.
    fn place(&mut self, piece: ReadyPiece) {
        let Some(assembly) = self.open.get_mut(&piece.batch) else { return };
        let count = piece.indices.len();
        let bytes = self.shared.size * self.shared.size * 3;
        let (from, to) = (piece.offset, piece.offset + count);
        assembly.images[from * bytes..to * bytes].copy_from_slice(&piece.images);
        assembly.indices[from..to].copy_from_slice(&piece.indices);
        assembly.missing -= count;
        assembly.bad.extend(piece.bad);
    }

    fn finish(&mut self, assembly: Assembly) -> Batch {
        let Assembly { images, indices, mut bad, .. } = assembly;
        // Sorted by index and not by arrival, so that reports don't depend on timing either.
        bad.sort_unstable();
        bad.retain(|&index| self.reported.insert(index));
        let faulty = bad.into_iter().filter_map(|index| self.shared.reason(index)).collect();
        let first_sample = self.wanted * self.batch_size as u64;
        self.wanted += 1;
        Batch { images, indices, first_sample, faulty }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.stop();
        self.pieces = None;
        for thread in self.threads.drain(..) {
            // The thread catches the panics of its work. Any other has nowhere to be reported.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
