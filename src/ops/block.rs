//! A whole pre-norm encoder block on slices, forward and backward.
//!
//! A thread takes a few images through all stages, so that what one stage writes is still in the cache when the next
//! one reads it. Only the gradients of weight matrices look at all images at once. The backward pass needs 9 numbers per
//! channel and row: queries, keys, values, the mixed values, the rows between the branches, and four of the MLP before
//! GELU. Norms and GELU are computed again.
//!
//! Every sum over images has a fixed order: first over the images of a group, then over the groups.

use super::attention::{self, Heads, Kept};
use super::groups::Groups;
use super::linear::{LinearLayer, gram};
use super::norm::{self, Affine};
use super::pointwise;
use super::pool::Buffer;
use rayon::prelude::*;
use std::ops::Range;

/// The sizes of one call.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Images of the batch, B.
    pub batch: usize,
    /// The sizes of attention.
    pub heads: Heads,
    /// Hidden width of the MLP, H.
    pub hidden: usize,
}

impl Sizes {
    /// Returns the number of rows, B·N.
    fn rows(&self) -> usize {
        self.batch * self.heads.patches
    }

    /// Returns how the batch is cut for the threads.
    fn groups(&self) -> Groups {
        Groups::new(self.batch, self.heads.patches)
    }
}

/// How a residual branch ends.
#[derive(Debug, Clone, Copy)]
pub struct BranchEnding<'a> {
    /// `LayerScale`. `[D]`
    pub scale: Option<&'a [f32]>,
    /// The factor of drop path for each image. `[B]`
    pub factors: Option<&'a [f32]>,
}

/// All inputs except the rows.
#[derive(Debug, Clone, Copy)]
pub struct BlockWeights<'a> {
    pub norm1: Affine<'a>,
    pub qkv: LinearLayer<'a>,
    pub proj: LinearLayer<'a>,
    pub norm2: Affine<'a>,
    pub fc1: LinearLayer<'a>,
    pub fc2: LinearLayer<'a>,
    /// Added to the logits of attention. `[heads, N, N]`
    pub bias: Option<&'a [f32]>,
    pub endings: [BranchEnding<'a>; 2],
}

/// What the backward pass needs besides inputs and gradient.
#[derive(Debug, Clone)]
pub struct Saved {
    /// Queries, keys and values. `[B·N, 3·D]`
    qkv: Buffer,
    /// The logarithm of the sum of each row of attention. `[B, heads, N]`
    log_sums: Buffer,
    /// The result of attention before its projection. `[B·N, D]`
    mixed: Buffer,
    /// The rows between the attention branch and the MLP branch. `[B·N, D]`
    middle: Buffer,
    /// The first layer of the MLP before GELU. `[B·N, H]`
    hidden: Buffer,
}

impl Saved {
    /// Returns buffers of the right lengths with any content.
    fn new(sizes: &Sizes) -> Self {
        let (rows, dim) = (sizes.rows(), sizes.heads.dim);
        Self {
            qkv: Buffer::dirty(rows * 3 * dim),
            log_sums: Buffer::dirty(rows * sizes.heads.count),
            mixed: Buffer::dirty(rows * dim),
            middle: Buffer::dirty(rows * dim),
            hidden: Buffer::dirty(rows * sizes.hidden),
        }
    }
}

/// Calls `act` with the index of each image of a group and its part of `rows`.
fn by_image<'a>(
    images: Range<usize>,
    rows: &'a mut [f32],
    mut act: impl FnMut(usize, &'a mut [f32]),
) {
    let size = rows.len() / images.len();
    for (image, rows) in images.zip(rows.chunks_exact_mut(size)) {
        act(image, rows);
    }
}

/// Ends a residual branch: `branch` becomes rows + factor · scale ∘ (branch + bias). `[r, D]`
fn end_branch(
    images: Range<usize>,
    ending: BranchEnding<'_>,
    bias: &[f32],
    rows: &[f32],
    branch: &mut [f32],
) {
    let size = rows.len() / images.len();
    let mut sources = rows.chunks_exact(size);
    by_image(images, branch, |image, branch| {
        let factor = ending.factors.map_or(1.0, |factors| factors[image]);
        let rows = sources.next().expect("as many as branches");
        pointwise::residual(branch, bias, ending.scale, factor, rows);
    });
}

