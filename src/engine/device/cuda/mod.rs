//! NVIDIA GPUs: a probe that can't panic, and what is computed on a GPU that has passed it.
//!
//! Without the feature `cuda` the probe always fails, and a [`Cuda`] can't exist.

#[cfg(not(feature = "cuda"))]
mod disabled;
#[cfg(feature = "cuda")]
mod enabled;

#[cfg(not(feature = "cuda"))]
pub use disabled::Cuda;
#[cfg(feature = "cuda")]
pub use enabled::Cuda;
