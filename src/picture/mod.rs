//! Pictures of reconstructions: painting them, the sheet that keeps them, and their quality in numbers.

pub mod painter;
pub mod quality;
pub mod sheet;
