//! How large a terminal may be. Its size is what the program at its other end says, which may be anything.

/// The columns and rows that are drawn at most. A screen of this size takes a few tens of megabytes; one of 65535 cells
/// each way would take 200 gigabytes.
pub const LARGEST: (u16, u16) = (1000, 500);

/// Returns the columns and rows that are drawn on a terminal that says that it has so many.
pub fn clamped(columns: u16, rows: u16) -> (u16, u16) {
    (columns.min(LARGEST.0), rows.min(LARGEST.1))
}
