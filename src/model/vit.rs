//! The encoder: patch embedding, position, blocks and final norm.

use super::ModelShape;
use super::block::{Block, BranchFactors};
use super::layers::{LayerNorm, Linear};
use super::position::{self, RelativeBias};
use crate::config::Position;
use crate::ops::{EmbedCall, FastOps, TokenMask};
use crate::rng::{self, Purpose};
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use rand::RngExt as _;

/// The patch projection. The field has the name of timm's convolution.
#[derive(Module, Debug)]
pub struct PatchEmbed<B: Backend> {
    pub proj: Linear<B>,
}

/// The encoder. The fields have timm's names.
#[derive(Module, Debug)]
pub struct Encoder<B: Backend> {
    pub patch_embed: PatchEmbed<B>,
    /// The learned or fixed absolute position. A model with a relative bias has none. `[1, N, D]`
    pub pos_embed: Option<Param<Tensor<B, 3>>>,
    /// The relative bias. A model with an absolute position has none.
    pub rel_pos_bias: Option<RelativeBias<B>>,
    pub blocks: Vec<Block<B>>,
    pub norm: LayerNorm<B>,
    patches: usize,
}

impl<B: Backend> Encoder<B> {
    /// Returns an encoder whose weights are all zero.
    pub fn zeros(shape: &ModelShape, device: &B::Device) -> Self {
        let pos_embed = match shape.position {
            Position::Learned => {
                Some(super::layers::zeros([1, shape.patches(), shape.dim], device))
            }
            Position::Sincos => {
                let table = position::sincos(shape.grid, shape.dim);
                let data = TensorData::new(table, [1, shape.patches(), shape.dim]);
                let fixed = Tensor::from_data(data, device);
                Some(Param::from_tensor(fixed).set_require_grad(false))
            }
            Position::Relative => None,
        };
        Self {
            patch_embed: PatchEmbed { proj: Linear::zeros(shape.patch_len(), shape.dim, device) },
            pos_embed,
            rel_pos_bias: (shape.position == Position::Relative)
                .then(|| RelativeBias::zeros(shape.grid, shape.heads, device)),
            blocks: (0..shape.depth).map(|_| Block::zeros(shape, device)).collect(),
            norm: LayerNorm::zeros(shape.dim, device),
            patches: shape.patches(),
        }
    }

    /// Returns the number of patches per image, N.
    pub fn patches(&self) -> usize {
        self.patches
    }

    /// Embeds the patches and runs all blocks. The final norm is left to the caller. `[B·N, P]` -> `[B·N, D]`
    pub fn encode(
        &self,
        patches: Tensor<B, 2>,
        mask: Option<TokenMask<B>>,
        mode: &PassMode<B>,
    ) -> Tensor<B, 2>
    where
        B: FastOps,
    {
        self.encode_first(self.blocks.len(), patches, mask, mode)
    }

    /// Like [`Self::encode`], but runs the first `blocks` blocks only.
    pub fn encode_first(
        &self,
        blocks: usize,
        patches: Tensor<B, 2>,
        mask: Option<TokenMask<B>>,
        mode: &PassMode<B>,
    ) -> Tensor<B, 2>
    where
        B: FastOps,
    {
        let bias = self.bias();
        let rows = self.embed(patches, mask, mode);
        (0..blocks.min(self.blocks.len()))
            .fold(rows, |rows, index| self.block(index, rows, bias.as_ref(), mode))
    }

    /// Projects the patches, replaces the hidden ones by the mask token and adds the position, in this order as in the
    /// paper. `[B·N, P]` -> `[B·N, D]`
    pub fn embed(
        &self,
        patches: Tensor<B, 2>,
        mask: Option<TokenMask<B>>,
        mode: &PassMode<B>,
    ) -> Tensor<B, 2>
    where
        B: FastOps,
    {
        let call = EmbedCall {
            proj: self.patch_embed.proj.weights(),
            mask,
            position: self.pos_embed.as_ref().map(Param::val),
            products: mode.products,
        };
        B::embed(patches, call)
    }

    /// Returns the relative bias that all blocks share, or `None` if the model has absolute positions.
    /// `[1, heads, N, N]`
    pub fn bias(&self) -> Option<Tensor<B, 4>> {
        self.rel_pos_bias.as_ref().map(RelativeBias::logits)
    }

    /// Runs one block. `bias` is what [`Self::bias`] returned. `[B·N, D]` -> `[B·N, D]`
    pub fn block(
        &self,
        index: usize,
        rows: Tensor<B, 2>,
        bias: Option<&Tensor<B, 4>>,
        mode: &PassMode<B>,
    ) -> Tensor<B, 2>
    where
        B: FastOps,
    {
        let factors = mode.drop_path.block(index);
        self.blocks[index].forward(rows, self.patches, bias, factors, mode.products)
    }
}

/// How one forward pass computes.
#[derive(Debug, Clone)]
pub struct PassMode<B: Backend> {
    pub drop_path: DropPath<B>,
    /// Type of the operands of matrix products, see [`crate::ops::stock::product`].
    pub products: DType,
}

impl<B: Backend> PassMode<B> {
    /// Returns the mode of an evaluation, which keeps every branch.
    pub fn evaluation(products: DType) -> Self {
        Self { drop_path: DropPath::off(), products }
    }
}

/// The random factors of stochastic depth (Huang et al. 2016) for one forward pass: one per image and residual branch.
#[derive(Debug, Clone)]
pub struct DropPath<B: Backend> {
    blocks: Vec<Option<BranchFactors<B>>>,
}

impl<B: Backend> DropPath<B> {
    /// Returns factors that keep every branch, for an evaluation or a rate of 0.
    pub fn off() -> Self {
        Self { blocks: Vec::new() }
    }

    /// Draws the factors of a micro-batch, see [`draw_factors`], and uploads them.
    pub fn draw(
        rate: f64,
        depth: usize,
        batch: usize,
        seed: u64,
        micro: u64,
        device: &B::Device,
    ) -> Self {
        let upload =
            |factors: Vec<f32>| Tensor::from_data(TensorData::new(factors, [batch, 1, 1]), device);
        let blocks = draw_factors(rate, depth, batch, seed, micro).into_iter();
        Self { blocks: blocks.map(|block| block.map(|branches| branches.map(upload))).collect() }
    }

    /// Returns the factors of one block, or `None` if it keeps every branch.
    fn block(&self, index: usize) -> Option<&BranchFactors<B>> {
        self.blocks.get(index).and_then(Option::as_ref)
    }
}

/// Draws the factors of micro-batch `micro` of the run, which has `batch` images, for both branches of each block: 0 where
/// a branch is dropped. The probability to drop a branch rises linearly from 0 in the first block, which has no factors, to
/// `rate` in the last of `depth` blocks. A rate of 0 has no blocks at all.
pub fn draw_factors(
    rate: f64,
    depth: usize,
    batch: usize,
    seed: u64,
    micro: u64,
) -> Vec<Option<[Vec<f32>; 2]>> {
    if rate == 0.0 {
        return Vec::new();
    }
    let mut rng = rng::stream(seed, Purpose::DropPath, micro, 0);
    let last = (depth - 1).max(1) as f64;
    let blocks = (0..depth).map(|index| {
        let drop = rate * index as f64 / last;
        let keep = (1.0 / (1.0 - drop)) as f32;
        (drop > 0.0).then(|| {
            [(); 2].map(|()| {
                let draw = |_| if rng.random::<f64>() < drop { 0.0 } else { keep };
                (0..batch).map(draw).collect()
            })
        })
    });
    blocks.collect()
}
