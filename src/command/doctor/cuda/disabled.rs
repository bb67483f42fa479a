//! Builds without CUDA say so, and compile no kernels.

use crate::command::doctor::{Finding, Verdict, compute};

pub fn look() -> Vec<Finding> {
    let why = "this build was made without the feature cuda";
    vec![Finding::new(compute::AREA, "cuda", Verdict::Note, "not usable", why)]
}

pub fn cache() -> Vec<Finding> {
    Vec::new()
}
