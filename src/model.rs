//! `SimMimVit`: a Vision Transformer pre-trained by masked image modelling (Xie et al. 2021, arXiv 2111.09886).
//!
//! ```text
//! images [B,3,H,W] ─ patchify ─▶ patches [B·N,P] ─ Linear ─▶ tokens [B·N,D] ─ mask token ─▶ + position
//!        ─ depth × Block ─▶ LayerNorm ─ rows of masked patches ─▶ Linear ─▶ predicted pixels [B·M,P]
//! ```
//! B images, N = patches per image, M = masked patches per image, P = 3·p·p in the order (channel, row, column).
//! Tokens stay collapsed to [B·N, D] wherever a linear layer works on them: Burn's batched linear would
//! materialise one weight gradient per image.

pub mod block;
pub mod init;
pub mod layers;
pub mod loss;
pub mod mask;
pub mod patch;
pub mod position;
pub mod state;
pub mod vit;

use crate::config::{ModelConfig, Position, Precision};
use crate::ops::{FastOps, TokenMask};
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor};
use layers::Linear;
use vit::{DropPath, Encoder};

/// Sizes that the tensor code needs, derived from a [`ModelConfig`] or given for any rectangle.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelShape {
    /// Patches down and across.
    pub grid: [usize; 2],
    pub patch: usize,
    pub dim: usize,
    pub depth: usize,
    pub heads: usize,
    /// Hidden width of the MLP.
    pub hidden: usize,
    pub position: Position,
    pub layer_scale: f64,
}

impl ModelShape {
    pub fn new(config: &ModelConfig) -> Self {
        let side = config.image_size / config.patch_size;
        Self {
            grid: [side, side],
            patch: config.patch_size,
            dim: config.embed_dim,
            depth: config.depth,
            heads: config.heads,
            hidden: (config.embed_dim as f64 * config.mlp_ratio) as usize,
            position: config.position,
            layer_scale: config.layer_scale,
        }
    }

    /// N, patches per image.
    pub fn patches(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// P, numbers per patch.
    pub fn patch_len(&self) -> usize {
        3 * self.patch * self.patch
    }

    /// Number of weights, fixed positions included.
    pub fn parameters(&self) -> u64 {
        let linear = |input: usize, output: usize| input * output + output;
        let (dim, hidden) = (self.dim, self.hidden);
        let scales = if self.layer_scale > 0.0 { 2 * dim } else { 0 };
        let block = 4 * dim
            + linear(dim, 3 * dim)
            + linear(dim, dim)
            + linear(dim, hidden)
            + linear(hidden, dim)
            + scales;
        let position = match self.position {
            Position::Learned | Position::Sincos => self.patches() * dim,
            Position::Relative => (2 * self.grid[0] - 1) * (2 * self.grid[1] - 1) * self.heads,
        };
        let rest = linear(self.patch_len(), dim) // patch projection
            + position
            + 2 * dim // final norm
            + dim // mask token
            + linear(dim, self.patch_len()); // head
        (self.depth * block + rest) as u64
    }
}

/// Type of the operands of matrix products. TF32 is none: a GPU takes 32-bit floats and rounds them by itself.
pub fn products(precision: Precision) -> DType {
    match precision {
        Precision::Fp32 | Precision::Tf32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    }
}

/// The mask of one batch on the device.
#[derive(Debug, Clone)]
pub struct BatchMask<B: Backend> {
    /// 1 where the patch is hidden, else 0. [B·N, 1]
    pub hidden: Tensor<B, 2>,
    /// Rows of the hidden patches in [B·N], ascending. [B·M]
    pub rows: Tensor<B, 1, Int>,
}

/// Encoder, mask token and a linear head; there is no class token.
#[derive(Module, Debug)]
pub struct SimMimVit<B: Backend> {
    pub encoder: Encoder<B>,
    /// Stands in for every hidden patch before the encoder. [1, 1, D]
    pub mask_token: Param<Tensor<B, 3>>,
    pub head: Linear<B>,
}

impl<B: Backend> SimMimVit<B> {
    /// A model of the right shapes with all weights zero; [`state::load`] fills it.
    pub fn zeros(shape: &ModelShape, device: &B::Device) -> Self {
        Self {
            encoder: Encoder::zeros(shape, device),
            mask_token: layers::zeros([1, 1, shape.dim], device),
            head: Linear::zeros(shape.dim, shape.patch_len(), device),
        }
    }

    /// Predicts the hidden patches. `products` is the type of the operands of matrix products.
    ///
    /// # Shapes
    /// - patches: [B·N, P]
    /// - output: [B·M, P], in row-major order of the mask
    pub fn forward(
        &self,
        patches: Tensor<B, 2>,
        mask: &BatchMask<B>,
        drop_path: &DropPath<B>,
        products: DType,
    ) -> Tensor<B, 2>
    where
        B: FastOps,
    {
        let masked = self.token_mask(mask);
        let rows = self.encoder.encode(patches, Some(masked), drop_path, products); // [B·N, D]
        self.predict(rows, mask, products)
    }

    /// What hides patches from the encoder.
    pub fn token_mask(&self, mask: &BatchMask<B>) -> TokenMask<B> {
        (self.mask_token.val(), mask.hidden.clone())
    }

    /// Final norm and head of the hidden patches. [B·N, D] -> [B·M, P]
    pub fn predict(&self, rows: Tensor<B, 2>, mask: &BatchMask<B>, products: DType) -> Tensor<B, 2>
    where
        B: FastOps,
    {
        let (norm, head) = (self.encoder.norm.weights(), self.head.weights());
        B::predict(rows, mask.rows.clone(), norm, head, products)
    }

    /// Mean over the tokens, without a mask: after all blocks and the final norm, or after the first `layer` blocks
    /// (at least 1, at most all) without it.
    ///
    /// # Shapes
    /// - patches: [B·N, P]
    /// - output: [B, D]
    pub fn features(
        &self,
        patches: Tensor<B, 2>,
        layer: Option<usize>,
        products: DType,
    ) -> Tensor<B, 2>
    where
        B: FastOps,
    {
        let tokens = match layer {
            None => {
                let tokens = self.encoder.encode(patches, None, &DropPath::off(), products);
                self.encoder.norm.forward(tokens)
            }
            Some(blocks) => {
                self.encoder.encode_first(blocks.max(1), patches, None, &DropPath::off(), products)
            }
        };
        let [rows, dim] = tokens.dims();
        let n = self.encoder.patches();
        tokens.reshape([rows / n, n, dim]).mean_dim(1).reshape([rows / n, dim])
    }
}
