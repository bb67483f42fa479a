//! What the NVIDIA driver tells about a GPU.
//!
//! [`Gpus`] answers every question with `None` on machines without a driver, and in builds with neither of the features
//! `cuda` and `tui`; callers need not know.

#[cfg(not(any(feature = "cuda", feature = "tui")))]
mod disabled;
#[cfg(any(feature = "cuda", feature = "tui"))]
mod enabled;

#[cfg(not(any(feature = "cuda", feature = "tui")))]
pub use disabled::Gpus;
#[cfg(any(feature = "cuda", feature = "tui"))]
pub use enabled::Gpus;

/// Figures of one GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    pub name: String,
    /// The share of time in which it computes, 0 to 1.
    pub utilization: f64,
    /// Bytes.
    pub memory_used: u64,
    pub memory_total: u64,
    /// Watts.
    pub power: f64,
    /// Degrees Celsius.
    pub temperature: u32,
    /// Degrees Celsius from which the driver slows the GPU down; 0 if it doesn't say.
    pub slowdown: u32,
}
