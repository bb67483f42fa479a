//! Builds a plan, operation by operation.

use super::layout::{lay_out, padded};
use super::{
    Arg, Buf, BufInfo, Element, Home, LaunchPlan, Op, PassKind, PassSizes, PassTask, StepPhase,
    Var, Work,
};
use super::{block, classify, embed, own_product, predict};
use crate::cuda::geometry::{self, Geometry, Strips};
use crate::cuda::machine::{Address, Arithmetic, Facts, Number, ProductShape};
use std::collections::BTreeMap;

/// Where a parameter and what belongs to it lie. All are 32-bit floats but the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlacedWeight {
    pub(crate) value: Address,
    pub(crate) gradient: Address,
    /// The value in bf16, which products of bf16 read.
    pub(crate) copy: Address,
    pub(crate) elements: usize,
}

/// All parameters by name.
pub(crate) type PlacedWeights = BTreeMap<String, PlacedWeight>;

/// What a run of the plan is given, and what it leaves. Each is there if the pass needs it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ports {
    /// Bytes `[B, H, W, 3]`, or normalised planes of floats `[B, 3, H, W]`
    pub(crate) pixels: Option<Buf>,
    /// 1 where a patch is hidden. `[B·N]`
    pub(crate) hidden: Option<Buf>,
    /// The rows to predict. `[M]`
    pub(crate) rows: Option<Buf>,
    /// The factors of drop path. `[depth, 2, B]`
    pub(crate) factors: Option<Buf>,
    /// The probabilities to predict. `[B, C]`
    pub(crate) targets: Option<Buf>,
    /// The output of the head: `[M, P]` or `[B, C]`.
    pub(crate) prediction: Option<Buf>,
    /// `[B, D]`
    pub(crate) features: Option<Buf>,
}

/// One batch of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BatchForm {
    pub(crate) images: usize,
    /// Whether pixels come as planes of floats.
    pub(crate) planes: bool,
}

/// Names the variant of a kernel for the type of operands.
macro_rules! operands {
    ($builder:expr, $name:literal) => {
        if $builder.wide() { concat!($name, "_f32") } else { $name }
    };
}
pub(super) use operands;

/// The operands of `d = op(a) · op(b) (+ bias) (+ c)`.
pub(super) struct Multiply {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    /// Whether `a` is stored as `[k, m]`.
    pub(super) a: (Buf, bool),
    /// Whether `b` is stored as `[n, k]`.
    pub(super) b: (Buf, bool),
    pub(super) c: Option<Buf>,
    pub(super) d: Buf,
    pub(super) bias: Option<Buf>,
}

/// A linear layer by the name of its module, and its widths.
#[derive(Debug, Clone)]
pub(super) struct LinearSpec {
    pub(super) name: String,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl LinearSpec {
    pub(super) fn new(name: impl Into<String>, inputs: usize, outputs: usize) -> Self {
        Self { name: name.into(), inputs, outputs }
    }
}

/// Partial sums of a bias gradient: the buffer, and how many strips it has.
pub(super) type PartialSums = (Buf, usize);

pub(crate) struct Builder<'a> {
    pub(super) sizes: &'a PassSizes,
    pub(super) facts: Facts,
    pub(super) weights: &'a PlacedWeights,
    pub(super) batch: BatchForm,
    /// Whether gradients are added to those of earlier micro-batches.
    pub(super) accumulate: bool,
    /// Mean and inverse deviation of the channels, `[3]` each.
    pub(super) normalization: [Address; 2],
    pub(super) ports: Ports,
    /// The relative bias of every pair of patches, `[heads, N, N]`.
    pub(super) bias: Option<Buf>,
    bufs: Vec<BufInfo>,
    ops: Vec<Op>,
    input_bytes: usize,
    phase: StepPhase,
    place: String,
}

impl<'a> Builder<'a> {
    fn new(
        sizes: &'a PassSizes,
        facts: Facts,
        weights: &'a PlacedWeights,
        batch: BatchForm,
    ) -> Self {
        Self {
            sizes,
            facts,
            weights,
            batch,
            accumulate: false,
            normalization: [0; 2],
            ports: Ports::default(),
            bias: None,
            bufs: Vec::new(),
            ops: Vec::new(),
            input_bytes: 0,
            phase: StepPhase::Encode,
            place: String::new(),
        }
    }

