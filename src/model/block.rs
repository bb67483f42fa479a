//! The weights of one pre-norm encoder block: attention and MLP, each with a residual connection, drop path and optional
//! `LayerScale`. The arithmetic is in [`crate::ops`].

use super::ModelShape;
use super::layers::{LayerNorm, Linear, zeros};
use crate::ops::{BlockCall, BranchEnd, FastOps};
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};

/// Multi-head self-attention with one projection to queries, keys and values together.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    pub qkv: Linear<B>,
    pub proj: Linear<B>,
    heads: usize,
}

/// A linear layer, exact GELU and another linear layer.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    pub fc1: Linear<B>,
    pub fc2: Linear<B>,
}

/// A learned scale per channel of a residual branch (Touvron et al. 2021).
#[derive(Module, Debug)]
pub struct LayerScale<B: Backend> {
    /// The scale, γ. `[D]`
    pub gamma: Param<Tensor<B, 1>>,
}

/// One factor per image of the attention branch and of the MLP branch: 0, or 1 / (1 − drop probability).
/// `[B, 1, 1]` each
pub type BranchFactors<B> = [Tensor<B, 3>; 2];

/// An encoder block. The fields have timm's names.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    pub norm1: LayerNorm<B>,
    pub attn: Attention<B>,
    pub ls1: Option<LayerScale<B>>,
    pub norm2: LayerNorm<B>,
    pub mlp: Mlp<B>,
    pub ls2: Option<LayerScale<B>>,
}

impl<B: Backend> Block<B> {
    /// Returns a block whose weights are all zero.
    pub fn zeros(shape: &ModelShape, device: &B::Device) -> Self {
        let dim = shape.dim;
        let scale =
            || (shape.layer_scale > 0.0).then(|| LayerScale { gamma: zeros([dim], device) });
        Self {
            norm1: LayerNorm::zeros(dim, device),
            attn: Attention {
                qkv: Linear::zeros(dim, 3 * dim, device),
                proj: Linear::zeros(dim, dim, device),
                heads: shape.heads,
            },
            ls1: scale(),
            norm2: LayerNorm::zeros(dim, device),
            mlp: Mlp {
                fc1: Linear::zeros(dim, shape.hidden, device),
                fc2: Linear::zeros(shape.hidden, dim, device),
            },
            ls2: scale(),
        }
    }

    /// Runs the block. `products` is the type of the operands of matrix products.
    ///
    /// # Shapes
    /// - rows: `[B·N, D]`, where N is `patches`
    /// - bias: `[1, heads, N, N]`
    /// - output: `[B·N, D]`
    pub fn forward(
        &self,
        rows: Tensor<B, 2>,
        patches: usize,
        bias: Option<&Tensor<B, 4>>,
        factors: Option<&BranchFactors<B>>,
        products: DType,
    ) -> Tensor<B, 2>
    where
        B: FastOps,
    {
        let end = |scale: Option<&LayerScale<B>>, branch: usize| BranchEnd {
            scale: scale.map(|scale| scale.gamma.val()),
            factors: factors.map(|factors| factors[branch].clone()),
        };
        let call = BlockCall {
            norm1: self.norm1.weights(),
            qkv: self.attn.qkv.weights(),
            proj: self.attn.proj.weights(),
            norm2: self.norm2.weights(),
            fc1: self.mlp.fc1.weights(),
            fc2: self.mlp.fc2.weights(),
            bias: bias.cloned(),
            ends: [end(self.ls1.as_ref(), 0), end(self.ls2.as_ref(), 1)],
            heads: self.attn.heads,
            patches,
            products,
        };
        B::block(rows, call)
    }
}
