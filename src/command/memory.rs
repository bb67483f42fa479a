//! The memory that a run takes, and whether there is as much.

use crate::config::{Config, Precision};
use crate::engine::device::{self, Device};
use crate::error::Error;
use crate::model::ModelShape;
use crate::process::memory::{FreeMemory, free};
use crate::text::units::bytes;

/// Bytes of a 32-bit float.
const FLOAT: u64 = 4;
/// What the program takes on the CPU before there is a model: its code, threads and buffers.
const PROGRAM: u64 = 80 << 20;

/// Estimated memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemoryNeed {
    /// Weights, gradients and the optimizer's two moments, which are 32-bit floats in every precision.
    pub state: u64,
    /// What the backward pass of one micro-batch keeps.
    pub activations: u64,
    /// The program, and the copy of weights and moments from which a checkpoint is written. On a GPU these are not in
    /// its memory, so they don't count.
    pub rest: u64,
}

/// How the blocks of a model are computed, which decides what they keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operations {
    /// The fused ones of the CPU.
    Fused,
    /// Plain ones, or those of a GPU, for which the estimate is the same upper bound.
    Plain,
}

impl Operations {
    /// Returns how a run of this configuration computes here. A GPU that isn't there is still a GPU, as a run may be
    /// planned for another machine.
    pub(super) fn of(config: &Config) -> Self {
        match config.train.device.as_str() {
            "cpu" => Self::Fused,
            "auto" => match device::select("auto").map(|found| found.device) {
                Ok(Device::Cpu) => Self::Fused,
                _ => Self::Plain,
            },
            _ => Self::Plain,
        }
    }
}

impl MemoryNeed {
    pub(super) fn new(config: &Config, operations: Operations) -> Self {
        let shape = ModelShape::of(config);
        let weights = shape.parameters().saturating_mul(FLOAT);
        let rest = match operations {
            Operations::Fused => weights.saturating_mul(3).saturating_add(PROGRAM),
            Operations::Plain => 0,
        };
        let activations = activations(&shape, config, operations);
        Self { state: weights.saturating_mul(4), activations, rest }
    }

    pub(super) fn total(self) -> u64 {
        self.state.saturating_add(self.activations).saturating_add(self.rest)
    }

    /// Returns why there is too little memory here, if there is.
    pub(super) fn lack(self, free: Option<FreeMemory>) -> Option<String> {
        let FreeMemory { bytes: left, limit } = free?;
        (self.total() > left).then(|| {
            format!(
                "the run needs about {} of memory, and {} are free {limit}",
                bytes(self.total()),
                bytes(left)
            )
        })
    }
}

/// Refuses a run on the CPU that needs more memory than there is, unless `force` says otherwise: then the text that is
/// returned warns of it. A GPU looks for itself how much it has when the run begins.
///
/// # Errors
/// If there is too little memory, with what to do about it.
pub(super) fn check(
    config: &Config,
    device: &Device,
    force: bool,
) -> Result<Option<String>, Error> {
    if *device != Device::Cpu {
        return Ok(None);
    }
    let Some(lack) = MemoryNeed::new(config, Operations::Fused).lack(free()) else {
        return Ok(None);
    };
    if force {
        return Ok(Some(format!("{lack}: started all the same, as --force says")));
    }
    Err(Error::Usage(format!(
        "{lack}: lower train.batch_size (train.accumulation makes up for it), set train.activation_checkpointing = \
         true, or start it all the same with --force"
    )))
}

/// Estimates the bytes that autodiff keeps for the backward pass of one micro-batch.
///
/// The fused operations keep 8 vectors of the model's width and one of the MLP's for each token of a block. Plain ones
/// keep the inputs of each layer, queries, keys and values, the logits and their softmax, and both sides of the GELU. In
/// bf16 the operands of products (queries, keys, values, inputs of the four layers, softmax) take half of the room.
/// With activation checkpointing every block keeps its input, and only one block at a time keeps the rest.
/// docs/performance.md compares with measured peaks.
fn activations(shape: &ModelShape, config: &Config, operations: Operations) -> u64 {
    let (n, dim, hidden) = (shape.patches() as u64, shape.dim as u64, shape.hidden as u64);
    let operand = match config.train.precision {
        Precision::Bf16 if config.train.device != "cpu" => 2,
        _ => FLOAT,
    };
    let (per_token, per_pair) = match operations {
        Operations::Fused => ((8 * dim + hidden) * FLOAT, 0),
        Operations::Plain => (
            (6 * dim + 2 * hidden) * FLOAT + (6 * dim + hidden) * operand,
            shape.heads as u64 * (2 * FLOAT + operand),
        ),
    };
    let block =
        n.saturating_mul(per_token).saturating_add(per_pair.saturating_mul(n.saturating_mul(n)));
    let depth = shape.depth as u64;
    let blocks = if config.train.activation_checkpointing {
        block.saturating_add(depth.saturating_mul(n * dim * FLOAT))
    } else {
        block.saturating_mul(depth)
    };
    let ends = 4 * n * (dim + shape.patch_len() as u64) * FLOAT;
    blocks.saturating_add(ends).saturating_mul(config.train.batch_size as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_and_checkpointing_take_less_memory_where_they_are() {
        let activations = |precision, device: &str, activation_checkpointing| {
            let mut config = Config::default();
            config.train.precision = precision;
            device.clone_into(&mut config.train.device);
            config.train.activation_checkpointing = activation_checkpointing;
            MemoryNeed::new(&config, Operations::Plain).activations
        };
        let whole = activations(Precision::Fp32, "cuda", false);
        // Per image 64 tokens of 12·192 + 3·768 numbers and 3·3·64² pairs in 6 blocks, and both ends.
        assert_eq!(whole, 32 * 4 * (6 * (64 * (12 * 192 + 3 * 768) + 9 * 64 * 64) + 4 * 64 * 384));
        assert_eq!(activations(Precision::Tf32, "cuda", false), whole);
        assert_eq!(activations(Precision::Bf16, "cpu", false), whole);
        let half = activations(Precision::Bf16, "cuda", false);
        assert!((0.6..0.9).contains(&(half as f64 / whole as f64)), "{half} of {whole}");
        let checkpointed = activations(Precision::Fp32, "cuda", true);
        assert!(checkpointed * 3 < whole, "{checkpointed} of {whole}");
    }

    #[test]
    fn a_run_that_needs_more_than_there_is_says_so() {
        let need = MemoryNeed { state: 3 << 30, activations: 1 << 30, rest: 0 };
        let free = |gib: u64| Some(FreeMemory { bytes: gib << 30, limit: "on this machine" });
        assert_eq!(need.lack(free(4)), None);
        assert_eq!(need.lack(None), None, "who doesn't know refuses nothing");
        let lack = need.lack(free(2)).expect("too little");
        assert_eq!(
            lack,
            "the run needs about 4.0 GiB of memory, and 2.0 GiB are free on this machine"
        );
    }

    #[test]
    fn the_largest_configuration_that_is_allowed_does_not_overflow() {
        let mut config = Config::default();
        config.model.embed_dim = 1 << 16;
        config.model.depth = 1 << 10;
        config.model.image_size = 1 << 16;
        config.model.patch_size = 1;
        config.train.batch_size = 65_536;
        for operations in [Operations::Fused, Operations::Plain] {
            assert!(MemoryNeed::new(&config, operations).total() > 1 << 50);
        }
    }
}
