//! What the run loop needs from a device, free of Burn's generics: [`crate::engine::device`] picks the implementation.
//!
//! The trait object keeps the many tensor types out of everything else, which compiles fast for it.

pub(crate) mod backward;
pub mod device;
pub mod layer_decay;
pub mod learner;
#[cfg(test)]
pub(crate) mod learner_tests;
pub mod optim;
pub mod parity;
pub mod schedule;

use crate::model::mask::HostMask;
use crate::model::patch::Pixels;
use crate::model::state::{NamedTensors, StateError};

/// One micro-batch on the host.
#[derive(Debug, Clone, Copy)]
pub struct MicroBatch<'a> {
    pub pixels: Pixels<'a>,
    pub target: Target<'a>,
}

/// What the model shall tell of the images; [`crate::model::ModelShape::classes`] says which of the two it can.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The pixels of hidden patches.
    Hidden(&'a HostMask),
    /// The class of each image. `[B]`
    Classes(&'a [u32]),
}

impl Target<'_> {
    /// B, images of the batch.
    pub fn images(&self) -> usize {
        match self {
            Self::Hidden(mask) => mask.batch,
            Self::Classes(labels) => labels.len(),
        }
    }
}

/// Figures of one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepFigures {
    /// Mean loss over the micro-batches of the step.
    pub loss: f32,
    /// Global gradient norm before clipping.
    pub grad_norm: f32,
}

impl StepFigures {
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.grad_norm.is_finite()
    }
}

/// Who looks whether loss and gradient norm are finite before an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The host reads them: on the CPU that costs nothing.
    Host,
    /// The device does, so that no step waits for it; the host learns of it with the figures.
    Device,
    /// Nobody.
    Off,
}

/// What became of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// Made, unless the device's own guard left it out.
    Made,
    /// Left out: loss or gradient norm is not finite. Weights and moments are as before.
    LeftOut,
}

/// Result of a forward pass without gradients.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Mean loss over the batch; that of a classifier without label smoothing.
    pub loss: f32,
    /// The head's output. `[B·M, P]`, or logits `[B, C]`
    pub prediction: Vec<f32>,
}

/// The whole training state on the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineState {
    /// Weights, in timm's names and layouts.
    pub weights: NamedTensors,
    /// `first.NAME` and `second.NAME`: `AdamW` moments.
    pub moments: NamedTensors,
    /// Optimizer updates done.
    pub updates: u64,
    /// Summed gradients of an unfinished accumulation; empty between steps.
    pub gradients: NamedTensors,
    /// Losses of the micro-batches of an unfinished accumulation.
    pub losses: Vec<f32>,
}

impl EngineState {
    /// Whether weights and moments are numbers, neither infinite nor NaN. What waits for its update may be bad: it will
    /// be left out.
    pub fn is_finite(&self) -> bool {
        let tensors = [&self.weights, &self.moments];
        let mut values = tensors.into_iter().flat_map(|named| named.values()).flat_map(|t| &t.data);
        values.all(|value| value.is_finite())
    }
}

/// Makes an engine with fresh weights, once, on the thread that will use it.
pub type MakeEngine = Box<dyn FnOnce() -> Box<dyn Engine> + Send>;

/// A model with its optimizer on one device.
pub trait Engine: Send {
    /// Forward and backward; adds the gradients. `micro` numbers the micro-step for drop path. Doesn't sync.
    fn accumulate(&mut self, batch: MicroBatch<'_>, micro: u64);

    /// Clips and updates with the accumulated gradients. A left-out update counts as one all the same. Device sync
    /// with [`Guard::Host`] only.
    fn step(&mut self, lr: f64) -> Update;

    /// Figures of all steps since the last call, oldest first. Device sync.
    fn read_figures(&mut self) -> Vec<StepFigures>;

    /// Loss and prediction without gradients or drop path. Device sync.
    fn evaluate(&self, batch: MicroBatch<'_>) -> Evaluation;

    /// Prediction of all patches, the visible ones too, under the mask. `[B·N·P]`, device sync.
    fn reconstruct(&self, pixels: Pixels<'_>, mask: &HostMask) -> Vec<f32>;

    /// Mean over the tokens of unmasked images. `[B·D]`, device sync.
    ///
    /// `None` takes the tokens after all blocks and the final norm; `Some(k)` those after the first k blocks, 1 to
    /// depth, without the final norm.
    fn features(&self, pixels: Pixels<'_>, batch: usize, layer: Option<usize>) -> Vec<f32>;

    /// Gradients accumulated so far by parameter, in timm layout. Device sync.
    fn gradients(&self) -> NamedTensors;

    /// A copy of the whole state. Device sync.
    fn state(&self) -> EngineState;

    /// Replaces the whole state.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unknown; the engine is then unchanged.
    fn load(&mut self, state: &EngineState) -> Result<(), StateError>;

    /// Waits until the device has done all work.
    fn sync(&self);
}
