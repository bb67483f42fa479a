//! A plan: the operations of one pass through the model, in order, on buffers. Nothing here knows what runs them.
//!
//! Plans are built once for each kind of pass and size of batch ([`PassKind`]) and run again and again. Buffers of a plan
//! share one block of memory, the arena: two buffers may lie at the same place if no operation needs both.

mod attention;
mod block;
mod builder;
mod classify;
mod embed;
mod layout;
mod own_product;
mod predict;
mod sizes;
mod update;

pub(crate) use builder::{BatchForm, Builder, PlacedWeight, PlacedWeights, Ports};
pub(crate) use sizes::{PassKind, PassSizes, PassTask};
pub(crate) use update::{StepEnd, WeightPiece};

use sizes::PatchLoss;

use super::geometry::Geometry;
use super::machine::{Address, Fault, KernelArg, Launch, Machine, Operands, ProductShape};

/// A buffer of one plan, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Buf(u32);

impl Buf {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a buffer consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    Bf16,
    U8,
    I32,
}

impl Element {
    /// Returns the bytes of one element.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }
}

/// Where a buffer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    /// At one address for as long as the machine runs, as weights do.
    Fixed(Address),
    /// In the block of inputs that each run gets, at this offset.
    Input(usize),
    /// In the arena, at this offset once the layout is made.
    Arena(usize),
}

#[derive(Debug, Clone)]
struct BufInfo {
    kind: Element,
    len: usize,
    home: Home,
    /// Whether its contents must outlive the run, because somebody reads them then.
    kept: bool,
}

impl BufInfo {
    fn bytes(&self) -> usize {
        self.len * self.kind.bytes()
    }
}

/// A number or an address that differs from run to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Var {
    LearningRate,
    /// 1 / (1 − β^t) of the first and of the second moment.
    Correction(usize),
    /// Where the loss of this micro-batch goes.
    PatchLoss,
    /// Where loss and gradient norm of this step go.
    Figures,
}

/// The values of [`Var`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Vars {
    pub(crate) learning_rate: f32,
    pub(crate) corrections: [f32; 2],
    pub(crate) loss: Address,
    pub(crate) figures: Address,
}

impl Vars {
    fn value(&self, var: Var) -> KernelArg {
        match var {
            Var::LearningRate => KernelArg::Float(self.learning_rate),
            Var::Correction(moment) => KernelArg::Float(self.corrections[moment]),
            Var::PatchLoss => KernelArg::Address(self.loss),
            Var::Figures => KernelArg::Address(self.figures),
        }
    }
}

/// An argument of a launch.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Arg {
    Buf(Buf),
    /// No buffer, where one could be.
    Null,
    Int(i32),
    Long(i64),
    Float(f32),
    Var(Var),
    /// Something that isn't a buffer of the plan, such as the table of all weights.
    At(Address),
}

impl Arg {
    fn optional(buf: Option<Buf>) -> Self {
        buf.map_or(Self::Null, Self::Buf)
    }
}

#[derive(Debug, Clone)]
enum Work {
    Kernel { name: &'static str, geometry: Geometry, args: Vec<Arg> },
    Product { shape: ProductShape, a: Buf, b: Buf, c: Option<Buf>, d: Buf, bias: Option<Buf> },
    Zero(Buf),
}

impl Work {
    fn bufs(&self) -> Vec<Buf> {
        match self {
            Self::Kernel { args, .. } => {
                let buf = |arg: &Arg| if let Arg::Buf(buf) = arg { Some(*buf) } else { None };
                args.iter().filter_map(buf).collect()
            }
            Self::Product { a, b, c, d, bias, .. } => {
                [Some(*a), Some(*b), *c, Some(*d), *bias].into_iter().flatten().collect()
            }
            Self::Zero(buf) => vec![*buf],
        }
    }
}

/// The part of a step that an operation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StepPhase {
    /// From the pixels to the output of the last block.
    Encode,
    /// Final norm, head and loss.
    Predict,
    Backward,
    /// Gradient norm and optimizer.
    Update,
}

