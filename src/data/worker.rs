//! The work of one loader thread: samples in, pixels out.

use super::augment::{Augment, Scratch, val_view};
use super::{DataError, ImageError, Source};
use crate::rng::{Purpose, stream};
use crossbeam_channel::{Receiver, Sender};
use image::RgbImage;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A run of samples of one batch.
pub struct Piece {
    pub batch: u64,
    /// Place of the first sample within the batch.
    pub offset: usize,
    /// Number of the first sample since the start of the run.
    pub first_sample: u64,
    /// The images in question.
    pub indices: Vec<usize>,
}

/// A finished [`Piece`].
pub struct ReadyPiece {
    pub batch: u64,
    pub offset: usize,
    /// `[len, size, size, 3]`.
    pub images: Vec<u8>,
    /// The images that were taken, after substitution.
    pub indices: Vec<usize>,
    /// The unreadable images that were passed over, known before or not.
    pub bad: Vec<usize>,
}

/// What all threads of a loader share.
pub struct Shared {
    pub source: Source,
    pub size: usize,
    pub seed: u64,
    /// `None`: the centre view of validation.
    pub augment: Option<Augment>,
    /// Unreadable images, so that none is decoded twice. Passing over a known one and finding it bad
    /// anew lead to the same substitute, so the threads' timing can't show in a batch.
    bad: Mutex<BTreeMap<usize, ImageError>>,
    stop: AtomicBool,
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
        }
    }

    /// Makes the threads leave after the image at hand.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Why an image was passed over.
    pub fn reason(&self, index: usize) -> Option<ImageError> {
        self.bad().get(&index).cloned()
    }

    /// The body of a thread; returns when the loader is gone.
    pub fn work(&self, jobs: &Receiver<Piece>, results: &Sender<Result<ReadyPiece, DataError>>) {
        let mut scratch = Scratch::default();
        for job in jobs {
            // A panicking decoder would leave the loader waiting for this job forever.
            let done = catch_unwind(AssertUnwindSafe(|| self.make(job, &mut scratch)))
                .unwrap_or_else(|panic| Err(DataError::Worker { message: panic_text(&*panic) }));
            match done {
                Ok(None) => return,
                Ok(Some(done)) => {
                    if results.send(Ok(done)).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // The loader ends with the first error; if it is gone already, nobody needs it.
                    let _ = results.send(Err(error));
                    return;
                }
            }
        }
    }

    /// `None` if the loader stopped meanwhile.
    fn make(&self, job: Piece, scratch: &mut Scratch) -> Result<Option<ReadyPiece>, DataError> {
        let Piece { batch, offset, first_sample, mut indices } = job;
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

    /// Writes the view of image `wanted`, or of the next one that can be read; returns which it was.
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
                    Ok(()) => return Ok(index),
                    Err(error) => drop(self.bad().insert(index, error)),
                }
            }
            bad.push(index);
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            index = (index + 1) % count;
        }
        let nothing = || ImageError { name: self.source.origin(), reason: "no images".to_owned() };
        let last = bad.last().and_then(|&index| self.reason(index)).unwrap_or_else(nothing);
        Err(DataError::AllUnreadable { origin: self.source.origin(), count, last })
    }

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
        made.map_err(|reason| ImageError { name: self.source.name(index), reason })
    }

    fn bad(&self) -> MutexGuard<'_, BTreeMap<usize, ImageError>> {
        // A map of errors is whole after each insert, whichever thread panicked.
        self.bad.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an image; a decoder that panics on a strange file costs that file, not the run.
pub(super) fn guarded_read(source: &Source, index: usize) -> Result<Arc<RgbImage>, ImageError> {
    catch_unwind(AssertUnwindSafe(|| source.read(index))).unwrap_or_else(|panic| {
        let reason = format!("the decoder panicked: {}", panic_text(&*panic));
        Err(ImageError { name: source.name(index), reason })
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panic without a message").lines().collect::<Vec<_>>().join(" ")
}
