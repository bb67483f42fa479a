//! From pixels to tokens and back: patches, projection, mask token, position.

use super::builder::{Builder, LinearSpec, operands};
use super::{Arg, Buf, Element, PassTask, StepPhase};
use crate::config::Position;
use crate::cuda::geometry::{self, Strips};

const TOKEN: &str = "mask_token";
const POSITION: &str = "encoder.pos_embed";

/// What the backward pass needs of the embedding.
pub(super) struct Embedded {
    /// The tokens. `[B·N, D]`
    pub(super) rows: Buf,
    patches: Buf,
    hidden: Option<Buf>,
}

fn layer(builder: &Builder<'_>) -> LinearSpec {
    let model = &builder.sizes.model;
    LinearSpec::new("encoder.patch_embed.proj", model.patch_len(), model.dim)
}

/// Returns the arguments that say where pixels lie and how they are normalised.
pub(super) fn pixel_args(builder: &Builder<'_>) -> [Arg; 4] {
    let pixels = builder.ports.pixels.expect("every pass begins with pixels");
    let [mean, inverse] = builder.normalization.map(Arg::At);
    [Arg::Buf(pixels), Arg::Int(i32::from(builder.batch.planes)), mean, inverse]
}

/// Returns rows, columns and side of the patches of an image.
pub(super) fn grid_args(builder: &Builder<'_>) -> [Arg; 3] {
    let model = &builder.sizes.model;
    [model.grid[0], model.grid[1], model.patch].map(|number| Arg::Int(number as i32))
}

/// Cuts the pixels into patches and embeds them.
pub(super) fn forward(builder: &mut Builder<'_>, task: Option<PassTask>) -> Embedded {
    builder.at(StepPhase::Encode, "embedding");
    let (rows, sms) = (builder.rows(), builder.multiprocessors());
    let (dim, tokens, numbers) = {
        let model = &builder.sizes.model;
        (model.dim, model.patches(), model.patch_len())
    };
    let pixels = if builder.batch.planes { Element::F32 } else { Element::U8 };
    builder.ports.pixels = Some(builder.input(pixels, rows * numbers));
    let hidden =
        matches!(task, Some(PassTask::Patches { .. })).then(|| builder.input(Element::U8, rows));
    builder.ports.hidden = hidden;

    let patches = builder.new_operand(rows * numbers);
    let mut args = pixel_args(builder).to_vec();
    args.extend([Arg::Buf(patches), Arg::Int(builder.batch.images as i32)]);
    args.extend(grid_args(builder));
    builder.kernel(operands!(builder, "patchify"), geometry::flat(rows * numbers, sms), args);

    let projected = builder.new_operand(rows * dim);
    let layer = layer(builder);
    builder.linear(&layer, patches, rows, projected, None);
    let token = hidden.map(|_| builder.value(TOKEN));
    let position = (!builder.sizes.relative()).then(|| builder.value(POSITION));
    let out = builder.new_buf(Element::F32, rows * dim);
    let args = vec![
        Arg::Buf(projected),
        Arg::optional(hidden),
        Arg::optional(token),
        Arg::optional(position),
        Arg::Buf(out),
        Arg::Int(rows as i32),
        Arg::Int(tokens as i32),
        Arg::Int(dim as i32),
    ];
    builder.kernel(operands!(builder, "embed_finish"), geometry::flat(rows * dim, sms), args);
    Embedded { rows: out, patches, hidden }
}

/// Goes back from the gradient of the tokens, `[B·N, D]`.
pub(super) fn backward(builder: &mut Builder<'_>, embedded: &Embedded, slope: Buf) {
    builder.at(StepPhase::Backward, "embedding");
    let (rows, sms) = (builder.rows(), builder.multiprocessors());
    let (dim, tokens) = (builder.sizes.model.dim, builder.sizes.model.patches());
    let strips = geometry::strips(Strips::BranchEnd, rows, dim, sms);
    let projected = builder.new_operand(rows * dim);
    let hidden = embedded.hidden;
    let token = hidden.map(|_| builder.new_buf(Element::F32, strips * dim));
    let args = vec![
        Arg::Buf(slope),
        Arg::optional(hidden),
        Arg::Buf(projected),
        Arg::optional(token),
        Arg::Int(rows as i32),
        Arg::Int(dim as i32),
    ];
    let geometry = geometry::columns(Strips::BranchEnd, rows, dim, sms);
    builder.kernel(operands!(builder, "embed_backward"), geometry, args);
    if let Some(token) = token {
        builder.add_strips((token, strips), TOKEN, dim);
    }
    if builder.sizes.model.position == Position::Learned {
        let gradient = builder.gradient(POSITION);
        let args = vec![
            Arg::Buf(slope),
            Arg::Buf(gradient),
            Arg::Int(builder.batch.images as i32),
            Arg::Int(tokens as i32),
            Arg::Int(dim as i32),
            Arg::Int(i32::from(builder.accumulate)),
        ];
        builder.kernel("position_sums", geometry::position_sums(tokens, dim), args);
    }
    let part = builder.column_sums(projected, rows, dim);
    let layer = layer(builder);
    builder.linear_backward(&layer, embedded.patches, projected, rows, part, None);
}
