//! Which images a folder of shards is made of: enough to notice that they are others at the next start.

use super::PackSettings;
use super::state::PackPart;
use crate::command::encoder;
use crate::data::{Dataset, Source};
use crate::shown;
use crate::text::units::bytes;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Most images of a part whose size on disk is asked for. On a network each answer takes a round trip.
const MOST_SIZES: usize = 16_384;
/// What a sample takes in a shard beside the bytes of its image, on average.
const OVERHEAD: u64 = 1800;

/// The images of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PackSource {
    train: PartDigest,
    val: PartDigest,
    /// XXH3-64 of the names of the classes, in hexadecimal.
    classes: String,
}

/// The images of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PartDigest {
    images: u64,
    /// XXH3-64 of names and classes in their order, and of some sizes, in hexadecimal.
    digest: String,
    /// What all files together take, estimated from some, or 0 if they are no files.
    #[serde(skip)]
    bytes: u64,
}

impl PartDigest {
    fn of(source: &Source) -> Self {
        let images = source.len();
        let hash = |index: usize| {
            let label = source.label(index).map_or(u64::MAX, u64::from);
            xxh3_64_with_seed(source.key(index).as_bytes(), label)
        };
        let hashes: Vec<u64> = (0..images).into_par_iter().map(hash).collect();
        let some = images.div_ceil(images.div_ceil(MOST_SIZES).max(1));
        let sizes: Vec<u64> =
            (0..some).into_par_iter().map(|nth| source.bytes(nth * images / some)).collect();
        let mean = sizes.iter().sum::<u64>() as f64 / some.max(1) as f64;
        let digest = xxh3_64(bytemuck::cast_slice(&[hashes, sizes].concat()));
        Self {
            images: images as u64,
            digest: format!("{digest:016x}"),
            bytes: (mean * images as f64) as u64,
        }
    }
}

impl PackSource {
    pub fn of(data: &Dataset) -> Self {
        Self {
            train: PartDigest::of(&data.train),
            val: PartDigest::of(&data.val),
            classes: format!("{:016x}", xxh3_64(data.classes.join("\n").as_bytes())),
        }
    }

    /// Returns the number of images of a part.
    pub fn images(&self, part: PackPart) -> usize {
        let digest = if part == PackPart::Train { &self.train } else { &self.val };
        usize::try_from(digest.images).unwrap_or(usize::MAX)
    }

    /// Returns how other images differ from these, for people.
    pub fn difference(&self, there: &Self) -> Option<String> {
        let counts = |source: &Self| format!("{} + {}", source.train.images, source.val.images);
        if self.train.images != there.train.images || self.val.images != there.val.images {
            let (there, here) = (counts(there), counts(self));
            return Some(format!("{there} training and validation images there and {here} here"));
        }
        let same = |part: fn(&Self) -> &PartDigest| part(self).digest == part(there).digest;
        if !same(|source| &source.train) || !same(|source| &source.val) {
            return Some("images of other names, sizes, classes or another order".to_owned());
        }
        (self.classes != there.classes).then(|| "classes of other names".to_owned())
    }

    /// Warns if the disk has less room than the shards will take, as far as that is known.
    pub fn warn_of_space(&self, folder: &Path, settings: &PackSettings) {
        let Ok(disk) = rustix::fs::statvfs(folder) else { return };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let parts = [&self.train, &self.val];
        let known = settings.keeps_bytes() && parts.iter().all(|part| part.bytes > 0);
        let need: u64 = parts.iter().map(|part| part.bytes + OVERHEAD * part.images).sum();
        if known && need > free {
            encoder::warn(&[format!(
                "the shards will take about {}, and {} are free at {}",
                bytes(need),
                bytes(free),
                shown::path(folder)
            )]);
        }
    }
}
