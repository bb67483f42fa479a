//! `pack.json`: of what a folder of shards is made, and which of them are finished.

use super::settings::PackSettings;
use super::source::PackSource;
use crate::data::shard_writer::FileSum;
use crate::data::{Dataset, ImageError, Source};
use serde::{Deserialize, Serialize};

/// A part of a data set, as shards are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PackPart {
    Train,
    Val,
}

impl PackPart {
    pub const ALL: [Self; 2] = [Self::Train, Self::Val];

    pub fn of(self, data: &Dataset) -> &Source {
        match self {
            Self::Train => &data.train,
            Self::Val => &data.val,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }

    /// Returns the file name of a shard.
    pub fn shard(self, number: usize) -> String {
        format!("{}-{number:06}.tar", self.name())
    }
}

/// The content of `pack.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PackState {
    /// The version of this layout.
    pub format: u32,
    /// The version of the program that began the folder.
    pub program: String,
    pub settings: PackSettings,
    pub source: PackSource,
    /// The finished shards, in order.
    pub train: Vec<ShardRecord>,
    pub val: Vec<ShardRecord>,
    pub finished: bool,
}

/// A finished shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShardRecord {
    pub name: String,
    /// The position in the part of its first image, and of the first one behind it.
    pub first: usize,
    pub next: usize,
    /// Images in the shard: those between, without the ones left out.
    pub images: usize,
    pub bytes: u64,
    /// Its checksum, in hexadecimal.
    pub xxh3: String,
    /// Images that were left out, and images that were taken though something is wrong with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faulty: Vec<PackFault>,
}

/// What is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PackFault {
    pub image: String,
    pub reason: String,
    pub taken: bool,
}

impl From<ImageError> for PackFault {
    fn from(ImageError { name, reason, taken }: ImageError) -> Self {
        Self { image: name, reason, taken }
    }
}

impl From<PackFault> for ImageError {
    fn from(PackFault { image, reason, taken }: PackFault) -> Self {
        Self { name: image, reason, taken }
    }
}

impl ShardRecord {
    /// Returns whether a file has this size and checksum.
    pub fn is(&self, sum: FileSum) -> bool {
        self.bytes == sum.bytes && self.xxh3 == checksum_text(sum)
    }
}

/// Returns a checksum as `pack.json` has it.
pub(super) fn checksum_text(sum: FileSum) -> String {
    format!("{:016x}", sum.xxh3)
}

impl PackState {
    /// The newest version of the layout.
    pub const CURRENT: u32 = 1;

    pub fn new(settings: &PackSettings, source: &PackSource) -> Self {
        Self {
            format: Self::CURRENT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            settings: settings.clone(),
            source: source.clone(),
            train: Vec::new(),
            val: Vec::new(),
            finished: false,
        }
    }

    pub fn shards(&self, part: PackPart) -> &[ShardRecord] {
        match part {
            PackPart::Train => &self.train,
            PackPart::Val => &self.val,
        }
    }

    pub fn shards_mut(&mut self, part: PackPart) -> &mut Vec<ShardRecord> {
        match part {
            PackPart::Train => &mut self.train,
            PackPart::Val => &mut self.val,
        }
    }

    /// Returns the finished shards of both parts.
    pub fn all(&self) -> impl Iterator<Item = &ShardRecord> {
        self.train.iter().chain(&self.val)
    }

    /// Returns the number of images of a part that finished shards hold or have left out.
    pub fn done(&self, part: PackPart) -> usize {
        self.shards(part).last().map_or(0, |shard| shard.next)
    }

    /// Returns whether the shards follow one another without a gap and have the names that they should have.
    pub fn is_consistent(&self) -> bool {
        PackPart::ALL.into_iter().all(|part| {
            let shards = self.shards(part);
            let firsts = std::iter::once(0).chain(shards.iter().map(|shard| shard.next));
            let in_order = shards.iter().zip(firsts).enumerate().all(|(number, (shard, first))| {
                shard.name == part.shard(number) && shard.first == first && first < shard.next
            });
            in_order && self.done(part) <= self.source.images(part)
        })
    }
}
