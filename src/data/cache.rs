//! Keeps decoded images in memory, up to a limit.
//!
//! The cache fills up and never evicts. Every epoch visits all images in a new order, so the least
//! recently used image is as likely to come next as any other. Eviction would only replace one hit by
//! another, at the price of a decode.

use super::{ImageError, ImageSource, Source};
use image::RgbImage;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory that caches may use, in bytes. All clones share the same budget.
#[derive(Clone)]
pub struct Budget {
    total: usize,
    left: Arc<AtomicUsize>,
}

impl Budget {
    /// Returns a budget of `count` MiB.
    pub fn mebibytes(count: usize) -> Self {
        Self::bytes(count.saturating_mul(1 << 20))
    }

    /// Returns a budget of `total` bytes.
    pub fn bytes(total: usize) -> Self {
        Self { total, left: Arc::new(AtomicUsize::new(total)) }
    }

    /// Returns the number of bytes that are still free.
    #[cfg(test)]
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Puts a cache that draws on this budget in front of `source`. Returns `source` itself if the
    /// budget is 0.
    pub fn wrap(&self, source: Source) -> Source {
        if self.total == 0 { source } else { Arc::new(Cached::new(source, self.clone())) }
    }

    /// Takes memory out of the budget. Returns `false` and takes nothing if there is too little left.
    fn take(&self, bytes: usize) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// An image is kept if at least one in this many of its size would fit. With fewer, hardly any reading is spared, and the
/// system's own cache of files makes more of the memory.
const ONE_IN: usize = 50;
/// Parts of a cache that threads use at the same time.
const SHARDS: usize = 64;

/// A source that remembers what it decoded. Only images that are held take memory, however many there are.
pub struct Cached {
    source: Source,
    /// The images that are held, by index; image `i` is in shard `i % SHARDS`.
    shards: Vec<Mutex<HashMap<usize, Arc<RgbImage>>>>,
    budget: Budget,
}

impl Cached {
    /// Returns an empty cache in front of `source`.
    pub fn new(source: Source, budget: Budget) -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { source, shards, budget }
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, HashMap<usize, Arc<RgbImage>>> {
        // A thread that panics can't leave a map half changed.
        self.shards[index % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ImageSource for Cached {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(index)
    }

    fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError> {
        if let Some(image) = self.shard(index).get(&index) {
            return Ok(Arc::clone(image));
        }
        let image = self.source.read(index)?;
        let bytes = image.as_raw().capacity();
        let all = bytes.saturating_mul(self.source.len());
        let pays = all / ONE_IN <= self.budget.total;
        // Another thread may have cached the same image meanwhile.
        if pays
            && self.budget.take(bytes)
            && self.shard(index).insert(index, Arc::clone(&image)).is_some()
        {
            self.budget.give_back(bytes);
        }
        Ok(image)
    }

    fn encoded(&self, index: usize) -> Option<Result<Vec<u8>, ImageError>> {
        self.source.encoded(index)
    }

    fn flaw(&self, index: usize) -> Option<ImageError> {
        self.source.flaw(index)
    }

    fn key(&self, index: usize) -> String {
        self.source.key(index)
    }

    fn bytes(&self, index: usize) -> u64 {
        self.source.bytes(index)
    }

    fn origin(&self) -> String {
        self.source.origin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures::Numbered;

    /// One image of `Numbered`: 20 x 16 pixels.
    const IMAGE: usize = 20 * 16 * 3;

    #[test]
    fn a_second_reading_does_not_decode() {
        let source = Arc::new(Numbered::new(4, &[]));
        let cached = Cached::new(source.clone(), Budget::bytes(IMAGE * 10));
        let first: Vec<_> = (0..4).map(|i| cached.read(i).unwrap()).collect();
        let second: Vec<_> = (0..4).map(|i| cached.read(i).unwrap()).collect();
        assert_eq!(first, second);
        assert_eq!(source.reads.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn the_bound_holds_over_all_sources_that_share_it() {
        let budget = Budget::bytes(IMAGE * 5 + 7);
        let sources = [Arc::new(Numbered::new(4, &[])), Arc::new(Numbered::new(4, &[]))];
        let cached = sources.clone().map(|s| Cached::new(s, budget.clone()));
        for _ in 0..3 {
            for image in 0..4 {
                for cache in &cached {
                    assert_eq!(cache.read(image).unwrap().get_pixel(0, 0).0[2], image as u8);
                }
            }
        }
        let held: usize =
            cached.iter().flat_map(|c| &c.shards).map(|shard| shard.lock().unwrap().len()).sum();
        assert_eq!((held, budget.left()), (5, 7));
        let reads: usize = sources.iter().map(|s| s.reads.load(Ordering::SeqCst)).sum();
        assert_eq!(reads, 8 + 2 * 3, "the three images without room are decoded each time");
    }

    #[test]
    fn where_hardly_any_would_fit_none_is_kept() {
        for (images, kept) in [(500, true), (501, false)] {
            let budget = Budget::bytes(IMAGE * 10);
            let cached = Cached::new(Arc::new(Numbered::new(images, &[])), budget.clone());
            cached.read(0).unwrap();
            assert_eq!(budget.left() < IMAGE * 10, kept, "{images}");
        }
    }

    #[test]
    fn threads_that_race_for_an_image_do_not_leak_budget() {
        let budget = Budget::bytes(IMAGE * 100);
        let cached = Cached::new(Arc::new(Numbered::new(6, &[])), budget.clone());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..6).for_each(|i| drop(cached.read(i).unwrap())));
            }
        });
        assert_eq!(budget.left(), IMAGE * 94);
    }

    #[test]
    fn errors_pass_and_a_budget_of_zero_means_no_cache() {
        let bad: Source = Arc::new(Numbered::new(2, &[1]));
        let cached = Budget::mebibytes(1).wrap(Arc::clone(&bad));
        assert_eq!(cached.read(1).unwrap_err().name, "numbered#1");
        assert!(Arc::ptr_eq(&Budget::mebibytes(0).wrap(Arc::clone(&bad)), &bad));
    }
}
