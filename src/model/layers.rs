//! The two primitive layers, for collapsed `[rows, features]` input: weights here, arithmetic in [`crate::ops`].

use crate::ops::{LinearWeights, NormWeights, stock};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// A parameter of zeros that requires gradients.
pub fn zeros<B: Backend, const D: usize>(
    shape: [usize; D],
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    Param::from_tensor(Tensor::zeros(shape, device))
}

/// `y = x · W + b` on rows.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[in, out]`: the transpose of PyTorch's layout, which `state` converts.
    pub weight: Param<Tensor<B, 2>>,
    /// `[out]`
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> Linear<B> {
    pub fn zeros(input: usize, output: usize, device: &B::Device) -> Self {
        Self { weight: zeros([input, output], device), bias: zeros([output], device) }
    }

    pub fn weights(&self) -> LinearWeights<B> {
        (self.weight.val(), self.bias.val())
    }
}

/// Layer normalisation over the last dimension.
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// Scale. `[D]`
    pub weight: Param<Tensor<B, 1>>,
    /// Shift. `[D]`
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> LayerNorm<B> {
    pub fn zeros(dim: usize, device: &B::Device) -> Self {
        Self { weight: zeros([dim], device), bias: zeros([dim], device) }
    }

    pub fn weights(&self) -> NormWeights<B> {
        [self.weight.val(), self.bias.val()]
    }

    /// `[rows, D]` -> `[rows, D]`
    pub fn forward(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        stock::layer_norm(rows, self.weights())
    }
}
