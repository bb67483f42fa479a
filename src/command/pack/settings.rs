//! What decides the bytes of the shards, beside the images.

use super::PackArgs;
use crate::config::TruncatedImages;
use crate::data::order;
use crate::data::repack::Repack;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The quality of JPEG unless `--quality` says another.
const QUALITY: u8 = 92;
/// The place of the order of `--shuffle` among the orders of a seed: an epoch that no run has.
const EPOCH: u64 = u64::MAX;

/// The settings that a folder of shards was begun with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PackSettings {
    size: Option<u32>,
    quality: Option<u8>,
    pub shard_size: u64,
    pub images_per_shard: u64,
    /// The seed of the order of the training images, if they are shuffled.
    shuffle: Option<u64>,
    truncated: TruncatedImages,
}

impl PackSettings {
    pub fn new(args: &PackArgs, truncated: TruncatedImages) -> Self {
        Self {
            size: args.size,
            quality: args.size.map(|_| args.quality.unwrap_or(QUALITY)),
            shard_size: args.shard_size.0,
            images_per_shard: args.images_per_shard,
            shuffle: args.shuffle.then(|| args.seed.unwrap_or(0)),
            truncated,
        }
    }

    /// Returns whether all images keep their bytes.
    pub fn keeps_bytes(&self) -> bool {
        self.size.is_none()
    }

    pub fn repack(&self) -> Repack {
        let quality = self.quality.unwrap_or(QUALITY);
        Repack { size: self.size, quality, truncated: self.truncated }
    }

    /// Returns the order in which training images are packed, or `None` for that of the source.
    pub fn order(&self, images: usize) -> Option<Vec<usize>> {
        Some(order::permutation(images, self.shuffle?, EPOCH, 0).iter().collect())
    }

    /// Returns what other settings have otherwise, for people: `size is 256 there and none here`.
    pub fn difference(&self, there: &Self) -> Option<String> {
        let values = |settings: &Self| match serde_json::to_value(settings) {
            Ok(serde_json::Value::Object(values)) => values,
            _ => serde_json::Map::new(), // plain data never fails to serialise
        };
        let (here, there) = (values(self), values(there));
        let text = |value: Option<&serde_json::Value>| match value {
            None | Some(serde_json::Value::Null) => "none".to_owned(),
            Some(value) => value.to_string(),
        };
        let differing = there.iter().filter(|(key, value)| here.get(*key) != Some(value));
        let differing: Vec<String> = differing
            .map(|(key, value)| {
                format!("{key} is {} there and {} here", text(Some(value)), text(here.get(key)))
            })
            .collect();
        (!differing.is_empty()).then(|| differing.join(", "))
    }
}

/// A number of bytes on the command line: `500M`, `2GiB`, `1000000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteCount(pub u64);

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "write a number of bytes with K, M, G or T, or Ki, Mi, Gi or Ti: 500M".to_owned();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..end].parse().map_err(|_| wrong())?;
        let unit = text[end..].trim().to_ascii_lowercase();
        let unit = unit.strip_suffix('b').unwrap_or(&unit);
        let (letter, base) = match unit.strip_suffix('i') {
            Some(letter) => (letter, 1024_u64),
            None => (unit, 1000),
        };
        let power = match letter {
            "" if base == 1000 => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            _ => return Err(wrong()),
        };
        match number.checked_mul(base.pow(power)) {
            None | Some(0) => Err(wrong()),
            Some(bytes) => Ok(Self(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units() {
        for (text, bytes) in [
            ("1", 1),
            ("500M", 500_000_000),
            ("1g", 1_000_000_000),
            ("2GiB", 2 << 30),
            ("3 kB", 3000),
            ("4ki", 4096),
            ("1T", 1_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)), "{text}");
        }
        for text in ["", "M", "0", "-1", "1.5G", "1X", "1i", "99999999T", "1 G B"] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_differing_setting_is_told() {
        let plain = PackSettings {
            size: None,
            quality: None,
            shard_size: 7,
            images_per_shard: 9,
            shuffle: None,
            truncated: TruncatedImages::Skip,
        };
        assert_eq!(plain.difference(&plain.clone()), None);
        let other = PackSettings { size: Some(256), shard_size: 8, ..plain.clone() };
        let told = plain.difference(&other).expect("they differ");
        assert_eq!(told, "shard_size is 8 there and 7 here, size is 256 there and none here");
    }
}
