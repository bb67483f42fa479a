//! Weights that other programs wrote: their names, their sizes, and how they fit a model of this program.

pub(crate) mod fit;
pub(crate) mod found;
pub(crate) mod names;
pub(crate) mod resample;
pub mod start;
