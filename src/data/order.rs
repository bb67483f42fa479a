//! The order of training images: a pure function of seed and batch number.

use super::indices::Indices;
use super::shard_order::ShardOrder;
use crate::rng::{Purpose, stream};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// The order of the training images, without end.
///
/// Epoch `e` is the concatenation of the permutations `(e, 0)`, `(e, 1)`, … of all images, cut off
/// after `epoch_batches · batch_size` samples.
pub struct TrainOrder {
    images: usize,
    seed: u64,
    batch_size: usize,
    epoch_batches: u64,
    /// The permutation that was used last, with its epoch and number.
    current: Option<((u64, u64), Indices)>,
    /// What makes the permutations if all images at random isn't wanted.
    shards: Option<ShardOrder>,
}

impl TrainOrder {
    /// Returns the order of `images` images. `images` and `batch_size` are at least 1; an
    /// `epoch_batches` of 0 counts as 1.
    pub fn new(images: usize, seed: u64, batch_size: usize, epoch_batches: u64) -> Self {
        let images = images.min(u32::MAX as usize); // more would take hundreds of gigabytes
        let epoch_batches = epoch_batches.max(1);
        Self { images, seed, batch_size, epoch_batches, current: None, shards: None }
    }

    /// Takes the images shard by shard. `starts` are the first images of the shards.
    #[must_use]
    pub fn by_shards(self, starts: Vec<usize>, buffer: usize) -> Self {
        let shards = ShardOrder::new(self.images as u32, starts, buffer, self.seed);
        Self { shards: Some(shards), ..self }
    }

    /// Returns the indices of the images of global batch `batch`. `[batch_size]`
    pub fn batch(&mut self, batch: u64) -> Vec<usize> {
        let epoch = batch / self.epoch_batches;
        let first = (batch % self.epoch_batches) * self.batch_size as u64;
        let images = self.images as u64;
        (first..first + self.batch_size as u64)
            .filter_map(|place| self.image(epoch, place / images, place % images))
            .collect()
    }

    fn image(&mut self, epoch: u64, number: u64, place: u64) -> Option<usize> {
        if let Some(shards) = &mut self.shards {
            return Some(shards.image(epoch, number, place));
        }
        self.permutation(epoch, number).get(place as usize)
    }

    fn permutation(&mut self, epoch: u64, number: u64) -> &Indices {
        let wanted = (epoch, number);
        let stale = self.current.as_ref().is_none_or(|(key, _)| *key != wanted);
        if stale {
            self.current = None;
        }
        let (images, seed) = (self.images, self.seed);
        &self.current.get_or_insert_with(|| (wanted, permutation(images, seed, epoch, number))).1
    }
}

/// Shuffles `0..images` by Fisher–Yates, which is written out here so that no release of `rand` changes a
/// run.
pub(crate) fn permutation(images: usize, seed: u64, epoch: u64, number: u64) -> Indices {
    let mut rng = stream(seed, Purpose::Shuffle, epoch, number);
    let mut order = Indices::all(images);
    for last in (1..images).rev() {
        let other = below(&mut rng, last + 1);
        order.swap(last, other);
    }
    order
}

/// Returns a random number below `end`.
pub(super) fn below(rng: &mut ChaCha8Rng, end: usize) -> usize {
    ((u128::from(rng.next_u64()) * end as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(order: &mut TrainOrder, number: u64) -> Vec<usize> {
        let batches = order.epoch_batches;
        (number * batches..(number + 1) * batches).flat_map(|b| order.batch(b)).collect()
    }

    #[test]
    fn an_epoch_that_fits_shows_every_image_once() {
        let mut order = TrainOrder::new(12, 7, 4, 3);
        let (mut first, mut second) = (epoch(&mut order, 0), epoch(&mut order, 1));
        assert_ne!(first, second, "each epoch has its own order");
        first.sort_unstable();
        second.sort_unstable();
        assert_eq!(first, (0..12).collect::<Vec<_>>());
        assert_eq!(first, second);
    }

    #[test]
    fn a_long_epoch_strings_whole_permutations_together() {
        let mut order = TrainOrder::new(5, 1, 4, 4);
        let samples = epoch(&mut order, 2);
        for block in samples.chunks(5).take(3) {
            let mut sorted = block.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
        }
        assert_eq!(samples.len(), 16);
    }

    #[test]
    fn any_batch_can_be_asked_for_first() {
        let mut whole = TrainOrder::new(7, 3, 3, 5);
        let all: Vec<_> = (0..20).map(|b| whole.batch(b)).collect();
        for batch in [19, 4, 11, 0] {
            let alone = TrainOrder::new(7, 3, 3, 5).batch(batch);
            assert_eq!(alone, all[batch as usize]);
        }
    }

    #[test]
    fn shards_keep_what_holds_of_epochs_and_batches() {
        let new = || TrainOrder::new(12, 7, 5, 4).by_shards(vec![0, 4, 9], 3);
        let mut whole = new();
        let all: Vec<_> = (0..12).map(|batch| whole.batch(batch)).collect();
        for batch in [11, 3, 7, 0] {
            assert_eq!(new().batch(batch), all[batch as usize]);
        }
        let mut first: Vec<usize> = all[..4].concat()[..12].to_vec();
        first.sort_unstable();
        assert_eq!(first, (0..12).collect::<Vec<_>>(), "an epoch strings permutations together");
        assert_ne!(all[..4], all[4..8]);
        assert_ne!(all[0], TrainOrder::new(12, 7, 5, 4).batch(0));
    }

    #[test]
    fn the_seed_changes_the_order_and_one_image_is_no_special_case() {
        assert_ne!(TrainOrder::new(40, 1, 40, 1).batch(0), TrainOrder::new(40, 2, 40, 1).batch(0));
        assert_eq!(TrainOrder::new(1, 1, 3, 2).batch(9), [0, 0, 0]);
    }
}
