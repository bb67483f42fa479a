//! Linear layers: products with a weight matrix, and the gradient of that matrix.

use super::kernel::{Matrix, MatrixMut, multiply};
use rayon::prelude::*;

/// The weight, `[in, out]`, and the bias, `[out]`, of `y = x · W + b`.
#[derive(Debug, Clone, Copy)]
pub struct LinearLayer<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
}

impl LinearLayer<'_> {
    /// Returns the weight as a matrix. `[in, out]`
    fn matrix(&self) -> Matrix<'_> {
        let columns = self.bias.len();
        Matrix::new(self.weight, self.weight.len() / columns, columns)
    }

    /// Computes x · W without the bias. `[rows, in]` -> `[rows, out]`
    pub fn product(&self, rows: &[f32], out: &mut [f32]) {
        let (weight, columns) = (self.matrix(), self.bias.len());
        let input = self.weight.len() / columns;
        let count = rows.len() / input;
        multiply(MatrixMut::new(out, count, columns), Matrix::new(rows, count, input), weight, 1.0);
    }

    /// Computes the gradient of the input, dy · Wᵀ. `[rows, out]` -> `[rows, in]`
    pub fn product_back(&self, gradient: &[f32], out: &mut [f32]) {
        let columns = self.bias.len();
        let input = self.weight.len() / columns;
        let count = gradient.len() / columns;
        let gradient = Matrix::new(gradient, count, columns);
        multiply(MatrixMut::new(out, count, input), gradient, self.matrix().transposed(), 1.0);
    }
}

/// Returns products xᵀ · dy over all rows, which are the gradients of the weights of linear layers. `[inputs, outputs]`
///
/// Each of `products` consists of x, `[rows, inputs]`, the number of inputs, dy, `[rows, outputs]`, and the number of
/// outputs. A task computes some rows of one result, so nothing is added up between threads.
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
