//! LinearLayer layers: products with a weight matrix, and the weight's gradient.

use super::kernel::{Matrix, MatrixMut, multiply};
use rayon::prelude::*;

/// Weight `[in, out]` and bias `[out]` of `y = x · W + b`.
#[derive(Debug, Clone, Copy)]
pub struct LinearLayer<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
}

impl LinearLayer<'_> {
    /// `[in, out]`
    fn matrix(&self) -> Matrix<'_> {
        let columns = self.bias.len();
        Matrix::new(self.weight, self.weight.len() / columns, columns)
    }

    /// x · W without the bias: `[rows, in]` -> `[rows, out]`
    pub fn product(&self, rows: &[f32], out: &mut [f32]) {
        let (weight, columns) = (self.matrix(), self.bias.len());
        let input = self.weight.len() / columns;
        let count = rows.len() / input;
        multiply(MatrixMut::new(out, count, columns), Matrix::new(rows, count, input), weight, 1.0);
    }

    /// Gradient of the input: `[rows, out]` -> `[rows, in]`
    pub fn product_back(&self, gradient: &[f32], out: &mut [f32]) {
        let columns = self.bias.len();
        let input = self.weight.len() / columns;
        let count = gradient.len() / columns;
        let gradient = Matrix::new(gradient, count, columns);
        multiply(MatrixMut::new(out, count, input), gradient, self.matrix().transposed(), 1.0);
    }
}

/// Products of two tall matrices over all rows, xᵀ · dy: the weight gradients of linear layers.
///
/// `products` are x `[rows, inputs]`, inputs, dy `[rows, outputs]`, outputs; the results `[inputs, outputs]`. Each thread
/// makes some rows of a result, so nothing is added up between threads.
pub fn gram<const COUNT: usize>(
    rows: usize,
    products: [(&[f32], usize, &[f32], usize); COUNT],
) -> [Vec<f32>; COUNT] {
    /// Rows of a result per task.
    const HEIGHT: usize = 192;
    let mut results = products.map(|(_, inputs, _, outputs)| vec![0.0; inputs * outputs]);
    let mut tasks = Vec::new();
    for ((x, inputs, slope, outputs), result) in products.into_iter().zip(&mut results) {
        for (number, out) in result.chunks_mut(HEIGHT * outputs).enumerate() {
            tasks.push((&x[number * HEIGHT..], inputs, slope, outputs, out));
        }
    }
    tasks.into_par_iter().for_each(|(x, inputs, slope, outputs, out)| {
        let height = out.len() / outputs;
        let x = Matrix::strided(x, rows, height, inputs).transposed();
        let slope = Matrix::new(slope, rows, outputs);
        multiply(MatrixMut::new(out, height, outputs), x, slope, 1.0);
    });
    results
}
