//! The model: a Vision Transformer pre-trained by masked image modelling (Xie et al. 2021, arXiv 2111.09886).
//!
//! ```text
//! images [B,3,H,W] ─ patchify ─▶ patches [B·N,P] ─ Linear ─▶ tokens [B·N,D] ─ mask token ─▶ + position
//!        ─ depth × Block ─▶ LayerNorm ─ rows of masked patches ─▶ Linear ─▶ predicted pixels [B·M,P]
//! ```
//! These letters name the sizes everywhere: B images in the batch, C classes, N patches per image, M hidden patches per
//! image, D channels of a token, p pixels along the side of a patch, and P = 3·p·p numbers per patch in the order (channel,
//! row, column).
//!
//! If [`ModelShape::classes`] is set, the same encoder without a mask token becomes a classifier:
//!
//! ```text
//!        ─ depth × Block ─▶ LayerNorm ─ mean over an image's tokens ─▶ Linear ─▶ logits [B,C]
//! ```
//! Tokens stay collapsed to `[B·N, D]` wherever a linear layer works on them, because Burn's batched linear layer
//! would compute one weight gradient per image.

pub(crate) mod block;
pub(crate) mod init;
pub(crate) mod layers;
pub(crate) mod loss;
pub mod mask;
pub mod patch;
pub(crate) mod position;
pub mod shapes;
pub mod state;
pub mod tensors;
pub(crate) mod vit;

use crate::config::{Config, ModelConfig, Position, Precision};
use crate::ops::{FastOps, PredictCall, TokenMask, stock};
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor};
use layers::Linear;
use vit::{Encoder, PassMode};

/// The sizes of a model, derived from a [`ModelConfig`] or given for images of any rectangle.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelShape {
    /// Number of patches down and across.
    pub grid: [usize; 2],
    /// Height and width of a patch in pixels, p.
    pub patch: usize,
    /// Channels of a token, D.
    pub dim: usize,
    /// Number of encoder blocks.
    pub depth: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Hidden width of the MLP.
    pub hidden: usize,
    pub position: Position,
    /// What `LayerScale` starts with; 0 leaves it out.
    pub layer_scale: f64,
    /// Outputs of a classifier's head, C. `None` if the head predicts the pixels of hidden patches.
    pub classes: Option<usize>,
}

impl ModelShape {
    /// Returns the sizes of the model that a run of this configuration trains.
    pub fn of(config: &Config) -> Self {
        let classes = config.finetune.as_ref().map(|finetune| finetune.classes.len());
        Self { classes, ..Self::new(&config.model) }
    }

    /// Returns the sizes of a model for pre-training.
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
            classes: None,
        }
    }

    /// Returns the number of patches per image, N.
    pub fn patches(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Returns the numbers per patch, P.
    pub fn patch_len(&self) -> usize {
        3 * self.patch * self.patch
    }

    /// Returns the outputs of the head: P, or C of a classifier.
    pub fn outputs(&self) -> usize {
        self.classes.unwrap_or_else(|| self.patch_len())
    }

    /// Returns the number of weights. Fixed positions count too.
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
            + if self.classes.is_none() { dim } else { 0 } // mask token
            + linear(dim, self.outputs()); // head
        (self.depth * block + rest) as u64
    }
}

/// Returns the type of the operands of matrix products. TF32 has none of its own: the operands are 32-bit floats, which
/// the GPU rounds.
pub fn products(precision: Precision) -> DType {
    match precision {
        Precision::Fp32 | Precision::Tf32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    }
}

/// The mask of one batch on the device.
#[derive(Debug, Clone)]
pub struct BatchMask<B: Backend> {
    /// 1 where a patch is hidden, 0 elsewhere. `[B·N, 1]`
    pub hidden: Tensor<B, 2>,
    /// Numbers of the rows of `[B·N, D]` that hold hidden patches, ascending. `[B·M]`
    pub rows: Tensor<B, 1, Int>,
}

/// What the model is to predict.
#[derive(Debug, Clone)]
pub enum Aim<B: Backend> {
    /// The pixels of the hidden patches.
    Hidden(BatchMask<B>),
    /// The class of each image.
    Class,
}

