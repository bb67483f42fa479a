//! Attention, and the relative bias that all blocks share.

use super::builder::{Builder, operands};
use super::{Arg, Buf, Element};
use crate::cuda::geometry::{self, AttentionShape};

const TABLE: &str = "encoder.rel_pos_bias.relative_position_bias_table";
/// Wider heads take kernels without tensor cores.
const TENSOR_CORE_WIDTH: usize = 64;

/// What the backward pass needs of one attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attended {
    pub(super) qkv: Buf,
    pub(super) mixed: Buf,
    /// Logarithms of the sums of exponentials. `[B, heads, N]`
    level: Buf,
}

fn shape(builder: &Builder<'_>) -> AttentionShape {
    AttentionShape {
        images: builder.batch.images,
        tokens: builder.sizes.model.patches(),
        heads: builder.sizes.model.heads,
        width: builder.sizes.head(),
    }
}

fn narrow(builder: &Builder<'_>) -> bool {
    !builder.wide() && builder.sizes.head() <= TENSOR_CORE_WIDTH
}

/// Returns B, N, heads, the width of a head, and the factor of the logits.
fn size_args(builder: &Builder<'_>) -> [Arg; 5] {
    let AttentionShape { images, tokens, heads, width } = shape(builder);
    let [b, n, h, d] = [images, tokens, heads, width].map(|number| Arg::Int(number as i32));
    [b, n, h, d, Arg::Float((width as f32).powf(-0.5))]
}

/// Mixes the values of `[B·N, 3·D]`.
pub(super) fn forward(builder: &mut Builder<'_>, qkv: Buf, bias: Option<Buf>) -> Attended {
    let (rows, dim) = (builder.rows(), builder.sizes.model.dim);
    let mixed = builder.new_operand(rows * dim);
    let level = builder.new_buf(Element::F32, rows * builder.sizes.model.heads);
    let mut args = vec![Arg::Buf(qkv), Arg::optional(bias), Arg::Buf(mixed), Arg::Buf(level)];
    args.extend(size_args(builder));
    let shape = shape(builder);
    if narrow(builder) {
        builder.kernel("attention_forward", geometry::attention_forward(shape), args);
    } else {
        let name = operands!(builder, "attention_any_forward");
        builder.kernel(name, geometry::attention_any_forward(shape), args);
    }
    Attended { qkv, mixed, level }
}

/// Goes back from the gradient of what was mixed, `[B·N, D]`. Returns that of queries, keys and values, `[B·N, 3·D]`.
/// The gradient of the bias is added to `bias_slope`, `[heads, N, N]`, or begins it if `begin` is true.
pub(super) fn backward(
    builder: &mut Builder<'_>,
    attended: Attended,
    slope: Buf,
    bias: Option<Buf>,
    bias_slope: Option<(Buf, bool)>,
) -> Buf {
    let Attended { qkv, mixed, level } = attended;
    let (rows, dim) = (builder.rows(), builder.sizes.model.dim);
    let shape = shape(builder);
    let narrow = narrow(builder);
    let out = builder.new_operand(rows * 3 * dim);
    let delta = (bias.is_some() || !narrow)
        .then(|| builder.new_buf(Element::F32, rows * builder.sizes.model.heads));
    let mut args = vec![Arg::Buf(qkv), Arg::optional(bias)];
    args.extend([mixed, level, slope, out].map(Arg::Buf));
    args.push(Arg::optional(delta));
    args.extend(size_args(builder));
    if narrow {
        builder.kernel("attention_backward", geometry::attention_backward(shape), args);
    } else {
        let name = operands!(builder, "attention_any_backward");
        builder.kernel(name, geometry::attention_any_backward(shape), args);
    }
    if let (Some(bias), Some((sum, begin)), Some(delta)) = (bias, bias_slope, delta) {
        let sms = builder.multiprocessors();
        let pairs = shape.heads * shape.tokens * shape.tokens;
        let strips = if narrow {
            geometry::bias_strips(shape, sms)
        } else {
            geometry::any_bias_strips(shape, sms)
        };
        let part = builder.new_buf(Element::F32, strips * pairs);
        let mut args = [qkv, bias, level, delta, slope, part].map(Arg::Buf).to_vec();
        args.extend(size_args(builder));
        if narrow {
            let geometry = geometry::attention_bias_backward(shape, sms);
            builder.kernel("attention_bias_backward", geometry, args);
        } else {
            let name = operands!(builder, "attention_any_bias_backward");
            builder.kernel(name, geometry::attention_any_bias_backward(shape, sms), args);
        }
        builder.sum_strips((part, strips), Arg::Buf(sum), pairs, !begin);
    }
    out
}

/// Returns rows and columns of the grid of patches, and the heads.
fn table_args(builder: &Builder<'_>) -> [Arg; 3] {
    let model = &builder.sizes.model;
    [model.grid[0], model.grid[1], model.heads].map(|number| Arg::Int(number as i32))
}

/// Returns the bias of every pair of patches, `[heads, N, N]`, if the model has one.
pub(super) fn bias(builder: &mut Builder<'_>) -> Option<Buf> {
    if !builder.sizes.relative() {
        return None;
    }
    let (heads, tokens) = (builder.sizes.model.heads, builder.sizes.model.patches());
    let table = builder.value(TABLE);
    let out = builder.new_buf(Element::F32, heads * tokens * tokens);
    let mut args = vec![Arg::Buf(table), Arg::Buf(out)];
    args.extend(table_args(builder));
    let geometry = geometry::relative_bias(tokens, heads, builder.multiprocessors());
    builder.kernel("relative_bias", geometry, args);
    Some(out)
}

/// Goes back from the gradient of the bias of all blocks together, `[heads, N, N]`.
pub(super) fn bias_backward(builder: &mut Builder<'_>, slope: Buf) {
    let model = &builder.sizes.model;
    let offsets = (2 * model.grid[0] - 1) * (2 * model.grid[1] - 1);
    let geometry = geometry::relative_bias_backward(offsets, model.heads);
    let gradient = builder.gradient(TABLE);
    let mut args = vec![Arg::Buf(slope), Arg::Buf(gradient)];
    args.extend(table_args(builder));
    args.push(Arg::Int(i32::from(builder.accumulate)));
    builder.kernel("relative_bias_backward", geometry, args);
}
