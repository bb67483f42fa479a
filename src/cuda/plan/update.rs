//! The end of a step: the gradient norm, clipping, and `AdamW` on all parameters in one launch.

use super::builder::Builder;
use super::{Arg, Element, StepPhase, Var};
use crate::cuda::geometry;
use crate::cuda::machine::Address;

/// Elements of a parameter that one block of threads updates.
pub(crate) const CHUNK: usize = 16384;
/// Bytes of a piece's entry in the table, as `Chunk` in `kernels.cu` has it.
pub(crate) const CHUNK_BYTES: usize = 56;

/// A piece of a parameter, for the table of all pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightPiece {
    pub(crate) value: Address,
    pub(crate) gradient: Address,
    pub(crate) moments: [Address; 2],
    /// 0 if no product reads the parameter in bf16.
    pub(crate) copy: Address,
    pub(crate) elements: usize,
    pub(crate) decay: f32,
    /// The factor of the learning rate.
    pub(crate) rate: f32,
}

impl WeightPiece {
    /// Cuts a parameter into pieces of at most [`CHUNK`] elements.
    pub(crate) fn cut(self) -> impl Iterator<Item = Self> {
        (0..self.elements).step_by(CHUNK).map(move |start| {
            let wide = |address: Address| address + 4 * start as Address;
            let copy = if self.copy == 0 { 0 } else { self.copy + 2 * start as Address };
            Self {
                value: wide(self.value),
                gradient: wide(self.gradient),
                moments: self.moments.map(wide),
                copy,
                elements: CHUNK.min(self.elements - start),
                ..self
            }
        })
    }

    /// Writes the entry of the table.
    pub(crate) fn write(&self, table: &mut Vec<u8>) {
        let start = table.len();
        let [first, second] = self.moments;
        for address in [self.value, self.gradient, first, second, self.copy] {
            table.extend(address.to_le_bytes());
        }
        table.extend((self.elements as u32).to_le_bytes());
        table.extend(self.decay.to_le_bytes());
        table.extend(self.rate.to_le_bytes());
        table.resize(start + CHUNK_BYTES, 0);
    }
}

/// What the update needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepEnd {
    /// The table of all pieces, and how many there are.
    pub(crate) table: Address,
    pub(crate) pieces: usize,
    /// The losses of the micro-batches of a step, `[shares]`.
    pub(crate) losses: Address,
    pub(crate) clip: f32,
    /// Whether to leave weights and moments as they are where loss or gradient norm isn't finite.
    pub(crate) guard: bool,
    pub(crate) betas: [f32; 2],
    pub(crate) eps: f32,
}

pub(super) fn build(builder: &mut Builder<'_>, update: &StepEnd) {
    builder.at(StepPhase::Update, "update");
    let StepEnd { table, pieces, losses, clip, guard, betas, eps } = *update;
    let (table, count) = (Arg::At(table), Arg::Int(pieces as i32));
    let squares = builder.new_buf(Element::F32, pieces);
    let figures = builder.new_buf(Element::F32, 2);
    let bad = builder.new_buf(Element::U8, 1);
    let geometry = geometry::chunks(pieces);
    builder.kernel("sum_squares", geometry, vec![table, Arg::Buf(squares), count]);
    let args = vec![
        Arg::Buf(squares),
        count,
        Arg::At(losses),
        Arg::Int(builder.sizes.shares as i32),
        Arg::Float(clip),
        Arg::Int(i32::from(guard)),
        Arg::Buf(figures),
        Arg::Buf(bad),
        Arg::Var(Var::Figures),
    ];
    builder.kernel("close_step", geometry::close_step(), args);
    let [beta1, beta2] = betas.map(Arg::Float);
    let args = vec![
        table,
        Arg::Var(Var::LearningRate),
        beta1,
        beta2,
        Arg::Float(eps),
        Arg::Var(Var::Correction(0)),
        Arg::Var(Var::Correction(1)),
        Arg::Buf(figures),
        Arg::Buf(bad),
        count,
    ];
    builder.kernel("adamw", geometry, args);
}
