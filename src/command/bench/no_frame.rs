//! Stands in for `frame.rs` in builds without the screen.

/// Returns `None`, as there is no frame to draw.
pub(super) fn median_ms() -> Option<f64> {
    None
}
