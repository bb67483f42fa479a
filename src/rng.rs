//! Random streams, without state.
//!
//! Every random choice of a run is a pure function of (seed, purpose, two counters). A resumed run
//! therefore needs no generator state: the step and the data position in the checkpoint say it all.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a stream is for; two purposes never share random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Weight initialisation; counter a = parameter number.
    Init = 1,
    /// Order of the images in an epoch; counter a = epoch.
    Shuffle = 2,
    /// Crop and flip; counter a = sample number since the start of the run.
    Augment = 3,
    /// Training mask; counter a = sample number since the start of the run.
    Mask = 4,
    /// Validation mask, the same in every epoch; counter a = image number.
    ValMask = 5,
    /// Drop path; counter a = micro-step since the start of the run.
    DropPath = 6,
    /// Made-up data of benchmarks.
    Bench = 7,
    /// Where the search for principal components begins.
    Embed = 8,
}

/// The generator for one choice. The four numbers are the 256-bit `ChaCha` key, so streams can't overlap.
pub fn stream(seed: u64, purpose: Purpose, a: u64, b: u64) -> ChaCha8Rng {
    let mut key = [0_u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, a, b]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
