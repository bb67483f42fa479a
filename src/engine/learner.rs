//! The implementation of [`Engine`], generic over Burn's backend.

use super::backward::{self, Pass};
use super::layer_decay::LayerDecay;
use super::optim::{self, AdamW, Gradients};
use super::{Engine, EngineState, Evaluation, Guard, MicroBatch, StepFigures, Target, Update};
use crate::config::{Config, LossConfig, OnNan, Precision};
use crate::model::mask::HostMask;
use crate::model::patch::{Normalization, Pixels, patchify};
use crate::model::state::{self, NamedTensors, StateError};
use crate::model::vit::{DropPath, PassMode};
use crate::model::{self, Aim, ModelShape, SimMimVit, init, loss};
use crate::ops::{TrainBackend, one_graph};
use crate::picture::painter::Painter;
use burn::module::AutodiffModule as _;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor, TensorData};

/// What a learner needs to know beside its weights.
#[derive(Debug, Clone)]
pub struct LearnerConfig {
    pub shape: ModelShape,
    /// The loss of hidden pixels.
    pub loss: LossConfig,
    /// The share of a class's target that is spread over all classes.
    pub label_smoothing: f64,
    pub normalization: Normalization,
    pub optimizer: crate::config::OptimizerConfig,
    pub layer_decay: LayerDecay,
    pub grad_clip: f64,
    pub accumulation: usize,
    pub drop_path: f64,
    pub seed: u64,
    pub guard: Guard,
    /// The precision that the device has, see [`super::device::precision`].
    pub precision: Precision,
    pub activation_checkpointing: bool,
}

impl LearnerConfig {
    pub fn new(config: &Config) -> Self {
        let finetune = config.finetune.as_ref();
        Self {
            shape: ModelShape::of(config),
            loss: config.loss.clone(),
            label_smoothing: finetune.map_or(0.0, |finetune| finetune.label_smoothing),
            normalization: Normalization { mean: config.data.mean, std: config.data.std },
            optimizer: config.optimizer.clone(),
            layer_decay: LayerDecay {
                factor: finetune.map_or(1.0, |finetune| finetune.layer_decay),
                depth: config.model.depth,
            },
            grad_clip: config.train.grad_clip,
            accumulation: config.train.accumulation,
            drop_path: config.model.drop_path,
            seed: config.train.seed,
            guard: if config.alarms.on_nan == OnNan::Ignore { Guard::Off } else { Guard::Host },
            precision: config.train.precision,
            activation_checkpointing: config.train.activation_checkpointing,
        }
    }

    /// Returns what turns this learner's predictions into pictures.
    pub fn painter(&self) -> Painter {
        Painter {
            shape: self.shape.clone(),
            normalization: self.normalization,
            normalize_targets: self.loss.normalize_targets,
        }
    }
}

/// Model, optimizer, and the figures that wait on the device to be read.
pub struct Learner<B: AutodiffBackend> {
    config: LearnerConfig,
    device: B::Device,
    /// The device for tensors without gradients, which Burn's dispatch backend tells from the one with gradients.
    plain: B::Device,
    /// The model, which is missing only while a step replaces it.
    model: Option<SimMimVit<B>>,
    optimizer: AdamW<B::InnerBackend>,
    gradients: Gradients<B::InnerBackend>,
    /// Losses of the current accumulation, each `[1]`.
    losses: Vec<Tensor<B::InnerBackend, 1>>,
    /// Loss and gradient norm of steps that were not read yet, each `[1]`.
    unread: Vec<[Tensor<B::InnerBackend, 1>; 2]>,
}

impl<B: AutodiffBackend> Learner<B> {
    /// A learner with fresh weights drawn from the seed.
    pub fn new(config: LearnerConfig, device: B::Device) -> Self {
        let model = SimMimVit::<B>::zeros(&config.shape, &device);
        let mut weights = state::save(&model);
        init::initialize(&mut weights, &config.shape, config.seed);
        let model = state::load(model, &weights).expect("names and shapes are the model's own");
        let optimizer = AdamW::new(config.optimizer.clone(), config.layer_decay);
        let plain = Tensor::<B, 1>::zeros([1], &device).inner().device();
        Self {
            config,
            device,
            plain,
            model: Some(model),
            optimizer,
            gradients: Gradients::new(),
            losses: Vec::new(),
            unread: Vec::new(),
        }
    }