/// Runs a block. Returns its output and what [`backward`] needs. `[B·N, D]` -> `[B·N, D]`
pub fn forward(sizes: Sizes, weights: &BlockWeights<'_>, rows: &[f32]) -> (Vec<f32>, Saved) {
    let mut out = vec![0.0; rows.len()];
    let mut saved = Saved::new(&sizes);
    let groups = forward_groups(sizes.groups(), rows, &mut out, &mut saved);
    groups.into_par_iter().for_each(|group| group.run(sizes.heads, weights));
    (out, saved)
}

/// Cuts all buffers of the forward pass into groups of images.
fn forward_groups<'a>(
    groups: Groups,
    rows: &'a [f32],
    out: &'a mut [f32],
    saved: &'a mut Saved,
) -> Vec<ForwardGroup<'a>> {
    let (mut images, mut rows, mut out) =
        (groups.ranges(), groups.split(rows), groups.split_mut(out));
    let mut qkv = groups.split_mut(&mut saved.qkv);
    let mut log_sums = groups.split_mut(&mut saved.log_sums);
    let mut mixed = groups.split_mut(&mut saved.mixed);
    let mut middle = groups.split_mut(&mut saved.middle);
    let mut hidden = groups.split_mut(&mut saved.hidden);
    let next = || {
        Some(ForwardGroup {
            images: images.next()?,
            rows: rows.next()?,
            out: out.next()?,
            qkv: qkv.next()?,
            log_sums: log_sums.next()?,
            mixed: mixed.next()?,
            middle: middle.next()?,
            hidden: hidden.next()?,
        })
    };
    std::iter::from_fn(next).collect()
}

/// The part of the forward pass that belongs to one group of images. The names are those of [`Saved`].
struct ForwardGroup<'a> {
    images: Range<usize>,
    rows: &'a [f32],
    out: &'a mut [f32],
    qkv: &'a mut [f32],
    log_sums: &'a mut [f32],
    mixed: &'a mut [f32],
    middle: &'a mut [f32],
    hidden: &'a mut [f32],
}

impl ForwardGroup<'_> {
    fn run(self, heads: Heads, weights: &BlockWeights<'_>) {
        let Self { images, rows, out, qkv, log_sums, mixed, middle, hidden } = self;
        let mut normed = Buffer::dirty(rows.len());
        norm::forward(rows, weights.norm1, &mut normed);
        weights.qkv.product(&normed, qkv);
        pointwise::add_bias(qkv, weights.qkv.bias);
        let per_image = heads.patches * heads.dim;
        let qkv = qkv.chunks_exact(3 * per_image);
        let log_sums = log_sums.chunks_exact_mut(heads.patches * heads.count);
        for ((qkv, log_sums), mixed) in qkv.zip(log_sums).zip(mixed.chunks_exact_mut(per_image)) {
            attention::forward(heads, qkv, weights.bias, mixed, log_sums);
        }
        weights.proj.product(mixed, middle);
        end_branch(images.clone(), weights.endings[0], weights.proj.bias, rows, middle);

        norm::forward(middle, weights.norm2, &mut normed);
        weights.fc1.product(&normed, hidden);
        let mut active = Buffer::dirty(hidden.len());
        pointwise::bias_gelu(hidden, weights.fc1.bias, &mut active);
        weights.fc2.product(&active, out);
        end_branch(images, weights.endings[1], weights.fc2.bias, middle, out);
    }
}

/// The gradients of the weights of a block, in their layouts: weight and bias of each layer. Those of absent weights are
/// empty.
#[derive(Debug, Default)]
pub struct BlockGradients {
    pub norm1: [Vec<f32>; 2],
    pub qkv: [Vec<f32>; 2],
    pub proj: [Vec<f32>; 2],
    pub norm2: [Vec<f32>; 2],
    pub fc1: [Vec<f32>; 2],
    pub fc2: [Vec<f32>; 2],
    /// Of the bias of attention's logits.
    pub bias: Vec<f32>,
    /// Of `LayerScale`.
    pub scales: [Vec<f32>; 2],
}

/// The gradients that are sums over rows. Each group of images has its own, which are added up at the end.
struct Sums {
    /// All nine sums, one after the other.
    all: Buffer,
    /// The length of each sum.
    sizes: [usize; 9],
}

impl Sums {
    /// Returns sums of zero. `with_bias` says whether attention has a bias.
    fn new(sizes: &Sizes, with_bias: bool) -> Self {
        let (dim, heads) = (sizes.heads.dim, sizes.heads);
        let pairs = if with_bias { heads.count * heads.patches * heads.patches } else { 0 };
        let sizes = [dim, dim, 3 * dim, dim, dim, dim, sizes.hidden, dim, pairs];
        Self { all: Buffer::zeros(sizes.iter().sum()), sizes }
    }

