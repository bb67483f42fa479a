//! Trouble that people had elsewhere, one table of cases per area.

mod bounds;
