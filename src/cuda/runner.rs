//! Runs passes on a machine: keeps their plans, and the memory that they share.

use super::machine::{Address, Facts, Fault, Machine};
use super::plan::{
    BatchForm, Buf, Builder, Element, LaunchPlan, Memory, PassKind, PassSizes, PlacedWeights,
    Ports, StepPhase, Vars,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A block of memory that grows when a pass needs more.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    at: Address,
    bytes: usize,
}

impl Block {
    /// Makes room for `bytes`. What the block holds is lost when it grows.
    fn reserve(&mut self, machine: &mut dyn Machine, bytes: usize) -> Result<(), Fault> {
        if bytes <= self.bytes {
            return Ok(());
        }
        if self.bytes > 0 {
            machine.release(std::mem::take(self).at);
        }
        *self = Self { at: machine.allocate(bytes)?, bytes };
        Ok(())
    }
}

/// The inputs of one pass on the host. Each is there if the pass needs it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Inputs<'a> {
    /// See [`Ports::pixels`], as bytes.
    pub(crate) pixels: &'a [u8],
    /// `[B·N]`
    pub(crate) hidden: &'a [bool],
    /// `[M]`
    pub(crate) rows: &'a [i32],
    /// `[depth, 2, B]`
    pub(crate) factors: &'a [f32],
    /// `[B, C]`
    pub(crate) targets: &'a [f32],
}

/// What a pass has left, until the next one runs.
pub(crate) struct FinishedPass {
    plan: Arc<(LaunchPlan, Ports)>,
    memory: Memory,
}

/// A machine with the plans and the memory of passes.
pub(crate) struct Runner {
    pub(crate) machine: Box<dyn Machine>,
    plans: HashMap<(PassKind, BatchForm), Arc<(LaunchPlan, Ports)>>,
    arena: Block,
    /// Passes take these in turn, so that the inputs of the next one can be uploaded while one runs.
    inputs: [Block; 2],
    turn: usize,
    /// Time that was spent on making plans.
    pub(crate) planning: Duration,
}

impl Runner {
    pub(crate) fn new(machine: Box<dyn Machine>) -> Self {
        let (plans, arena, inputs) = (HashMap::new(), Block::default(), [Block::default(); 2]);
        Self { machine, plans, arena, inputs, turn: 0, planning: Duration::ZERO }
    }

    pub(crate) fn facts(&self) -> Facts {
        self.machine.facts()
    }

    /// Queues a pass over a batch.
    ///
    /// # Errors
    /// If the machine has no room, or refuses an operation.
    pub(crate) fn run(
        &mut self,
        (pass, batch): (PassKind, BatchForm),
        model: &Model<'_>,
        inputs: &Inputs<'_>,
        vars: &Vars,
        between: &mut dyn FnMut(&mut dyn Machine, Option<StepPhase>),
    ) -> Result<FinishedPass, Fault> {
        let plan = self.plan(pass, batch, model);
        let memory = self.memory(&plan.0)?;
        self.upload(&plan, memory, inputs)?;
        plan.0.run(self.machine.as_mut(), memory, vars, between)?;
        self.machine.mark();
        Ok(FinishedPass { plan, memory })
    }

    /// Queues a plan that has no inputs.
    ///
    /// # Errors
    /// See [`Self::run`].
    pub(crate) fn run_update(
        &mut self,
        plan: &LaunchPlan,
        vars: &Vars,
        between: &mut dyn FnMut(&mut dyn Machine, Option<StepPhase>),
    ) -> Result<(), Fault> {
        self.arena.reserve(self.machine.as_mut(), plan.arena_bytes)?;
        let memory = Memory { arena: self.arena.at, input: 0 };
        plan.run(self.machine.as_mut(), memory, vars, between)
    }

    /// Reads a buffer that a pass has left, as 32-bit floats. Device sync.
    ///
    /// # Errors
    /// If the machine has failed.
    pub(crate) fn read_left(&mut self, done: &FinishedPass, buf: Buf) -> Result<Vec<f32>, Fault> {
        let (kind, len) = done.plan.0.extent(buf);
        let at = done.plan.0.address(buf, done.memory);
        if kind == Element::F32 {
            return self.read(at, len);
        }
        let mut bytes = vec![0; len * kind.bytes()];
        self.machine.read(at, &mut bytes)?; // device sync
        let widen = |pair: &[u8]| {
            let high = u32::from(u16::from_le_bytes([pair[0], pair[1]])) << 16;
            f32::from_bits(high)
        };
        Ok(bytes.chunks_exact(2).map(widen).collect())
    }

    /// Reads 32-bit floats. Device sync.
    ///
    /// # Errors
    /// If the machine has failed.
    pub(crate) fn read(&mut self, at: Address, len: usize) -> Result<Vec<f32>, Fault> {
        let mut values = vec![0.0; len];
        self.machine.read(at, bytemuck::cast_slice_mut(&mut values))?; // device sync
        Ok(values)
    }

    fn plan(
        &mut self,
        pass: PassKind,
        batch: BatchForm,
        model: &Model<'_>,
    ) -> Arc<(LaunchPlan, Ports)> {
        let facts = self.facts();
        let Model { sizes, weights, normalization } = *model;
        let build = || Arc::new(Builder::pass(sizes, facts, weights, normalization, batch, pass));
        let start = Instant::now();
        let plan = Arc::clone(self.plans.entry((pass, batch)).or_insert_with(build));
        self.planning += start.elapsed();
        plan
    }

    /// Makes room for a plan, and takes the next block of inputs.
    fn memory(&mut self, plan: &LaunchPlan) -> Result<Memory, Fault> {
        let machine = self.machine.as_mut();
        self.arena.reserve(machine, plan.arena_bytes)?;
        self.turn = 1 - self.turn;
        let inputs = &mut self.inputs[self.turn];
        inputs.reserve(machine, plan.input_bytes)?;
        Ok(Memory { arena: self.arena.at, input: inputs.at })
    }

    fn upload(
        &mut self,
        plan: &(LaunchPlan, Ports),
        memory: Memory,
        inputs: &Inputs<'_>,
    ) -> Result<(), Fault> {
        let (plan, ports) = plan;
        let hidden: Vec<u8> = inputs.hidden.iter().map(|&hidden| u8::from(hidden)).collect();
        let given = [
            (ports.pixels, inputs.pixels),
            (ports.hidden, &hidden[..]),
            (ports.rows, bytemuck::cast_slice(inputs.rows)),
            (ports.factors, bytemuck::cast_slice(inputs.factors)),
            (ports.targets, bytemuck::cast_slice(inputs.targets)),
        ];
        for (port, bytes) in given {
            let Some(buf) = port else { continue };
            let (kind, len) = plan.extent(buf);
            assert_eq!(bytes.len(), kind.bytes() * len, "the inputs are those of the plan");
            let at = memory.input + plan.input_offset(buf) as Address;
            self.machine.upload(at, bytes)?;
        }
        Ok(())
    }
}

impl FinishedPass {
    pub(crate) fn ports(&self) -> &Ports {
        &self.plan.1
    }
}

/// The model that passes go through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model<'a> {
    pub(crate) sizes: &'a PassSizes,
    pub(crate) weights: &'a PlacedWeights,
    /// Where mean and inverse deviation of the channels lie, `[3]` each.
    pub(crate) normalization: [Address; 2],
}
