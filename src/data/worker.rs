//! The work of one loader thread: it reads images and writes their pixels.

use super::augment::{Augment, Scratch, val_view};
use super::{DataError, ImageError, Source};
use crate::rng::{Purpose, stream};
use crossbeam_channel::{Receiver, Sender};
use image::RgbImage;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Consecutive samples of one batch: the unit of work of a thread.
pub struct Piece {
    /// Number of the batch, counted from the start of the run.
    pub batch: u64,
    /// Position of the first sample in the batch.
    pub offset: usize,
    /// Number of the first sample, counted from the start of the run.
    pub first_sample: u64,
    /// Index in the source of the image of each sample.
    pub indices: Vec<usize>,
}

/// The pixels of a [`Piece`].
pub struct ReadyPiece {
    /// As [`Piece::batch`].
    pub batch: u64,
    /// As [`Piece::offset`].
    pub offset: usize,
    /// Row-major 8-bit RGB. `[len, size, size, 3]`
    pub images: Vec<u8>,
    /// Index in the source of each image, after unreadable ones were replaced. `[len]`
    pub indices: Vec<usize>,
    /// Indices of the unreadable images that were replaced, whether they were known before or not, and of those that
    /// were taken with a flaw.
    pub bad: Vec<usize>,
}

/// What all threads of a loader share.
pub struct Shared {
    pub source: Source,
    /// Height and width of the images, in pixels.
    pub size: usize,
    pub seed: u64,
    /// Random crops and flips for training; `None` takes the centre, for validation.
    pub augment: Option<Augment>,
    /// Unreadable images by index, so that none is decoded twice. An image gets the same substitute
    /// whether it is known to be bad or found to be bad again, so batches don't depend on timing.
    bad: Mutex<BTreeMap<usize, ImageError>>,
    /// Set when the loader is dropped.
    stop: AtomicBool,
    /// Threads that are to end and haven't yet.
    leaving: AtomicUsize,
}

impl Shared {
    pub fn new(source: Source, size: usize, seed: u64, augment: Option<Augment>) -> Self {
        Self {
            source,
            size,
            seed,
            augment,
            bad: Mutex::new(BTreeMap::new()),
            stop: AtomicBool::new(false),
            leaving: AtomicUsize::new(0),
        }
    }

    /// Lets `count` threads end, each after the piece that it is making or makes next.
    pub fn dismiss(&self, count: usize) {
        self.leaving.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes back up to `count` dismissals that no thread has followed yet. Returns how many.
    pub fn keep(&self, count: usize) -> usize {
        let rest = |leaving: usize| Some(leaving.saturating_sub(count));
        let before = self.leaving.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        before.unwrap_or(0).min(count)
    }

    /// Returns whether the thread that asks is one of those that are to end.
    fn is_dismissed(&self) -> bool {
        let one_less = |leaving: usize| leaving.checked_sub(1);
        self.leaving.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    /// Makes every thread end after the image that it is reading.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Returns what is wrong with an image, or `None` if no thread has found anything.
    pub fn reason(&self, index: usize) -> Option<ImageError> {
        let bad = self.bad().get(&index).cloned();
        bad.or_else(|| self.source.flaw(index))
    }

    /// Runs a thread: makes pieces until the loader is dropped or one of them fails.
    pub fn work(&self, pieces: &Receiver<Piece>, ready: &Sender<Result<ReadyPiece, DataError>>) {
        let mut scratch = Scratch::default();
        for piece in pieces {
            // Without the catch, a panic would leave the loader waiting for this piece forever.
            let made = catch_unwind(AssertUnwindSafe(|| self.make(piece, &mut scratch)))
                .unwrap_or_else(|panic| Err(DataError::Worker { message: panic_text(&*panic) }));
            match made {
                Ok(None) => return,
                Ok(Some(piece)) => {
                    if ready.send(Ok(piece)).is_err() || self.is_dismissed() {
                        return;
                    }
                }
                Err(error) => {
                    // The loader ends with the first error. If it was dropped, nobody needs this one.
                    let _ = ready.send(Err(error));
                    return;
                }
            }
        }
    }

    /// Makes the pixels of a piece. Returns `None` if the loader was dropped meanwhile.
    fn make(&self, piece: Piece, scratch: &mut Scratch) -> Result<Option<ReadyPiece>, DataError> {
        let Piece { batch, offset, first_sample, mut indices } = piece;
        let bytes = self.size * self.size * 3;
        let mut images = vec![0; indices.len() * bytes];
        let mut bad = Vec::new();
        let places = images.chunks_exact_mut(bytes.max(1)).zip(&mut indices);
        for (sample, (out, index)) in (first_sample..).zip(places) {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            *index = self.fill(sample, *index, scratch, out, &mut bad)?;
        }
        Ok(Some(ReadyPiece { batch, offset, images, indices, bad }))
    }

    /// Writes the view of image `wanted`, or of the next readable one, to `out`. Returns the index of
    /// the image that was taken and appends those of unreadable ones to `bad`.
    fn fill(
        &self,
        sample: u64,
        wanted: usize,
        scratch: &mut Scratch,
        out: &mut [u8],
        bad: &mut Vec<usize>,
    ) -> Result<usize, DataError> {
        let count = self.source.len();
        let mut index = wanted;
        for _ in 0..count {
            if !self.bad().contains_key(&index) {
                match self.view(sample, index, scratch, out) {
                    Ok(()) => {
                        bad.extend(self.source.flaw(index).map(|_| index));
                        return Ok(index);
                    }
                    Err(error) => drop(self.bad().insert(index, error)),
                }
            }
            bad.push(index);
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            index = (index + 1) % count;
        }
        let nothing = || ImageError::new(self.source.origin(), "no images");
        let last = bad.last().and_then(|&index| self.reason(index)).unwrap_or_else(nothing);
        Err(DataError::AllUnreadable { origin: self.source.origin(), count, last })
    }

    /// Writes the view of one image to `out`.
    fn view(
        &self,
        sample: u64,
        index: usize,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<(), ImageError> {
        let image = guarded_read(&self.source, index)?;
        let made = match &self.augment {
            Some(augment) => {
                let mut rng = stream(self.seed, Purpose::Augment, sample, 0);
                augment.train_view(&image, self.size, &mut rng, scratch, out)
            }
            None => val_view(&image, self.size, scratch, out),
        };
        made.map_err(|reason| ImageError::new(self.source.name(index), reason))
    }

    fn bad(&self) -> MutexGuard<'_, BTreeMap<usize, ImageError>> {
        // A thread that panics can't leave the map half changed.
        self.bad.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an image. If the decoder panics on a strange file, that file alone counts as unreadable and
/// the run goes on.
pub(super) fn guarded_read(source: &Source, index: usize) -> Result<Arc<RgbImage>, ImageError> {
    guarded(|| source.name(index), || source.read(index))
}

/// Does something with an image that may panic, which then is an error of this image alone.
pub(super) fn guarded<T>(
    name: impl Fn() -> String,
    act: impl FnOnce() -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let reason = format!("the decoder panicked: {}", panic_text(&*panic));
        Err(ImageError::new(name(), reason))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panic without a message").lines().collect::<Vec<_>>().join(" ")
}
