//! The training step on an NVIDIA GPU: its kernels, the order of their launches, and the machines that run them.

#[cfg(feature = "cuda")]
pub(crate) mod device;
#[cfg(test)]
pub(crate) mod emulated;
pub(crate) mod geometry;
#[cfg(test)]
mod host;
#[cfg(test)]
mod kernel_tests;
#[cfg(feature = "cuda")]
pub(crate) mod libraries;
pub(crate) mod machine;
pub(crate) mod plan;
pub(crate) mod runner;
#[cfg(test)]
mod signature;
