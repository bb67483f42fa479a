//! AdamW (Loshchilov & Hutter 2019) with decay groups, and clipping by the global gradient norm.
//!
//! Burn's own AdamW has one decay for all parameters and clips each tensor by itself; SimMIM needs groups and a global
//! norm. Gradients and moments are flat, in the element order of the parameter inside the model.

use super::layer_decay::LayerDecay;
use crate::config::OptimizerConfig;
use crate::model::SimMimVit;
use crate::model::state::{self, HostTensor, NamedTensors, ParamMapper, ParamVisitor, StateError};
use crate::ops::{AdamWStep, FastOps, TrainBackend, Trained};
use burn::module::Param;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Bool, Tensor, TensorData};
use std::collections::BTreeMap;

/// Flat gradients by parameter name, each `[elements]`.
pub(super) type Gradients<B> = BTreeMap<String, Tensor<B, 1>>;

/// Running means of the gradient and of its square, each `[elements]`.
#[derive(Debug, Clone)]
struct Moments<B: Backend> {
    first: Tensor<B, 1>,
    second: Tensor<B, 1>,
}

/// Optimizer state of a whole model.
#[derive(Debug, Clone)]
pub(super) struct AdamW<B: Backend> {
    config: OptimizerConfig,
    layer_decay: LayerDecay,
    moments: BTreeMap<String, Moments<B>>,
    /// Updates done. The bias correction depends on it.
    updates: u64,
}

/// Returns whether weight decay applies to a parameter. It doesn't to tokens, positions and parameters of one dimension:
/// biases, norms, `LayerScale`.
pub(super) fn decays(name: &str, dims: usize) -> bool {
    dims > 1 && !name.ends_with("mask_token") && !name.contains("pos")
}

impl<B: Backend> AdamW<B> {
    pub(super) fn new(config: OptimizerConfig, layer_decay: LayerDecay) -> Self {
        Self { config, layer_decay, moments: BTreeMap::new(), updates: 0 }
    }

    pub(super) fn updates(&self) -> u64 {
        self.updates
    }

    /// Clips the gradients and updates every parameter that has one. Nothing is read back from the device.
    ///
    /// `norm`, `[1]`, is the gradient norm and `clip` its largest allowed value, 0 for none. Where `bad`, `[1]`, is true,
    /// weights and moments stay as they were. The update counts all the same, as the host doesn't learn of it here.
    pub(super) fn step<AB>(
        &mut self,
        model: SimMimVit<AB>,
        gradients: Gradients<B>,
        norm: Tensor<B, 1>,
        bad: Option<Tensor<B, 1, Bool>>,
        lr: f64,
        clip: f64,
    ) -> SimMimVit<AB>
    where
        AB: TrainBackend + AutodiffBackend<InnerBackend = B>,
    {
        // As torch.nn.utils.clip_grad_norm_: factor = min(1, clip / (norm + 1e-6)).
        let factor =
            (clip > 0.0).then(|| norm.add_scalar(1e-6).recip().mul_scalar(clip).clamp_max(1.0));
        self.updates += 1;
        let mut update = UpdateAll { optimizer: self, gradients, factor, bad, lr };
        state::map(model, &mut update)
    }

    /// Counts an update that was left out.
    pub(super) fn pass(&mut self) {
        self.updates += 1;
    }

    /// Returns the moments as `first.NAME` and `second.NAME` in timm's layout. Device sync per tensor.
    pub(super) fn save<AB>(&self, model: &SimMimVit<AB>) -> NamedTensors
    where
        AB: AutodiffBackend<InnerBackend = B>,
    {
        let mut tensors = NamedTensors::new();
        for (name, dims) in trainable(model) {
            if let Some(moments) = self.moments.get(&name) {
                for (prefix, tensor) in [("first", &moments.first), ("second", &moments.second)] {
                    tensors.insert(format!("{prefix}.{name}"), save_flat(&name, &dims, tensor));
                }
            }
        }
        tensors
    }

    /// Takes over the moments that [`Self::save`] returned after `updates` updates.
    ///
    /// # Errors
    /// If a tensor is missing or misshapen.
    pub(super) fn load<AB>(
        &mut self,
        model: &SimMimVit<AB>,
        tensors: &NamedTensors,
        updates: u64,
    ) -> Result<(), StateError>
    where
        AB: AutodiffBackend<InnerBackend = B>,
    {
        self.moments.clear();
        self.updates = updates;
        // There are no moments before the first update that was not left out.
        if tensors.is_empty() {
            return Ok(());
        }
        let device = model.head.bias.val().inner().device();
        for (name, dims) in trainable(model) {
            let fetch = |prefix| load_flat(tensors, prefix, &name, &dims, &device);
            let moments = Moments { first: fetch("first")?, second: fetch("second")? };
            self.moments.insert(name, moments);
        }
        Ok(())
    }
}

