//! Binds the fast paths to Burn's CPU backend, without gradients and with them. They work on 32-bit floats; products in
//! another type are left to the plain operations.

use super::attention::Heads;
use super::block::{self, BlockGradients, BlockWeights, BranchEnding, Saved, Sizes};
use super::ends::{self, Embedding};
use super::linear::LinearLayer;
use super::norm::Affine;
use super::pool::Buffer;
use super::{
    AdamWStep, BlockCall, EmbedCall, FastOps, LinearWeights, NormWeights, PredictCall, Trained,
    adamw, plain, stock,
};
use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::{AutodiffBackend as _, Backend, BackendTypes};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData, TensorPrimitive};
use burn_flex::{Flex, FlexTensor};
use std::sync::Arc;

type Graph = Autodiff<Flex>;
type GraphTensor = <Graph as BackendTypes>::FloatTensorPrimitive;

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

fn tensor<B: Backend, const D: usize>(primitive: B::FloatTensorPrimitive) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// Returns the tensor without gaps and offsets, which the kernels don't know of.
fn dense(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("made dense, and all floats here are f32")
}

fn new<const D: usize>(values: Vec<f32>, dims: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, dims))
}

/// Returns a tensor of the shape of `model`.
fn like(values: Vec<f32>, model: &FlexTensor) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, model.layout().shape().clone()))
}

/// Hands each parent that wants a gradient its own, in the shape of its input.
fn register(
    gradients: &mut grads::Gradients,
    parents: impl IntoIterator<Item = Option<NodeId>>,
    inputs: &[FlexTensor],
    found: impl IntoIterator<Item = Vec<f32>>,
) {
    for ((parent, input), values) in parents.into_iter().zip(inputs).zip(found) {
        if let Some(parent) = parent {
            gradients.register::<Flex>(parent, like(values, input));
        }
    }
}

fn indices(tensor: Tensor<Flex, 1, Int>) -> Vec<usize> {
    tensor.into_data().iter::<i64>().map(|index| index as usize).collect()
}

/// Number of inputs of a block. Their order is that of the parents in the graph: rows, then 15 weights.
const BLOCK_INPUTS: usize = 16;

/// The inputs of a block that the graph doesn't track, and which of the optional ones there are.
#[derive(Debug, Clone)]
struct BlockMeta {
    heads: usize,
    patches: usize,
    with_bias: bool,
    with_scale: [bool; 2],
    factors: [Option<FlexTensor>; 2],
}

fn block_inputs<B: Backend>(
    rows: Tensor<B, 2>,
    call: BlockCall<B>,
    absent: impl Fn() -> B::FloatTensorPrimitive,
    inner: impl Fn(B::FloatTensorPrimitive) -> FlexTensor,
) -> ([B::FloatTensorPrimitive; BLOCK_INPUTS], BlockMeta) {
    let BlockCall { norm1, qkv, proj, norm2, fc1, fc2, bias, ends, heads, patches, .. } = call;
    let [end1, end2] = ends;
    let meta = BlockMeta {
        heads,
        patches,
        with_bias: bias.is_some(),
        with_scale: [end1.scale.is_some(), end2.scale.is_some()],
        factors: [end1.factors, end2.factors].map(|f| f.map(|f| dense(inner(primitive(f))))),
    };
    let [norm1_weight, norm1_bias] = norm1.map(primitive);
    let [norm2_weight, norm2_bias] = norm2.map(primitive);
    let [scale1, scale2] = [end1.scale, end2.scale].map(|s| s.map_or_else(&absent, primitive));
    let inputs = [
        primitive(rows),
        norm1_weight,
        norm1_bias,
        primitive(qkv.0),
        primitive(qkv.1),
        primitive(proj.0),
        primitive(proj.1),
        norm2_weight,
        norm2_bias,
        primitive(fc1.0),
        primitive(fc1.1),
        primitive(fc2.0),
        primitive(fc2.1),
        bias.map_or_else(absent, primitive),
        scale1,
        scale2,
    ];
    (inputs, meta)
}

fn linear<'a>(weight: &'a FlexTensor, bias: &'a FlexTensor) -> LinearLayer<'a> {
    LinearLayer { weight: slice(weight), bias: slice(bias) }
}

fn affine<'a>(weight: &'a FlexTensor, bias: &'a FlexTensor) -> Affine<'a> {
    Affine { weight: slice(weight), bias: slice(bias) }
}

