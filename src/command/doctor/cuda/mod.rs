//! Whether CUDA can be used, and where its compiled kernels are kept.

#[cfg(not(feature = "cuda"))]
mod disabled;
#[cfg(feature = "cuda")]
mod enabled;

#[cfg(not(feature = "cuda"))]
pub(super) use disabled::{cache, look};
#[cfg(feature = "cuda")]
pub(super) use enabled::{cache, look};
