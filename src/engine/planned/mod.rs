//! The implementation of [`Engine`] by plans of launches, for GPUs.
//!
//! No graph is built: the passes of the model are known, and [`crate::cuda::plan`] has their operations, forward and
//! backward, in order. Weights, gradients and moments lie in the memory of the machine, and nothing is read back in a step.

mod store;
#[cfg(test)]
pub(super) mod tests;
mod timing;

use super::learner::LearnerConfig;
use super::{
    DeviceFailure, Engine, EngineState, Evaluation, Guard, MicroBatch, Phases, Startup,
    StepFigures, Target, Update,
};
use crate::cuda::geometry;
use crate::cuda::machine::{Address, Arithmetic, Fault, KernelArg, Launch, Machine};
use crate::cuda::plan::{
    self, BatchForm, Builder, LaunchPlan, PassKind, PassSizes, PassTask, StepPhase, Vars,
};
use crate::cuda::runner::{FinishedPass, Inputs, Model, Runner};
use crate::model::loss;
use crate::model::mask::HostMask;
use crate::model::patch::Pixels;
use crate::model::state::{NamedTensors, StateError};
use crate::model::vit::draw_factors;
use std::cell::RefCell;
use std::time::Instant;
use store::{Fresh, Parameter, Store, Which};
use timing::Moments;

/// Steps whose figures the machine keeps until they are read.
const UNREAD: usize = 1024;

/// A model with its optimizer in the memory of a machine.
pub(crate) struct Planned {
    config: LearnerConfig,
    sizes: PassSizes,
    /// Behind a cell, since reading takes the machine for itself, too.
    runner: RefCell<Runner>,
    store: Store,
    update: LaunchPlan,
    /// Mean and inverse deviation of the channels for bytes.
    normalization: [Address; 2],
    /// The losses of the micro-batches since the last step, `[accumulation]`.
    losses: Address,
    /// The loss of passes without gradients, `[1]`.
    evaluated: Address,
    /// Loss and gradient norm of steps that were not read yet, `[UNREAD, 2]`.
    figures: Address,
    unread: usize,
    /// Figures that were read because there was no room for more.
    early: Vec<StepFigures>,
    /// Micro-batches since the last step.
    micros: usize,
    /// Updates done. The bias correction depends on it.
    updates: u64,
    /// What the start took, but for planning.
    start: Startup,
    /// Moments between the phases of steps, while they are measured.
    moments: Option<Moments>,
}

/// Pixels and rows of a batch in the form of a pass.
struct HostBatch<'a> {
    batch: BatchForm,
    pixels: &'a [u8],
}

impl<'a> HostBatch<'a> {
    fn new(pixels: Pixels<'a>, images: usize) -> Self {
        match pixels {
            Pixels::Bytes(pixels) => Self { batch: BatchForm { images, planes: false }, pixels },
            Pixels::Normalized(values) => Self {
                batch: BatchForm { images, planes: true },
                pixels: bytemuck::cast_slice(values),
            },
        }
    }
}

/// What a target asks of a pass.
#[derive(Default)]
struct HostTarget<'a> {
    hidden: &'a [bool],
    rows: Vec<i32>,
    probabilities: Vec<f32>,
}

impl<'a> HostTarget<'a> {
    fn new(target: Target<'a>, classes: Option<usize>, smoothing: f64) -> (Self, PassTask) {
        match target {
            Target::Hidden(mask) => {
                let rows = mask.rows();
                let task = PassTask::Patches { rows: rows.len() };
                (Self { hidden: &mask.hidden, rows, ..Self::default() }, task)
            }
            Target::Classes(labels) => {
                let classes = classes.expect("the model of a classifier");
                let probabilities = loss::class_probabilities(labels, classes, smoothing);
                (Self { probabilities, ..Self::default() }, PassTask::Classes)
            }
        }
    }

    fn inputs<'b>(&'b self, pixels: &'b [u8], factors: &'b [f32]) -> Inputs<'b> {
        Inputs {
            pixels,
            hidden: self.hidden,
            rows: &self.rows,
            factors,
            targets: &self.probabilities,
        }
    }
}

/// Ends the work of the thread with the failure. Nothing that was computed since is of any use, and the trait of engines
/// has no errors because all other devices have none.
fn fail(fault: Fault) -> ! {
    std::panic::resume_unwind(Box::new(DeviceFailure(fault.0)))
}