fn block_weights<'a>(
    inputs: &'a [FlexTensor; BLOCK_INPUTS],
    meta: &'a BlockMeta,
) -> (Sizes, BlockWeights<'a>) {
    let [rows, norm1_w, norm1_b, qkv_w, qkv_b, proj_w, proj_b, rest @ ..] = inputs;
    let [norm2_w, norm2_b, fc1_w, fc1_b, fc2_w, fc2_b, bias, scales @ ..] = rest;
    let (dim, hidden) = (slice(norm1_w).len(), slice(fc1_b).len());
    let end = |i: usize| BranchEnding {
        scale: meta.with_scale[i].then(|| slice(&scales[i])),
        factors: meta.factors[i].as_ref().map(slice),
    };
    let weights = BlockWeights {
        norm1: affine(norm1_w, norm1_b),
        qkv: linear(qkv_w, qkv_b),
        proj: linear(proj_w, proj_b),
        norm2: affine(norm2_w, norm2_b),
        fc1: linear(fc1_w, fc1_b),
        fc2: linear(fc2_w, fc2_b),
        bias: meta.with_bias.then(|| slice(bias)),
        endings: [end(0), end(1)],
    };
    let heads = Heads { patches: meta.patches, dim, count: meta.heads };
    (Sizes { batch: slice(rows).len() / dim / meta.patches, heads, hidden }, weights)
}

fn run_block(inputs: &[FlexTensor; BLOCK_INPUTS], meta: &BlockMeta) -> (FlexTensor, Saved) {
    let (sizes, weights) = block_weights(inputs, meta);
    let (out, saved) = block::forward(sizes, &weights, slice(&inputs[0]));
    (like(out, &inputs[0]), saved)
}

#[derive(Debug)]
struct BlockStep;

#[derive(Debug, Clone)]
struct BlockState {
    inputs: [FlexTensor; BLOCK_INPUTS],
    meta: BlockMeta,
    /// Shared, because the graph wants states that can be cloned.
    saved: Arc<Saved>,
}

impl Backward<Flex, BLOCK_INPUTS> for BlockStep {
    type State = BlockState;

    fn backward(
        self,
        ops: Ops<BlockState, BLOCK_INPUTS>,
        gradients: &mut grads::Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let BlockState { inputs, meta, saved } = ops.state;
        let upstream = dense(gradients.consume::<Flex>(&ops.node));
        let saved = Arc::unwrap_or_clone(saved);
        let (sizes, weights) = block_weights(&inputs, &meta);
        let (rows, found) =
            block::backward(sizes, &weights, slice(&inputs[0]), saved, slice(&upstream));
        let BlockGradients { norm1, qkv, proj, norm2, fc1, fc2, bias, scales } = found;
        let [norm1_w, norm1_b] = norm1;
        let [norm2_w, norm2_b] = norm2;
        let ([qkv_w, qkv_b], [proj_w, proj_b], [scale1, scale2]) = (qkv, proj, scales);
        let ([fc1_w, fc1_b], [fc2_w, fc2_b]) = (fc1, fc2);
        let found = [
            rows, norm1_w, norm1_b, qkv_w, qkv_b, proj_w, proj_b, norm2_w, norm2_b, fc1_w, fc1_b,
            fc2_w, fc2_b, bias, scale1, scale2,
        ];
        register(
            gradients,
            ops.parents.map(|parent| parent.map(|parent| parent.id)),
            &inputs,
            found,
        );
    }
}

/// Number of inputs of the embedding. Their order is that of the parents: patches, weight, bias, mask token, position.
const EMBED_INPUTS: usize = 5;

#[derive(Debug, Clone)]
struct EmbedState {
    inputs: [FlexTensor; EMBED_INPUTS],
    /// 1 where the mask token replaces a patch, 0 elsewhere. `[B·N, 1]`
    hidden: Option<FlexTensor>,
    with_position: bool,
}

impl EmbedState {
    fn embedding(&self) -> Embedding<'_> {
        let [patches, weight, bias, token, position] = &self.inputs;
        let position = self.with_position.then(|| slice(position));
        let rows = slice(patches).len() / patches.layout().shape()[1];
        Embedding {
            proj: linear(weight, bias),
            mask: self.hidden.as_ref().map(|hidden| (slice(token), slice(hidden))),
            position,
            patches: position.map_or(rows, |position| position.len() / slice(bias).len()),
        }
    }

    fn run(&self) -> FlexTensor {
        let out = ends::embed(&self.embedding(), slice(&self.inputs[0]));
        let dim = slice(&self.inputs[2]).len();
        let rows = out.len() / dim;
        new(out, [rows, dim])
    }
}