    fn model(&self) -> &SimMimVit<B> {
        self.model.as_ref().expect("every step puts the model back")
    }

    /// Cuts images into patches, `[B·N, P]`.
    fn patches(&self, pixels: Pixels<'_>, batch: usize) -> Tensor<B::InnerBackend, 2> {
        patchify(pixels, batch, &self.config.shape, &self.config.normalization, &self.plain)
    }

    fn products(&self) -> DType {
        model::products(self.config.precision)
    }

    /// Returns what the model is to predict for patches, `[B·N, P]`, and what would be right, `[B·M, P]` or `[B, C]`.
    fn aim<T: Backend>(
        &self,
        patches: &Tensor<T, 2>,
        target: Target<'_>,
        smoothing: f64,
        device: &T::Device,
    ) -> (Aim<T>, Tensor<T, 2>) {
        match target {
            Target::Hidden(mask) => {
                let mask = mask.upload::<T>(device);
                let hidden = patches.clone().select(0, mask.rows.clone());
                (Aim::Hidden(mask), loss::target(hidden, &self.config.loss))
            }
            Target::Classes(labels) => {
                let classes = self.config.shape.classes.expect("the model of a classifier");
                (Aim::Class, loss::class_targets(labels, classes, smoothing, device))
            }
        }
    }

    /// Returns the mean loss of a prediction, `[1]`. Prediction and target have the shape that [`Self::aim`] says.
    fn loss<T: Backend>(&self, prediction: Tensor<T, 2>, target: Tensor<T, 2>) -> Tensor<T, 1> {
        match self.config.shape.classes {
            None => loss::loss(prediction, target, &self.config.loss),
            Some(_) => loss::cross_entropy(prediction, target),
        }
    }

    fn save_gradients(&self) -> NamedTensors {
        let dims = optim::trainable(self.model());
        let saved = dims.iter().filter_map(|(name, dims)| {
            let gradient = self.gradients.get(name)?;
            Some((name.clone(), optim::save_flat(name, dims, gradient)))
        });
        saved.collect()
    }
}

/// Reads many tensors of one element in one transfer. Device sync.
fn read<B: Backend>(tensors: Vec<Tensor<B, 1>>) -> Vec<f32> {
    if tensors.is_empty() {
        return Vec::new();
    }
    state::download(Tensor::cat(tensors, 0)).data // device sync
}

impl<B: TrainBackend> Engine for Learner<B> {
    fn accumulate(&mut self, batch: MicroBatch<'_>, micro: u64) {
        let LearnerConfig { shape, label_smoothing, drop_path, seed, accumulation, .. } =
            &self.config;
        let _graph = one_graph();
        let count = batch.target.images();
        // Patches are cut without gradients: Burn's dispatch backend loses the kind of device where integers become floats.
        let patches = Tensor::from_inner(self.patches(batch.pixels, count));
        let (aim, target) = self.aim(&patches, batch.target, *label_smoothing, &self.device);
        let drop_path = DropPath::draw(*drop_path, shape.depth, count, *seed, micro, &self.device);
        let mode = PassMode { drop_path, products: self.products() };
        let pass = Pass { patches, aim, mode, shares: *accumulation };
        let loss_of = |prediction| self.loss(prediction, target);
        let (loss, gradients) = if self.config.activation_checkpointing {
            backward::recompute(self.model(), pass, loss_of)
        } else {
            backward::keep(self.model(), pass, loss_of)
        };
        self.losses.push(loss);
        for (name, gradient) in gradients {
            let sum = match self.gradients.remove(&name) {
                Some(sum) => sum + gradient,
                None => gradient,
            };
            self.gradients.insert(name, sum);
        }
    }