fn sound<T>(result: Result<T, Fault>) -> T {
    result.unwrap_or_else(|fault| fail(fault))
}

/// What is called between the phases of a plan, see [`LaunchPlan::run`].
type Between<'a> = &'a mut dyn FnMut(&mut dyn Machine, Option<StepPhase>);

/// Does nothing between the phases of a plan.
fn untimed(_: &mut dyn Machine, _: Option<StepPhase>) {}

impl Planned {
    /// A learner with fresh weights drawn from the seed.
    ///
    /// # Errors
    /// If there are no kernels for the model's sizes, or the machine has no room for its weights.
    pub(crate) fn new(config: LearnerConfig, mut machine: Box<dyn Machine>) -> Result<Self, Fault> {
        PassSizes::check(&config.shape)?;
        let sizes = PassSizes {
            model: config.shape.clone(),
            arithmetic: config.precision.into(),
            loss: config.loss.clone(),
            shares: config.accumulation,
            checkpointing: config.activation_checkpointing,
        };
        let start = Instant::now();
        let fresh = Fresh::draw(&config.shape, config.seed);
        let store = Store::new(machine.as_mut(), &config, sizes.arithmetic, &fresh)?;
        let numbers = 3 + 3 + config.accumulation + 1;
        let numbers_at = machine.allocate(4 * (numbers.next_multiple_of(64) + 2 * UNREAD))?;
        let [mean, inverse, losses, evaluated] =
            [0, 3, 6, 6 + config.accumulation].map(|number| numbers_at + 4 * number as Address);
        let figures = numbers_at + 4 * numbers.next_multiple_of(64) as Address;
        machine.write(mean, bytemuck::cast_slice(&config.normalization.mean))?;
        let deviations = config.normalization.std.map(|deviation| 1.0 / deviation);
        machine.write(inverse, bytemuck::cast_slice(&deviations))?;
        let update = plan::StepEnd {
            table: store.table,
            pieces: store.pieces,
            losses,
            clip: config.grad_clip as f32,
            guard: config.guard != Guard::Off,
            betas: config.optimizer.betas.map(|beta| beta as f32),
            eps: config.optimizer.eps as f32,
        };
        let update = Builder::update(machine.facts(), &sizes, &update);
        let mut planned = Self {
            sizes,
            runner: RefCell::new(Runner::new(machine)),
            store,
            update,
            normalization: [mean, inverse],
            losses,
            evaluated,
            figures,
            unread: 0,
            early: Vec::new(),
            micros: 0,
            updates: 0,
            start: Startup::default(),
            moments: None,
            config,
        };
        let weights = Store::fetch(&fresh.values, "", planned.store.parameters.iter());
        planned.write(Which::Value, &weights.expect("names and shapes are the model's own"))?;
        planned.clear_moments()?;
        planned.narrow()?;
        planned.start.weights = start.elapsed().as_secs_f64();
        Ok(planned)
    }

    fn write(&self, which: Which, values: &[(Parameter, Vec<f32>)]) -> Result<(), Fault> {
        let machine = &mut self.runner.borrow_mut().machine;
        for (parameter, values) in values {
            machine.write(parameter.at(which), bytemuck::cast_slice(values))?;
        }
        Ok(())
    }

    fn clear_moments(&self) -> Result<(), Fault> {
        let machine = &mut self.runner.borrow_mut().machine;
        for (_, parameter) in self.store.trained() {
            for moment in parameter.moments {
                machine.zero(moment, 4 * parameter.weight.elements)?;
            }
        }
        Ok(())
    }

    /// Makes the copies of all weights in bf16.
    fn narrow(&self) -> Result<(), Fault> {
        if self.sizes.arithmetic != Arithmetic::Bf16 {
            return Ok(());
        }
        let pieces = self.store.pieces;
        let geometry::Geometry { grid, block, shared } = geometry::chunks(pieces);
        let values = vec![KernelArg::Address(self.store.table), KernelArg::Int(pieces as i32)];
        let launch = Launch { kernel: "narrow_weights", grid, block, shared, values };
        self.runner.borrow_mut().machine.launch(&launch)
    }

