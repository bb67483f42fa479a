//! Chooses some images of a source by a hash of their names: a validation set, or a sample.

use super::indices::Indices;
use super::worker::guarded_read;
use super::{ImageError, ImageSource, Source};
use image::RgbImage;
use rayon::prelude::*;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Some images of a source.
pub struct Subset {
    source: Source,
    /// Indices in `source`, ascending.
    indices: Indices,
}

/// The two parts that a source was divided into.
pub struct SplitParts {
    pub train: Source,
    pub val: Source,
    /// What people should know about the parts.
    pub note: Option<String>,
}

/// Divides `source` into a training and a validation set. Of n images, `round(fraction · n)` go to the
/// latter, but at least one and never all. A single image serves as both.
///
/// The validation set consists of the images with the smallest hash of their key, so that the choice
/// needs no seed and hardly changes when images are added. If none of them can be read, or none has a label while
/// others have, it gets one that can and has.
pub fn split(source: &Source, fraction: f64) -> SplitParts {
    let images = source.len();
    if images < 2 {
        let note = (images == 1).then(|| format!("there is one image alone: {ALSO}"));
        return SplitParts { train: Arc::clone(source), val: Arc::clone(source), note };
    }
    let held_out = ((fraction * images as f64).round() as usize).clamp(1, images - 1);
    let mut order: Vec<(u64, usize)> = (0..images)
        .into_par_iter()
        .map(|index| (xxh3_64(source.key(index).as_bytes()), index))
        .collect();
    order.par_sort_unstable();
    let indices = |part: &[(u64, usize)]| part.iter().map(|&(_, index)| index).collect();
    let (mut val, mut train): (Indices, Indices) =
        (indices(&order[..held_out]), indices(&order[held_out..]));
    drop(order);
    let note = balance(source, &mut train, &mut val);
    let subset = |mut indices: Indices| -> Source {
        indices.sort();
        Arc::new(Subset { source: Arc::clone(source), indices })
    };
    SplitParts { train: subset(train), val: subset(val), note }
}

/// What it means if training and validation have the same image.
const ALSO: &str = "it is the training and the validation set, and the validation loss says nothing of other images";

/// Sees to it that each part has an image that can be read, and one with a label if there are labels.
fn balance(source: &Source, train: &mut Indices, val: &mut Indices) -> Option<String> {
    let readable = |&index: &usize| guarded_read(source, index).is_ok();
    let labelled = |index: &usize| source.label(*index).is_some() && readable(index);
    for _ in 0..2 {
        give_one(val, train, labelled); // there may be too few labels for that
        std::mem::swap(val, train);
    }
    for _ in 0..2 {
        if !give_one(val, train, readable)
            && let Some(only) = train.iter().find(readable)
        {
            val.push(only);
            return Some(format!("{} alone can be read: {ALSO}", source.name(only)));
        }
        std::mem::swap(val, train);
    }
    None
}

/// Moves the first good image of `other` to `part` if there is none yet. Leaves `other` its last good one. Returns
/// whether `part` has a good image then.
fn give_one(part: &mut Indices, other: &mut Indices, good: impl Fn(&usize) -> bool) -> bool {
    if part.iter().any(|index| good(&index)) {
        return true;
    }
    let mut found = other.iter().enumerate().filter(|(_, index)| good(index)).map(|(at, _)| at);
    let (first, second) = (found.next(), found.next());
    drop(found);
    let (Some(at), Some(_)) = (first, second) else { return false };
    part.push(other.remove(at));
    true
}

/// Returns `count` images of a source in its order, or all if there are fewer. The images with the smallest
/// hash of their key are taken: they are the same ones every time, and they come from all over a source
/// that is sorted by class.
#[cfg(feature = "tui")]
pub fn sample(source: &Source, count: usize) -> Source {
    spread(source, (0..source.len()).collect(), count)
}

/// Returns `count` of the images that have a label, chosen by the smallest hash of their key, in the order
/// of the source.
pub fn labelled_sample(source: &Source, count: usize) -> Source {
    let labelled = (0..source.len()).filter(|&index| source.label(index).is_some());
    spread(source, labelled.collect(), count)
}

/// Returns `count` of these images, chosen by the smallest hash of their key.
fn spread(source: &Source, mut indices: Vec<usize>, count: usize) -> Source {
    if indices.len() > count {
        indices.sort_by_cached_key(|&index| (xxh3_64(source.key(index).as_bytes()), index));
        indices.truncate(count);
        indices.sort_unstable();
    }
    if indices.len() == source.len() {
        return Arc::clone(source);
    }
    Arc::new(Subset::of(source, indices))
}

