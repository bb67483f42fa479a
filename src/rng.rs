//! Random streams without state.
//!
//! Every random choice of a run is a pure function of the seed, a purpose and two counters. A resumed run therefore
//! needs no generator state: the step and the data position in its checkpoint are enough.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a stream is for. Two purposes never share random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Weight initialisation. Counter `a` is the number of the parameter.
    Init = 1,
    /// Order of the images in an epoch. Counter `a` is the epoch.
    Shuffle = 2,
    /// Crop and flip. Counter `a` is the number of the sample since the start of the run.
    Augment = 3,
    /// Training mask. Counter `a` is the number of the sample since the start of the run.
    Mask = 4,
    /// Validation mask, the same in every epoch. Counter `a` is the number of the image.
    ValMask = 5,
    /// Drop path. Counter `a` is the number of the micro-batch since the start of the run.
    DropPath = 6,
    /// Synthetic data for benchmarks.
    Bench = 7,
    /// Initial vectors of the search for principal components.
    Embed = 8,
}

/// Returns the generator for one choice. The four numbers form the 256-bit `ChaCha` key, so streams can't overlap.
pub fn stream(seed: u64, purpose: Purpose, a: u64, b: u64) -> ChaCha8Rng {
    let mut key = [0_u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, a, b]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