    fn run(
        &self,
        pass: PassKind,
        batch: BatchForm,
        inputs: &Inputs<'_>,
        loss: Address,
        between: Between<'_>,
    ) -> Result<FinishedPass, Fault> {
        let model = Model {
            sizes: &self.sizes,
            weights: &self.store.weights,
            normalization: self.normalization,
        };
        let vars = Vars { loss, ..Vars::default() };
        self.runner.borrow_mut().run((pass, batch), &model, inputs, &vars, between)
    }

    /// Returns the factors of drop path of all blocks, `[depth, 2, B]`, or nothing if there are none.
    fn factors(&self, images: usize, micro: u64) -> Vec<f32> {
        let LearnerConfig { shape, drop_path, seed, .. } = &self.config;
        let blocks = draw_factors(*drop_path, shape.depth, images, *seed, micro);
        let ones = || [(); 2].map(|()| vec![1.0; images]);
        blocks.into_iter().flat_map(|block| block.unwrap_or_else(ones)).flatten().collect()
    }

    fn train(
        &mut self,
        batch: MicroBatch<'_>,
        micro: u64,
        between: Between<'_>,
    ) -> Result<(), Fault> {
        let images = batch.target.images();
        let smoothing = self.config.label_smoothing;
        let (target, task) = HostTarget::new(batch.target, self.config.shape.classes, smoothing);
        let HostBatch { batch, pixels } = HostBatch::new(batch.pixels, images);
        let factors = self.factors(images, micro);
        let drop_path = !factors.is_empty();
        let pass = PassKind::Train { task, first: self.micros == 0, drop_path };
        let loss = self.losses + 4 * (self.micros % self.config.accumulation) as Address;
        self.run(pass, batch, &target.inputs(pixels, &factors), loss, between)?;
        self.micros += 1;
        Ok(())
    }

    fn make_step(&mut self, lr: f64, between: Between<'_>) -> Result<(), Fault> {
        if self.unread == UNREAD {
            let figures = self.take_figures()?; // device sync
            self.early.extend(figures);
        }
        self.updates += 1;
        let correction = |beta: f64| (1.0 / (1.0 - beta.powf(self.updates as f64))) as f32;
        let vars = Vars {
            learning_rate: lr as f32,
            corrections: self.config.optimizer.betas.map(correction),
            loss: 0,
            figures: self.figures + 8 * self.unread as Address,
        };
        self.runner.borrow_mut().run_update(&self.update, &vars, between)?;
        self.unread += 1;
        self.micros = 0;
        Ok(())
    }

    /// Reads the figures that the machine keeps. Device sync.
    fn take_figures(&mut self) -> Result<Vec<StepFigures>, Fault> {
        let values = self.runner.borrow_mut().read(self.figures, 2 * self.unread)?; // device sync
        self.unread = 0;
        let pairs = values.chunks_exact(2);
        Ok(pairs.map(|pair| StepFigures { loss: pair[0], grad_norm: pair[1] }).collect())
    }

    fn predict(&self, pixels: Pixels<'_>, target: Target<'_>) -> Result<Evaluation, Fault> {
        let images = target.images();
        let (target, task) = HostTarget::new(target, self.config.shape.classes, 0.0);
        self.predict_rows(HostBatch::new(pixels, images), &target, task)
    }

    fn predict_rows(
        &self,
        HostBatch { batch, pixels }: HostBatch<'_>,
        target: &HostTarget<'_>,
        task: PassTask,
    ) -> Result<Evaluation, Fault> {
        let pass = PassKind::Evaluate { task };
        let done =
            self.run(pass, batch, &target.inputs(pixels, &[]), self.evaluated, &mut untimed)?;
        let mut runner = self.runner.borrow_mut();
        let loss = runner.read(self.evaluated, 1)?[0]; // device sync
        let buf = done.ports().prediction.expect("every evaluation predicts");
        let prediction = runner.read_left(&done, buf)?; // device sync
        Ok(Evaluation { loss, prediction })
    }

    fn save_gradients(&self) -> Result<NamedTensors, Fault> {
        if self.micros == 0 {
            return Ok(NamedTensors::new());
        }
        let machine = &mut self.runner.borrow_mut().machine;
        Store::save(machine.as_mut(), "", self.store.trained(), Which::Gradient) // device sync
    }

