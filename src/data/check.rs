//! Reads the images of a data set ahead of a run, to tell which of them are no use.

use super::worker::guarded_read;
use super::{Dataset, ImageError, Source};
use crate::text::count::Count;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What was found out in the time that there was.
pub(crate) struct Checked {
    /// Images that were read, or could not be.
    pub looked_at: usize,
    /// Images that there are.
    pub images: usize,
    /// Images that can't be read or were taken with a flaw, by name.
    pub faulty: Vec<ImageError>,
}

/// Reads all images of both parts, or as many of each as `time` suffices for.
pub(crate) fn check(data: &Dataset, time: Duration) -> Checked {
    let start = Instant::now();
    let counted = Count::new("reading images".to_owned(), "read");
    let (mut by_name, mut twice, mut images) = (BTreeMap::new(), 0, 0);
    // The validation images leave half of the time to the others.
    for (source, time) in [(&data.val, time / 2), (&data.train, time)] {
        let found: Vec<(String, Option<ImageError>)> = (0..source.len())
            .into_par_iter()
            .filter(|_| start.elapsed() < time)
            .map(|index| {
                counted.add(1);
                (source.name(index), fault(source, index))
            })
            .collect();
        images += source.len();
        // One image may be in both parts, if it alone can be read.
        twice += found.into_iter().filter_map(|(name, fault)| by_name.insert(name, fault)).count();
    }
    let looked_at = by_name.len();
    Checked { looked_at, images: images - twice, faulty: by_name.into_values().flatten().collect() }
}

fn fault(source: &Source, index: usize) -> Option<ImageError> {
    match guarded_read(source, index) {
        Ok(_) => source.flaw(index),
        Err(error) => Some(error),
    }
}
