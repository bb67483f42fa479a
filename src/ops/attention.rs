//! Multi-head attention of one image. It reads the output of the joint projection in place, without transposed copies.
//!
//! As in `FlashAttention` (Dao et al. 2022), the probabilities aren't kept but computed again from the logarithm of the
//! sum of each row. The blocks of rows are whole images here, because their N·N logits per head fit into the cache.

use super::kernel::{Matrix, MatrixMut, multiply, vectorized};
use super::math::{exp, largest, sum, sum_pairs};
use super::pool::Buffer;

/// The sizes of the attention of one image. The width of a head is d = D / heads.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Patches per image, N.
    pub patches: usize,
    /// Channels of all heads together, D.
    pub dim: usize,
    /// Number of heads.
    pub count: usize,
}

impl Heads {
    /// Returns the width of a head, d.
    fn head_dim(self) -> usize {
        self.dim / self.count
    }

    /// Returns what the products of queries and keys are multiplied by, 1 / √d.
    fn scale(self) -> f32 {
        (self.head_dim() as f64).powf(-0.5) as f32
    }

    /// Returns the queries (part 0), keys (1) or values (2) of one head. `[N, d]`
    fn part(self, qkv: &[f32], part: usize, head: usize) -> Matrix<'_> {
        let start = part * self.dim + head * self.head_dim();
        Matrix::strided(&qkv[start..], self.patches, self.head_dim(), 3 * self.dim)
    }

    /// Like [`Self::part`], to write into. `[N, d]`
    fn part_mut(self, qkv: &mut [f32], part: usize, head: usize) -> MatrixMut<'_> {
        let start = part * self.dim + head * self.head_dim();
        MatrixMut::strided(&mut qkv[start..], self.patches, self.head_dim(), 3 * self.dim)
    }

    /// Returns the columns of one head. `[N, d]`
    fn columns(self, rows: &[f32], head: usize) -> Matrix<'_> {
        let start = head * self.head_dim();
        Matrix::strided(&rows[start..], self.patches, self.head_dim(), self.dim)
    }

    /// Writes the logits of one head without the bias to `out`. `[N, N]`
    fn logits(self, qkv: &[f32], head: usize, out: &mut [f32]) {
        let (query, key) = (self.part(qkv, 0, head), self.part(qkv, 1, head));
        let out = MatrixMut::new(out, self.patches, self.patches);
        multiply(out, query, key.transposed(), self.scale());
    }

    /// Returns the bias of one head. `[N, N]`
    fn bias_of(self, bias: Option<&[f32]>, head: usize) -> Option<&[f32]> {
        let size = self.patches * self.patches;
        bias.map(|bias| &bias[head * size..][..size])
    }
}

/// Computes the attention of one image: softmax(Q · Kᵀ / √d + bias) · V for each head.
///
/// # Shapes
/// - qkv: queries, keys and values, `[N, 3·D]`
/// - bias: added to the logits, `[heads, N, N]`
/// - mixed: the result, `[N, D]`
/// - `log_sums`: the logarithm of the sum of exponentials of each row, a result too, `[heads, N]`
pub fn forward(
    heads: Heads,
    qkv: &[f32],
    bias: Option<&[f32]>,
    mixed: &mut [f32],
    log_sums: &mut [f32],
) {
    let (n, dim) = (heads.patches, heads.dim);
    let mut logits = Buffer::dirty(n * n);
    for (head, log_sums) in log_sums.chunks_exact_mut(n).enumerate() {
        heads.logits(qkv, head, &mut logits);
        softmax(&mut logits, heads.bias_of(bias, head), log_sums);
        let start = head * heads.head_dim();
        let out = MatrixMut::strided(&mut mixed[start..], n, heads.head_dim(), dim);
        multiply(out, Matrix::new(&logits, n, n), heads.part(qkv, 2, head), 1.0);
    }
}

/// What the backward pass of one image needs besides its gradient.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// Queries, keys and values. `[N, 3·D]`
    pub qkv: &'a [f32],
    /// The bias of the logits. `[heads, N, N]`
    pub bias: Option<&'a [f32]>,
    /// What [`forward`] wrote. `[heads, N]`
    pub log_sums: &'a [f32],
}

