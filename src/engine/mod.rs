//! How one training step is computed. [`Engine`] is free of Burn's generics; [`device`] picks its implementation.
//!
//! The trait object keeps the many tensor types out of the other rooms, so that they compile fast.

mod backward;
pub mod device;
mod layer_decay;
pub mod learner;
#[cfg(test)]
mod learner_tests;
mod optim;
pub mod parity;
#[cfg(feature = "cuda")]
mod planned;
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

/// What the model is to predict of the images. [`crate::model::ModelShape::classes`] says which of the two it can.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The pixels of hidden patches.
    Hidden(&'a HostMask),
    /// The class of each image, `[B]`.
    Classes(&'a [u32]),
}

impl Target<'_> {
    /// Returns the number of images in the batch, B.
    pub fn images(&self) -> usize {
        match self {
            Self::Hidden(mask) => mask.batch,
            Self::Classes(labels) => labels.len(),
        }
    }
}

/// What a device did before its first step was done, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Startup {
    /// Finding the device, and making a context on it.
    pub context: f64,
    /// Finding and opening the library of matrix products.
    pub libraries: f64,
    /// Loading the kernels.
    pub kernels: f64,
    /// Drawing fresh weights, and bringing them to the device.
    pub weights: f64,
    /// Planning passes, and choosing algorithms for their matrix products, up to now.
    pub plans: f64,
}

/// How long the phases of steps took on the device, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Phases {
    /// From the pixels to the output of the last block.
    pub encode: f64,
    /// Final norm, head and loss.
    pub predict: f64,
    pub backward: f64,
    /// Gradient norm, clipping and the optimizer.
    pub update: f64,
}

/// The figures of one optimizer step.
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

/// Who checks before an update whether loss and gradient norm are finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The host reads them, which costs nothing on the CPU.
    Host,
    /// The device checks them, so that no step waits; the host learns of it with the figures.
    Device,
    /// Nobody checks them.
    Off,
}

/// What became of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// The update was made, unless the device's own guard left it out.
    Made,
    /// The update was left out because loss or gradient norm is not finite. Weights and moments are as before.
    LeftOut,
}

/// The result of a forward pass without gradients.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Mean loss over the batch, without label smoothing.
    pub loss: f32,
    /// The head's output: pixels `[B·M, P]` or logits `[B, C]`.
    pub prediction: Vec<f32>,
}

/// The whole training state on the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineState {
    /// Weights, in timm's names and layouts.
    pub weights: NamedTensors,
    /// The moments of `AdamW`, as `first.NAME` and `second.NAME`.
    pub moments: NamedTensors,
    /// Optimizer updates done.
    pub updates: u64,
    /// Summed gradients of an unfinished accumulation. Empty between steps.
    pub gradients: NamedTensors,
    /// Losses of the micro-batches of an unfinished accumulation.
    pub losses: Vec<f32>,
}

impl EngineState {
    /// Returns whether all weights and moments are finite. Gradients that wait for their update may be bad, as that update
    /// will be left out.
    pub fn is_finite(&self) -> bool {
        let tensors = [&self.weights, &self.moments];
        let mut values = tensors.into_iter().flat_map(|named| named.values()).flat_map(|t| &t.data);
        values.all(|value| value.is_finite())
    }
}

/// What an engine unwinds with when its device fails in the middle of a run: one line for people. No panic message is
/// printed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFailure(pub String);

/// Makes an engine with fresh weights, once, on the thread that will use it.
pub type MakeEngine = Box<dyn FnOnce() -> Box<dyn Engine> + Send>;

/// A model with its optimizer on one device. If the device fails, its methods unwind with a [`DeviceFailure`].
pub trait Engine: Send {
    /// Runs a micro-batch forward and backward, and adds up the gradients. `micro` is the number of the micro-step, which
    /// drop path depends on. Doesn't sync.
    fn accumulate(&mut self, batch: MicroBatch<'_>, micro: u64);

    /// Clips the accumulated gradients and updates the weights with them. An update that is left out counts, too. Device
    /// sync with [`Guard::Host`] only.
    fn step(&mut self, lr: f64) -> Update;

    /// Reads the figures of all steps since the last call, oldest first. Device sync.
    fn read_figures(&mut self) -> Vec<StepFigures>;

    /// Computes loss and prediction without gradients or drop path. Device sync.
    fn evaluate(&self, batch: MicroBatch<'_>) -> Evaluation;

    /// Predicts all patches under the mask, the visible ones too, `[B·N·P]`. Device sync.
    fn reconstruct(&self, pixels: Pixels<'_>, mask: &HostMask) -> Vec<f32>;

    /// Computes the mean over the tokens of unmasked images, `[B·D]`. Device sync.
    ///
    /// With `None` the tokens are those after all blocks and the final norm, with `Some(k)` those after the first k blocks,
    /// 1 to depth, without the final norm.
    fn features(&self, pixels: Pixels<'_>, batch: usize, layer: Option<usize>) -> Vec<f32>;

    /// Returns the gradients accumulated so far by parameter, in timm's layout. Device sync.
    fn gradients(&self) -> NamedTensors;

    /// Returns a copy of the whole state. Device sync.
    fn state(&self) -> EngineState;

    /// Replaces the whole state.
    ///
    /// # Errors
    /// If a tensor is missing, misshapen or unknown; the engine is then unchanged.
    fn load(&mut self, state: &EngineState) -> Result<(), StateError>;

    /// Waits until the device has done all its work.
    fn sync(&self);

    /// Returns what the start took, if this engine measures it.
    fn startup(&self) -> Option<Startup> {
        None
    }

    /// Measures the phases of the steps from now on, by the device's own clock, until [`Self::phases`] is called. At most a
    /// hundred steps can be measured.
    fn time_phases(&mut self) {}

    /// Ends what [`Self::time_phases`] began, and returns the sums of all steps since, if the device has such a clock.
    /// Device sync.
    fn phases(&mut self) -> Option<Phases> {
        None
    }
}