#[derive(Debug, Clone)]
struct Op {
    phase: StepPhase,
    /// Where in the model it stands, for messages.
    place: String,
    work: Work,
}

/// The operations of one kind of pass at one size of batch.
#[derive(Debug)]
pub(crate) struct LaunchPlan {
    bufs: Vec<BufInfo>,
    ops: Vec<Op>,
    /// Bytes of the block of inputs.
    pub(crate) input_bytes: usize,
    /// Bytes that all buffers of the arena take together.
    pub(crate) arena_bytes: usize,
}

/// Where the memory of one run lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) arena: Address,
    pub(crate) input: Address,
}

impl LaunchPlan {
    /// Returns where a buffer lies.
    pub(crate) fn address(&self, buf: Buf, memory: Memory) -> Address {
        match self.bufs[buf.index()].home {
            Home::Fixed(address) => address,
            Home::Input(offset) => memory.input + offset as Address,
            Home::Arena(offset) => memory.arena + offset as Address,
        }
    }

    /// Returns the offset of an input within the block of inputs.
    pub(crate) fn input_offset(&self, buf: Buf) -> usize {
        match self.bufs[buf.index()].home {
            Home::Input(offset) => offset,
            Home::Fixed(_) | Home::Arena(_) => unreachable!("only inputs are asked for"),
        }
    }

    /// Returns the type and the number of elements of a buffer.
    pub(crate) fn extent(&self, buf: Buf) -> (Element, usize) {
        let info = &self.bufs[buf.index()];
        (info.kind, info.len)
    }

    /// Queues all operations. `between` is called before the first operation of each phase, and with `None` at the end.
    ///
    /// # Errors
    /// If the machine refuses an operation; the text says where in the model it stands.
    pub(crate) fn run(
        &self,
        machine: &mut dyn Machine,
        memory: Memory,
        vars: &Vars,
        between: &mut dyn FnMut(&mut dyn Machine, Option<StepPhase>),
    ) -> Result<(), Fault> {
        let mut phase = None;
        for op in &self.ops {
            if phase != Some(op.phase) {
                phase = Some(op.phase);
                between(machine, phase);
            }
            self.queue(&op.work, machine, memory, vars)
                .map_err(|fault| Fault(format!("{}: {fault}", op.place)))?;
        }
        between(machine, None);
        Ok(())
    }

    fn queue(
        &self,
        work: &Work,
        machine: &mut dyn Machine,
        memory: Memory,
        vars: &Vars,
    ) -> Result<(), Fault> {
        let at = |buf: Buf| self.address(buf, memory);
        match work {
            Work::Kernel { name, geometry, args } => {
                let value = |arg: &Arg| match *arg {
                    Arg::Buf(buf) => KernelArg::Address(at(buf)),
                    Arg::Null => KernelArg::Address(0),
                    Arg::Int(number) => KernelArg::Int(number),
                    Arg::Long(number) => KernelArg::Long(number),
                    Arg::Float(number) => KernelArg::Float(number),
                    Arg::Var(var) => vars.value(var),
                    Arg::At(address) => KernelArg::Address(address),
                };
                let Geometry { grid, block, shared } = *geometry;
                let values = args.iter().map(value).collect();
                machine.launch(&Launch { kernel: name, grid, block, shared, values })
            }
            Work::Product { shape, a, b, c, d, bias } => {
                let optional = |buf: &Option<Buf>| buf.map_or(0, at);
                let operands = Operands {
                    a: at(*a),
                    b: at(*b),
                    c: optional(c),
                    d: at(*d),
                    bias: optional(bias),
                };
                machine.product(*shape, operands)
            }
            Work::Zero(buf) => machine.zero(at(*buf), self.bufs[buf.index()].bytes()),
        }
    }
}
