//! Positions: the fixed 2-D sine-cosine table and the relative bias that all blocks share.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

/// Returns the 2-D sine-cosine table of MAE (He et al. 2022) for D = `dim`, a multiple of 4. Row-major, `[N · D]`
///
/// The first half of the channels encodes the column, the second half the row. Each half has the sines first and the
/// cosines then.
pub fn sincos([rows, columns]: [usize; 2], dim: usize) -> Vec<f32> {
    let quarter = dim / 4;
    let encode = |place: usize, out: &mut Vec<f32>| {
        let angle = |k: usize| place as f64 / 10_000_f64.powf(k as f64 / quarter as f64);
        out.extend((0..quarter).map(|k| angle(k).sin() as f32));
        out.extend((0..quarter).map(|k| angle(k).cos() as f32));
    };
    let mut table = Vec::with_capacity(rows * columns * dim);
    for row in 0..rows {
        for column in 0..columns {
            encode(column, &mut table);
            encode(row, &mut table);
        }
    }
    table
}

/// A bias on attention logits by the offset between two patches, which all blocks share (Swin, BEiT).
#[derive(Module, Debug)]
pub struct RelativeBias<B: Backend> {
    /// One number per offset and head. `[(2·rows − 1)·(2·columns − 1), heads]`
    pub relative_position_bias_table: Param<Tensor<B, 2>>,
    /// The row of the table for each pair of patches. It is constant and therefore no parameter. `[N·N]`
    pairs: Tensor<B, 1, Int>,
    heads: usize,
    patches: usize,
}

impl<B: Backend> RelativeBias<B> {
    /// Returns a bias of zeros.
    pub fn zeros(grid: [usize; 2], heads: usize, device: &B::Device) -> Self {
        let patches = grid[0] * grid[1];
        let offsets = (2 * grid[0] - 1) * (2 * grid[1] - 1);
        Self {
            relative_position_bias_table: super::layers::zeros([offsets, heads], device),
            pairs: Tensor::from_data(TensorData::new(pairs(grid), [patches * patches]), device),
            heads,
            patches,
        }
    }

    /// Returns the bias of every pair of patches. `[1, heads, N, N]`
    pub fn logits(&self) -> Tensor<B, 4> {
        let table = self.relative_position_bias_table.val();
        let rows = table.select(0, self.pairs.clone()); // [N·N, heads]
        rows.swap_dims(0, 1).reshape([1, self.heads, self.patches, self.patches])
    }
}

/// Returns the row of the table for the offset query − key of each pair of patches, in row-major order. `[N·N]`
fn pairs([rows, columns]: [usize; 2]) -> Vec<i32> {
    let width = 2 * columns - 1;
    let places = || (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    places()
        .flat_map(|(qr, qc)| {
            places().map(move |(kr, kc)| {
                ((qr + rows - 1 - kr) * width + (qc + columns - 1 - kc)) as i32
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sincos_table_starts_with_zero_angles_and_tells_rows_from_columns() {
        let table = sincos([2, 3], 8);
        assert_eq!(table.len(), 2 * 3 * 8);
        assert_eq!(&table[..8], &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
        let second = &table[8..16];
        assert!((f64::from(second[0]) - 1_f64.sin()).abs() < 1e-6, "column 1 has angle 1");
        assert_eq!(&second[4..], &[0.0, 0.0, 1.0, 1.0], "column 1 is still in row 0");
    }

    #[test]
    fn equal_offsets_share_a_row_of_the_relative_table() {
        let pairs = pairs([2, 2]);
        assert_eq!(pairs.len(), 16);
        let own: Vec<i32> = (0..4).map(|i| pairs[i * 4 + i]).collect();
        assert_eq!(own, [4, 4, 4, 4], "offset zero is the middle of a 3x3 table");
        assert_eq!(pairs[1], pairs[2 * 4 + 3], "one step to the right, in either row");
        let mut all = pairs.clone();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 9, "a 2x2 grid has nine offsets");
    }
}