    fn step(&mut self, lr: f64) -> Update {
        let gradients = std::mem::take(&mut self.gradients);
        let losses = std::mem::take(&mut self.losses);
        let loss = Tensor::cat(losses, 0).mean();
        let norm = optim::global_norm(&gradients, &self.plain);
        self.unread.push([loss.clone(), norm.clone()]);
        let sum = loss + norm.clone();
        let mut bad = None;
        match self.config.guard {
            Guard::Off => {}
            Guard::Device => bad = Some(sum.is_finite().bool_not()),
            Guard::Host => {
                // Device sync. This guard is for the CPU, where reading one number costs nothing.
                if !state::download(sum).data[0].is_finite() {
                    self.optimizer.pass();
                    return Update::LeftOut;
                }
            }
        }
        let model = self.model.take().expect("every step puts the model back");
        let clip = self.config.grad_clip;
        self.model = Some(self.optimizer.step(model, gradients, norm, bad, lr, clip));
        Update::Made
    }

    fn read_figures(&mut self) -> Vec<StepFigures> {
        let values = read(self.unread.drain(..).flatten().collect()); // device sync
        values
            .chunks_exact(2)
            .map(|pair| StepFigures { loss: pair[0], grad_norm: pair[1] })
            .collect()
    }

    fn evaluate(&self, batch: MicroBatch<'_>) -> Evaluation {
        let model = self.model().valid();
        let patches = self.patches(batch.pixels, batch.target.images());
        let (aim, target) = self.aim(&patches, batch.target, 0.0, &self.plain);
        let prediction = model.forward(patches, &aim, &PassMode::evaluation(self.products()));
        let loss = self.loss(prediction.clone(), target);
        let loss = state::download(loss).data[0]; // device sync
        Evaluation { loss, prediction: state::download(prediction).data } // device sync
    }

    fn reconstruct(&self, pixels: Pixels<'_>, mask: &HostMask) -> Vec<f32> {
        let patches = self.patches(pixels, mask.batch);
        let count = mask.hidden.len() as i64;
        let mut mask = mask.upload::<B::InnerBackend>(&self.plain);
        mask.rows = Tensor::arange(0..count, &self.plain);
        let (model, aim) = (self.model().valid(), Aim::Hidden(mask));
        let prediction = model.forward(patches, &aim, &PassMode::evaluation(self.products()));
        state::download(prediction).data // device sync
    }

    fn features(&self, pixels: Pixels<'_>, batch: usize, layer: Option<usize>) -> Vec<f32> {
        let patches = self.patches(pixels, batch);
        let features = self.model().valid().features(patches, layer, self.products());
        state::download(features).data // device sync
    }

    fn gradients(&self) -> NamedTensors {
        self.save_gradients()
    }

    fn state(&self) -> EngineState {
        EngineState {
            weights: state::save(self.model()),
            moments: self.optimizer.save(self.model()),
            updates: self.optimizer.updates(),
            gradients: self.save_gradients(),
            losses: read(self.losses.clone()),
        }
    }

    fn load(&mut self, saved: &EngineState) -> Result<(), StateError> {
        let model = state::load(self.model().clone(), &saved.weights)?;
        let mut optimizer = AdamW::new(self.config.optimizer.clone(), self.config.layer_decay);
        optimizer.load(&model, &saved.moments, saved.updates)?;
        let mut gradients = Gradients::new();
        if !saved.gradients.is_empty() {
            for (name, dims) in optim::trainable(&model) {
                let gradient = optim::load_flat(&saved.gradients, "", &name, &dims, &self.plain)?;
                gradients.insert(name, gradient);
            }
        }
        self.model = Some(model);
        self.optimizer = optimizer;
        self.gradients = gradients;
        self.losses = saved
            .losses
            .iter()
            .map(|&loss| Tensor::from_data(TensorData::new(vec![loss], [1]), &self.plain))
            .collect();
        self.unread.clear();
        Ok(())
    }

    fn sync(&self) {
        // An error here also shows up in the next read, with its cause.
        let _ = B::sync(&self.device);
    }
}
