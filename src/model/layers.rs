//! The weights of the two basic layers, which work on collapsed `[rows, features]` input. The arithmetic is in
//! [`crate::ops`].

use crate::ops::{LinearWeights, NormWeights, stock};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Returns a parameter of zeros that requires gradients.
pub fn zeros<B: Backend, const D: usize>(
    shape: [usize; D],
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    Param::from_tensor(Tensor::zeros(shape, device))
}

/// A linear layer on rows, `y = x · W + b`.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// The transpose of PyTorch's layout, to and from which [`super::state`] converts. `[in, out]`
    pub weight: Param<Tensor<B, 2>>,
    /// `[out]`
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> Linear<B> {
    /// Returns a layer whose weights are all zero.
    pub fn zeros(input: usize, output: usize, device: &B::Device) -> Self {
        Self { weight: zeros([input, output], device), bias: zeros([output], device) }
    }

    /// Returns the tensors of the weights.
    pub fn weights(&self) -> LinearWeights<B> {
        (self.weight.val(), self.bias.val())
    }
}

/// Layer normalisation over the last dimension (Ba et al. 2016).
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// Scale. `[D]`
    pub weight: Param<Tensor<B, 1>>,
    /// Shift. `[D]`
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> LayerNorm<B> {
    /// Returns a layer whose weights are all zero.
    pub fn zeros(dim: usize, device: &B::Device) -> Self {
        Self { weight: zeros([dim], device), bias: zeros([dim], device) }
    }

    /// Returns the tensors of the weights.
    pub fn weights(&self) -> NormWeights<B> {
        [self.weight.val(), self.bias.val()]
    }

    /// Normalises every row. `[rows, D]` -> `[rows, D]`
    pub fn forward(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        stock::layer_norm(rows, self.weights())
    }
}
