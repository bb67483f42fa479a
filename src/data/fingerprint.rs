//! Which images a data set has, small enough for every checkpoint and good enough to count what has changed.
//!
//! An image is known by 48 bits: 40 of a hash of its key, and 8 of a hash of its size in bytes, so that another file of
//! the same name counts as another image. Of a part with more than [`MOST`] images, only those are kept whose name's
//! hash is a multiple of a power of two. The choice depends on the name alone, so that two fingerprints have chosen the
//! same images.

use super::parallel::in_parallel_many;
use super::{Dataset, Source};
use crate::text::count::Count;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Most images that are kept of a part: 512 KiB of text.
const MOST: usize = 1 << 16;
const SIZE_BITS: u32 = 8;
/// Digits of Base64 that an image takes: 6 bits each.
const DIGITS: usize = 8;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The images of a run when a checkpoint was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Images that are only trained on.
    train: PartPrint,
    /// Images that are only validated on.
    val: PartPrint,
    /// Images that both parts have.
    both: PartPrint,
}

/// Some images of a data set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PartPrint {
    /// How many there are.
    images: u64,
    /// XXH3-64 of all their names' hashes and of what is kept, in hexadecimal.
    digest: String,
    /// One name in this many is kept, a power of two.
    one_in: u64,
    /// The images that are kept, ascending, each as 8 digits of Base64.
    kept: String,
}

/// How the images of a data set differ from those of a fingerprint. The numbers are estimates unless `exact`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataChange {
    /// Images that neither part had.
    pub new: u64,
    /// Images that neither part has any more.
    pub gone: u64,
    /// Images that were validated on and are trained on now.
    pub into_training: u64,
    /// Images that were trained on and are validated on now.
    pub into_validation: u64,
    /// The name of one of `into_training`.
    pub example: Option<String>,
    pub exact: bool,
}

/// The images of an opened data set, listed by the hashes of their names.
pub struct ListedData {
    train: ListedPart,
    val: ListedPart,
}

struct ListedPart {
    source: Source,
    /// The hash of each name with the index of its image, ascending.
    names: Vec<HashedName>,
}

/// The hash of a name and the index of its image, 40 bits each, big-endian, so that they sort as numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct HashedName([u8; 5], [u8; 5]);

impl HashedName {
    fn new(name: &str, index: usize) -> Self {
        let low = |number: u64| {
            let [_, _, _, bytes @ ..] = number.to_be_bytes();
            bytes
        };
        Self(low(xxh3_64(name.as_bytes()) >> (64 - 40)), low(index as u64))
    }

    fn number(bytes: [u8; 5]) -> u64 {
        bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    fn hash(self) -> u64 {
        Self::number(self.0)
    }

    fn index(self) -> usize {
        Self::number(self.1) as usize
    }
}

impl ListedPart {
    fn of(source: &Source) -> Self {
        let name = |index| HashedName::new(&source.key(index), index);
        let mut names: Vec<_> = (0..source.len()).into_par_iter().map(name).collect();
        names.par_sort_unstable();
        Self { source: Source::clone(source), names }
    }

    /// Returns the image that stands for a name. This asks the file system for its size.
    fn image(&self, named: HashedName) -> u64 {
        let size = xxh3_64(&self.source.bytes(named.index()).to_le_bytes());
        (named.hash() << SIZE_BITS) | (size & ((1 << SIZE_BITS) - 1))
    }

    /// Returns the index of an image.
    fn find(&self, image: u64) -> Option<usize> {
        let name = image >> SIZE_BITS;
        self.named(name).find(|&named| self.image(named) == image).map(HashedName::index)
    }

    /// Returns the images whose name has this hash.
    fn named(&self, hash: u64) -> impl Iterator<Item = HashedName> {
        let first = self.names.partition_point(|other| other.hash() < hash);
        self.names[first..].iter().copied().take_while(move |other| other.hash() == hash)
    }
}

impl ListedData {
    pub fn of(data: &Dataset) -> Self {
        Self { train: ListedPart::of(&data.train), val: ListedPart::of(&data.val) }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let Self { train, val } = self;
        let counted = Count::new("looking at the sizes of some images".to_owned(), "images");
        let in_both = |&named: &HashedName| {
            train.named(named.hash()).next().is_some() && train.find(val.image(named)).is_some()
        };
        // Of most data sets no image is in both parts, and nothing is asked of the file system here.
        let both: Vec<HashedName> =
            val.names.par_iter().filter(|name| in_both(name)).copied().collect();
        let shared = |hash: u64| both.binary_search_by_key(&hash, |name| name.hash()).is_ok();
        let own =
            |part: &ListedPart| PartPrint::of(part, &part.names, &|name| !shared(name), &counted);
        Fingerprint {
            train: own(train),
            val: own(val),
            both: PartPrint::of(val, &both, &|_| true, &counted),
        }
    }

