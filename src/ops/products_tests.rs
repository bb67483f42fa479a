//! Tests of matrix products with rounded operands: what is rounded, what isn't, and which gradients result.

use super::{BlockCall, BranchEnd, FastOps, one_graph, stock};
use crate::rng::{self, Purpose};
use burn::backend::Autodiff;
use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use rand::RngExt as _;

type Graph = Autodiff<Flex>;

/// The largest distance of neighbouring bf16 numbers relative to their size.
const BF16_STEP: f64 = 1.0 / 128.0;

fn drawn(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let mut rng = rng::stream(seed, Purpose::Init, 0, 0);
    (0..count).map(|_| rng.random_range(-scale..scale)).collect()
}

fn leaf<const D: usize>(values: &[f32], dims: [usize; D]) -> Tensor<Graph, D> {
    let data = TensorData::new(values.to_vec(), dims);
    Tensor::from_data(data, &FlexDevice).require_grad()
}

/// Returns the nearest bf16 number, ties to even.
fn rounded(value: f32) -> f64 {
    let bits = value.to_bits();
    let up = 0x7fff + ((bits >> 16) & 1);
    f64::from(f32::from_bits((bits + up) & 0xffff_0000))
}

/// Returns the product left · right of rounded numbers without rounding the results: the sum of each entry, and the sum of
/// the absolute values of its terms. `[rows, inner]`, `[inner, columns]` -> `[rows · columns]`
fn exact(left: &[f32], right: &[f32], [rows, inner, columns]: [usize; 3]) -> Vec<(f64, f64)> {
    let entry = |row: usize, column: usize| {
        let term = |i: usize| rounded(left[row * inner + i]) * rounded(right[i * columns + column]);
        (0..inner).map(term).fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()))
    };
    (0..rows * columns).map(|place| entry(place / columns, place % columns)).collect()
}