    /// Returns the plan of a pass over a batch. `normalization` is where mean and inverse deviation of the channels lie.
    pub(crate) fn pass(
        sizes: &'a PassSizes,
        facts: Facts,
        weights: &'a PlacedWeights,
        normalization: [Address; 2],
        batch: BatchForm,
        pass: PassKind,
    ) -> (LaunchPlan, Ports) {
        let mut builder = Self::new(sizes, facts, weights, batch);
        builder.normalization = normalization;
        match pass {
            PassKind::Train { task, first, drop_path } => {
                builder.accumulate = !first;
                builder.train(task, drop_path);
            }
            PassKind::Evaluate { task } => {
                let embedded = embed::forward(&mut builder, Some(task));
                let rows = block::run(&mut builder, sizes.model.depth, embedded.rows);
                builder.predict(task, rows, false);
            }
            PassKind::Features { layer } => {
                let blocks =
                    layer.map_or(sizes.model.depth, |layer| layer.clamp(1, sizes.model.depth));
                let embedded = embed::forward(&mut builder, None);
                let rows = block::run(&mut builder, blocks, embedded.rows);
                predict::features(&mut builder, rows, layer);
            }
        }
        builder.finish()
    }

    /// Returns the plan that clips the gradients and updates all weights, which `table` lists in `chunks` pieces.
    pub(crate) fn update(
        facts: Facts,
        sizes: &'a PassSizes,
        update: &super::update::StepEnd,
    ) -> LaunchPlan {
        let none = PlacedWeights::new();
        let mut builder = Builder::new(sizes, facts, &none, BatchForm { images: 0, planes: false });
        super::update::build(&mut builder, update);
        builder.finish().0
    }

    fn finish(mut self) -> (LaunchPlan, Ports) {
        let arena_bytes = lay_out(&mut self.bufs, &self.ops);
        let Self { bufs, ops, input_bytes, ports, .. } = self;
        (LaunchPlan { bufs, ops, input_bytes, arena_bytes }, ports)
    }

    fn train(&mut self, task: PassTask, drop_path: bool) {
        if drop_path {
            let factors = self.sizes.model.depth * 2 * self.batch.images;
            self.ports.factors = Some(self.input(Element::F32, factors));
        }
        let embedded = embed::forward(self, Some(task));
        let passed = block::forward_all(self, embedded.rows);
        let slope = self.predict(task, passed.rows, true).expect("asked for");
        let slope = block::backward_all(self, passed, slope);
        embed::backward(self, &embedded, slope);
    }

    fn predict(&mut self, task: PassTask, rows: Buf, backward: bool) -> Option<Buf> {
        match task {
            PassTask::Patches { rows: count } => predict::patches(self, rows, count, backward),
            PassTask::Classes => classify::classes(self, rows, backward),
        }
    }

    /// Returns B·N.
    pub(super) fn rows(&self) -> usize {
        self.batch.images * self.sizes.model.patches()
    }

    /// Returns whether the operands of products are 32-bit floats.
    pub(super) fn wide(&self) -> bool {
        self.sizes.arithmetic != Arithmetic::Bf16
    }

    /// Returns the type of the operands of products.
    pub(super) fn operand(&self) -> Element {
        if self.wide() { Element::F32 } else { Element::Bf16 }
    }

    pub(super) fn multiprocessors(&self) -> usize {
        self.facts.multiprocessors
    }

    /// Says which part of the step and of the model the next operations belong to.
    pub(super) fn at(&mut self, phase: StepPhase, place: impl Into<String>) {
        self.phase = phase;
        self.place = place.into();
    }

    pub(super) fn phase(&self) -> StepPhase {
        self.phase
    }

    fn buf(&mut self, kind: Element, len: usize, home: Home) -> Buf {
        self.bufs.push(BufInfo { kind, len, home, kept: false });
        Buf(self.bufs.len() as u32 - 1)
    }

    pub(super) fn new_buf(&mut self, kind: Element, len: usize) -> Buf {
        self.buf(kind, len, Home::Arena(0))
    }

    /// Returns a buffer of the type of operands.
    pub(super) fn new_operand(&mut self, len: usize) -> Buf {
        self.new_buf(self.operand(), len)
    }

    /// Returns a part of the block of inputs.
    pub(super) fn input(&mut self, kind: Element, len: usize) -> Buf {
        let offset = self.input_bytes;
        self.input_bytes += padded(len * kind.bytes());
        self.buf(kind, len, Home::Input(offset))
    }

