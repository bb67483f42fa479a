//! Stands in for `cuda.rs` in builds without CUDA.

use super::{Finding, Verdict, compute};

pub(super) fn look() -> Finding {
    let why = "this build was made without the feature cuda";
    Finding::new(compute::AREA, "cuda", Verdict::Note, "not usable", why)
}

/// Returns nothing, as no kernels are compiled.
pub(super) fn cache() -> Vec<Finding> {
    Vec::new()
}
