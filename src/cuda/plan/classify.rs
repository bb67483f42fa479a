//! The head of a classifier and its loss. Both are small, so they are computed in 32-bit floats.

use super::builder::{Builder, Multiply};
use super::own_product::in_full_precision;
use super::predict::NORM;
use super::{Arg, Buf, Element, StepPhase};
use crate::cuda::geometry;

/// Returns the mean over the tokens of each image. `[B·N, D]` -> `[B, D]`
pub(super) fn pool(builder: &mut Builder<'_>, tokens: Buf) -> Buf {
    let (images, dim) = (builder.batch.images, builder.sizes.model.dim);
    let out = builder.new_buf(Element::F32, images * dim);
    let mut args = [tokens, out].map(Arg::Buf).to_vec();
    args.extend(sizes(builder));
    let name = if builder.kind(tokens) == Element::F32 { "pool_tokens_f32" } else { "pool_tokens" };
    builder.kernel(name, geometry::pool_tokens(images, dim), args);
    out
}

/// Returns B, N and D.
fn sizes(builder: &Builder<'_>) -> [Arg; 3] {
    let model = &builder.sizes.model;
    [builder.batch.images, model.patches(), model.dim].map(|number| Arg::Int(number as i32))
}

/// Predicts classes from the output of the last block and compares them with the targets. Returns the gradient of that
/// output, if it is wanted. `[B·N, D]` -> `[B·N, D]`
pub(super) fn classes(builder: &mut Builder<'_>, rows: Buf, backward: bool) -> Option<Buf> {
    builder.at(StepPhase::Predict, "head");
    let (images, total) = (builder.batch.images, builder.rows());
    let (dim, classes) = (builder.sizes.model.dim, builder.sizes.model.outputs());
    let (normed, stats) = builder.norm(NORM, rows, total);
    let pooled = pool(builder, normed);
    let [weight, bias] = ["head.weight", "head.bias"].map(|name| builder.value(name));
    let logits = builder.new_buf(Element::F32, images * classes);
    in_full_precision(
        builder,
        &Multiply {
            m: images,
            n: classes,
            k: dim,
            a: (pooled, false),
            b: (weight, false),
            c: None,
            d: logits,
            bias: Some(bias),
        },
    );
    builder.keep(logits);
    builder.ports.prediction = Some(logits);
    let slope = loss(builder, logits);
    if !backward {
        return None;
    }

    builder.at(StepPhase::Backward, "head");
    let normed_slope = head_backward(builder, pooled, slope);
    Some(builder.norm_backward(NORM, normed_slope, (rows, stats), None, total))
}

/// Computes the cross-entropy, the mean over the images. Returns its gradient, `[B, C]`.
fn loss(builder: &mut Builder<'_>, logits: Buf) -> Buf {
    let (images, classes) = (builder.batch.images, builder.sizes.model.outputs());
    let sms = builder.multiprocessors();
    let targets = builder.input(Element::F32, images * classes);
    builder.ports.targets = Some(targets);
    let slope = builder.new_buf(Element::F32, images * classes);
    let strips = geometry::class_loss_strips(images, sms);
    let part = builder.new_buf(Element::F32, strips);
    let scale = 1.0 / images as f32;
    let mut args = [logits, targets, slope, part].map(Arg::Buf).to_vec();
    args.extend([
        Arg::Int(images as i32),
        Arg::Int(classes as i32),
        Arg::Float(scale),
        Arg::Float(scale / builder.sizes.shares as f32),
    ]);
    builder.kernel("cross_entropy", geometry::cross_entropy(images, sms), args);
    builder.finish_loss((part, strips));
    slope
}

/// Goes back from the gradient of the logits, `[B, C]`, to that of the normalised tokens, `[B·N, D]`.
fn head_backward(builder: &mut Builder<'_>, pooled: Buf, slope: Buf) -> Buf {
    let images = builder.batch.images;
    let (dim, classes) = (builder.sizes.model.dim, builder.sizes.model.outputs());
    let of_bias = builder.gradient("head.bias");
    let mut args = [slope, of_bias].map(Arg::Buf).to_vec();
    let add = i32::from(builder.accumulate);
    args.extend([Arg::Int(images as i32), Arg::Int(classes as i32), Arg::Int(add)]);
    builder.kernel("column_totals", geometry::column_totals(classes), args);
    let of_weight = builder.gradient("head.weight");
    let c = builder.accumulate.then_some(of_weight);
    let weight = builder.value("head.weight");
    let pooled_slope = builder.new_buf(Element::F32, images * dim);
    let products = [
        Multiply {
            m: dim,
            n: classes,
            k: images,
            a: (pooled, true),
            b: (slope, false),
            c,
            d: of_weight,
            bias: None,
        },
        Multiply {
            m: images,
            n: dim,
            k: classes,
            a: (slope, false),
            b: (weight, true),
            c: None,
            d: pooled_slope,
            bias: None,
        },
    ];
    for multiply in &products {
        in_full_precision(builder, multiply);
    }
    let out = builder.new_operand(builder.rows() * dim);
    let mut args = [pooled_slope, out].map(Arg::Buf).to_vec();
    args.extend(sizes(builder));
    let name = if builder.wide() { "pool_backward_f32" } else { "pool_backward" };
    let geometry = geometry::flat(builder.rows() * dim, builder.multiprocessors());
    builder.kernel(name, geometry, args);
    out
}
