//! The training step on an NVIDIA GPU: its kernels, the order of their launches, and the machines that run them.

#[cfg(test)]
mod emulated;
pub(crate) mod geometry;
#[cfg(test)]
mod host;
#[cfg(test)]
mod kernel_tests;
pub(crate) mod machine;
#[cfg(test)]
mod signature;