    /// Returns the sums for: weight and bias of norm1, bias of qkv, bias of proj, weight and bias of norm2, bias of fc1,
    /// bias of fc2, and attention's bias.
    fn parts(&mut self) -> [&mut [f32]; 9] {
        let mut rest = &mut self.all[..];
        self.sizes.map(|size| {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(size);
            rest = tail;
            part
        })
    }

    /// Adds the sums of another group.
    fn add(&mut self, other: &Self) {
        for (sum, &x) in self.all.iter_mut().zip(other.all.iter()) {
            *sum += x;
        }
    }
}

/// Intermediate gradients of all images, from which those of the weight matrices are computed.
struct Slopes {
    /// Gradient of the MLP before GELU. `[B·N, H]`
    hidden: Buffer,
    /// Gradient of the rows between the branches. `[B·N, D]`
    middle: Buffer,
    /// Gradient of queries, keys and values. `[B·N, 3·D]`
    qkv: Buffer,
    /// The output of the first norm, computed again. `[B·N, D]`
    normed: Buffer,
    /// Gradients of the attention branch and of the MLP branch, before `LayerScale` multiplies them. `None` without drop
    /// path, where they are the gradient of the rows after the branch. `[B·N, D]`
    branches: [Option<Buffer>; 2],
}

impl Slopes {
    /// Returns buffers of the right lengths with any content. `total` is B·N·D.
    fn new(total: usize, saved: &Saved, weights: &BlockWeights<'_>) -> Self {
        Self {
            hidden: Buffer::dirty(saved.hidden.len()),
            middle: Buffer::dirty(total),
            qkv: Buffer::dirty(3 * total),
            normed: Buffer::dirty(total),
            branches: weights.endings.map(|end| end.factors.map(|_| Buffer::dirty(total))),
        }
    }
}

/// Returns the gradient of a branch before `LayerScale` multiplies it: that of the rows times the factors of drop path.
/// It is written to `out` if there are factors.
fn branch_slope<'a>(
    images: Range<usize>,
    ending: BranchEnding<'_>,
    gradient: &'a [f32],
    out: Option<&'a mut [f32]>,
) -> &'a [f32] {
    let (Some(factors), Some(out)) = (ending.factors, out) else { return gradient };
    let size = gradient.len() / images.len();
    let mut sources = gradient.chunks_exact(size);
    by_image(images, out, |image, out| {
        let gradient = sources.next().expect("as many as outputs");
        pointwise::scaled(gradient, factors[image], out);
    });
    out
}

/// Multiplies `slope` by `LayerScale`, if there is one, and goes back through the last layer of the branch.
fn back_through(layer: LinearLayer<'_>, scale: Option<&[f32]>, slope: &[f32], out: &mut [f32]) {
    match scale {
        Some(scale) => {
            let mut scaled = Buffer::dirty(slope.len());
            pointwise::scaled_columns(slope, scale, &mut scaled);
            layer.product_back(&scaled, out);
        }
        None => layer.product_back(slope, out),
    }
}

/// Goes back through a block. `gradient` is that of the output. Returns the gradients of the rows and of the weights.
/// `[B·N, D]` -> `[B·N, D]`
pub fn backward(
    sizes: Sizes,
    weights: &BlockWeights<'_>,
    rows: &[f32],
    mut saved: Saved,
    gradient: &[f32],
) -> (Vec<f32>, BlockGradients) {
    let mut out = vec![0.0; rows.len()];
    let (slopes, sums) = backward_rows(sizes, weights, rows, &mut saved, gradient, &mut out);
    (out, weight_gradients(sizes, weights, &saved, &slopes, gradient, sums))
}

/// Computes the gradient of the rows, which goes to `out`, and all that the gradients of the weights need. Of `saved`,
/// `hidden` becomes the output of GELU and `middle` that of the second norm.
fn backward_rows(
    sizes: Sizes,
    weights: &BlockWeights<'_>,
    rows: &[f32],
    saved: &mut Saved,
    gradient: &[f32],
    out: &mut [f32],
) -> (Slopes, Sums) {
    let mut slopes = Slopes::new(rows.len(), saved, weights);
    let groups = backward_groups(sizes.groups(), rows, saved, gradient, out, &mut slopes);
    let sums: Vec<Sums> = groups.into_par_iter().map(|group| group.run(&sizes, weights)).collect();
    let mut sums = sums.into_iter();
    let mut all = sums.next().expect("there is an image");
    sums.for_each(|part| all.add(&part));
    (slopes, all)
}

