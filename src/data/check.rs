//! Reads the images of a data set ahead of a run, to tell which of them are no use.

use super::worker::guarded_read;
use super::{Dataset, ImageError, Source};
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

/// Reads all images of both parts, or as many as `time` suffices for.
pub(crate) fn check(data: &Dataset, time: Duration) -> Checked {
    let start = Instant::now();
    let (mut looked_at, mut images, mut faulty) = (0, 0, BTreeMap::new());
    for source in [&data.val, &data.train] {
        let found: Vec<Option<ImageError>> = (0..source.len())
            .into_par_iter()
            .filter(|_| start.elapsed() < time)
            .map(|index| fault(source, index))
            .collect();
        looked_at += found.len();
        images += source.len();
        faulty.extend(found.into_iter().flatten().map(|error| (error.name.clone(), error)));
    }
    Checked { looked_at, images, faulty: faulty.into_values().collect() }
}

fn fault(source: &Source, index: usize) -> Option<ImageError> {
    match guarded_read(source, index) {
        Ok(_) => source.flaw(index),
        Err(error) => Some(error),
    }
}
