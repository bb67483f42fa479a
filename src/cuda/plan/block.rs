//! An encoder block: attention and MLP, each with a norm before it and a residual connection around it.

use super::attention::{self, Attended};
use super::builder::{Builder, LinearSpec, PartialSums, operands};
use super::{Arg, Buf, Element, StepPhase};
use crate::cuda::geometry::{self, Strips};

/// What the backward pass needs of one residual branch.
#[derive(Debug, Clone, Copy)]
struct Branch {
    /// The rows before the norm, in 32-bit floats. `[B·N, D]`
    input: Buf,
    /// Mean and inverse deviation of each row.
    stats: [Buf; 2],
    normed: Buf,
    /// What the branch adds, before `LayerScale` and drop path. Only branches with one of them have it.
    output: Option<Buf>,
}

/// What the backward pass needs of a block.
#[derive(Debug, Clone, Copy)]
struct Saved {
    attention: Branch,
    attended: Attended,
    mlp: Branch,
    /// Before and after GELU. `[B·N, F]`
    hidden: [Buf; 2],
}

/// What the backward pass needs of all blocks.
pub(super) struct Passed {
    /// The output of the last block. `[B·N, D]`
    pub(super) rows: Buf,
    inputs: Vec<Buf>,
    /// Empty with activation checkpointing.
    saved: Vec<Saved>,
}

struct Layers {
    name: String,
    qkv: LinearSpec,
    proj: LinearSpec,
    fc1: LinearSpec,
    fc2: LinearSpec,
}

impl Layers {
    fn new(builder: &Builder<'_>, index: usize) -> Self {
        let name = format!("encoder.blocks.{index}");
        let (dim, hidden) = (builder.sizes.model.dim, builder.sizes.model.hidden);
        let linear = |part: &str, inputs, outputs| {
            LinearSpec::new(format!("{name}.{part}"), inputs, outputs)
        };
        Self {
            qkv: linear("attn.qkv", dim, 3 * dim),
            proj: linear("attn.proj", dim, dim),
            fc1: linear("mlp.fc1", dim, hidden),
            fc2: linear("mlp.fc2", hidden, dim),
            name,
        }
    }
}

/// The two residual branches of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Attention,
    Mlp,
}

/// How a branch ends: `LayerScale` and the factors of drop path, if there are any.
struct End {
    scale: Option<String>,
    factors: Option<Buf>,
}

impl End {
    fn of(builder: &mut Builder<'_>, index: usize, side: Side) -> Self {
        let number = side as usize;
        let scale = builder
            .sizes
            .scaled()
            .then(|| format!("encoder.blocks.{index}.ls{}.gamma", number + 1));
        let images = builder.batch.images;
        // The first block keeps all its branches.
        let factors = builder.ports.factors.filter(|_| index > 0);
        let factors =
            factors.map(|all| builder.part_of_input(all, (2 * index + number) * images, images));
        Self { scale, factors }
    }

    fn plain(&self) -> bool {
        self.scale.is_none() && self.factors.is_none()
    }
}

/// Runs all blocks and keeps what the backward pass needs.
pub(super) fn forward_all(builder: &mut Builder<'_>, rows: Buf) -> Passed {
    let depth = builder.sizes.model.depth;
    builder.bias = attention::bias(builder);
    let mut passed = Passed { rows, inputs: Vec::new(), saved: Vec::new() };
    for index in 0..depth {
        passed.inputs.push(passed.rows);
        let (out, saved) = forward(builder, index, passed.rows, true);
        passed.rows = out;
        if !builder.sizes.checkpointing {
            passed.saved.push(saved);
        }
    }
    passed
}

/// Runs the first blocks without a backward pass. `[B·N, D]` -> `[B·N, D]`
pub(super) fn run(builder: &mut Builder<'_>, blocks: usize, rows: Buf) -> Buf {
    builder.bias = attention::bias(builder);
    (0..blocks).fold(rows, |rows, index| forward(builder, index, rows, true).0)
}

