//! Tensor operations with a fast path on the CPU.
//!
//! [`FastOps`] has the operations that the model consists of. By default, each of them is made of Burn's plain
//! operations ([`stock`]). Burn's CPU backend has implementations of its own, forward and backward, which go over memory
//! once where the plain operations do so many times. They know nothing of this program and could as well be a part of
//! Burn: the kernels work on slices, and `flex` binds them to tensors. `SIMMIM_PLAIN_OPS=1` takes the plain operations
//! everywhere.
//!
//! The letters of shapes are those of [`crate::model`]; r is the number of rows of some images, H the hidden width of the
//! MLP.

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

#[cfg(feature = "cuda")]
pub(crate) use norm::EPS as NORM_EPS;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Bool, DType, Int, Tensor};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The scale and the shift of a layer norm. `[D]` each
pub type NormWeights<B> = [Tensor<B, 1>; 2];

/// The weight, `[in, out]`, and the bias, `[out]`, of a linear layer.
pub type LinearWeights<B> = (Tensor<B, 2>, Tensor<B, 1>);

/// The mask token, `[1, 1, D]`, and 1 where it replaces a patch, 0 elsewhere, `[B·N, 1]`.
pub type TokenMask<B> = (Tensor<B, 3>, Tensor<B, 2>);

/// How a residual branch ends.
#[derive(Debug, Clone)]
pub struct BranchEnd<B: Backend> {
    /// `LayerScale` (Touvron et al. 2021). `[D]`
    pub scale: Option<Tensor<B, 1>>,
    /// The factor of drop path for each image: 0, or 1 / (1 − drop probability). `[B, 1, 1]`
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
    /// The ends of the attention branch and of the MLP branch.
    pub ends: [BranchEnd<B>; 2],
    pub heads: usize,
    /// Patches per image, N.
    pub patches: usize,
    /// The type of the operands of matrix products, see [`stock::product`].
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

/// The numbers of one `AdamW` update.
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
    /// β of the running means of the gradient and of its square.
    pub betas: [f64; 2],
    /// Added to the root of the mean square, ε.
    pub eps: f64,
    /// Learning rate.
    pub lr: f64,
    /// Weight decay of this parameter.
    pub decay: f64,
    /// The number of this update, from 1.
    pub update: u64,
}

/// A parameter and its moments, flattened. `[elements]` each
#[derive(Debug)]
pub struct Trained<B: Backend> {
    pub weight: Tensor<B, 1>,
    /// The running means of the gradient and of its square.
    pub moments: [Tensor<B, 1>; 2],
}

/// The operations that the model consists of. By default, they are made of Burn's plain operations. Operands of matrix
/// products are rounded to the type `products`. Everything else is computed in the type of the tensors.
pub trait FastOps: Backend {
    /// Runs one pre-norm encoder block. `[B·N, D]` -> `[B·N, D]`
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

    /// Makes one `AdamW` update (Loshchilov & Hutter 2019) with the gradient times `factor`, `[1]`. Nothing changes if
    /// `bad`, `[1]`, is true.
    fn adamw(
        trained: Trained<Self>,
        gradient: Tensor<Self, 1>,
        factor: Option<Tensor<Self, 1>>,
        bad: Option<Tensor<Self, 1, Bool>>,
        step: &AdamWStep,
    ) -> Trained<Self> {
        stock::adamw(trained, gradient, factor, bad, step)
    }

    /// Returns the sum of squares. `[elements]` -> `[1]`
    fn square_sum(values: Tensor<Self, 1>) -> Tensor<Self, 1> {
        values.square().sum()
    }
}

#[cfg(feature = "cuda")]
impl FastOps for burn_cubecl::CubeBackend<cubecl::cuda::CudaRuntime, f32, i32, u8> {}
#[cfg(feature = "cuda")]
impl FastOps
    for burn::backend::Autodiff<burn_cubecl::CubeBackend<cubecl::cuda::CudaRuntime, f32, i32, u8>>
{
}

/// A backend that can train the model.
pub trait TrainBackend: AutodiffBackend<InnerBackend: FastOps> + FastOps {}
impl<B: AutodiffBackend<InnerBackend: FastOps> + FastOps> TrainBackend for B {}

/// Returns a lock to hold from the first operation of a graph to the end of its backward pass. After each backward pass,
/// Burn 0.21 cleans up the graphs of all threads (`GraphCleaner::cleanup_orphaned_entries`) and takes one that another
/// thread is still building for unused. Without the lock, gradients would be missing without any error.
pub fn one_graph() -> MutexGuard<'static, ()> {
    static GRAPH: Mutex<()> = Mutex::new(());
    GRAPH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns whether to take the plain operations: if products aren't of 32-bit floats, or if `SIMMIM_PLAIN_OPS` asks for
/// them.
fn plain(products: DType) -> bool {
    products != DType::F32 || plain_wanted()
}

/// Returns whether `SIMMIM_PLAIN_OPS` asks for the plain operations.
pub fn plain_wanted() -> bool {
    static PLAIN: OnceLock<bool> = OnceLock::new();
    let asked = || std::env::var_os("SIMMIM_PLAIN_OPS").is_some_and(|value| value == "1");
    *PLAIN.get_or_init(asked)
}