    fn has(&self, image: u64) -> bool {
        self.train.find(image).is_some() || self.val.find(image).is_some()
    }
}

impl PartPrint {
    /// Returns the print of those of `names` whose hash is `taken`.
    fn of(
        part: &ListedPart,
        names: &[HashedName],
        taken: &(impl Fn(u64) -> bool + Sync),
        counted: &Count,
    ) -> Self {
        let chosen = |one_in: u64| {
            let is =
                move |name: &&HashedName| name.hash().is_multiple_of(one_in) && taken(name.hash());
            names.par_iter().filter(is).copied()
        };
        let images = chosen(1).count();
        let mut one_in = 1;
        while chosen(one_in).count() > MOST {
            one_in *= 2;
        }
        let chosen: Vec<HashedName> = chosen(one_in).collect();
        let mut kept = in_parallel_many(chosen.len(), |at| {
            counted.add(1);
            part.image(chosen[at])
        });
        kept.sort_unstable();
        let mut digest = Xxh3::new();
        let hashes = names.iter().map(|name| name.hash()).filter(|&name| taken(name));
        hashes.chain(kept.iter().copied()).for_each(|hash| digest.update(&hash.to_le_bytes()));
        let digest = format!("{:016x}", digest.digest());
        Self { images: images as u64, digest, one_in, kept: written(&kept) }
    }

