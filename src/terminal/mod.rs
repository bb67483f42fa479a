//! What a terminal can do, and how to ask it.

pub mod halfblock;
pub(crate) mod probe;
pub mod unicode;