/// Cuts all buffers of the backward pass into groups of images.
fn backward_groups<'a>(
    groups: Groups,
    rows: &'a [f32],
    saved: &'a mut Saved,
    gradient: &'a [f32],
    out: &'a mut [f32],
    slopes: &'a mut Slopes,
) -> Vec<BackwardGroup<'a>> {
    let [branch1, branch2] = &mut slopes.branches;
    let mut branch1 = groups.split_optional(branch1.as_deref_mut());
    let mut branch2 = groups.split_optional(branch2.as_deref_mut());
    let (mut images, mut rows, mut gradient) =
        (groups.ranges(), groups.split(rows), groups.split(gradient));
    let mut out = groups.split_mut(out);
    let mut qkv = groups.split(&saved.qkv);
    let mut log_sums = groups.split(&saved.log_sums);
    let mut middle = groups.split_mut(&mut saved.middle);
    let mut hidden = groups.split_mut(&mut saved.hidden);
    let mut slope_hidden = groups.split_mut(&mut slopes.hidden);
    let mut slope_middle = groups.split_mut(&mut slopes.middle);
    let mut slope_qkv = groups.split_mut(&mut slopes.qkv);
    let mut normed = groups.split_mut(&mut slopes.normed);
    let next = || {
        Some(BackwardGroup {
            images: images.next()?,
            rows: rows.next()?,
            gradient: gradient.next()?,
            out: out.next()?,
            qkv: qkv.next()?,
            log_sums: log_sums.next()?,
            middle: middle.next()?,
            hidden: hidden.next()?,
            slope_hidden: slope_hidden.next()?,
            slope_middle: slope_middle.next()?,
            slope_qkv: slope_qkv.next()?,
            normed: normed.next()?,
            branches: [branch1.next()?, branch2.next()?],
        })
    };
    std::iter::from_fn(next).collect()
}

/// The part of the backward pass that belongs to one group of images. The names are those of [`Saved`] and, with
/// `slope_`, of [`Slopes`].
struct BackwardGroup<'a> {
    images: Range<usize>,
    rows: &'a [f32],
    /// Gradient of the output of the block. `[r, D]`
    gradient: &'a [f32],
    /// Receives the gradient of the rows. `[r, D]`
    out: &'a mut [f32],
    qkv: &'a [f32],
    log_sums: &'a [f32],
    middle: &'a mut [f32],
    hidden: &'a mut [f32],
    slope_hidden: &'a mut [f32],
    slope_middle: &'a mut [f32],
    slope_qkv: &'a mut [f32],
    normed: &'a mut [f32],
    branches: [Option<&'a mut [f32]>; 2],
}

impl BackwardGroup<'_> {
    fn run(self, sizes: &Sizes, weights: &BlockWeights<'_>) -> Sums {
        let Self { images, rows, gradient, out, middle, hidden, .. } = self;
        let Self { slope_hidden, slope_middle, slope_qkv, normed, branches, .. } = self;
        let [branch1, branch2] = branches;
        let mut sums = Sums::new(sizes, weights.bias.is_some());
        let [norm1_w, norm1_b, qkv_b, proj_b, norm2_w, norm2_b, fc1_b, fc2_b, pairs] = sums.parts();
        let mut slope = Buffer::dirty(rows.len());

        let end = weights.endings[1];
        let branch = branch_slope(images.clone(), end, gradient, branch2);
        pointwise::add_column_sums(branch, fc2_b);
        back_through(weights.fc2, end.scale, branch, slope_hidden);
        pointwise::gelu_backward(hidden, slope_hidden);
        pointwise::add_column_sums(slope_hidden, fc1_b);
        weights.fc1.product_back(slope_hidden, &mut slope);
        norm::backward(middle, weights.norm2, &slope, gradient, slope_middle, norm2_w, norm2_b);

        let end = weights.endings[0];
        let branch = branch_slope(images, end, slope_middle, branch1);
        pointwise::add_column_sums(branch, proj_b);
        back_through(weights.proj, end.scale, branch, &mut slope);
        let kept = Kept { qkv: self.qkv, bias: weights.bias, log_sums: self.log_sums };
        attention_back(sizes.heads, kept, &slope, slope_qkv, pairs);
        pointwise::add_column_sums(slope_qkv, qkv_b);
        weights.qkv.product_back(slope_qkv, &mut slope);
        normed.copy_from_slice(rows);
        norm::backward(normed, weights.norm1, &slope, slope_middle, out, norm1_w, norm1_b);
        sums
    }
}