fn transposed(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

/// Asserts that each number is the exact one rounded once, apart from what 32-bit sums lose.
fn assert_rounded(what: &str, found: Tensor<Flex, 2>, exact: &[(f64, f64)]) {
    assert_eq!(found.dtype(), DType::F32, "{what}");
    let found: Vec<f32> = found.into_data().to_vec().expect("f32");
    assert_eq!(found.len(), exact.len(), "{what}");
    for (&found, &(sum, size)) in found.iter().zip(exact) {
        let error = (f64::from(found) - sum).abs();
        assert!(error <= BF16_STEP / 2.0 * sum.abs() + 1e-6 * size, "{what}: {found} for {sum}");
        assert_eq!(found.to_bits() & 0xffff, 0, "{what}: {found} is a bf16 number");
    }
}

#[test]
fn operands_and_results_are_rounded_once_and_gradients_too() {
    let _graph = one_graph();
    let [rows, inner, columns] = [7, 65, 11];
    let (left, right) = (drawn(1, rows * inner, 2.0), drawn(2, inner * columns, 0.3));
    let slope = drawn(3, rows * columns, 1.0);
    let (leaf1, leaf2) = (leaf(&left, [rows, inner]), leaf(&right, [inner, columns]));
    let out = stock::product(leaf1.clone(), leaf2.clone(), DType::BF16);
    assert_rounded("product", out.clone().inner(), &exact(&left, &right, [rows, inner, columns]));

    let weights = leaf(&slope, [rows, columns]).detach();
    let gradients = (out * weights).sum().backward();
    let by_left = exact(&slope, &transposed(&right, [inner, columns]), [rows, columns, inner]);
    assert_rounded("left", leaf1.grad(&gradients).expect("a leaf"), &by_left);
    let by_right = exact(&transposed(&left, [rows, inner]), &slope, [inner, rows, columns]);
    assert_rounded("right", leaf2.grad(&gradients).expect("a leaf"), &by_right);
}

#[test]
fn products_of_32_bit_floats_are_left_alone() {
    let _graph = one_graph();
    let (left, right) = (leaf(&drawn(4, 60, 1.0), [6, 10]), leaf(&drawn(5, 40, 1.0), [10, 4]));
    let plain = left.clone().matmul(right.clone());
    let product = stock::product(left, right, DType::F32);
    assert_eq!(product.into_data(), plain.into_data());
}

/// The inputs of a block with all optional ones.
struct Block {
    rows: Tensor<Graph, 2>,
    call: BlockCall<Graph>,
}

impl Block {
    fn new(products: DType) -> Self {
        let (batch, patches, dim, hidden, heads) = (3, 16, 24, 48, 3);
        let vector = |seed, size| leaf(&drawn(seed, size, 0.5), [size]);
        let linear = |seed, from: usize, to: usize| {
            let weight = leaf(&drawn(seed, from * to, (1.0 / from as f32).sqrt()), [from, to]);
            (weight, vector(seed + 100, to))
        };
        let end = |seed| BranchEnd {
            scale: Some(vector(seed, dim)),
            factors: Some(Tensor::from_data([[[1.25]], [[0.0]], [[1.25]]], &FlexDevice)),
        };
        let call = BlockCall {
            norm1: [vector(1, dim).add_scalar(1.0).detach().require_grad(), vector(2, dim)],
            qkv: linear(3, dim, 3 * dim),
            proj: linear(4, dim, dim),
            norm2: [vector(5, dim).add_scalar(1.0).detach().require_grad(), vector(6, dim)],
            fc1: linear(7, dim, hidden),
            fc2: linear(8, hidden, dim),
            bias: Some(leaf(
                &drawn(9, heads * patches * patches, 1.0),
                [1, heads, patches, patches],
            )),
            ends: [end(10), end(11)],
            heads,
            patches,
            products,
        };
        Self { rows: leaf(&drawn(12, batch * patches * dim, 2.0), [batch * patches, dim]), call }
    }

    /// Returns the result and the gradient of every leaf, by name.
    fn run(self) -> Vec<(&'static str, Vec<f32>)> {
        let Self { rows, call } = self;
        let out = Graph::block(rows.clone(), call.clone());
        assert_eq!(out.dtype(), DType::F32, "the residual stream");
        let count = rows.dims().iter().product();
        let weights = leaf(&drawn(13, count, 1.0), rows.dims()).detach();
        let gradients = (out.clone() * weights).sum().backward();
        let mut found = vec![("result", out.inner().into_data().to_vec().expect("f32"))];
        let mut take = |name, gradient: TensorData| {
            assert_eq!(gradient.dtype, DType::F32, "{name}");
            found.push((name, gradient.to_vec().expect("f32")));
        };
        let data = "every leaf has a gradient";
        take("rows", rows.grad(&gradients).expect(data).into_data());
        let [end1, end2] = call.ends;
        for (name, leaf) in [
            ("norm1.weight", &call.norm1[0]),
            ("norm1.bias", &call.norm1[1]),
            ("qkv.bias", &call.qkv.1),
            ("proj.bias", &call.proj.1),
            ("norm2.weight", &call.norm2[0]),
            ("norm2.bias", &call.norm2[1]),
            ("fc1.bias", &call.fc1.1),
            ("fc2.bias", &call.fc2.1),
            ("scale 1", &end1.scale.expect("there")),
            ("scale 2", &end2.scale.expect("there")),
        ] {
            take(name, leaf.grad(&gradients).expect(data).into_data());
        }
        for (name, leaf) in [
            ("qkv", &call.qkv.0),
            ("proj", &call.proj.0),
            ("fc1", &call.fc1.0),
            ("fc2", &call.fc2.0),
        ] {
            take(name, leaf.grad(&gradients).expect(data).into_data());
        }
        let bias = call.bias.expect("there");
        take("bias", bias.grad(&gradients).expect(data).into_data());
        found
    }
}

#[test]
fn a_block_in_bf16_and_its_gradients_are_near_those_in_fp32() {
    let _graph = one_graph();
    let (exact, rounded) = (Block::new(DType::F32).run(), Block::new(DType::BF16).run());
    for ((name, exact), (_, rounded)) in exact.iter().zip(&rounded) {
        let square =
            |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
        let size = square(&mut exact.iter().copied());
        let error = square(&mut exact.iter().zip(rounded).map(|(e, r)| e - r)) / size;
        assert!(error < 0.03, "{name}: {error}");
        // On the way back, only the last bias comes before all products.
        assert!(error > 1e-4 || *name == "fc2.bias", "{name}: {error} is less than bf16 loses");
    }
}