    /// Returns a part of another buffer of inputs, from element `start` on.
    pub(super) fn part_of_input(&mut self, whole: Buf, start: usize, len: usize) -> Buf {
        let BufInfo { kind, home, .. } = self.bufs[whole.index()];
        let Home::Input(offset) = home else { unreachable!("only inputs are cut") };
        self.buf(kind, len, Home::Input(offset + start * kind.bytes()))
    }

    /// Keeps the contents of a buffer until the run has ended.
    pub(super) fn keep(&mut self, buf: Buf) {
        self.bufs[buf.index()].kept = true;
    }

    pub(super) fn kind(&self, buf: Buf) -> Element {
        self.bufs[buf.index()].kind
    }

    fn weight(&self, name: &str) -> PlacedWeight {
        *self.weights.get(name).unwrap_or_else(|| unreachable!("the model has {name}"))
    }

    /// Returns the values of a parameter in 32-bit floats.
    pub(super) fn value(&mut self, name: &str) -> Buf {
        let PlacedWeight { value, elements, .. } = self.weight(name);
        self.buf(Element::F32, elements, Home::Fixed(value))
    }

    pub(super) fn gradient(&mut self, name: &str) -> Buf {
        let PlacedWeight { gradient, elements, .. } = self.weight(name);
        self.buf(Element::F32, elements, Home::Fixed(gradient))
    }

    /// Returns the values of a parameter as products read them, or as they are added to a result of type `kind`.
    fn value_as(&mut self, name: &str, kind: Element) -> Buf {
        if kind == Element::F32 {
            return self.value(name);
        }
        let PlacedWeight { copy, elements, .. } = self.weight(name);
        self.buf(Element::Bf16, elements, Home::Fixed(copy))
    }

    fn push(&mut self, work: Work) {
        self.ops.push(Op { phase: self.phase, place: self.place.clone(), work });
    }

    pub(super) fn kernel(&mut self, name: &'static str, geometry: Geometry, args: Vec<Arg>) {
        self.push(Work::Kernel { name, geometry, args });
    }

    pub(super) fn zero(&mut self, buf: Buf) {
        self.push(Work::Zero(buf));
    }

    /// Multiplies, by the library or by kernels of our own.
    pub(super) fn multiply(&mut self, multiply: &Multiply) {
        let Multiply { m, n, k, a, b, c, d, bias } = *multiply;
        let result = if self.kind(d) == Element::F32 { Number::F32 } else { Number::Bf16 };
        let shape = ProductShape {
            m,
            n,
            k,
            a_transposed: a.1,
            b_transposed: b.1,
            arithmetic: self.sizes.arithmetic,
            result,
            bias: bias.is_some(),
            add: c.is_some(),
        };
        if self.facts.library {
            self.push(Work::Product { shape, a: a.0, b: b.0, c, d, bias });
        } else {
            own_product::launch(self, shape, multiply);
        }
    }

    /// Applies a linear layer, `out = x · W + b (+ residual)`. `[rows, in]` -> `[rows, out]`
    pub(super) fn linear(
        &mut self,
        layer: &LinearSpec,
        x: Buf,
        rows: usize,
        out: Buf,
        residual: Option<Buf>,
    ) {
        let weight = self.value_as(&format!("{}.weight", layer.name), self.operand());
        let bias = self.value_as(&format!("{}.bias", layer.name), self.kind(out));
        self.multiply(&Multiply {
            m: rows,
            n: layer.outputs,
            k: layer.inputs,
            a: (x, false),
            b: (weight, false),
            c: residual,
            d: out,
            bias: Some(bias),
        });
    }

    /// Goes back through a linear layer: the gradients of weight and bias and, if wanted, of its input.
    pub(super) fn linear_backward(
        &mut self,
        layer: &LinearSpec,
        x: Buf,
        slope: Buf,
        rows: usize,
        part: PartialSums,
        input_slope: Option<Buf>,
    ) {
        let LinearSpec { inputs, outputs, .. } = *layer;
        self.add_strips(part, &format!("{}.bias", layer.name), outputs);
        let name = format!("{}.weight", layer.name);
        let gradient = self.gradient(&name);
        self.multiply(&Multiply {
            m: inputs,
            n: outputs,
            k: rows,
            a: (x, true),
            b: (slope, false),
            c: self.accumulate.then_some(gradient),
            d: gradient,
            bias: None,
        });
        if let Some(input_slope) = input_slope {
            let weight = self.value_as(&name, self.operand());
            self.multiply(&Multiply {
                m: rows,
                n: inputs,
                k: outputs,
                a: (slope, false),
                b: (weight, true),
                c: None,
                d: input_slope,
                bias: None,
            });
        }
    }