/// Returns the indices of `count` images, ascending, or of all if there are fewer. Each class gives equally many, as far
/// as it has them; the images without a label are one more class. Of a class the images with the smallest hash of their
/// key are taken, so that a smaller choice is a part of every larger one and added images change little.
///
/// Beside the choice itself this takes memory for the classes only.
pub fn balanced(source: &Source, count: usize) -> Vec<usize> {
    if source.len() <= count {
        return (0..source.len()).collect();
    }
    let mut sizes: BTreeMap<Option<u32>, usize> = BTreeMap::new();
    for index in 0..source.len() {
        *sizes.entry(source.label(index)).or_default() += 1;
    }
    let all_give = |each: usize| sizes.values().map(|&size| size.min(each)).sum::<usize>();
    // The most that all classes can give: of `each` images it is still at most `count`, of one more it isn't.
    let (mut each, mut too_many) = (0, count + 1);
    while too_many - each > 1 {
        let middle = each.midpoint(too_many);
        let part = if all_give(middle) <= count { &mut each } else { &mut too_many };
        *part = middle;
    }
    // The one image more of each class competes with those of the others for what is left.
    let mut chosen: BTreeMap<Option<u32>, BinaryHeap<(u64, usize)>> = BTreeMap::new();
    for index in 0..source.len() {
        let class = chosen.entry(source.label(index)).or_default();
        class.push((xxh3_64(source.key(index).as_bytes()), index));
        if class.len() > each + 1 {
            class.pop();
        }
    }
    let (mut indices, mut last) = (Vec::with_capacity(count), Vec::new());
    for mut class in chosen.into_values() {
        last.extend((class.len() > each).then(|| class.pop()).flatten());
        indices.extend(class.into_iter().map(|(_, index)| index));
    }
    last.sort_unstable();
    let left = count.saturating_sub(indices.len());
    indices.extend(last.into_iter().take(left).map(|(_, index)| index));
    indices.sort_unstable();
    indices
}

impl Subset {
    /// Returns the first `count` images of a source.
    #[cfg(feature = "tui")]
    pub fn first(source: &Source, count: usize) -> Self {
        Self { source: Arc::clone(source), indices: Indices::all(count.min(source.len())) }
    }

    /// Returns the images with these indices, which are ascending.
    pub fn of(source: &Source, indices: impl IntoIterator<Item = usize>) -> Self {
        Self { source: Arc::clone(source), indices: indices.into_iter().collect() }
    }

    /// Returns the index in the whole source, which is past its end if `index` is past the end of the
    /// subset.
    fn whole(&self, index: usize) -> usize {
        self.indices.get(index).unwrap_or(usize::MAX)
    }
}

