//! Tensor operations with a fast path on the CPU.
//!
//! [`FastOps`] has what the model is made of, each as plain Burn operations by default. Burn's CPU backend gets its own
//! implementations, forward and backward: one pass over memory where the plain operations make many. They know
//! nothing of this program and are written as they could stand in Burn: `kernel` to `ends` work on slices, `flex`
//! binds them to tensors. `SIMMIM_PLAIN_OPS=1` takes the plain operations everywhere.

mod adamw;
mod attention;
mod block;
mod ends;
mod flex;
mod groups;
pub(crate) mod kernel;
mod linear;
mod math;
mod norm;
mod pointwise;
mod pool;
#[cfg(test)]
mod products_tests;
pub(crate) mod stock;
#[cfg(test)]
mod tests;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Bool, DType, Int, Tensor};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Scale and shift of a layer norm. `[D]` each
pub type NormWeights<B> = [Tensor<B, 1>; 2];

/// Weight `[in, out]` and bias `[out]`.
pub type LinearWeights<B> = (Tensor<B, 2>, Tensor<B, 1>);

/// Mask token `[1, 1, D]`, and 1 where a patch is hidden, else 0 `[B·N, 1]`.
pub type TokenMask<B> = (Tensor<B, 3>, Tensor<B, 2>);

/// How a residual branch ends.
#[derive(Debug, Clone)]
pub struct BranchEnd<B: Backend> {
    /// `LayerScale` (Touvron et al. 2021). `[D]`
    pub scale: Option<Tensor<B, 1>>,
    /// Drop path: per-image factors, 0 or 1 / keep probability. `[B, 1, 1]`
    pub factors: Option<Tensor<B, 3>>,
}

/// What an encoder block applies to its rows.
#[derive(Debug, Clone)]
pub struct BlockCall<B: Backend> {
    pub norm1: NormWeights<B>,
    pub qkv: LinearWeights<B>,
    pub proj: LinearWeights<B>,
    pub norm2: NormWeights<B>,
    pub fc1: LinearWeights<B>,
    pub fc2: LinearWeights<B>,
    /// Added to the logits of attention. `[1, heads, N, N]`
    pub bias: Option<Tensor<B, 4>>,
    /// Of the attention branch and the MLP branch.
    pub ends: [BranchEnd<B>; 2],
    pub heads: usize,
    /// N
    pub patches: usize,
    /// Type of the operands of matrix products, see [`stock::product`].
    pub products: DType,
}

/// What the embedding applies to the patches.
#[derive(Debug, Clone)]
pub struct EmbedCall<B: Backend> {
    /// The patch projection. `[P, D]`, `[D]`
    pub proj: LinearWeights<B>,
    pub mask: Option<TokenMask<B>>,
    /// Added after masking. `[1, N, D]`
    pub position: Option<Tensor<B, 3>>,
    /// As [`BlockCall::products`].
    pub products: DType,
}

/// What the prediction applies to the rows of the encoder.
#[derive(Debug, Clone)]
pub struct PredictCall<B: Backend> {
    /// Numbers of the rows to predict from. `[M]`
    pub picked: Tensor<B, 1, Int>,
    pub norm: NormWeights<B>,
    /// `[D, P]`, `[P]`
    pub head: LinearWeights<B>,
    /// As [`BlockCall::products`].
    pub products: DType,
}

/// Numbers of one `AdamW` update.
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
    pub betas: [f64; 2],
    pub eps: f64,
    pub lr: f64,
    /// Weight decay of this parameter.
    pub decay: f64,
    /// Updates done with this one, from 1.
    pub update: u64,
}

/// A parameter and its moments, flat. `[elements]` each
#[derive(Debug)]
pub struct Trained<B: Backend> {
    pub weight: Tensor<B, 1>,
    /// Running means of the gradient and of its square.
    pub moments: [Tensor<B, 1>; 2],
}

/// What the model is made of; the methods that aren't overridden are Burn's plain operations. `products` is the type of the
/// operands of matrix products; all else is computed in the type that the tensors have.
pub trait FastOps: Backend {
    /// One pre-norm encoder block. `[B·N, D]` -> `[B·N, D]`
    fn block(rows: Tensor<Self, 2>, call: BlockCall<Self>) -> Tensor<Self, 2> {
        stock::block(rows, call)
    }

    /// Projects the patches, sets the mask token and adds the position. `[B·N, P]` -> `[B·N, D]`
    fn embed(patches: Tensor<Self, 2>, call: EmbedCall<Self>) -> Tensor<Self, 2> {
        stock::embed(patches, call)
    }

    /// Applies norm and linear head to the picked rows. `[B·N, D]` -> `[M, P]`
    fn predict(rows: Tensor<Self, 2>, call: PredictCall<Self>) -> Tensor<Self, 2> {
        stock::predict(rows, call)
    }

    /// One `AdamW` update (Loshchilov & Hutter 2019) with the gradient times `factor` `[1]`. Nothing changes where `bad` `[1]`
    /// is true.
    fn adamw(
        trained: Trained<Self>,
        gradient: Tensor<Self, 1>,
        factor: Option<Tensor<Self, 1>>,
        bad: Option<Tensor<Self, 1, Bool>>,
        step: &AdamWStep,
    ) -> Trained<Self> {
        stock::adamw(trained, gradient, factor, bad, step)
    }

    /// Sum of squares. `[elements]` -> `[1]`
    fn square_sum(values: Tensor<Self, 1>) -> Tensor<Self, 1> {
        values.square().sum()
    }
}

/// Burn's backend for all devices takes no operations from outside.
#[cfg(feature = "cuda")]
impl FastOps for burn::Dispatch {}

/// A backend that trains.
pub trait TrainBackend: AutodiffBackend<InnerBackend: FastOps> + FastOps {}
impl<B: AutodiffBackend<InnerBackend: FastOps> + FastOps> TrainBackend for B {}

/// To be held from the first operation of a graph to the end of its backward pass. Burn 0.21 cleans up after each
/// backward pass in the graphs of all threads (`GraphCleaner::cleanup_orphaned_entries`) and takes one that is just being
/// built for unused: without a word, gradients are missing.
pub fn one_graph() -> MutexGuard<'static, ()> {
    static GRAPH: Mutex<()> = Mutex::new(());
    GRAPH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the plain operations are wanted: products aren't of 32-bit floats, or `SIMMIM_PLAIN_OPS` asks for them.
fn plain(products: DType) -> bool {
    static PLAIN: OnceLock<bool> = OnceLock::new();
    let asked = || std::env::var_os("SIMMIM_PLAIN_OPS").is_some_and(|value| value == "1");
    products != DType::F32 || *PLAIN.get_or_init(asked)
}
