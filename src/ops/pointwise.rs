//! The operations between two matrix products, in one pass each.

use super::kernel::vectorized;
use super::math::{normal_cdf, normal_density};

vectorized! {
    /// Adds the bias, `[D]`, to each of the rows, `[r, D]`.
    pub fn add_bias(rows: &'k mut [f32], bias: &'k [f32]) {
        for row in rows.chunks_exact_mut(bias.len()) {
            for (x, &b) in row.iter_mut().zip(bias) {
                *x += b;
            }
        }
    }

    /// Adds the bias, `[H]`, to the rows, `[r, H]`, and writes their GELU, x · Φ(x), to `out`, `[r, H]`.
    pub fn bias_gelu(rows: &'k mut [f32], bias: &'k [f32], out: &'k mut [f32]) {
        let dim = bias.len();
        for (row, out) in rows.chunks_exact_mut(dim).zip(out.chunks_exact_mut(dim)) {
            for ((x, &b), out) in row.iter_mut().zip(bias).zip(out) {
                *x += b;
                *out = *x * normal_cdf(*x);
            }
        }
    }

    /// Goes back through GELU, whose derivative is Φ(x) + x · φ(x). `rows`, its input, becomes its output, and
    /// `gradient`, that of the output, becomes that of the input.
    pub fn gelu_backward(rows: &'k mut [f32], gradient: &'k mut [f32]) {
        for (x, g) in rows.iter_mut().zip(gradient) {
            let cdf = normal_cdf(*x);
            *g *= cdf + *x * normal_density(*x);
            *x *= cdf;
        }
    }

    /// Ends a residual branch: `branch`, `[r, D]`, becomes rows + factor · scale ∘ (branch + bias).
    pub fn residual(
        branch: &'k mut [f32],
        bias: &'k [f32],
        scale: Option<&'k [f32]>,
        factor: f32,
        rows: &'k [f32],
    ) {
        let dim = bias.len();
        for (branch, rows) in branch.chunks_exact_mut(dim).zip(rows.chunks_exact(dim)) {
            let numbers = branch.iter_mut().zip(rows).zip(bias);
            match scale {
                Some(scale) => {
                    for (((y, &x), &b), &s) in numbers.zip(scale) {
                        *y = x + factor * s * (*y + b);
                    }
                }
                None => {
                    for ((y, &x), &b) in numbers {
                        *y = x + factor * (*y + b);
                    }
                }
            }
        }
    }

    /// Writes factor · rows to `out`.
    pub fn scaled(rows: &'k [f32], factor: f32, out: &'k mut [f32]) {
        for (out, &x) in out.iter_mut().zip(rows) {
            *out = factor * x;
        }
    }

    /// Writes rows ∘ scale to `out`. `[r, D]`, `[D]` -> `[r, D]`
    pub fn scaled_columns(rows: &'k [f32], scale: &'k [f32], out: &'k mut [f32]) {
        let dim = scale.len();
        for (row, out) in rows.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
            for ((out, &x), &s) in out.iter_mut().zip(row).zip(scale) {
                *out = x * s;
            }
        }
    }

    /// Adds the sum over the rows, `[r, D]`, to `sums`, `[D]`.
    pub fn add_column_sums(rows: &'k [f32], sums: &'k mut [f32]) {
        for row in rows.chunks_exact(sums.len()) {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}
