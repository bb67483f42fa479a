//! The two ends of the model on slices: the embedding with mask token and position, and the prediction by norm and head
//! from picked rows.

use super::groups::Groups;
use super::linear::{LinearLayer, gram};
use super::norm::{self, Affine};
use super::pointwise;
use super::pool::Buffer;
use rayon::prelude::*;

/// Rows per task of the prediction.
const TASK: usize = 256;

/// The inputs of the embedding besides the patches.
#[derive(Debug, Clone, Copy)]
pub struct Embedding<'a> {
    pub proj: LinearLayer<'a>,
    /// The mask token, `[D]`, and numbers that aren't 0 where it replaces a patch, `[B·N]`.
    pub mask: Option<(&'a [f32], &'a [f32])>,
    /// Added after masking. `[N, D]`
    pub position: Option<&'a [f32]>,
    /// Patches per image, N.
    pub patches: usize,
}

/// Embeds the patches. `[B·N, P]` -> `[B·N, D]`
pub fn embed(embedding: &Embedding<'_>, patches: &[f32]) -> Vec<f32> {
    let dim = embedding.proj.bias.len();
    let rows = patches.len() / (embedding.proj.weight.len() / dim);
    let groups = Groups::new(rows / embedding.patches, embedding.patches);
    let mut out = vec![0.0; rows * dim];
    let parts = groups.ranges().zip(groups.split(patches));
    let parts: Vec<_> = parts.zip(groups.split_mut(&mut out)).collect();
    parts.into_par_iter().for_each(|((images, patches), out)| {
        embedding.proj.product(patches, out);
        pointwise::add_bias(out, embedding.proj.bias);
        if let Some((token, hidden)) = embedding.mask {
            let hidden = &hidden[images.start * embedding.patches..];
            for (row, &hidden) in out.chunks_exact_mut(dim).zip(hidden) {
                if hidden != 0.0 {
                    row.copy_from_slice(token);
                }
            }
        }
        if let Some(position) = embedding.position {
            out.chunks_exact_mut(position.len())
                .for_each(|image| pointwise::add_bias(image, position));
        }
    });
    out
}

/// The gradients of the embedding. Those of absent inputs are empty.
#[derive(Debug)]
pub struct EmbeddingGradients {
    pub proj: [Vec<f32>; 2],
    pub token: Vec<f32>,
    pub position: Vec<f32>,
}

/// Returns the gradients of the weights. `gradient` is that of the output. `[B·N, D]`
pub fn embed_backward(
    embedding: &Embedding<'_>,
    patches: &[f32],
    gradient: &[f32],
) -> EmbeddingGradients {
    let dim = embedding.proj.bias.len();
    let (rows, length) = (gradient.len() / dim, embedding.proj.weight.len() / dim);
    let mut position = vec![0.0; embedding.position.map_or(0, <[f32]>::len)];
    if embedding.position.is_some() {
        pointwise::add_column_sums(gradient, &mut position);
    }
    let mut token = vec![0.0; embedding.mask.map_or(0, |_| dim)];
    let mut bias = vec![0.0; dim];
    let mut shown = None;
    if let Some((_, hidden)) = embedding.mask {
        let mut masked = Buffer::dirty(gradient.len());
        masked.copy_from_slice(gradient);
        for (row, &hidden) in masked.chunks_exact_mut(dim).zip(hidden) {
            if hidden != 0.0 {
                pointwise::add_column_sums(row, &mut token);
                row.fill(0.0);
            }
        }
        shown = Some(masked);
    }
    let shown = shown.as_deref().unwrap_or(gradient);
    pointwise::add_column_sums(shown, &mut bias);
    let [weight] = gram(rows, [(patches, length, shown, dim)]);
    EmbeddingGradients { proj: [weight, bias], token, position }
}

/// Applies norm and head to the picked rows. Returns the predictions, `[M, P]`, and the picked rows, `[M, D]`.
///
/// # Shapes
/// - rows: `[B·N, D]`
/// - picked: numbers of rows, `[M]`
pub fn predict(
    rows: &[f32],
    picked: &[usize],
    affine: Affine<'_>,
    head: LinearLayer<'_>,
) -> (Vec<f32>, Buffer) {
    let (dim, length) = (affine.weight.len(), head.bias.len());
    let mut out = vec![0.0; picked.len() * length];
    let mut chosen = Buffer::dirty(picked.len() * dim);
    let parts = out.par_chunks_mut(TASK * length).zip(chosen.par_chunks_mut(TASK * dim));
    parts.zip(picked.par_chunks(TASK)).for_each(|((out, chosen), picked)| {
        for (copy, &row) in chosen.chunks_exact_mut(dim).zip(picked) {
            copy.copy_from_slice(&rows[row * dim..][..dim]);
        }
        let mut normed = Buffer::dirty(chosen.len());
        norm::forward(chosen, affine, &mut normed);
        head.product(&normed, out);
        pointwise::add_bias(out, head.bias);
    });
    (out, chosen)
}

/// The gradients of the prediction.
#[derive(Debug)]
pub struct PredictionGradients {
    /// Zero where a row wasn't picked. `[B·N, D]`
    pub rows: Vec<f32>,
    pub norm: [Vec<f32>; 2],
    pub head: [Vec<f32>; 2],
}

/// Goes back through the prediction.
///
/// # Shapes
/// - total: the number of rows, B·N
/// - picked: numbers of rows, `[M]`
/// - chosen: the picked rows as [`predict`] returned them, `[M, D]`
/// - gradient: that of the predictions, `[M, P]`
pub fn predict_backward(
    total: usize,
    picked: &[usize],
    affine: Affine<'_>,
    head: LinearLayer<'_>,
    mut chosen: Buffer,
    gradient: &[f32],
) -> PredictionGradients {
    let (dim, length) = (affine.weight.len(), head.bias.len());
    let mut slopes = Buffer::dirty(chosen.len());
    let zeros = Buffer::zeros(TASK * dim);
    let parts = chosen.par_chunks_mut(TASK * dim).zip(slopes.par_chunks_mut(TASK * dim));
    let sums: Vec<[Vec<f32>; 3]> = parts
        .zip(gradient.par_chunks(TASK * length))
        .map(|((chosen, slopes), gradient)| {
            let mut sums = [vec![0.0; dim], vec![0.0; dim], vec![0.0; length]];
            let [weight, bias, head_bias] = &mut sums;
            pointwise::add_column_sums(gradient, head_bias);
            let mut slope = Buffer::dirty(chosen.len());
            head.product_back(gradient, &mut slope);
            let none = &zeros[..chosen.len()];
            norm::backward(chosen, affine, &slope, none, slopes, weight, bias);
            sums
        })
        .collect();
    let mut all = [vec![0.0; dim], vec![0.0; dim], vec![0.0; length]];
    for part in &sums {
        for (sum, part) in all.iter_mut().zip(part) {
            pointwise::add_column_sums(part, sum);
        }
    }
    let mut rows = vec![0.0; total * dim];
    for (slope, &row) in slopes.chunks_exact(dim).zip(picked) {
        // A row may be picked twice.
        pointwise::add_column_sums(slope, &mut rows[row * dim..][..dim]);
    }
    let [weight] = gram(picked.len(), [(&chosen, dim, gradient, length)]);
    let [norm_weight, norm_bias, head_bias] = all;
    PredictionGradients { rows, norm: [norm_weight, norm_bias], head: [weight, head_bias] }
}