    /// Sums partial sums into the gradient of a parameter.
    pub(super) fn add_strips(&mut self, part: PartialSums, name: &str, columns: usize) {
        let gradient = self.gradient(name);
        self.sum_strips(part, Arg::Buf(gradient), columns, self.accumulate);
    }

    pub(super) fn sum_strips(&mut self, part: PartialSums, out: Arg, columns: usize, add: bool) {
        let (part, strips) = part;
        let args = vec![
            Arg::Buf(part),
            out,
            Arg::Int(strips as i32),
            Arg::Int(columns as i32),
            Arg::Int(i32::from(add)),
        ];
        self.kernel("sum_strips", geometry::sum_strips(strips, columns), args);
    }

    /// Makes the first stage of the sums over all rows of a matrix of operands.
    pub(super) fn column_sums(&mut self, x: Buf, rows: usize, columns: usize) -> PartialSums {
        let sms = self.multiprocessors();
        let strips = geometry::strips(Strips::Columns, rows, columns, sms);
        let part = self.new_buf(Element::F32, strips * columns);
        let geometry = geometry::columns(Strips::Columns, rows, columns, sms);
        let args =
            vec![Arg::Buf(x), Arg::Buf(part), Arg::Int(rows as i32), Arg::Int(columns as i32)];
        self.kernel(operands!(self, "column_sums"), geometry, args);
        (part, strips)
    }

    /// Normalises rows of 32-bit floats. Returns operands of products, `[rows, D]`, and mean and deviation of each row.
    pub(super) fn norm(&mut self, name: &str, x: Buf, rows: usize) -> (Buf, [Buf; 2]) {
        let dim = self.sizes.model.dim;
        let y = self.new_operand(rows * dim);
        let stats = [(); 2].map(|()| self.new_buf(Element::F32, rows));
        let [gamma, beta] = ["weight", "bias"].map(|part| self.value(&format!("{name}.{part}")));
        let args = [x, gamma, beta, y, stats[0], stats[1]].map(Arg::Buf);
        let mut args = args.to_vec();
        args.extend([
            Arg::Int(rows as i32),
            Arg::Int(dim as i32),
            Arg::Float(crate::ops::NORM_EPS as f32),
        ]);
        self.kernel(operands!(self, "norm_forward"), geometry::norm_forward(rows), args);
        (y, stats)
    }

    /// Goes back through a norm of the rows `x`. Returns `upstream` plus the gradient of `x`, `[rows, D]`.
    pub(super) fn norm_backward(
        &mut self,
        name: &str,
        slope: Buf,
        (x, stats): (Buf, [Buf; 2]),
        upstream: Option<Buf>,
        rows: usize,
    ) -> Buf {
        let (dim, sms) = (self.sizes.model.dim, self.multiprocessors());
        let strips = geometry::strips(Strips::Norm, rows, dim, sms);
        let gamma = self.value(&format!("{name}.weight"));
        let out = self.new_buf(Element::F32, rows * dim);
        let parts = [(); 2].map(|()| self.new_buf(Element::F32, strips * dim));
        let mut args = [slope, x, stats[0], stats[1], gamma].map(Arg::Buf).to_vec();
        args.push(Arg::optional(upstream));
        args.extend([out, parts[0], parts[1]].map(Arg::Buf));
        args.extend([Arg::Int(rows as i32), Arg::Int(dim as i32)]);
        self.kernel(operands!(self, "norm_backward"), geometry::norm_backward(rows, sms), args);
        for (part, kind) in parts.into_iter().zip(["weight", "bias"]) {
            self.add_strips((part, strips), &format!("{name}.{kind}"), dim);
        }
        out
    }

    /// Sums partial sums of a loss into the place of this micro-batch.
    pub(super) fn finish_loss(&mut self, part: PartialSums) {
        self.sum_strips(part, Arg::Var(Var::PatchLoss), 1, false);
    }
}
