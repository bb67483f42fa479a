//! The operations of [`super::FastOps`] made of Burn's plain ones, for every backend.

use super::{
    AdamWStep, BlockCall, BranchEnd, EmbedCall, LinearWeights, NormWeights, PredictCall, Trained,
    norm,
};
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, DType, Tensor, TensorPrimitive, activation};

/// Returns `a · b` with both operands rounded to the type `products`, as in mixed-precision training (Micikevicius et al.
/// 2018). The result has the type of `a`, and the gradients have the types of `a` and `b`. Sums are rounded to `products`
/// once, at their end. `[.., m, k]`, `[.., k, n]` -> `[.., m, n]`
pub fn product<B: Backend, const D: usize>(
    a: Tensor<B, D>,
    b: Tensor<B, D>,
    products: DType,
) -> Tensor<B, D> {
    let outside = a.dtype();
    a.cast(products).matmul(b.cast(products)).cast(outside)
}

/// Applies a linear layer, `y = x · W + b`. `[rows, in]` -> `[rows, out]`
pub fn linear<B: Backend>(
    rows: Tensor<B, 2>,
    (weight, bias): LinearWeights<B>,
    products: DType,
) -> Tensor<B, 2> {
    product(rows, weight, products) + bias.unsqueeze::<2>()
}

/// Normalises rows. `[rows, D]` -> `[rows, D]`
pub fn layer_norm<B: Backend>(rows: Tensor<B, 2>, [weight, bias]: NormWeights<B>) -> Tensor<B, 2> {
    Tensor::from_primitive(TensorPrimitive::Float(B::layer_norm(
        rows.into_primitive().tensor(),
        weight.into_primitive().tensor(),
        Some(bias.into_primitive().tensor()),
        norm::EPS,
    )))
}

/// Does what [`super::FastOps::block`] says. `[B·N, D]` -> `[B·N, D]`
pub fn block<B: Backend>(rows: Tensor<B, 2>, call: BlockCall<B>) -> Tensor<B, 2> {
    let BlockCall { norm1, qkv, proj, norm2, fc1, fc2, bias, ends, heads, patches, products } =
        call;
    let [end1, end2] = ends;
    let qkv = linear(layer_norm(rows.clone(), norm1), qkv, products);
    let branch = linear(attention(qkv, bias, heads, patches, products), proj, products);
    let rows = rows + end_branch(branch, end1, patches);
    let hidden = linear(layer_norm(rows.clone(), norm2), fc1, products);
    let branch = linear(activation::gelu(hidden), fc2, products);
    rows + end_branch(branch, end2, patches)
}

/// Computes attention.
///
/// # Shapes
/// - qkv: `[B·N, 3·D]`
/// - bias: added to the logits, `[1, heads, N, N]`
/// - output: `[B·N, D]`
fn attention<B: Backend>(
    qkv: Tensor<B, 2>,
    bias: Option<Tensor<B, 4>>,
    heads: usize,
    patches: usize,
    products: DType,
) -> Tensor<B, 2> {
    let [total, width] = qkv.dims();
    let (batch, head_dim) = (total / patches, width / 3 / heads);
    let qkv = qkv.reshape([batch, patches, 3, heads, head_dim]);
    let qkv = qkv.permute([2, 0, 3, 1, 4]); // [3, B, heads, N, head_dim]
    let [query, key, value] = [0, 1, 2]
        .map(|part| qkv.clone().narrow(0, part, 1).reshape([batch, heads, patches, head_dim]));
    // Scaling the queries touches N·head_dim numbers per head. Scaling the logits would touch N·N.
    let query = query.mul_scalar((head_dim as f64).powf(-0.5));
    let logits = product(query, key.swap_dims(2, 3), products); // [B, heads, N, N]
    let logits = match bias {
        Some(bias) => logits + bias,
        None => logits,
    };
    let mixed = product(activation::softmax(logits, 3), value, products); // [B, heads, N, head_dim]
    mixed.swap_dims(1, 2).reshape([total, width / 3])
}

/// Applies `LayerScale` and drop path to a residual branch. `[B·N, D]` -> `[B·N, D]`
fn end_branch<B: Backend>(branch: Tensor<B, 2>, end: BranchEnd<B>, patches: usize) -> Tensor<B, 2> {
    let branch = match end.scale {
        Some(scale) => branch * scale.unsqueeze::<2>(),
        None => branch,
    };
    let Some(factors) = end.factors else { return branch };
    let [total, dim] = branch.dims();
    let branch = branch.reshape([total / patches, patches, dim]) * factors;
    branch.reshape([total, dim])
}

/// Does what [`super::FastOps::embed`] says. `[B·N, P]` -> `[B·N, D]`
pub fn embed<B: Backend>(patches: Tensor<B, 2>, call: EmbedCall<B>) -> Tensor<B, 2> {
    let EmbedCall { proj, mask, position, products } = call;
    let mut rows = linear(patches, proj, products);
    let [total, dim] = rows.dims();
    if let Some((token, hidden)) = mask {
        let shown = hidden.clone().neg().add_scalar(1.0);
        rows = rows * shown + token.reshape([1, dim]) * hidden;
    }
    if let Some(position) = position {
        let patches = position.dims()[1];
        rows = (rows.reshape([total / patches, patches, dim]) + position).reshape([total, dim]);
    }
    rows
}

/// Does what [`super::FastOps::predict`] says. `[B·N, D]` -> `[M, P]`
pub fn predict<B: Backend>(rows: Tensor<B, 2>, call: PredictCall<B>) -> Tensor<B, 2> {
    let PredictCall { picked, norm, head, products } = call;
    linear(layer_norm(rows.select(0, picked), norm), head, products)
}

/// Does what [`super::FastOps::adamw`] says.
pub fn adamw<B: Backend>(
    trained: Trained<B>,
    gradient: Tensor<B, 1>,
    factor: Option<Tensor<B, 1>>,
    bad: Option<Tensor<B, 1, Bool>>,
    step: &AdamWStep,
) -> Trained<B> {
    let gradient = match factor {
        Some(factor) => gradient * factor,
        None => gradient,
    };
    let Trained { weight, moments } = trained;
    // The old tensors are kept only if they may be needed, because a second owner prevents the update in place.
    let kept = bad.map(|bad| (bad, weight.clone(), moments.clone()));
    let [beta1, beta2] = step.betas;
    let [first, second] = moments;
    let first = first.mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
    let second = second.mul_scalar(beta2) + gradient.square().mul_scalar(1.0 - beta2);
    let (first, second, kept) = match kept {
        // The old values are selected and not multiplied in, because NaN times zero is NaN.
        Some((bad, weight, [old_first, old_second])) => {
            let bad = bad.expand(first.shape());
            let first = first.mask_where(bad.clone(), old_first);
            (first, second.mask_where(bad.clone(), old_second), Some((bad, weight)))
        }
        None => (first, second, None),
    };
    // The order of operations is PyTorch's: sqrt(v) / sqrt(1 − β2^t) + ε.
    let [correction1, correction2] = step.corrections();
    let scale = second.clone().sqrt().div_scalar(correction2.sqrt()).add_scalar(step.eps);
    let change = (first.clone() / scale).mul_scalar(step.lr / correction1);
    let weight =
        if step.decay > 0.0 { weight.mul_scalar(1.0 - step.lr * step.decay) } else { weight };
    let weight = weight - change;
    let weight = match kept {
        Some((bad, old)) => weight.mask_where(bad, old),
        None => weight,
    };
    Trained { weight, moments: [first, second] }
}