/// Goes back through the attention of each image of a group. The gradient of the bias, if there is one, is added to
/// `pairs`.
fn attention_back(
    heads: Heads,
    kept: Kept<'_>,
    slope: &[f32],
    slope_qkv: &mut [f32],
    pairs: &mut [f32],
) {
    let per_image = heads.patches * heads.dim;
    let images = kept.qkv.chunks_exact(3 * per_image);
    let images = images.zip(kept.log_sums.chunks_exact(heads.patches * heads.count));
    let slopes = slope.chunks_exact(per_image).zip(slope_qkv.chunks_exact_mut(3 * per_image));
    for ((qkv, log_sums), (slope, out)) in images.zip(slopes) {
        let image = Kept { qkv, log_sums, ..kept };
        let pairs = kept.bias.is_some().then_some(&mut *pairs);
        attention::backward(heads, image, slope, out, pairs);
    }
}

/// Computes the gradients of all weights from the intermediate gradients of all images. `gradient` is that of the output.
fn weight_gradients(
    sizes: Sizes,
    weights: &BlockWeights<'_>,
    saved: &Saved,
    slopes: &Slopes,
    gradient: &[f32],
    mut sums: Sums,
) -> BlockGradients {
    let (rows, dim) = (sizes.rows(), sizes.heads.dim);
    let branch1 = slopes.branches[0].as_deref().unwrap_or(&slopes.middle);
    let branch2 = slopes.branches[1].as_deref().unwrap_or(gradient);
    let products = [
        (&saved.hidden[..], sizes.hidden, branch2, dim),
        (&saved.middle[..], dim, &slopes.hidden[..], sizes.hidden),
        (&slopes.normed[..], dim, &slopes.qkv[..], 3 * dim),
        (&saved.mixed[..], dim, branch1, dim),
    ];
    let [mut fc2, fc1, qkv, mut proj] = gram(rows, products);
    let [norm1_w, norm1_b, qkv_b, proj_b, norm2_w, norm2_b, fc1_b, fc2_b, pairs] =
        sums.parts().map(|part| part.to_vec());
    let (mut proj_b, mut fc2_b) = (proj_b, fc2_b);
    let scales = [
        end_scale(weights.endings[0].scale, weights.proj, &mut proj, &mut proj_b),
        end_scale(weights.endings[1].scale, weights.fc2, &mut fc2, &mut fc2_b),
    ];
    BlockGradients {
        norm1: [norm1_w, norm1_b],
        qkv: [qkv, qkv_b],
        proj: [proj, proj_b],
        norm2: [norm2_w, norm2_b],
        fc1: [fc1, fc1_b],
        fc2: [fc2, fc2_b],
        bias: pairs,
        scales,
    }
}

/// Multiplies the gradients of the last layer of a branch by `LayerScale` and returns the gradient of the scale.
///
/// With G = xᵀ · dy for the scaled layer γ ∘ (x · W + b): dW = G ∘ γ and db = Σ dy ∘ γ. dγ = Σ dy ∘ (x · W + b) is
/// the column sum of W ∘ G plus b ∘ Σ dy, so the output of the layer needn't be kept. On entry, `weight` holds G and
/// `bias` holds Σ dy.
fn end_scale(
    scale: Option<&[f32]>,
    layer: LinearLayer<'_>,
    weight: &mut [f32],
    bias: &mut [f32],
) -> Vec<f32> {
    let Some(scale) = scale else { return Vec::new() };
    let mut out: Vec<f32> = layer.bias.iter().zip(bias.iter()).map(|(b, db)| b * db).collect();
    let columns = scale.len();
    for (slopes, values) in weight.chunks_exact_mut(columns).zip(layer.weight.chunks_exact(columns))
    {
        for (((out, slope), value), scale) in out.iter_mut().zip(slopes).zip(values).zip(scale) {
            *out += *slope * value;
            *slope *= scale;
        }
    }
    for (db, scale) in bias.iter_mut().zip(scale) {
        *db *= scale;
    }
    out
}
