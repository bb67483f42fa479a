//! The two primitive layers, written for collapsed [rows, features] input.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorPrimitive};

/// LayerNorm epsilon of timm's Vision Transformers.
const LAYER_NORM_EPS: f64 = 1e-6;

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
    /// [in, out]: the transpose of PyTorch's layout, which `state` converts.
    pub weight: Param<Tensor<B, 2>>,
    /// [out]
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> Linear<B> {
    pub fn zeros(input: usize, output: usize, device: &B::Device) -> Self {
        Self { weight: zeros([input, output], device), bias: zeros([output], device) }
    }

    /// [rows, in] -> [rows, out]
    pub fn forward(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        rows.matmul(self.weight.val()) + self.bias.val().unsqueeze::<2>()
    }
}

/// Layer normalisation over the last dimension.
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// Scale. [D]
    pub weight: Param<Tensor<B, 1>>,
    /// Shift. [D]
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> LayerNorm<B> {
    pub fn zeros(dim: usize, device: &B::Device) -> Self {
        Self { weight: zeros([dim], device), bias: zeros([dim], device) }
    }

    /// [rows, D] -> [rows, D]
    pub fn forward(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        Tensor::from_primitive(TensorPrimitive::Float(B::layer_norm(
            rows.into_primitive().tensor(),
            self.weight.val().into_primitive().tensor(),
            Some(self.bias.val().into_primitive().tensor()),
            LAYER_NORM_EPS,
        )))
    }
}
