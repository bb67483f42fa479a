//! What a plan is for: the sizes of the model and of the batch, and the kind of pass.

use crate::config::{LossConfig, LossKind, Position};
use crate::cuda::machine::{Arithmetic, Fault};
use crate::model::ModelShape;

/// The sizes of the model, see [`crate::model`] for the letters.
#[derive(Debug, Clone)]
pub(crate) struct PassSizes {
    pub(crate) model: ModelShape,
    pub(crate) arithmetic: Arithmetic,
    pub(crate) loss: LossConfig,
    /// Micro-batches of a step. The gradient of a step is that of the mean over them.
    pub(crate) shares: usize,
    /// Whether activations are computed again in the backward pass instead of being kept.
    pub(crate) checkpointing: bool,
}

/// Widths of the heads that there are kernels for.
const HEAD_WIDTHS: std::ops::RangeInclusive<usize> = 8..=128;

impl PassSizes {
    /// Checks that there are kernels for this model.
    ///
    /// # Errors
    /// If a width is not a multiple of 8, or a head is too wide.
    pub(crate) fn check(model: &ModelShape) -> Result<(), Fault> {
        let head = model.dim / model.heads;
        let widths = [
            ("model.embed_dim", model.dim),
            ("the hidden width of the MLP (model.embed_dim times model.mlp_ratio)", model.hidden),
            ("the numbers of a patch (3 times model.patch_size squared)", model.patch_len()),
            ("the width of a head (model.embed_dim by model.heads)", head),
        ];
        for (name, width) in widths {
            if width == 0 || !width.is_multiple_of(8) {
                return Err(Fault(format!(
                    "on a GPU, {name} must be a multiple of 8, and it is {width}"
                )));
            }
        }
        if !HEAD_WIDTHS.contains(&head) {
            return Err(Fault(format!(
                "on a GPU, a head (model.embed_dim by model.heads) is at most {} wide, and it is {head}",
                HEAD_WIDTHS.end()
            )));
        }
        Ok(())
    }

    /// Returns the width of a head, d.
    pub(crate) fn head(&self) -> usize {
        self.model.dim / self.model.heads
    }

    /// Returns whether residual branches end with a plain sum, without `LayerScale` and drop path.
    pub(crate) fn scaled(&self) -> bool {
        self.model.layer_scale > 0.0
    }

    pub(crate) fn relative(&self) -> bool {
        self.model.position == Position::Relative
    }
}

/// How `patch_loss` calls a loss.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PatchLoss {
    pub(crate) kind: i32,
    pub(crate) beta: f32,
    pub(crate) normalise: i32,
}

impl PatchLoss {
    pub(crate) fn of(config: &LossConfig) -> Self {
        let kind = match config.kind {
            LossKind::L1 => 0,
            LossKind::Mse => 1,
            LossKind::SmoothL1 => 2,
        };
        Self { kind, beta: config.beta as f32, normalise: i32::from(config.normalize_targets) }
    }
}

/// What the model predicts in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PassTask {
    /// The pixels of this many hidden patches in the whole batch.
    Patches { rows: usize },
    /// The class of each image.
    Classes,
}

/// One kind of pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PassKind {
    /// Forward and backward. `first`: gradients are written, else they are added to what is there.
    Train { task: PassTask, first: bool, drop_path: bool },
    /// Forward with the loss.
    Evaluate { task: PassTask },
    /// The mean over the tokens of unmasked images, after `layer` blocks, or after all and the final norm.
    Features { layer: Option<usize> },
}
