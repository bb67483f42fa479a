//! Text for people: numbers with units, progress bars, charts and tables.

pub(crate) mod bar;
pub mod chart;
pub(crate) mod csv;
pub mod say;
pub(crate) mod shell;
pub mod units;
