//! Final norm, head and loss for hidden patches.

use super::builder::{Builder, LinearSpec, operands};
use super::embed::{grid_args, pixel_args};
use super::{Arg, Buf, Element, PatchLoss, StepPhase, classify};
use crate::cuda::geometry;

pub(super) const NORM: &str = "encoder.norm";

/// Predicts `count` hidden patches from the output of the last block and compares them with their pixels. Returns the
/// gradient of that output, if it is wanted. `[B·N, D]` -> `[B·N, D]`
pub(super) fn patches(
    builder: &mut Builder<'_>,
    rows: Buf,
    count: usize,
    backward: bool,
) -> Option<Buf> {
    builder.at(StepPhase::Predict, "head");
    let (dim, sms) = (builder.sizes.model.dim, builder.multiprocessors());
    let numbers = builder.sizes.model.patch_len();
    let chosen = builder.input(Element::I32, count);
    builder.ports.rows = Some(chosen);
    let sizes = [Arg::Int(count as i32), Arg::Int(dim as i32)];

    let picked = builder.new_buf(Element::F32, count * dim);
    let mut args = [rows, chosen, picked].map(Arg::Buf).to_vec();
    args.extend(sizes);
    builder.kernel("gather_rows_f32", geometry::flat(count * dim, sms), args);
    let (normed, stats) = builder.norm(NORM, picked, count);
    let head = LinearSpec::new("head", dim, numbers);
    let prediction = builder.new_operand(count * numbers);
    builder.linear(&head, normed, count, prediction, None);
    builder.keep(prediction);
    builder.ports.prediction = Some(prediction);
    let slope = loss(builder, prediction, chosen, count);
    if !backward {
        return None;
    }

    builder.at(StepPhase::Backward, "head");
    let part = builder.column_sums(slope, count, numbers);
    let normed_slope = builder.new_operand(count * dim);
    builder.linear_backward(&head, normed, slope, count, part, Some(normed_slope));
    let picked_slope = builder.norm_backward(NORM, normed_slope, (picked, stats), None, count);
    let out = builder.new_buf(Element::F32, builder.rows() * dim);
    builder.zero(out);
    let mut args = [picked_slope, chosen, out].map(Arg::Buf).to_vec();
    args.extend(sizes);
    builder.kernel("scatter_rows_f32", geometry::flat(count * dim, sms), args);
    Some(out)
}

/// Computes the mean loss over all numbers of the prediction. Returns its gradient, `[M, P]`.
fn loss(builder: &mut Builder<'_>, prediction: Buf, chosen: Buf, count: usize) -> Buf {
    let numbers = builder.sizes.model.patch_len();
    let sms = builder.multiprocessors();
    let slope = builder.new_operand(count * numbers);
    let strips = geometry::loss_strips(count, sms);
    let part = builder.new_buf(Element::F32, strips);
    let scale = 1.0 / (count * numbers) as f32;
    let PatchLoss { kind, beta, normalise } = PatchLoss::of(&builder.sizes.loss);
    let mut args = vec![Arg::Buf(prediction)];
    args.extend(pixel_args(builder));
    args.extend([chosen, slope, part].map(Arg::Buf));
    args.push(Arg::Int(count as i32));
    args.extend(grid_args(builder));
    args.extend([
        Arg::Float(scale),
        Arg::Float(scale / builder.sizes.shares as f32),
        Arg::Int(kind),
        Arg::Float(beta),
        Arg::Int(normalise),
    ]);
    builder.kernel(operands!(builder, "patch_loss"), geometry::patch_loss(count, sms), args);
    builder.finish_loss((part, strips));
    slope
}

/// Computes the mean over the tokens of each image, `[B, D]`: of the output of the last block after the final norm, or of
/// the output of `layer` blocks as it is.
pub(super) fn features(builder: &mut Builder<'_>, rows: Buf, layer: Option<usize>) {
    builder.at(StepPhase::Predict, "features");
    let tokens = if layer.is_none() {
        let total = builder.rows();
        builder.norm(NORM, rows, total).0
    } else {
        rows
    };
    let pooled = classify::pool(builder, tokens);
    builder.keep(pooled);
    builder.ports.features = Some(pooled);
}