/// Runs a block. `[B·N, D]` -> `[B·N, D]`
///
/// If only what the backward pass needs is wanted, `whole` is false, and the result may be any buffer.
fn forward(builder: &mut Builder<'_>, index: usize, rows: Buf, whole: bool) -> (Buf, Saved) {
    builder.at(builder.phase(), format!("block {index}"));
    let layers = Layers::new(builder, index);
    let total = builder.rows();
    let (dim, width) = (builder.sizes.model.dim, builder.sizes.model.hidden);

    let (normed, stats) = builder.norm(&format!("{}.norm1", layers.name), rows, total);
    let qkv = builder.new_operand(total * 3 * dim);
    builder.linear(&layers.qkv, normed, total, qkv, None);
    let attended = attention::forward(builder, qkv, builder.bias);
    let end = End::of(builder, index, Side::Attention);
    let (middle, output) = end_branch(builder, &end, &layers.proj, attended.mixed, rows);
    let attention = Branch { input: rows, stats, normed, output };

    let (normed, stats) = builder.norm(&format!("{}.norm2", layers.name), middle, total);
    let hidden = [(); 2].map(|()| builder.new_operand(total * width));
    builder.linear(&layers.fc1, normed, total, hidden[0], None);
    let geometry = geometry::flat(total * width, builder.multiprocessors());
    let mut args = hidden.map(Arg::Buf).to_vec();
    args.push(Arg::Long((total * width) as i64));
    builder.kernel(operands!(builder, "gelu_forward"), geometry, args);
    let end = End::of(builder, index, Side::Mlp);
    let (out, output) = if whole || end.scale.is_some() {
        end_branch(builder, &end, &layers.fc2, hidden[1], middle)
    } else {
        (middle, None)
    };
    let mlp = Branch { input: middle, stats, normed, output };
    (out, Saved { attention, attended, mlp, hidden })
}

/// Applies the last layer of a branch to `x` and adds the result to `rows`. Returns the sum, and the result where it is
/// scaled before it is added.
fn end_branch(
    builder: &mut Builder<'_>,
    end: &End,
    layer: &LinearSpec,
    x: Buf,
    rows: Buf,
) -> (Buf, Option<Buf>) {
    let (total, dim) = (builder.rows(), builder.sizes.model.dim);
    let out = builder.new_buf(Element::F32, total * dim);
    if end.plain() {
        builder.linear(layer, x, total, out, Some(rows));
        return (out, None);
    }
    let branch = builder.new_operand(total * dim);
    builder.linear(layer, x, total, branch, None);
    let scale = end.scale.as_ref().map(|name| builder.value(name));
    let mut args = vec![
        Arg::Buf(rows),
        Arg::Buf(branch),
        Arg::optional(scale),
        Arg::optional(end.factors),
        Arg::Buf(out),
    ];
    args.extend(row_args(builder));
    let geometry = geometry::flat(total * dim, builder.multiprocessors());
    builder.kernel(operands!(builder, "branch_end"), geometry, args);
    (out, Some(branch))
}

/// Returns B·N, N and D.
fn row_args(builder: &Builder<'_>) -> [Arg; 3] {
    let model = &builder.sizes.model;
    [builder.rows(), model.patches(), model.dim].map(|number| Arg::Int(number as i32))
}

/// Goes back through all blocks from the gradient of the last one's output. Returns that of the first one's input.
/// `[B·N, D]`
pub(super) fn backward_all(builder: &mut Builder<'_>, mut passed: Passed, slope: Buf) -> Buf {
    let model = &builder.sizes.model;
    let pairs = model.heads * model.patches() * model.patches();
    let bias_slope = builder.bias.map(|_| builder.new_buf(Element::F32, pairs));
    let mut slope = slope;
    let mut begin = true;
    for index in (0..builder.sizes.model.depth).rev() {
        let input = passed.inputs[index];
        builder.at(StepPhase::Backward, format!("block {index}"));
        let saved = passed.saved.pop().unwrap_or_else(|| forward(builder, index, input, false).1);
        slope = backward(builder, index, &saved, slope, bias_slope.map(|sum| (sum, begin)));
        begin = false;
    }
    if let Some(sum) = bias_slope {
        builder.at(StepPhase::Backward, "relative position bias");
        attention::bias_backward(builder, sum);
    }
    slope
}

