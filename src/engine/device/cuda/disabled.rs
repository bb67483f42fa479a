//! The CUDA side of a build without the feature `cuda`.

use crate::config::Precision;
use crate::engine::Engine;
use crate::engine::device::precision::Products;
use crate::engine::learner::LearnerConfig;

/// A GPU that this program can use: there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cuda {}

impl Cuda {
    pub(in crate::engine::device) fn probe(_index: usize) -> Result<Self, String> {
        Err("this build has no CUDA (feature `cuda` is off)".to_owned())
    }

    pub(in crate::engine::device) fn index(&self) -> usize {
        match *self {}
    }

    pub(in crate::engine::device) fn name(&self) -> &str {
        match *self {}
    }

    pub(in crate::engine::device) fn products(&self) -> Products {
        match *self {}
    }

    pub(in crate::engine::device) fn engine(&self, _config: LearnerConfig) -> Box<dyn Engine> {
        match *self {}
    }

    pub(in crate::engine::device) fn matmul_flops_per_s(
        &self,
        _precision: Precision,
        _side: usize,
    ) -> f64 {
        match *self {}
    }
}
