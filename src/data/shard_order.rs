//! An order of images for disks that hate random reads: shard after shard, with a buffer from which images are drawn.

use super::order::below;
use crate::rng::{Purpose, stream};
use rand_chacha::ChaCha8Rng;

/// Images that count as a shard where every image is stored by itself: neighbours in a list of files are often neighbours
/// on the disk.
const RUN: usize = 1000;

/// Permutations of the images of a source. In each one the shards come in random order, and so do their images as far as
/// the buffer reaches: it holds the next images, one of them is drawn at random, and the one after them takes its place.
///
/// A permutation is not kept, only the buffer is. An earlier image, or one of another permutation, makes it start again.
pub(super) struct ShardOrder {
    images: u32,
    /// Index of the first image of each shard, ascending from 0.
    starts: Vec<u32>,
    buffer: usize,
    seed: u64,
    current: Option<Drawing>,
}

/// How far a permutation has been drawn.
struct Drawing {
    /// Epoch and number of the permutation.
    key: (u64, u64),
    /// How many images have been drawn.
    drawn: u64,
    rng: ChaCha8Rng,
    /// Numbers of the shards that haven't been begun, the next one last.
    shards: Vec<u32>,
    /// What is left of the shard that is being read.
    rest: std::ops::Range<u32>,
    buffer: Vec<u32>,
}

impl ShardOrder {
    /// Returns the order of `images` images in shards that begin at `starts`. `buffer` is at least 1.
    pub fn new(images: u32, starts: Vec<usize>, buffer: usize, seed: u64) -> Self {
        let starts = if starts.is_empty() {
            (0..images).step_by(RUN).collect()
        } else {
            let mut starts: Vec<u32> =
                starts.into_iter().filter_map(|start| u32::try_from(start).ok()).collect();
            starts.retain(|&start| start < images);
            starts.dedup();
            starts
        };
        Self { images, starts, buffer: buffer.max(1), seed, current: None }
    }

    /// Returns the image at `place` of permutation `number` of an epoch.
    pub fn image(&mut self, epoch: u64, number: u64, place: u64) -> usize {
        let key = (epoch, number);
        let mut drawing = match self.current.take() {
            Some(drawing) if drawing.key == key && drawing.drawn <= place => drawing,
            _ => self.begin(key),
        };
        while drawing.drawn < place {
            self.draw(&mut drawing);
        }
        let image = self.draw(&mut drawing);
        self.current = Some(drawing);
        image as usize
    }

    fn begin(&self, key: (u64, u64)) -> Drawing {
        let mut rng = stream(self.seed, Purpose::Shuffle, key.0, key.1);
        let mut shards: Vec<u32> = (0..self.starts.len() as u32).collect();
        for last in (1..shards.len()).rev() {
            let other = below(&mut rng, last + 1);
            shards.swap(last, other);
        }
        let mut drawing = Drawing { key, drawn: 0, rng, shards, rest: 0..0, buffer: Vec::new() };
        while drawing.buffer.len() < self.buffer {
            let Some(image) = self.next(&mut drawing) else { break };
            drawing.buffer.push(image);
        }
        drawing
    }

    /// Returns the next image in the order of the shards.
    fn next(&self, drawing: &mut Drawing) -> Option<u32> {
        loop {
            if let Some(image) = drawing.rest.next() {
                return Some(image);
            }
            let shard = drawing.shards.pop()? as usize;
            let end = self.starts.get(shard + 1).copied().unwrap_or(self.images);
            drawing.rest = self.starts[shard]..end;
        }
    }

    fn draw(&self, drawing: &mut Drawing) -> u32 {
        drawing.drawn += 1;
        let chosen = below(&mut drawing.rng, drawing.buffer.len());
        match self.next(drawing) {
            Some(next) => std::mem::replace(&mut drawing.buffer[chosen], next),
            None => drawing.buffer.swap_remove(chosen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTS: [usize; 5] = [0, 30, 30, 55, 90];

    fn order(buffer: usize) -> ShardOrder {
        ShardOrder::new(100, STARTS.to_vec(), buffer, 7)
    }

    fn permutation(order: &mut ShardOrder, epoch: u64) -> Vec<usize> {
        (0..100).map(|place| order.image(epoch, 0, place)).collect()
    }

    #[test]
    fn every_image_comes_up_once_whatever_the_buffer() {
        for buffer in [1, 2, 10, 99, 100, 1000] {
            let mut order = order(buffer);
            let (first, second) = (permutation(&mut order, 0), permutation(&mut order, 1));
            assert_ne!(first, second, "each epoch has its own order");
            for mut images in [first, second] {
                images.sort_unstable();
                assert_eq!(images, (0..100).collect::<Vec<_>>(), "{buffer}");
            }
        }
    }

    #[test]
    fn a_buffer_of_one_reads_shard_by_shard() {
        let images = permutation(&mut order(1), 3);
        let jumps: Vec<usize> =
            images.windows(2).filter(|pair| pair[1] != pair[0] + 1).map(|pair| pair[1]).collect();
        // Two shards that lie side by side may come one after the other.
        assert!((1..=3).contains(&jumps.len()), "{jumps:?}");
        assert!(jumps.iter().all(|jump| STARTS.contains(jump)), "{jumps:?}");
    }

    #[test]
    fn an_image_is_drawn_at_most_a_buffer_after_it_was_due() {
        let (images, buffer) = (permutation(&mut order(10), 0), 10);
        let sequence = permutation(&mut order(1), 0); // the same shards without a buffer
        for (place, image) in images.iter().enumerate() {
            let due = sequence.iter().position(|other| other == image).unwrap();
            assert!(due < place + buffer, "image {image} was not in the buffer at {place}");
        }
        let order_within: Vec<_> = images.iter().filter(|&&image| image < 30).collect();
        assert!(!order_within.is_sorted());
    }

    #[test]
    fn any_place_can_be_asked_for_first() {
        let all = permutation(&mut order(10), 2);
        for place in [99, 0, 57, 3] {
            assert_eq!(order(10).image(2, 0, place), all[place as usize]);
        }
        let mut back = order(10);
        assert_eq!([50, 20].map(|place| back.image(2, 0, place)), [all[50], all[20]]);
    }

    #[test]
    fn images_without_shards_come_in_runs() {
        let mut order = ShardOrder::new(2500, Vec::new(), 1, 7);
        let mut images: Vec<usize> = (0..2500).map(|place| order.image(0, 0, place)).collect();
        assert_eq!(images.windows(2).filter(|pair| pair[1] != pair[0] + 1).count(), 2);
        assert_ne!(images[0], 0);
        images.sort_unstable();
        assert_eq!(images, (0..2500).collect::<Vec<_>>());
    }
}