    /// Returns the images that are kept, ascending, or `None` if the text is none of this format.
    fn read(&self) -> Option<Vec<u64>> {
        let digits = self.kept.as_bytes().chunks(DIGITS);
        let images: Option<Vec<u64>> = digits.map(read_image).collect();
        images.filter(|images| images.is_sorted() && self.one_in.is_power_of_two())
    }
}

fn written(images: &[u64]) -> String {
    let digit = |image: u64, place: usize| {
        char::from(ALPHABET[(image >> (6 * (DIGITS - 1 - place)) & 63) as usize])
    };
    images.iter().flat_map(|&image| (0..DIGITS).map(move |place| digit(image, place))).collect()
}

fn read_image(digits: &[u8]) -> Option<u64> {
    let value = |digit: &u8| ALPHABET.iter().position(|known| known == digit);
    let image = digits.iter().try_fold(0, |image, digit| Some(image << 6 | value(digit)? as u64));
    image.filter(|_| digits.len() == DIGITS)
}

impl Fingerprint {
    /// Returns how the images of now differ from those of this fingerprint, or `None` if they don't, or if the
    /// fingerprint can't be read. `now` is the fingerprint of `data`.
    pub fn change(&self, data: &ListedData, now: &Self) -> Option<DataChange> {
        if self == now {
            return None;
        }
        let parts = [&self.train, &self.val, &self.both];
        let [train, val, both] = parts.map(PartPrint::read);
        let [train, val, both] = [train?, val?, both?];
        let one_in = parts.map(|part| part.one_in);
        let found = |images: &[u64], part: &ListedPart| -> Vec<usize> {
            images.par_iter().filter_map(|&image| part.find(image)).collect()
        };
        let crossed = found(&val, &data.train);
        let gone = [&train, &val, &both].into_iter().zip(one_in).map(|(images, one_in)| {
            one_in
                .saturating_mul(images.par_iter().filter(|&&image| !data.has(image)).count() as u64)
        });
        let mut before = [&train[..], &val, &both].concat();
        before.sort_unstable();
        let coarsest = one_in.into_iter().max().unwrap_or(1);
        Some(DataChange {
            new: coarsest.saturating_mul(data.count_new(&before, coarsest)),
            gone: gone.fold(0, u64::saturating_add),
            into_training: one_in[1].saturating_mul(crossed.len() as u64),
            into_validation: one_in[0].saturating_mul(found(&train, &data.val).len() as u64),
            example: crossed.first().map(|&index| data.train.source.name(index)),
            exact: coarsest == 1,
        })
    }
}

impl ListedData {
    /// Counts the images that aren't among `before`, of those names that are chosen where one in `one_in` is.
    fn count_new(&self, before: &[u64], one_in: u64) -> u64 {
        let named = |name: u64| {
            let at = before.partition_point(|&image| image >> SIZE_BITS < name);
            before.get(at).is_some_and(|&image| image >> SIZE_BITS == name)
        };
        // Only an image whose name was there needs a look at its size.
        let is_new = |part: &ListedPart, name: HashedName| {
            !named(name.hash()) || before.binary_search(&part.image(name)).is_err()
        };
        let new = |part: &ListedPart| -> HashSet<u64> {
            let chosen = part.names.par_iter().filter(|name| name.hash() % one_in == 0).copied();
            chosen.filter(|&name| is_new(part, name)).map(HashedName::hash).collect()
        };
        new(&self.train).union(&new(&self.val)).count() as u64
    }
}

impl DataChange {
    /// Returns what has changed, for people: `5 new, 2 gone`.
    pub fn text(&self) -> String {
        let about = if self.exact { "" } else { "about " };
        let counts = [
            (self.new, "new"),
            (self.gone, "gone"),
            (self.into_training, "crossed from validation into training"),
            (self.into_validation, "crossed from training into validation"),
        ];
        let told = counts.into_iter().filter(|(count, _)| *count > 0);
        let told: Vec<String> =
            told.map(|(count, what)| format!("{about}{count} {what}")).collect();
        if told.is_empty() { "none new, none gone".to_owned() } else { told.join(", ") }
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a part is some ranges, and mostly one")]
mod tests {
    use super::*;
    use crate::data::{ImageError, ImageSource};
    use image::RgbImage;
    use std::ops::Range;
    use std::sync::Arc;

    /// Images by number; those of a size are other images than those of another size.
    struct Named(Vec<usize>, u64);

    impl ImageSource for Named {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn name(&self, index: usize) -> String {
            format!("image-{}", self.0[index])
        }
        fn label(&self, _: usize) -> Option<u32> {
            None
        }
        fn read(&self, index: usize) -> Result<Arc<RgbImage>, ImageError> {
            Err(ImageError::new(self.name(index), "no pixels"))
        }
        fn bytes(&self, _: usize) -> u64 {
            self.1
        }
    }

    fn listed(train: &[Range<usize>], val: Range<usize>, size: u64) -> ListedData {
        let train: Source = Arc::new(Named(train.iter().cloned().flatten().collect(), size));
        let val: Source = Arc::new(Named(val.collect(), size));
        ListedData { train: ListedPart::of(&train), val: ListedPart::of(&val) }
    }

    fn change(then: &ListedData, now: &ListedData) -> Option<DataChange> {
        let text = serde_json::to_string(&then.fingerprint()).expect("plain data");
        let then: Fingerprint = serde_json::from_str(&text).expect("it comes back");
        then.change(now, &now.fingerprint())
    }

    #[test]
    fn every_kind_of_change_is_counted() {
        let then = listed(&[0..100], 100..120, 7);
        // The training images and validation images of now, their size, and what is to be said.
        let cases = [
            (vec![0..100], 100..120, 7, None),
            (vec![0..100, 200..205], 100..120, 7, Some("5 new")),
            (vec![3..100], 100..119, 7, Some("4 gone")),
            (vec![0..102], 102..120, 7, Some("2 crossed from validation into training")),
            (vec![0..102], 100..120, 7, Some("2 crossed from validation into training")),
            (vec![5..100], 0..0, 7, Some("25 gone")),
            (vec![5..100], 0..5, 7, Some("20 gone, 5 crossed from training into validation")),
            (vec![0..100], 100..120, 8, Some("120 new, 120 gone")),
        ];
        for (train, val, size, expected) in cases {
            let found = change(&then, &listed(&train, val, size)).map(|change| change.text());
            assert_eq!(found.as_deref(), expected);
        }
        let crossed = change(&then, &listed(&[0..101], 101..120, 7)).expect("one crossed");
        assert_eq!(crossed.example.as_deref(), Some("image-100"));
    }

    #[test]
    fn an_image_that_both_parts_have_crosses_nowhere() {
        let then = listed(&[0..10], 5..15, 7);
        let change =
            |train, val| change(&then, &listed(&[train], val, 7)).map(|change| change.text());
        assert_eq!(change(0..10, 5..15), None);
        assert_eq!(
            change(0..11, 5..16).as_deref(),
            Some("1 new, 1 crossed from validation into training")
        );
        assert_eq!(
            change(0..10, 6..15).as_deref(),
            Some("none new, none gone"),
            "one is only trained on now"
        );
    }

    #[test]
    fn a_large_part_is_estimated_and_a_small_one_beside_it_is_exact() {
        let then = listed(&[0..300_000], 300_000..300_500, 7);
        let print = then.fingerprint();
        assert!(print.train.one_in == 8 && print.train.kept.len() <= MOST * DIGITS);
        assert_eq!((print.train.images, print.val.one_in), (300_000, 1));
        let now = listed(&[20_000..300_003], 300_003..300_500, 7);
        let change = print.change(&now, &now.fingerprint()).expect("others");
        assert!(!change.exact && (18_000..22_000).contains(&change.gone), "{change:?}");
        assert_eq!((change.new, change.into_training, change.into_validation), (0, 3, 0));
    }

    #[test]
    fn a_fingerprint_that_is_none_says_nothing() {
        let data = listed(&[0..9], 9..12, 7);
        let now = data.fingerprint();
        for (kept, one_in) in
            [("AAAA", 1), ("AAAAAAA!", 1), ("AAAAAAAB", 0), ("AAAAAAABAAAAAAAA", 1)]
        {
            let train = PartPrint { kept: kept.to_owned(), one_in, ..now.train.clone() };
            let bad = Fingerprint { train, ..now.clone() };
            assert_eq!(bad.change(&data, &now), None, "{kept}");
        }
    }
}