/// Goes back through a block. `[B·N, D]` -> `[B·N, D]`
fn backward(
    builder: &mut Builder<'_>,
    index: usize,
    saved: &Saved,
    slope: Buf,
    bias_slope: Option<(Buf, bool)>,
) -> Buf {
    let layers = Layers::new(builder, index);
    let total = builder.rows();
    let (dim, width) = (builder.sizes.model.dim, builder.sizes.model.hidden);
    let Saved { attention, attended, mlp, hidden } = saved;

    let end = End::of(builder, index, Side::Mlp);
    let (branch, part) = end_backward(builder, &end, mlp.output, slope);
    let active = builder.new_operand(total * width);
    builder.linear_backward(&layers.fc2, hidden[1], branch, total, part, Some(active));
    let (before, part) = gelu_backward(builder, active, hidden[0]);
    let normed = builder.new_operand(total * dim);
    builder.linear_backward(&layers.fc1, mlp.normed, before, total, part, Some(normed));
    let name = format!("{}.norm2", layers.name);
    let slope = builder.norm_backward(&name, normed, (mlp.input, mlp.stats), Some(slope), total);

    let end = End::of(builder, index, Side::Attention);
    let (branch, part) = end_backward(builder, &end, attention.output, slope);
    let mixed = builder.new_operand(total * dim);
    builder.linear_backward(&layers.proj, attended.mixed, branch, total, part, Some(mixed));
    let qkv = attention::backward(builder, *attended, mixed, builder.bias, bias_slope);
    let part = builder.column_sums(qkv, total, 3 * dim);
    let normed = builder.new_operand(total * dim);
    builder.linear_backward(&layers.qkv, attention.normed, qkv, total, part, Some(normed));
    let name = format!("{}.norm1", layers.name);
    let from = (attention.input, attention.stats);
    builder.norm_backward(&name, normed, from, Some(slope), total)
}

/// Goes back through the end of a branch. Returns the gradient of its last layer's output, and the first stage of the sums
/// over its rows.
fn end_backward(
    builder: &mut Builder<'_>,
    end: &End,
    output: Option<Buf>,
    slope: Buf,
) -> (Buf, PartialSums) {
    let (total, dim) = (builder.rows(), builder.sizes.model.dim);
    let sms = builder.multiprocessors();
    let strips = geometry::strips(Strips::BranchEnd, total, dim, sms);
    let branch = builder.new_operand(total * dim);
    let of_bias = builder.new_buf(Element::F32, strips * dim);
    let scale = end.scale.as_ref().map(|name| builder.value(name));
    let of_scale = scale.map(|_| builder.new_buf(Element::F32, strips * dim));
    let mut args = vec![
        Arg::Buf(slope),
        Arg::optional(output.filter(|_| scale.is_some())),
        Arg::optional(scale),
        Arg::optional(end.factors),
        Arg::Buf(branch),
        Arg::optional(of_scale),
        Arg::Buf(of_bias),
    ];
    args.extend(row_args(builder));
    let geometry = geometry::columns(Strips::BranchEnd, total, dim, sms);
    builder.kernel(operands!(builder, "branch_end_backward_sums"), geometry, args);
    if let (Some(name), Some(of_scale)) = (&end.scale, of_scale) {
        builder.add_strips((of_scale, strips), name, dim);
    }
    (branch, (of_bias, strips))
}

/// Goes back through GELU. Returns the gradient of its input, and the first stage of the sums over its rows.
fn gelu_backward(builder: &mut Builder<'_>, slope: Buf, before: Buf) -> (Buf, PartialSums) {
    let (total, width) = (builder.rows(), builder.sizes.model.hidden);
    let sms = builder.multiprocessors();
    let strips = geometry::strips(Strips::Gelu, total, width, sms);
    let out = builder.new_operand(total * width);
    let part = builder.new_buf(Element::F32, strips * width);
    let mut args = [slope, before, out, part].map(Arg::Buf).to_vec();
    args.extend([Arg::Int(total as i32), Arg::Int(width as i32)]);
    let geometry = geometry::columns(Strips::Gelu, total, width, sms);
    builder.kernel(operands!(builder, "gelu_backward_sums"), geometry, args);
    (out, (part, strips))
}
