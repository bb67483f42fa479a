//! Pictures of reconstructions: painting them, the sheet that holds them in a file, and their quality in numbers.

pub(crate) mod painter;
mod quality;
pub mod sheet;
