//! Layer normalisation of rows (Ba et al. 2016), forward and backward in one pass each.

use super::kernel::vectorized;
use super::math::{sum, sum_pairs};

/// Added to the variance, ε, as in timm's Vision Transformers.
pub const EPS: f64 = 1e-6;

/// The scale and the shift of a layer norm. `[D]` each
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
}

/// Returns the mean and 1 / √(variance + ε) of a row.
#[allow(clippy::inline_always, reason = "a part of the kernels, compiled for their instructions")]
#[inline(always)]
fn moments(row: &[f32]) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = sum(row, |x| x) / count;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / count;
    (mean, (variance + EPS as f32).sqrt().recip())
}

vectorized! {
    /// Normalises rows. `[r, D]` -> `[r, D]`
    pub fn forward(rows: &'k [f32], affine: Affine<'k>, out: &'k mut [f32]) {
        let dim = affine.weight.len();
        for (row, out) in rows.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
            let (mean, scale) = moments(row);
            for (((out, &x), &w), &b) in out.iter_mut().zip(row).zip(affine.weight).zip(affine.bias) {
                *out = (x - mean) * scale * w + b;
            }
        }
    }

    /// Goes back through a norm. With x̂ = (x − mean) · scale and g = dy ∘ weight, the gradient is
    /// dx = scale · (g − mean(g) − x̂ ∘ mean(g ∘ x̂)).
    ///
    /// - rows: the input x, which becomes the output of the forward pass, `[r, D]`
    /// - gradient: dy, `[r, D]`
    /// - through: the gradient that bypasses the norm, `[r, D]`
    /// - out: receives dx + through, `[r, D]`
    /// - weight, bias: their gradients are added here, `[D]` each
    pub fn backward(
        rows: &'k mut [f32],
        affine: Affine<'k>,
        gradient: &'k [f32],
        through: &'k [f32],
        out: &'k mut [f32],
        weight: &'k mut [f32],
        bias: &'k mut [f32],
    ) {
        let dim = affine.weight.len();
        let count = dim as f32;
        let lines = rows.chunks_exact_mut(dim).zip(gradient.chunks_exact(dim));
        let lines = lines.zip(through.chunks_exact(dim)).zip(out.chunks_exact_mut(dim));
        for (((row, dy), through), out) in lines {
            let (mean, scale) = moments(row);
            for ((((x, &dy), w), dw), db) in
                row.iter_mut().zip(dy).zip(affine.weight).zip(weight.iter_mut()).zip(bias.iter_mut())
            {
                *x = (*x - mean) * scale;
                *dw += dy * *x;
                *db += dy;
                let _ = w;
            }
            for ((out, &dy), &w) in out.iter_mut().zip(dy).zip(affine.weight) {
                *out = dy * w;
            }
            let mean_g = sum(out, |g| g) / count;
            let mean_gx = sum_pairs(out, row, |g, x| g * x) / count;
            for ((out, x), &through) in out.iter_mut().zip(row.iter()).zip(through) {
                *out = through + scale * (*out - mean_g - *x * mean_gx);
            }
            for ((x, &w), &b) in row.iter_mut().zip(affine.weight).zip(affine.bias) {
                *x = *x * w + b;
            }
        }
    }
}
