//! How fast a GPU multiplies two large matrices, to compare the step with.

use super::GpuMachine;
use crate::cuda::geometry::{self, Geometry};
use crate::cuda::machine::{Address, Arithmetic, Facts, Fault, Launch, Machine as _};
use crate::cuda::machine::{KernelArg, Number, Operands, ProductShape};

/// Products that are measured.
const TRIES: usize = 8;

impl GpuMachine {
    /// Measures the operations per second of the product of two square matrices of `side`, a multiple of 256: the best of
    /// some, by cuBLASLt or by our own kernels, as in a step. Device sync.
    ///
    /// # Errors
    /// If there is no room, or the GPU has failed.
    pub fn product_flops_per_s(
        &mut self,
        arithmetic: Arithmetic,
        side: usize,
    ) -> Result<f64, Fault> {
        let bytes = numbers(arithmetic, side * side);
        let a = self.allocate(bytes.len())?;
        let b = self.allocate(bytes.len())?;
        let d = self.allocate(bytes.len())?;
        self.write(a, &bytes)?;
        self.write(b, &bytes)?;
        let operands = Operands { a, b, c: 0, d, bias: 0 };
        let mut best = f64::INFINITY;
        for _ in 0..TRIES {
            let from = self.stamp()?;
            self.square(arithmetic, side, operands)?;
            let to = self.stamp()?;
            if let (Some(from), Some(to)) = (from, to) {
                best = best.min(self.ms_between(from, to)?);
            }
        }
        for at in [a, b, d] {
            self.release(at);
        }
        Ok(2.0 * (side as f64).powi(3) / (best / 1e3))
    }

    fn square(
        &mut self,
        arithmetic: Arithmetic,
        side: usize,
        operands: Operands,
    ) -> Result<(), Fault> {
        let facts = self.facts();
        if !facts.library {
            return self.launch(&own(arithmetic, side, operands, facts));
        }
        let result = if arithmetic == Arithmetic::Bf16 { Number::Bf16 } else { Number::F32 };
        let shape = ProductShape {
            m: side,
            n: side,
            k: side,
            a_transposed: false,
            b_transposed: false,
            arithmetic,
            result,
            bias: false,
            add: false,
        };
        self.product(shape, operands)
    }
}

/// Small whole numbers: a GPU that multiplies zeros takes less power and is faster than in real work.
fn numbers(arithmetic: Arithmetic, count: usize) -> Vec<u8> {
    let numbers = (0..count).map(|i| ((i * 7) % 17) as f32 - 8.0);
    match arithmetic {
        Arithmetic::Bf16 => {
            numbers.flat_map(|x| (x.to_bits() >> 16).to_le_bytes().into_iter().take(2)).collect()
        }
        Arithmetic::Tf32 | Arithmetic::Fp32 => numbers.flat_map(f32::to_le_bytes).collect(),
    }
}

/// The launch of a kernel of our own; there is none for TF32.
fn own(arithmetic: Arithmetic, side: usize, at: Operands, facts: Facts) -> Launch {
    const NONE: KernelArg = KernelArg::Address(0);
    let places = |list: [Address; 3]| list.map(KernelArg::Address);
    let edge = KernelArg::Int(side as i32);
    if arithmetic != Arithmetic::Bf16 {
        // product_f32_nn(a, b, d, c, bias, m, n, k)
        let mut values = places([at.a, at.b, at.d]).to_vec();
        values.extend([NONE, NONE, edge, edge, edge]);
        let Geometry { grid, block, shared } = geometry::product_f32(side, side);
        return Launch { kernel: "product_f32_nn", grid, block, shared, values };
    }
    // product_nn_128x256(a, b, out16, out32, addend, bias16, bias32, M, N, K, strides of a, b, out, group, stages)
    let stages = geometry::product_stages(facts.shared_memory);
    let mut values = places([at.a, at.b, at.d]).to_vec();
    values.extend([NONE; 4]);
    values.extend([edge; 6]);
    values.extend([KernelArg::Int(8), KernelArg::Int(stages as i32)]);
    let blocks = (side.div_ceil(128) * side.div_ceil(256)) as u32;
    let shared = 24_576 * stages as u32;
    Launch { kernel: "product_nn_128x256", grid: [blocks, 1, 1], block: 256, shared, values }
}
