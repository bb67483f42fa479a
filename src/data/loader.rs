//! Batches in a fixed order from any number of threads.

use super::augment::Augment;
use super::order::TrainOrder;
use super::worker::{Piece, ReadyPiece, Shared};
use super::{DataError, ImageError, Source};
use crate::config::Config;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;

/// How batches are made. Sizes are at least 1; a 0 counts as 1.
#[derive(Debug, Clone, Copy)]
pub struct LoaderConfig {
    pub batch_size: usize,
    /// Side of the images, pixels.
    pub image_size: usize,
    pub seed: u64,
    /// Threads.
    pub workers: usize,
    /// Batches that are made ahead of the one asked for.
    pub prefetch: usize,
    pub augment: Augment,
}

impl LoaderConfig {
    pub fn from_config(config: &Config) -> Self {
        Self {
            batch_size: config.train.batch_size,
            image_size: config.model.image_size,
            seed: config.train.seed,
            workers: config.data.workers,
            prefetch: config.data.prefetch,
            augment: Augment::from_config(&config.data),
        }
    }
}

/// Images of one forward pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// `[len, image_size, image_size, 3]`, row-major RGB.
    pub images: Vec<u8>,
    /// Which image of the source each one is, after substitution.
    pub indices: Vec<usize>,
    /// Number of the first sample since the start of the run.
    pub first_sample: u64,
    /// Unreadable images that came up in this batch for the first time; each is reported once per
    /// loader.
    pub skipped: Vec<ImageError>,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

/// Makes batches on its own threads; dropping it ends them.
///
/// An image that can't be read is replaced by the next one of the source that can; this is the same
/// one in every run.
pub struct Loader {
    shared: Arc<Shared>,
    order: Sampling,
    batch_size: usize,
    workers: usize,
    prefetch: u64,
    /// Next batch to hand out.
    wanted: u64,
    /// Next batch to give to the threads.
    ordered: u64,
    /// Batches under way.
    open: BTreeMap<u64, Assembly>,
    /// Bad images that were reported.
    reported: BTreeSet<usize>,
    over: bool,
    /// `None` once the threads are to end.
    jobs: Option<Sender<Piece>>,
    results: Receiver<Result<ReadyPiece, DataError>>,
    threads: Vec<JoinHandle<()>>,
    /// Why no thread could be started.
    start_error: Option<DataError>,
}

enum Sampling {
    Train(TrainOrder),
    /// Every image once.
    Validation,
}

/// A batch whose parts arrive in any order.
struct Assembly {
    images: Vec<u8>,
    indices: Vec<usize>,
    missing: usize,
    bad: Vec<usize>,
}

impl Loader {
    /// Endless shuffled and augmented batches, the first one being global batch `start_batch`. Batch
    /// `g` is the same whatever batch a loader starts with and however many threads it has.
    pub fn train(
        source: Source,
        config: LoaderConfig,
        epoch_batches: u64,
        start_batch: u64,
    ) -> Self {
        let order =
            TrainOrder::new(source.len(), config.seed, config.batch_size.max(1), epoch_batches);
        let augment = Some(config.augment);
        Self::start(source, &config, Sampling::Train(order), augment, start_batch)
    }

    /// Every image once, in order, the centre of each; the last batch may be short.
    pub fn validation(source: Source, config: LoaderConfig) -> Self {
        Self::start(source, &config, Sampling::Validation, None, 0)
    }

