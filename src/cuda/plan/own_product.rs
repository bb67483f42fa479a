//! Products by the kernels of `product.cu`, where there is no library: which tile, how many strips of the sums, and the
//! launches.

use super::builder::{Builder, Multiply};
use super::{Arg, Element};
use crate::cuda::geometry::{self, Geometry};
use crate::cuda::machine::{Arithmetic, Number, ProductShape};

/// Length of the sums in one stage of the pipeline.
const STAGE: usize = 32;
/// Strips that the sums of one result are cut into, at most.
const STRIPS: usize = 16;

/// The part of a result that one block of threads computes.
struct Tile {
    rows: usize,
    columns: usize,
    threads: u32,
    /// Share of the rate of the tensor cores, as calculated.
    share: f64,
    /// Kernels by how their operands are stored: `[m, k]·[k, n]`, `[m, k]·[n, k]`, `[k, m]·[k, n]`.
    kernels: [&'static str; 3],
}

macro_rules! tile {
    ($rows:literal, $columns:literal, $threads:literal, $share:literal, $name:literal) => {
        Tile {
            rows: $rows,
            columns: $columns,
            threads: $threads,
            share: $share,
            kernels: [
                concat!("product_nn_", $name),
                concat!("product_nt_", $name),
                concat!("product_tn_", $name),
            ],
        }
    };
}

const TILES: [Tile; 5] = [
    tile!(128, 256, 256, 1.0, "128x256"),
    tile!(128, 192, 256, 0.92, "128x192"),
    tile!(128, 128, 128, 0.77, "128x128"),
    tile!(64, 128, 128, 0.52, "64x128"),
    tile!(64, 64, 128, 0.38, "64x64"),
];

/// Returns the number of the kernel among those of a tile.
fn form(a_transposed: bool, b_transposed: bool) -> usize {
    match (a_transposed, b_transposed) {
        (false, false) => 0,
        (false, true) => 1,
        (true, false) => 2,
        (true, true) => unreachable!("no product of a step has both operands transposed"),
    }
}

pub(super) fn launch(builder: &mut Builder<'_>, shape: ProductShape, multiply: &Multiply) {
    if shape.arithmetic == Arithmetic::Bf16 {
        on_tensor_cores(builder, shape, multiply);
    } else {
        in_full_precision(builder, multiply);
    }
}

/// Multiplies 32-bit floats without tensor cores. `multiply` says how its operands are stored.
pub(super) fn in_full_precision(builder: &mut Builder<'_>, multiply: &Multiply) {
    let Multiply { m, n, k, a, b, c, d, bias } = *multiply;
    let kernel = ["product_f32_nn", "product_f32_nt", "product_f32_tn"][form(a.1, b.1)];
    let mut args = [a.0, b.0, d].map(Arg::Buf).to_vec();
    args.extend([c, bias].map(Arg::optional));
    args.extend([m, n, k].map(|number| Arg::Int(number as i32)));
    builder.kernel(kernel, geometry::product_f32(m, n), args);
}

fn on_tensor_cores(builder: &mut Builder<'_>, shape: ProductShape, multiply: &Multiply) {
    let Multiply { m, n, k, a, b, c, d, bias } = *multiply;
    let may_split = shape.result == Number::F32 && bias.is_none() && c.is_none_or(|c| c == d);
    let (tile, strips) = choose(m, n, k, may_split, builder.multiprocessors());
    let stages = geometry::product_stages(builder.facts.shared_memory);
    let part = (strips > 1).then(|| builder.new_buf(Element::F32, strips * m * n));
    let out = Arg::Buf(part.unwrap_or(d));
    let addend = if part.is_some() { None } else { c };
    let bias_as = |kind: Element| Arg::optional(bias.filter(|&bias| builder.kind(bias) == kind));
    let mut args = vec![Arg::Buf(a.0), Arg::Buf(b.0)];
    args.extend(match shape.result {
        Number::F32 => [Arg::Null, out],
        Number::Bf16 => [out, Arg::Null],
    });
    args.extend([Arg::optional(addend), bias_as(Element::Bf16), bias_as(Element::F32)]);
    let strides = [if a.1 { m } else { k }, if b.1 { k } else { n }, n];
    // Tiles are walked eight rows at a time, so that operands are found in the cache.
    let numbers = [m, n, k, strides[0], strides[1], strides[2], 8, stages];
    args.extend(numbers.map(|number| Arg::Int(number as i32)));
    let blocks = m.div_ceil(tile.rows) * n.div_ceil(tile.columns);
    let shared = (tile.rows + tile.columns) * 2 * STAGE * stages;
    let geometry = Geometry {
        grid: [blocks as u32, strips as u32, 1],
        block: tile.threads,
        shared: shared as u32,
    };
    builder.kernel(tile.kernels[form(a.1, b.1)], geometry, args);
    if let Some(part) = part {
        let args = vec![
            Arg::Buf(part),
            Arg::Buf(d),
            Arg::Long((m * n) as i64),
            Arg::Int(strips as i32),
            Arg::Int(i32::from(c.is_some())),
        ];
        builder.kernel("sum_splits", geometry::sum_splits(m * n), args);
    }
}

/// Returns the tile and the number of strips that take the shortest time by a simple model, in multiply-adds of one
/// multiprocessor.
fn choose(
    m: usize,
    n: usize,
    k: usize,
    may_split: bool,
    multiprocessors: usize,
) -> (&'static Tile, usize) {
    let mut best = (f64::INFINITY, &TILES[0], 1);
    for tile in &TILES {
        let blocks = m.div_ceil(tile.rows) * n.div_ceil(tile.columns);
        for strips in 1..=(if may_split { STRIPS } else { 1 }) {
            let each = k.div_ceil(STAGE).div_ceil(strips) * STAGE;
            // A block fills its pipeline and writes its tile in about the time of 128 more steps of the sums.
            let rounds = (blocks * strips).div_ceil(multiprocessors);
            let mut cost = (rounds * tile.rows * tile.columns * (each + 128)) as f64 / tile.share;
            // Strips take a second launch, which reads all partial sums again: half a multiply-add a byte.
            if strips > 1 {
                cost += 1e6 + (m * n * (8 * strips + 4)) as f64 / 2.0;
            }
            if cost < 0.98 * best.0 {
                best = (cost, tile, strips);
            }
        }
    }
    (best.1, best.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_results_take_large_tiles_and_long_sums_are_cut() {
        let (tile, strips) = choose(12544, 3072, 768, false, 132);
        assert_eq!((tile.rows, tile.columns, strips), (128, 256, 1));
        let (_, strips) = choose(768, 768, 12544, true, 132);
        assert!(strips > 1, "36 tiles of 128x128 don't fill 132 multiprocessors");
        let (tile, strips) = choose(16, 24, 48, true, 132);
        assert_eq!((tile.rows, tile.columns, strips), (64, 64, 1));
    }
}
