//! The training step on an NVIDIA GPU: its kernels, the order of their launches, and the machines that run them.

pub(crate) mod geometry;
pub(crate) mod machine;