#[derive(Debug)]
struct EmbedStep;

impl Backward<Flex, EMBED_INPUTS> for EmbedStep {
    type State = EmbedState;

    fn backward(
        self,
        ops: Ops<EmbedState, EMBED_INPUTS>,
        gradients: &mut grads::Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let upstream = dense(gradients.consume::<Flex>(&ops.node));
        let state = ops.state;
        let patches = slice(&state.inputs[0]);
        let found = ends::embed_backward(&state.embedding(), patches, slice(&upstream));
        let [weight, bias] = found.proj;
        let found = [weight, bias, found.token, found.position];
        let parents = ops.parents.map(|parent| parent.map(|parent| parent.id));
        register(gradients, parents.into_iter().skip(1), &state.inputs[1..], found);
    }
}

/// Number of inputs of the prediction. Their order is that of the parents: rows, weight and bias of the norm, weight and
/// bias of the head.
const PREDICT_INPUTS: usize = 5;

#[derive(Debug, Clone)]
struct PredictState {
    inputs: [FlexTensor; PREDICT_INPUTS],
    picked: Vec<usize>,
}

impl PredictState {
    fn run(&self) -> (FlexTensor, Buffer) {
        let [rows, norm_w, norm_b, head_w, head_b] = &self.inputs;
        let head = linear(head_w, head_b);
        let (out, chosen) = ends::predict(slice(rows), &self.picked, affine(norm_w, norm_b), head);
        (new(out, [self.picked.len(), head.bias.len()]), chosen)
    }
}

#[derive(Debug)]
struct PredictStep;

impl Backward<Flex, PREDICT_INPUTS> for PredictStep {
    type State = (PredictState, Arc<Buffer>);

    fn backward(
        self,
        ops: Ops<Self::State, PREDICT_INPUTS>,
        gradients: &mut grads::Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let upstream = dense(gradients.consume::<Flex>(&ops.node));
        let (PredictState { inputs, picked }, chosen) = ops.state;
        let [rows, norm_w, norm_b, head_w, head_b] = &inputs;
        let found = ends::predict_backward(
            rows.layout().shape()[0],
            &picked,
            affine(norm_w, norm_b),
            linear(head_w, head_b),
            Arc::unwrap_or_clone(chosen),
            slice(&upstream),
        );
        let ([norm_w, norm_b], [head_w, head_b]) = (found.norm, found.head);
        let found = [found.rows, norm_w, norm_b, head_w, head_b];
        register(
            gradients,
            ops.parents.map(|parent| parent.map(|parent| parent.id)),
            &inputs,
            found,
        );
    }
}

/// Returns a tensor that stands for an absent input.
fn absent() -> FlexTensor {
    new(Vec::new(), [0])
}

fn embed_inputs<B: Backend>(
    patches: Tensor<B, 2>,
    call: EmbedCall<B>,
    absent: impl Fn() -> B::FloatTensorPrimitive,
) -> ([B::FloatTensorPrimitive; EMBED_INPUTS], Option<B::FloatTensorPrimitive>) {
    let EmbedCall { proj, mask, position, .. } = call;
    let (token, hidden) = match mask {
        Some((token, hidden)) => (primitive(token), Some(primitive(hidden))),
        None => (absent(), None),
    };
    let position = position.map_or_else(absent, primitive);
    ([primitive(patches), primitive(proj.0), primitive(proj.1), token, position], hidden)
}

fn predict_inputs<B: Backend>(
    rows: Tensor<B, 2>,
    [norm_w, norm_b]: NormWeights<B>,
    head: LinearWeights<B>,
) -> [B::FloatTensorPrimitive; PREDICT_INPUTS] {
    [primitive(rows), primitive(norm_w), primitive(norm_b), primitive(head.0), primitive(head.1)]
}

impl FastOps for Flex {
    fn block(rows: Tensor<Self, 2>, call: BlockCall<Self>) -> Tensor<Self, 2> {
        if plain(call.products) {
            return stock::block(rows, call);
        }
        let (inputs, meta) = block_inputs(rows, call, absent, |tensor| tensor);
        tensor(run_block(&inputs.map(dense), &meta).0)
    }