    fn start(
        source: Source,
        config: &LoaderConfig,
        order: Sampling,
        augment: Option<Augment>,
        first: u64,
    ) -> Self {
        let shared = Arc::new(Shared::new(source, config.image_size.max(1), config.seed, augment));
        let (jobs, incoming) = unbounded();
        let (outgoing, results) = unbounded();
        let mut threads = Vec::new();
        let mut start_error = None;
        for number in 0..config.workers.max(1) {
            let (shared, incoming, outgoing) =
                (Arc::clone(&shared), incoming.clone(), outgoing.clone());
            let thread = std::thread::Builder::new().name(format!("loader-{number}"));
            match thread.spawn(move || shared.work(&incoming, &outgoing)) {
                Ok(handle) => threads.push(handle),
                Err(error) if threads.is_empty() => {
                    start_error =
                        Some(DataError::Worker { message: format!("cannot start one: {error}") });
                    break;
                }
                // Fewer threads make the same batches, only later.
                Err(_) => break,
            }
        }
        let mut loader = Self {
            shared,
            order,
            batch_size: config.batch_size.max(1),
            workers: threads.len().max(1),
            prefetch: config.prefetch.max(1) as u64,
            wanted: first,
            ordered: first,
            open: BTreeMap::new(),
            reported: BTreeSet::new(),
            over: false,
            jobs: Some(jobs),
            results,
            threads,
            start_error,
        };
        loader.request_until(first.saturating_add(loader.prefetch));
        loader
    }

    /// The next batch; waits for it. `None` after the last validation batch, and after an error.
    ///
    /// # Errors
    /// No image of the source can be read, the source is empty, or a thread panicked.
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
            let done = self.results.recv().map_err(|_| DataError::Worker {
                message: "all of them ended before the batch was made".to_owned(),
            })?;
            self.place(done?);
        }
        Ok(self.open.remove(&self.wanted).map(|assembly| self.finish(assembly)))
    }

    /// Gives the threads all batches before `end` that they don't have yet.
    fn request_until(&mut self, end: u64) {
        while self.ordered < end {
            let batch = self.ordered;
            let indices = self.indices(batch);
            if indices.is_empty() {
                return;
            }
            let first_sample = batch * self.batch_size as u64;
            let bytes = self.shared.size * self.shared.size * 3;
            // Parts of a batch go to all threads, so that the first batch is there soon too.
            let part = indices.len().div_ceil(self.workers);
            for (number, chunk) in indices.chunks(part).enumerate() {
                let offset = number * part;
                let job = Piece {
                    batch,
                    offset,
                    first_sample: first_sample + offset as u64,
                    indices: chunk.to_vec(),
                };
                // It fails when all threads have ended; waiting for the results finds out why.
                let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
            }
            let missing = indices.len();
            let images = vec![0; missing * bytes];
            self.open.insert(batch, Assembly { images, indices, missing, bad: Vec::new() });
            self.ordered += 1;
        }
    }

    /// The images of a batch; empty past the end.
    fn indices(&mut self, batch: u64) -> Vec<usize> {
        let images = self.shared.source.len();
        match &mut self.order {
            _ if images == 0 => Vec::new(),
            Sampling::Train(order) => order.batch(batch),
            Sampling::Validation => {
                let first = usize::try_from(batch).unwrap_or(usize::MAX);
                let first = first.saturating_mul(self.batch_size).min(images);
                (first..first.saturating_add(self.batch_size).min(images)).collect()
            }
        }
    }

    fn place(&mut self, done: ReadyPiece) {
        let Some(assembly) = self.open.get_mut(&done.batch) else { return };
        let count = done.indices.len();
        let bytes = self.shared.size * self.shared.size * 3;
        let (from, to) = (done.offset, done.offset + count);
        assembly.images[from * bytes..to * bytes].copy_from_slice(&done.images);
        assembly.indices[from..to].copy_from_slice(&done.indices);
        assembly.missing -= count;
        assembly.bad.extend(done.bad);
    }

    fn finish(&mut self, assembly: Assembly) -> Batch {
        let Assembly { images, indices, mut bad, .. } = assembly;
        // By number, not by arrival, so that reports don't depend on timing either.
        bad.sort_unstable();
        bad.retain(|&index| self.reported.insert(index));
        let skipped = bad.into_iter().filter_map(|index| self.shared.reason(index)).collect();
        let first_sample = self.wanted * self.batch_size as u64;
        self.wanted += 1;
        Batch { images, indices, first_sample, skipped }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.stop();
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // Panics inside a job are caught there; there is no one left to tell of another.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[path = "loader_tests.rs"]
mod tests;