/// Goes back through the attention of one image.
///
/// With the probabilities P and dP = dO · Vᵀ, the gradients are dS = P ∘ (dP − rowsum(P ∘ dP)), dQ = dS · K / √d,
/// dK = dSᵀ · Q / √d and dV = Pᵀ · dO.
///
/// # Shapes
/// - gradient: that of the result, dO, `[N, D]`
/// - out: receives the gradient of qkv, `[N, 3·D]`
/// - bias: the gradient of the bias, dS, is added to it, `[heads, N, N]`
pub fn backward(
    heads: Heads,
    kept: Kept<'_>,
    gradient: &[f32],
    out: &mut [f32],
    mut bias: Option<&mut [f32]>,
) {
    let n = heads.patches;
    let (mut weights, mut slopes) = (Buffer::dirty(n * n), Buffer::dirty(n * n));
    for (head, log_sums) in kept.log_sums.chunks_exact(n).enumerate() {
        heads.logits(kept.qkv, head, &mut weights);
        again(&mut weights, heads.bias_of(kept.bias, head), log_sums);
        let upstream = heads.columns(gradient, head);
        let value = heads.part(kept.qkv, 2, head);
        multiply(MatrixMut::new(&mut slopes, n, n), upstream, value.transposed(), 1.0);
        let square = |data| Matrix::new(data, n, n);
        multiply(heads.part_mut(out, 2, head), square(&weights).transposed(), upstream, 1.0);
        softmax_backward(&weights, &mut slopes);
        if let Some(bias) = &mut bias {
            for (sum, &slope) in bias[head * n * n..].iter_mut().zip(slopes.iter()) {
                *sum += slope;
            }
        }
        let (query, key) = (heads.part(kept.qkv, 0, head), heads.part(kept.qkv, 1, head));
        multiply(heads.part_mut(out, 0, head), square(&slopes), key, heads.scale());
        multiply(heads.part_mut(out, 1, head), square(&slopes).transposed(), query, heads.scale());
    }
}

vectorized! {
    /// Adds the bias and applies softmax to each row.
    ///
    /// - logits: become the probabilities, `[N, N]`
    /// - bias: `[N, N]`
    /// - `log_sums`: receives the logarithm of the sum of each row, `[N]`
    fn softmax(logits: &'k mut [f32], bias: Option<&'k [f32]>, log_sums: &'k mut [f32]) {
        let n = log_sums.len();
        add(logits, bias);
        for (row, log_sum) in logits.chunks_exact_mut(n).zip(log_sums) {
            let top = largest(row);
            for x in row.iter_mut() {
                *x = exp(*x - top);
            }
            let total = sum(row, |x| x);
            let factor = total.recip();
            for x in row.iter_mut() {
                *x *= factor;
            }
            *log_sum = top + total.ln();
        }
    }

    /// Computes the probabilities of [`softmax`] again from the logarithms of the sums.
    fn again(logits: &'k mut [f32], bias: Option<&'k [f32]>, log_sums: &'k [f32]) {
        add(logits, bias);
        for (row, &log_sum) in logits.chunks_exact_mut(log_sums.len()).zip(log_sums) {
            for x in row {
                *x = exp(*x - log_sum);
            }
        }
    }

    /// Turns `slopes`, the gradient dP of the probabilities P = `weights`, into that of the logits,
    /// P ∘ (dP − rowsum(P ∘ dP)). `[N, N]` each
    fn softmax_backward(weights: &'k [f32], slopes: &'k mut [f32]) {
        let n = weights.len().isqrt();
        for (weights, slopes) in weights.chunks_exact(n).zip(slopes.chunks_exact_mut(n)) {
            let mean = sum_pairs(weights, slopes, |p, s| p * s);
            for (slope, &p) in slopes.iter_mut().zip(weights) {
                *slope = p * (*slope - mean);
            }
        }
    }
}

#[allow(clippy::inline_always, reason = "a part of the kernels, compiled for their instructions")]
#[inline(always)]
fn add(logits: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        for (x, &b) in logits.iter_mut().zip(bias) {
            *x += b;
        }
    }
}