impl ImageSource for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(self.whole(index))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(self.whole(index))
    }

    fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError> {
        self.source.read(self.whole(index))
    }

    fn encoded(&self, index: usize) -> Option<Result<Vec<u8>, ImageError>> {
        self.source.encoded(self.whole(index))
    }

    fn flaw(&self, index: usize) -> Option<ImageError> {
        self.source.flaw(self.whole(index))
    }

    fn key(&self, index: usize) -> String {
        self.source.key(self.whole(index))
    }

    fn bytes(&self, index: usize) -> u64 {
        self.source.bytes(self.whole(index))
    }

    fn origin(&self) -> String {
        self.source.origin()
    }

    fn shards(&self) -> Vec<usize> {
        let place = |first: usize| self.indices.count_below(first);
        let mut shards: Vec<usize> = self.source.shards().into_iter().map(place).collect();
        shards.dedup(); // shards without an image of the subset
        shards.retain(|&first| first < self.indices.len());
        shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures::Numbered;
    use std::collections::BTreeSet;

    fn keys(source: &Source) -> BTreeSet<String> {
        (0..source.len()).map(|i| source.key(i)).collect()
    }

    fn parts(images: usize, fraction: f64) -> (BTreeSet<String>, BTreeSet<String>) {
        let source: Source = Arc::new(Numbered::new(images, &[]));
        let SplitParts { train, val, .. } = split(&source, fraction);
        (keys(&train), keys(&val))
    }

    #[test]
    fn the_parts_are_disjoint_and_complete() {
        let (train, val) = parts(200, 0.1);
        assert_eq!((train.len(), val.len()), (180, 20));
        assert!(train.is_disjoint(&val));
    }

    #[test]
    fn each_part_has_at_least_one_image() {
        for (images, fraction, held_out) in [(2, 0.0, 1), (2, 0.9, 1), (5, 0.0, 1), (10, 0.25, 3)] {
            let (train, val) = parts(images, fraction);
            assert_eq!((train.len(), val.len()), (images - held_out, held_out));
        }
    }

    #[test]
    fn one_image_serves_as_both_and_that_is_said() {
        let (train, val) = parts(1, 0.5);
        assert_eq!((train.len(), train), (1, val));
        let source: Source = Arc::new(Numbered::new(1, &[]));
        assert!(split(&source, 0.5).note.unwrap().contains("one image alone"));
    }

    #[test]
    fn each_part_has_an_image_that_can_be_read_if_there_are_two() {
        let readable = |source: &Source| (0..source.len()).any(|index| source.read(index).is_ok());
        for images in [3, 10] {
            for first in 0..images {
                for second in 0..images {
                    let bad: Vec<usize> =
                        (0..images).filter(|&index| index != first && index != second).collect();
                    let source: Source = Arc::new(Numbered::new(images, &bad));
                    for fraction in [0.0, 0.5, 0.9] {
                        let SplitParts { train, val, note } = split(&source, fraction);
                        let what = format!("{images} {first} {second} {fraction}");
                        assert!(readable(&train) && readable(&val), "{what}");
                        assert_eq!(note.is_some(), first == second, "{what}");
                        let shared = keys(&train).intersection(&keys(&val)).count();
                        assert_eq!(shared, usize::from(first == second), "{what}");
                    }
                }
            }
        }
        let source: Source = Arc::new(Numbered::new(4, &[0, 1, 2, 3]));
        let SplitParts { train, val, note } = split(&source, 0.5);
        assert_eq!((train.len(), val.len(), note), (2, 2, None));
    }

    #[test]
    fn added_images_move_few_others() {
        let (_, before) = parts(1000, 0.1);
        let (_, after) = parts(1050, 0.1);
        assert!(before.intersection(&after).count() >= 90);
    }

    /// Images of classes with these many images each, in this order; the class without a label comes last.
    struct Classes(Vec<usize>);

    impl ImageSource for Classes {
        fn len(&self) -> usize {
            self.0.iter().sum()
        }

        fn name(&self, index: usize) -> String {
            format!("image {index}")
        }

        fn label(&self, index: usize) -> Option<u32> {
            let mut before = 0;
            let class = self.0.iter().position(|size| {
                before += size;
                index < before
            })?;
            (class + 1 < self.0.len()).then_some(class as u32)
        }

        fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError> {
            Err(ImageError::new(self.name(index), "never read".to_owned()))
        }
    }

    #[test]
    fn a_choice_has_equally_many_of_each_class_and_is_a_part_of_larger_ones() {
        let source: Source = Arc::new(Classes(vec![400, 3, 1000, 50, 200]));
        let per_class = |indices: &[usize]| {
            let mut counts = [0; 5];
            for &index in indices {
                counts[source.label(index).map_or(4, |label| label as usize)] += 1;
            }
            counts
        };
        let mut smaller: BTreeSet<usize> = BTreeSet::new();
        for (count, expected) in [
            (0, None),
            (2, None),
            (5, Some([1; 5])),
            (15, Some([3; 5])),
            (23, Some([5, 3, 5, 5, 5])),
            (24, None),
            (203, Some([50, 3, 50, 50, 50])),
            (353, Some([100, 3, 100, 50, 100])),
            (1000, None),
            (1653, Some([400, 3, 1000, 50, 200])),
            (5000, Some([400, 3, 1000, 50, 200])),
        ] {
            let indices = balanced(&source, count);
            assert_eq!(indices.len(), count.min(1653));
            assert!(indices.windows(2).all(|pair| pair[0] < pair[1]), "ascending, none twice");
            let counts = per_class(&indices);
            assert!(expected.is_none_or(|expected| counts == expected), "{count}: {counts:?}");
            let set: BTreeSet<usize> = indices.iter().copied().collect();
            assert!(smaller.is_subset(&set), "{count}");
            smaller = set;
        }
        assert_eq!(
            per_class(&balanced(&source, 24)).iter().filter(|&&count| count == 6).count(),
            1
        );
    }

    #[test]
    fn a_choice_without_labels_is_that_of_the_smallest_hashes() {
        let source: Source = Arc::new(Classes(vec![500]));
        let spread = spread(&source, (0..500).collect(), 40);
        let keys_of = |indices: Vec<usize>| {
            indices.into_iter().map(|index| source.key(index)).collect::<BTreeSet<_>>()
        };
        assert_eq!(keys_of(balanced(&source, 40)), keys(&spread));
    }

    #[test]
    fn a_subset_reads_the_images_of_its_names() {
        let source: Source = Arc::new(Numbered::new(30, &[]));
        let SplitParts { val, .. } = split(&source, 0.2);
        for index in 0..val.len() {
            let number = val.read(index).unwrap().get_pixel(0, 0).0[2];
            assert_eq!(val.name(index), format!("numbered#{number}"));
            assert_eq!(val.label(index), Some(u32::from(number) % 3));
        }
    }
}
