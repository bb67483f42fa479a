//! Loss and gradients of one micro-batch, with all activations kept or with those of one block at a time.
//!
//! [`recompute`] is activation checkpointing (Chen et al. 2016) with a checkpoint before every block. The forward pass runs
//! without a graph and keeps the input of each block; the backward pass runs one block at a time again, with a graph, and
//! goes back through it. This needs nothing of a backend but automatic differentiation, so it is the same on the CPU and on
//! a GPU. Burn's own `BalancedCheckpointing` is no alternative: it keeps the results of matrix products, which are most of
//! the memory, and with Burn's dispatch backend a tensor that enters the graph again, as weights do after each update, has
//! another strategy than the rest.
//!
//! [`keep`] and [`recompute`] make the same operations on the same numbers and add up in the same order. Where an operation
//! gives the same bits each time, as on the CPU, so do both of them.

use super::optim::{Gradients, take_gradients};
use crate::model::vit::PassMode;
use crate::model::{Aim, SimMimVit};
use crate::ops::TrainBackend;
use burn::module::Module as _;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

/// What goes into a pass through the model.
pub(super) struct Pass<B: AutodiffBackend> {
    /// The pixels of all patches, `[B·N, P]`.
    pub(super) patches: Tensor<B, 2>,
    pub(super) aim: Aim<B>,
    pub(super) mode: PassMode<B>,
    /// Micro-batches of a step. The gradient of a step is that of the mean over them.
    pub(super) shares: usize,
}

/// The loss of one micro-batch, `[1]`, and the gradients of its share.
pub(super) type LossAndGradients<B> = (
    Tensor<<B as AutodiffBackend>::InnerBackend, 1>,
    Gradients<<B as AutodiffBackend>::InnerBackend>,
);

/// Keeps the whole graph. `loss` turns the prediction, `[B·M, P]` or `[B, C]`, into `[1]`.
pub(super) fn keep<B: TrainBackend>(
    model: &SimMimVit<B>,
    pass: Pass<B>,
    loss: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 1>,
) -> LossAndGradients<B> {
    let Pass { patches, aim, mode, shares } = pass;
    let loss = loss(model.forward(patches, &aim, &mode));
    let value = loss.clone().inner();
    let mut gradients = loss.div_scalar(shares as f64).backward();
    (value, take_gradients(model, &mut gradients))
}

/// Keeps only the inputs of the blocks. `loss` turns the prediction, `[B·M, P]` or `[B, C]`, into `[1]`.
pub(super) fn recompute<B: TrainBackend>(
    model: &SimMimVit<B>,
    pass: Pass<B>,
    loss: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 1>,
) -> LossAndGradients<B> {
    let Pass { patches, aim, mode, shares } = pass;
    let encoder = &model.encoder;
    let embedded = encoder.embed(patches, model.token_mask(&aim), &mode);
    let bias = encoder.bias();
    let bias_value = bias.clone().map(Tensor::detach);
    // These are still the operations of the backend with gradients, as those of the one without may round differently.
    let untracked = encoder.clone().no_grad();
    let mut inputs = vec![embedded.clone().detach()];
    for index in 0..encoder.blocks.len() {
        let rows = inputs[index].clone();
        inputs.push(untracked.block(index, rows, bias_value.as_ref(), &mode));
    }
    drop(untracked);

    let mut inputs = inputs.into_iter().rev().map(Tensor::require_grad);
    let last = inputs.next().expect("the output of the last block");
    let loss = loss(model.predict(last.clone(), &aim, &mode));
    let value = loss.clone().inner();
    let mut graph = loss.div_scalar(shares as f64).backward();
    let mut slope = take(&last, &mut graph); // the gradient of the rows
    let mut bias_slope = None;
    let mut all = take_gradients(model, &mut graph);
    for (index, rows) in (0..encoder.blocks.len()).rev().zip(inputs) {
        let bias = bias_value.clone().map(Tensor::require_grad);
        let out = encoder.block(index, rows.clone(), bias.as_ref(), &mode);
        let mut graph = back(out, slope);
        slope = take(&rows, &mut graph);
        if let Some(bias) = bias {
            let found = take(&bias, &mut graph);
            bias_slope = Some(match bias_slope {
                Some(sum) => sum + found,
                None => found,
            });
        }
        all.extend(take_gradients(model, &mut graph));
    }
    all.extend(take_gradients(model, &mut back(embedded, slope)));
    if let (Some(bias), Some(slope)) = (bias, bias_slope) {
        all.extend(take_gradients(model, &mut back(bias, slope)));
    }
    (value, all)
}

/// Goes back from `out`, whose gradient is `slope`. Burn can only start at a sum, and the sum of `out` times `slope` has this
/// gradient.
fn back<B: AutodiffBackend, const D: usize>(
    out: Tensor<B, D>,
    slope: Tensor<B::InnerBackend, D>,
) -> B::Gradients {
    (out * Tensor::from_inner(slope)).sum().backward()
}

/// Takes the gradient of a tensor that a graph starts from.
fn take<B: AutodiffBackend, const D: usize>(
    leaf: &Tensor<B, D>,
    gradients: &mut B::Gradients,
) -> Tensor<B::InnerBackend, D> {
    leaf.grad_remove(gradients).expect("every leaf was used")
}