/// An encoder, a mask token and a linear head. There is no class token.
#[derive(Module, Debug)]
pub struct SimMimVit<B: Backend> {
    pub encoder: Encoder<B>,
    /// Replaces every hidden patch before the encoder. A classifier has none. `[1, 1, D]`
    pub mask_token: Option<Param<Tensor<B, 3>>>,
    pub head: Linear<B>,
}

impl<B: Backend> SimMimVit<B> {
    /// Returns a model of the right shapes whose weights are all zero. [`state::load`] fills it.
    pub fn zeros(shape: &ModelShape, device: &B::Device) -> Self {
        Self {
            encoder: Encoder::zeros(shape, device),
            mask_token: shape.classes.is_none().then(|| layers::zeros([1, 1, shape.dim], device)),
            head: Linear::zeros(shape.dim, shape.outputs(), device),
        }
    }

    /// Runs the whole model.
    ///
    /// # Shapes
    /// - patches: `[B·N, P]`
    /// - output: as [`Self::predict`]
    pub fn forward(&self, patches: Tensor<B, 2>, aim: &Aim<B>, mode: &PassMode<B>) -> Tensor<B, 2>
    where
        B: FastOps,
    {
        let rows = self.encoder.encode(patches, self.token_mask(aim), mode); // [B·N, D]
        self.predict(rows, aim, mode)
    }

    /// Returns the mask token and the hidden patches, or `None` if the model is to predict classes.
    pub fn token_mask(&self, aim: &Aim<B>) -> Option<TokenMask<B>> {
        let Aim::Hidden(mask) = aim else { return None };
        let token = self.mask_token.as_ref().expect("only models with a mask token get masks");
        Some((token.val(), mask.hidden.clone()))
    }

    /// Applies the final norm and the head to the tokens of the hidden patches, in ascending order of the rows. For a
    /// classifier, it applies the norm to all tokens and the head to their mean over each image.
    ///
    /// The classifier is timm's `VisionTransformer(class_token=False, global_pool='avg', fc_norm=False)`. The official
    /// `SimMIM` pools first and normalises then. Here the pre-trained norm goes on to get single tokens, as in
    /// pre-training.
    ///
    /// # Shapes
    /// - rows: `[B·N, D]`
    /// - output: `[B·M, P]`, or logits `[B, C]`
    pub fn predict(&self, rows: Tensor<B, 2>, aim: &Aim<B>, mode: &PassMode<B>) -> Tensor<B, 2>
    where
        B: FastOps,
    {
        let (norm, head, products) = (&self.encoder.norm, self.head.weights(), mode.products);
        match aim {
            Aim::Hidden(mask) => {
                let (picked, norm) = (mask.rows.clone(), norm.weights());
                B::predict(rows, PredictCall { picked, norm, head, products })
            }
            Aim::Class => stock::linear(self.pool(norm.forward(rows)), head, products),
        }
    }

    /// Returns the mean over the tokens of each image. `[B·N, D]` -> `[B, D]`
    fn pool(&self, tokens: Tensor<B, 2>) -> Tensor<B, 2> {
        let [rows, dim] = tokens.dims();
        let n = self.encoder.patches();
        tokens.reshape([rows / n, n, dim]).mean_dim(1).reshape([rows / n, dim])
    }

    /// Returns the mean over the tokens of each image, without a mask. The tokens are those after all blocks and the final
    /// norm or, if `layer` is given, those after the first `layer` blocks (at least 1, at most all) without the norm.
    ///
    /// # Shapes
    /// - patches: `[B·N, P]`
    /// - output: `[B, D]`
    pub fn features(
        &self,
        patches: Tensor<B, 2>,
        layer: Option<usize>,
        products: DType,
    ) -> Tensor<B, 2>
    where
        B: FastOps,
    {
        let mode = PassMode::evaluation(products);
        let tokens = match layer {
            None => self.encoder.norm.forward(self.encoder.encode(patches, None, &mode)),
            Some(blocks) => self.encoder.encode_first(blocks.max(1), patches, None, &mode),
        };
        self.pool(tokens)
    }
}
