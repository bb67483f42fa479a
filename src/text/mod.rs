//! Text for people and shells: numbers with units, progress bars, charts and tables.

pub(crate) mod bar;
pub(crate) mod chart;
pub mod count;
pub(crate) mod csv;
pub mod say;
pub(crate) mod shell;
pub(crate) mod units;
pub(crate) mod waiting;