/// Returns the square root of the sum of all squared gradients, `[1]`.
pub(super) fn global_norm<B: FastOps>(
    gradients: &Gradients<B>,
    device: &B::Device,
) -> Tensor<B, 1> {
    let squares = gradients.values().map(|gradient| B::square_sum(gradient.clone()));
    squares.fold(Tensor::zeros([1], device), |sum, square| sum + square).sqrt()
}

struct UpdateAll<'a, B: Backend> {
    optimizer: &'a mut AdamW<B>,
    gradients: Gradients<B>,
    factor: Option<Tensor<B, 1>>,
    bad: Option<Tensor<B, 1, Bool>>,
    lr: f64,
}

impl<AB: TrainBackend> ParamMapper<AB> for UpdateAll<'_, AB::InnerBackend> {
    fn map<const D: usize>(&mut self, name: &str, tensor: Tensor<AB, D>) -> Tensor<AB, D> {
        let Some(gradient) = self.gradients.remove(name) else { return tensor };
        let OptimizerConfig { betas, eps, weight_decay } = self.optimizer.config;
        let decay = if decays(name, D) { weight_decay } else { 0.0 };
        let update = self.optimizer.updates;
        let lr = self.lr * self.optimizer.layer_decay.scale(name);
        let step = AdamWStep { betas, eps, lr, decay, update };
        let moments = match self.optimizer.moments.remove(name) {
            Some(Moments { first, second }) => [first, second],
            None => [gradient.zeros_like(), gradient.zeros_like()],
        };
        let dims = tensor.dims();
        let elements = dims.iter().product::<usize>();
        let trained = Trained { weight: tensor.inner().reshape([elements]), moments };
        let (factor, bad) = (self.factor.clone(), self.bad.clone());
        let trained = AB::InnerBackend::adamw(trained, gradient, factor, bad, &step);
        let [first, second] = trained.moments;
        self.optimizer.moments.insert(name.to_owned(), Moments { first, second });
        Tensor::from_inner(trained.weight.reshape(dims))
    }
}

/// Takes the gradients of all trainable parameters out of a backward pass.
pub(super) fn take_gradients<AB: AutodiffBackend>(
    model: &SimMimVit<AB>,
    gradients: &mut AB::Gradients,
) -> Gradients<AB::InnerBackend> {
    struct Take<'a, AB: AutodiffBackend> {
        from: &'a mut AB::Gradients,
        out: Gradients<AB::InnerBackend>,
    }
    impl<AB: AutodiffBackend> ParamVisitor<AB> for Take<'_, AB> {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<AB, D>>) {
            if let Some(gradient) = param.val().grad_remove(self.from) {
                let elements = gradient.dims().iter().product::<usize>();
                self.out.insert(name.to_owned(), gradient.reshape([elements]));
            }
        }
    }
    let mut take = Take::<AB> { from: gradients, out: Gradients::new() };
    state::visit(model, &mut take);
    take.out
}

/// Returns the names and the dimensions, in the model's layout, of all parameters that are trained.
pub(super) fn trainable<AB: AutodiffBackend>(model: &SimMimVit<AB>) -> Vec<(String, Vec<usize>)> {
    struct List(Vec<(String, Vec<usize>)>);
    impl<B: Backend> ParamVisitor<B> for List {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<B, D>>) {
            if param.val().is_require_grad() {
                self.0.push((name.to_owned(), param.dims().to_vec()));
            }
        }
    }
    let mut list = List(Vec::new());
    state::visit(model, &mut list);
    list.0
}

/// Gives a flat tensor the dimensions of the parameter `name`, in timm's layout. Device sync.
pub(super) fn save_flat<B: Backend>(
    name: &str,
    dims: &[usize],
    tensor: &Tensor<B, 1>,
) -> HostTensor {
    let HostTensor { data, .. } = state::download(tensor.clone());
    state::to_timm(name, HostTensor { shape: dims.to_vec(), data })
}

/// Reads the flat tensor that [`save_flat`] wrote as `PREFIX.NAME`.
///
/// # Errors
/// If the tensor is missing or misshapen.
pub(super) fn load_flat<B: Backend>(
    tensors: &NamedTensors,
    prefix: &str,
    name: &str,
    dims: &[usize],
    device: &B::Device,
) -> Result<Tensor<B, 1>, StateError> {
    let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
    let values = state::fetch(tensors, &key, dims)?;
    let elements = values.len();
    Ok(Tensor::from_data(TensorData::new(values, [elements]), device))
}