    fn embed(patches: Tensor<Self, 2>, call: EmbedCall<Self>) -> Tensor<Self, 2> {
        if plain(call.products) {
            return stock::embed(patches, call);
        }
        let with_position = call.position.is_some();
        let (inputs, hidden) = embed_inputs(patches, call, absent);
        let hidden = hidden.map(dense);
        tensor(EmbedState { inputs: inputs.map(dense), hidden, with_position }.run())
    }

    fn predict(rows: Tensor<Self, 2>, call: PredictCall<Self>) -> Tensor<Self, 2> {
        if plain(call.products) {
            return stock::predict(rows, call);
        }
        let picked = indices(call.picked);
        let inputs = predict_inputs(rows, call.norm, call.head).map(dense);
        tensor(PredictState { inputs, picked }.run().0)
    }

    fn adamw(
        trained: Trained<Self>,
        gradient: Tensor<Self, 1>,
        factor: Option<Tensor<Self, 1>>,
        bad: Option<Tensor<Self, 1, Bool>>,
        step: &AdamWStep,
    ) -> Trained<Self> {
        // `bad` is for GPUs and needs no fast path: on the CPU, the host checks the loss before the update.
        if plain(DType::F32) || bad.is_some() {
            return stock::adamw(trained, gradient, factor, bad, step);
        }
        let clip = factor.map_or(1.0, Tensor::into_scalar);
        let Trained { weight, moments } = trained;
        let gradient = dense(primitive(gradient));
        let mut weight = dense(primitive(weight));
        let [mut first, mut second] = moments.map(|moment| dense(primitive(moment)));
        // The update happens in place because nothing else holds these tensors. If something did, Burn would copy them.
        let moments = [first.storage_mut(), second.storage_mut()];
        adamw::update(weight.storage_mut(), slice(&gradient), moments, clip, step);
        Trained { weight: tensor(weight), moments: [tensor(first), tensor(second)] }
    }

    fn square_sum(values: Tensor<Self, 1>) -> Tensor<Self, 1> {
        if plain(DType::F32) {
            return values.square().sum();
        }
        tensor(new(vec![adamw::square_sum(slice(&dense(primitive(values))))], [1]))
    }
}

/// Returns the values of tensors of a graph.
fn leave<const N: usize>(inputs: &[GraphTensor; N]) -> [FlexTensor; N] {
    inputs.each_ref().map(|input| dense(input.primitive.clone()))
}

impl FastOps for Graph {
    fn block(rows: Tensor<Self, 2>, call: BlockCall<Self>) -> Tensor<Self, 2> {
        if plain(call.products) {
            return stock::block(rows, call);
        }
        let outside = || Self::from_inner(absent());
        let (inputs, meta) = block_inputs(rows, call, outside, |tensor| tensor.primitive);
        let values = leave(&inputs);
        let (out, saved) = run_block(&values, &meta);
        let nodes = inputs.map(|input| input.node);
        let step = BlockStep.prepare::<NoCheckpointing>(nodes).compute_bound();
        tensor(match step.stateful() {
            OpsKind::Tracked(step) => {
                step.finish(BlockState { inputs: values, meta, saved: Arc::new(saved) }, out)
            }
            OpsKind::UnTracked(step) => step.finish(out),
        })
    }

    fn embed(patches: Tensor<Self, 2>, call: EmbedCall<Self>) -> Tensor<Self, 2> {
        // The fast path doesn't compute the gradient of the pixels, which training doesn't need.
        if plain(call.products) || patches.is_require_grad() {
            return stock::embed(patches, call);
        }
        let with_position = call.position.is_some();
        let outside = || Self::from_inner(absent());
        let (inputs, hidden) = embed_inputs(patches, call, outside);
        let hidden = hidden.map(|hidden| dense(hidden.primitive));
        let state = EmbedState { inputs: leave(&inputs), hidden, with_position };
        let out = state.run();
        let nodes = inputs.map(|input| input.node);
        tensor(match EmbedStep.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish(state, out),
            OpsKind::UnTracked(step) => step.finish(out),
        })
    }

    fn predict(rows: Tensor<Self, 2>, call: PredictCall<Self>) -> Tensor<Self, 2> {
        if plain(call.products) {
            return stock::predict(rows, call);
        }
        let inputs = predict_inputs(rows, call.norm, call.head);
        let picked = indices(call.picked.inner());
        let state = PredictState { inputs: leave(&inputs), picked };
        let (out, chosen) = state.run();
        let nodes = inputs.map(|input| input.node);
        tensor(match PredictStep.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish((state, Arc::new(chosen)), out),
            OpsKind::UnTracked(step) => step.finish(out),
        })
    }
}
