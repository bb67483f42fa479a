//! Keeps decoded images in memory, up to a limit.
//!
//! The cache fills up and never evicts. Every epoch visits all images in a new order, so the least
//! recently used image is as likely to come next as any other. Eviction would only replace one hit by
//! another, at the price of a decode.

use super::{ImageError, ImageSource, Source};
use crate::text::units::{bytes, percent};
use image::RgbImage;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Images after which it is known how many of them there is room for.
const ENOUGH: usize = 64;
/// A cache that would hold a smaller share of the images stays empty: it would cost its memory for nothing.
const LEAST_SHARE: f64 = 0.02;
/// A cache that holds this share is as good as one that holds all.
const LARGE_SHARE: f64 = 0.95;

/// Memory that caches may use, in bytes. All clones share the same budget.
#[derive(Clone)]
pub struct Budget {
    total: usize,
    uses: Arc<CacheUses>,
}

/// What caches have made of their memory.
struct CacheUses {
    /// Bytes that are free.
    left: AtomicUsize,
    /// Images that are held.
    held: AtomicUsize,
    /// Images of all sources.
    images: AtomicUsize,
    /// An image found no room.
    full: AtomicBool,
    /// So few of the images would find room that none are taken any more.
    useless: AtomicBool,
}

impl Budget {
    /// Returns a budget of `count` MiB.
    pub fn mebibytes(count: usize) -> Self {
        Self::bytes(count.saturating_mul(1 << 20))
    }

    /// Returns a budget of `total` bytes.
    pub fn bytes(total: usize) -> Self {
        let uses = CacheUses {
            left: AtomicUsize::new(total),
            held: AtomicUsize::new(0),
            images: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            useless: AtomicBool::new(false),
        };
        Self { total, uses: Arc::new(uses) }
    }

    /// Returns the number of bytes that are still free.
    pub fn left(&self) -> usize {
        self.uses.left.load(Ordering::Relaxed)
    }

    /// Puts a cache that draws on this budget in front of `source`. Returns `source` itself if the
    /// budget is 0.
    pub fn wrap(&self, source: Source) -> Source {
        if self.total == 0 { source } else { Arc::new(Cached::new(source, self.clone())) }
    }

    /// Returns one line on a cache that helps little, as soon as that is known: of how many images it saves the
    /// decoding.
    pub fn shortage(&self) -> Option<String> {
        let [full, useless] =
            [&self.uses.full, &self.uses.useless].map(|flag| flag.load(Ordering::Relaxed));
        let held = self.uses.held.load(Ordering::Relaxed);
        let images = self.uses.images.load(Ordering::Relaxed);
        if !(full || useless) || held == 0 {
            return None;
        }
        let needed = self.mean_bytes(held) * images as f64;
        let share = self.total as f64 / needed;
        let mib = self.total >> 20;
        if useless {
            return Some(format!(
                "the cache of decoded images stays unused: data.cache_mib = {mib} would hold {} of the {images} images, \
                 all of them take {}",
                percent(share),
                bytes(needed as u64)
            ));
        }
        let share = held as f64 / images as f64;
        (share < LARGE_SHARE).then(|| {
            format!(
                "the cache of decoded images is full with {} of them ({held} of {images}), the others are decoded each \
                 time: data.cache_mib is {mib}, all of them take {}",
                percent(share),
                bytes(needed as u64)
            )
        })
    }

    /// Returns the mean size of the `held` images, in bytes.
    fn mean_bytes(&self, held: usize) -> f64 {
        self.total.saturating_sub(self.left()) as f64 / held as f64
    }

    /// Takes memory for an image out of the budget. Returns `false` and takes nothing if there is too little left, or
    /// if it isn't worth it.
    fn take(&self, bytes: usize) -> bool {
        if self.uses.useless.load(Ordering::Relaxed) {
            return false;
        }
        let rest = |left: usize| left.checked_sub(bytes);
        if self.uses.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_err() {
            self.uses.full.store(true, Ordering::Relaxed);
            return false;
        }
        let held = self.uses.held.fetch_add(1, Ordering::Relaxed) + 1;
        if held == ENOUGH {
            let images = self.uses.images.load(Ordering::Relaxed) as f64;
            let share = self.total as f64 / (self.mean_bytes(held) * images);
            self.uses.useless.store(share < LEAST_SHARE, Ordering::Relaxed);
        }
        true
    }

    fn give_back(&self, bytes: usize) {
        self.uses.left.fetch_add(bytes, Ordering::Relaxed);
        self.uses.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Parts of a cache that threads use at the same time.
const PARTS: usize = 64;

/// A source that remembers what it decoded. Only images that are held take memory, however many there are.
pub struct Cached {
    source: Source,
    /// The images that are held, by index; image `i` is in part `i % PARTS`.
    parts: Vec<Mutex<HashMap<usize, Arc<RgbImage>>>>,
    budget: Budget,
}

impl Cached {
    /// Returns an empty cache in front of `source`.
    pub fn new(source: Source, budget: Budget) -> Self {
        budget.uses.images.fetch_add(source.len(), Ordering::Relaxed);
        let parts = std::iter::repeat_with(Mutex::default).take(PARTS).collect();
        Self { source, parts, budget }
    }

    fn part(&self, index: usize) -> MutexGuard<'_, HashMap<usize, Arc<RgbImage>>> {
        // A thread that panics can't leave a map half changed.
        self.parts[index % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
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
        if let Some(image) = self.part(index).get(&index) {
            return Ok(Arc::clone(image));
        }
        let image = self.source.read(index)?;
        let bytes = image.as_raw().capacity();
        // Another thread may have cached the same image meanwhile.
        if self.budget.take(bytes) && self.part(index).insert(index, Arc::clone(&image)).is_some() {
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

    fn shards(&self) -> Vec<usize> {
        self.source.shards()
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
            cached.iter().flat_map(|c| &c.parts).map(|part| part.lock().unwrap().len()).sum();
        assert_eq!((held, budget.left()), (5, 7));
        let reads: usize = sources.iter().map(|s| s.reads.load(Ordering::SeqCst)).sum();
        assert_eq!(reads, 8 + 2 * 3, "the three images without room are decoded each time");
    }

    #[test]
    fn a_cache_that_helps_little_says_so_and_one_that_helps_not_at_all_stays_empty() {
        let read = |budget: &Budget, images: usize| {
            let source: Source = Arc::new(Numbered::new(images, &[]));
            let source = budget.wrap(source);
            (0..images).for_each(|image| drop(source.read(image).unwrap()));
        };
        let small = Budget::bytes(IMAGE * 100 + 5);
        read(&small, 400);
        let said = small.shortage().expect("it holds a quarter");
        assert!(said.contains("full with 25.0 % of them (100 of 400)"), "{said}");
        let tiny = Budget::bytes(IMAGE * 80);
        read(&tiny, 8000);
        let said = tiny.shortage().expect("it holds 1 %");
        assert!(
            said.contains("stays unused") && said.contains("1.0 % of the 8000 images"),
            "{said}"
        );
        assert_eq!(tiny.left(), IMAGE * (80 - ENOUGH), "nothing is taken once that is known");
        let large = Budget::bytes(IMAGE * 400);
        read(&large, 400);
        assert_eq!((large.shortage(), large.left()), (None, 0));
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