    fn save(&self) -> Result<EngineState, Fault> {
        let gradients = self.save_gradients()?; // device sync
        let mut runner = self.runner.borrow_mut();
        let losses = runner.read(self.losses, self.micros)?; // device sync
        let machine = runner.machine.as_mut();
        let weights = Store::save(machine, "", self.store.parameters.iter(), Which::Value)?; // device sync
        let mut moments = NamedTensors::new();
        if self.updates > 0 {
            for (number, prefix) in ["first.", "second."].into_iter().enumerate() {
                let which = Which::Moment(number);
                let trained = self.store.trained();
                moments.extend(Store::save(machine, prefix, trained, which)?); // device sync
            }
        }
        Ok(EngineState { weights, moments, updates: self.updates, gradients, losses })
    }
}

impl Engine for Planned {
    fn accumulate(&mut self, batch: MicroBatch<'_>, micro: u64) {
        sound(self.watched(|planned, between| planned.train(batch, micro, between)));
    }

    fn step(&mut self, lr: f64) -> Update {
        sound(self.watched(|planned, between| planned.make_step(lr, between)));
        Update::Made
    }

    fn read_figures(&mut self) -> Vec<StepFigures> {
        let mut figures = std::mem::take(&mut self.early);
        if self.unread > 0 {
            figures.extend(sound(self.take_figures())); // device sync
        }
        figures
    }

    fn evaluate(&self, batch: MicroBatch<'_>) -> Evaluation {
        sound(self.predict(batch.pixels, batch.target)) // device sync
    }

    fn reconstruct(&self, pixels: Pixels<'_>, mask: &HostMask) -> Vec<f32> {
        let rows: Vec<i32> = (0..mask.hidden.len() as i32).collect();
        let task = PassTask::Patches { rows: rows.len() };
        let target = HostTarget { hidden: &mask.hidden, rows, ..HostTarget::default() };
        let batch = HostBatch::new(pixels, mask.batch);
        sound(self.predict_rows(batch, &target, task)).prediction // device sync
    }

    fn features(&self, pixels: Pixels<'_>, batch: usize, layer: Option<usize>) -> Vec<f32> {
        let HostBatch { batch, pixels } = HostBatch::new(pixels, batch);
        let inputs = Inputs { pixels, ..Inputs::default() };
        let done = sound(self.run(PassKind::Features { layer }, batch, &inputs, 0, &mut untimed));
        let buf = done.ports().features.expect("this pass leaves features");
        sound(self.runner.borrow_mut().read_left(&done, buf)) // device sync
    }

    fn gradients(&self) -> NamedTensors {
        sound(self.save_gradients()) // device sync
    }

    fn state(&self) -> EngineState {
        sound(self.save()) // device sync
    }

    fn load(&mut self, saved: &EngineState) -> Result<(), StateError> {
        self.store.check_names(&saved.weights)?;
        let weights = Store::fetch(&saved.weights, "", self.store.parameters.iter())?;
        let fetch = |tensors: &NamedTensors, prefix: &str| {
            if tensors.is_empty() {
                return Ok(Vec::new());
            }
            Store::fetch(tensors, prefix, self.store.trained())
        };
        // There are no moments before the first update that was not left out.
        let first = fetch(&saved.moments, "first.")?;
        let second = fetch(&saved.moments, "second.")?;
        let gradients = fetch(&saved.gradients, "")?;
        let write = || {
            self.write(Which::Value, &weights)?;
            self.clear_moments()?;
            self.write(Which::Moment(0), &first)?;
            self.write(Which::Moment(1), &second)?;
            self.write(Which::Gradient, &gradients)?;
            let losses = bytemuck::cast_slice(&saved.losses);
            self.runner.borrow_mut().machine.write(self.losses, losses)?;
            self.narrow()
        };
        sound(write());
        self.updates = saved.updates;
        self.micros = if saved.gradients.is_empty() { 0 } else { saved.losses.len() };
        self.unread = 0;
        self.early.clear();
        Ok(())
    }

    fn sync(&self) {
        sound(self.runner.borrow_mut().machine.sync());
    }

    fn startup(&self) -> Option<Startup> {
        Some(self.startup_until_now())
    }

    fn time_phases(&mut self) {
        self.moments = Some(Moments::default());
    }

    fn phases(&mut self) -> Option<Phases> {
        sound(self.take_phases()) // device sync
    }
}
