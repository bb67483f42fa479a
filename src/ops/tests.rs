//! Compares every fast operation with Burn's plain ones: results and all gradients, on odd sizes.

use super::{
    AdamWStep, BlockCall, BranchEnd, EmbedCall, FastOps, PredictCall, Trained, one_graph, stock,
};
use crate::rng::{self, Purpose};
use burn::backend::Autodiff;
use burn::tensor::{DType, Int, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use rand::RngExt as _;

type Graph = Autodiff<Flex>;

/// Draws numbers in ±scale, other ones with every call.
struct Draw {
    rng: rand_chacha::ChaCha8Rng,
}

impl Draw {
    fn new(seed: u64) -> Self {
        Self { rng: rng::stream(seed, Purpose::Init, 0, 0) }
    }

    fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.rng.random_range(-scale..scale)).collect()
    }

    /// Returns a leaf that requires its gradient.
    fn leaf<const D: usize>(&mut self, dims: [usize; D], scale: f32) -> Tensor<Graph, D> {
        let data = TensorData::new(self.values(dims.iter().product(), scale), dims);
        Tensor::from_data(data, &FlexDevice).require_grad()
    }
}

fn values<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
    tensor.into_data().to_vec().expect("f32")
}

/// Asserts that the largest difference is small relative to the largest expected number.
fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let unit = expected.iter().fold(1e-3_f32, |m, x| m.max(x.abs()));
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= 2e-5 * unit, "{what}: {f} instead of {e}, unit {unit}");
    }
}

/// Compares the results of both ways and the gradients of their leaves, with a loss that weighs every output
/// differently.
fn compare(
    what: &str,
    results: [Tensor<Graph, 2>; 2],
    gradient_of: impl Fn(
        &<Graph as burn::tensor::backend::AutodiffBackend>::Gradients,
    ) -> Vec<(String, Vec<f32>)>,
) {
    let weigh = |result: &Tensor<Graph, 2>| {
        let [rows, columns] = result.dims();
        let weights: Vec<f32> =
            (0..rows * columns).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let weights =
            Tensor::<Graph, 2>::from_data(TensorData::new(weights, [rows, columns]), &FlexDevice);
        gradient_of(&(result.clone() * weights).sum().backward())
    };
    let [fast, plain] = &results;
    let (found, expected) = (weigh(fast), weigh(plain));
    let [fast, plain] = results.map(|result| values(result.inner()));
    assert_close(&format!("{what}: result"), &fast, &plain);
    assert!(!expected.is_empty());
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        assert_close(&format!("{what}: gradient of {name}"), found, expected);
    }
}

fn gradient<const D: usize>(
    tensor: &Tensor<Graph, D>,
    gradients: &<Graph as burn::tensor::backend::AutodiffBackend>::Gradients,
) -> Vec<f32> {
    values(tensor.grad(gradients).expect("every leaf has a gradient"))
}

#[derive(Clone, Copy)]
struct Case {
    batch: usize,
    patches: usize,
    dim: usize,
    hidden: usize,
    heads: usize,
    /// Whether there is a relative bias, a `LayerScale` and drop path.
    extras: [bool; 3],
}

fn block_case(case: Case, seed: u64) {
    let Case { batch, patches, dim, hidden, heads, extras: [bias, scale, drop] } = case;
    let draw = &mut Draw::new(seed);
    let end = |draw: &mut Draw| BranchEnd {
        scale: scale.then(|| draw.leaf([dim], 1.0)),
        factors: drop.then(|| {
            let factors = (0..batch).map(|i| if i % 3 == 1 { 0.0 } else { 1.25 }).collect();
            Tensor::from_data(TensorData::new(factors, [batch, 1, 1]), &FlexDevice)
        }),
    };
    let rows = draw.leaf([batch * patches, dim], 2.0);
    let ends = [end(draw), end(draw)];
    let call = BlockCall {
        norm1: [draw.leaf([dim], 1.0), draw.leaf([dim], 0.5)],
        qkv: (draw.leaf([dim, 3 * dim], 0.4), draw.leaf([3 * dim], 0.5)),
        proj: (draw.leaf([dim, dim], 0.4), draw.leaf([dim], 0.5)),
        norm2: [draw.leaf([dim], 1.0), draw.leaf([dim], 0.5)],
        fc1: (draw.leaf([dim, hidden], 0.4), draw.leaf([hidden], 0.5)),
        fc2: (draw.leaf([hidden, dim], 0.4), draw.leaf([dim], 0.5)),
        bias: bias.then(|| draw.leaf([1, heads, patches, patches], 1.0)),
        ends,
        heads,
        patches,
        products: DType::F32,
    };
    let results =
        [Graph::block(rows.clone(), call.clone()), stock::block(rows.clone(), call.clone())];
    compare(&format!("block {seed}"), results, |all| {
        let mut found = vec![("rows".to_owned(), gradient(&rows, all))];
        let vectors = [
            ("norm1.weight", &call.norm1[0]),
            ("norm1.bias", &call.norm1[1]),
            ("qkv.bias", &call.qkv.1),
            ("proj.bias", &call.proj.1),
            ("norm2.weight", &call.norm2[0]),
            ("norm2.bias", &call.norm2[1]),
            ("fc1.bias", &call.fc1.1),
            ("fc2.bias", &call.fc2.1),
        ];
        let matrices = [
            ("qkv", &call.qkv.0),
            ("proj", &call.proj.0),
            ("fc1", &call.fc1.0),
            ("fc2", &call.fc2.0),
        ];
        found.extend(vectors.map(|(name, leaf)| (name.to_owned(), gradient(leaf, all))));
        found.extend(matrices.map(|(name, leaf)| (name.to_owned(), gradient(leaf, all))));
        found.extend(call.bias.iter().map(|bias| ("bias".to_owned(), gradient(bias, all))));
        for (number, end) in call.ends.iter().enumerate() {
            found.extend(end.scale.iter().map(|s| (format!("scale{number}"), gradient(s, all))));
        }
        found
    });
}

#[test]
fn a_block_and_its_gradients_are_those_of_the_plain_operations() {
    let _graph = one_graph();
    let odd = Case { batch: 3, patches: 7, dim: 15, hidden: 31, heads: 3, extras: [false; 3] };
    let mut seed = 0;
    for extras in 0..8 {
        let extras = [extras & 1 != 0, extras & 2 != 0, extras & 4 != 0];
        for case in [
            Case { extras, ..odd },
            Case { batch: 1, patches: 1, dim: 4, hidden: 5, heads: 1, extras },
            Case { batch: 9, patches: 49, dim: 36, hidden: 70, heads: 4, extras },
            Case { batch: 5, patches: 64, dim: 192, hidden: 200, heads: 2, extras },
        ] {
            seed += 1;
            block_case(case, seed);
        }
    }
}

#[test]
fn the_embedding_and_its_gradients_are_those_of_the_plain_operations() {
    let _graph = one_graph();
    for (batch, n, length, dim, masked, positioned) in
        [(3, 7, 12, 15, true, true), (2, 65, 48, 33, true, false), (4, 9, 27, 8, false, true)]
    {
        let draw = &mut Draw::new(dim as u64);
        let patches = Tensor::from_inner(draw.leaf([batch * n, length], 1.0).inner());
        let proj = (draw.leaf([length, dim], 0.3), draw.leaf([dim], 0.5));
        let token = draw.leaf([1, 1, dim], 1.0);
        let position = draw.leaf([1, n, dim], 1.0);
        let hidden = (0..batch * n).map(|row| f32::from(row % 5 < 3)).collect();
        let hidden = Tensor::from_data(TensorData::new(hidden, [batch * n, 1]), &FlexDevice);
        let mask = masked.then(|| (token.clone(), hidden));
        let place = positioned.then(|| position.clone());
        let call = EmbedCall { proj: proj.clone(), mask, position: place, products: DType::F32 };
        let results = [Graph::embed(patches.clone(), call.clone()), stock::embed(patches, call)];
        compare(&format!("embedding {dim}"), results, |all| {
            let mut found = vec![
                ("weight".to_owned(), gradient(&proj.0, all)),
                ("bias".to_owned(), gradient(&proj.1, all)),
            ];
            found.extend(masked.then(|| ("token".to_owned(), gradient(&token, all))));
            found.extend(positioned.then(|| ("position".to_owned(), gradient(&position, all))));
            found
        });
    }
}

#[test]
fn the_prediction_and_its_gradients_are_those_of_the_plain_operations() {
    let _graph = one_graph();
    for (total, dim, length, picked) in [
        (21, 15, 12, vec![0, 3, 20]),
        (700, 33, 48, (0..700).step_by(2).collect()),
        (4, 8, 3, vec![1, 1, 2]),
    ] {
        let draw = &mut Draw::new(total as u64);
        let rows = draw.leaf([total, dim], 2.0);
        let norm = [draw.leaf([dim], 1.0), draw.leaf([dim], 0.5)];
        let head = (draw.leaf([dim, length], 0.3), draw.leaf([length], 0.5));
        let count = picked.len();
        let picked: Tensor<Graph, 1, Int> =
            Tensor::from_data(TensorData::new(picked, [count]), &FlexDevice);
        let products = DType::F32;
        let call = PredictCall { picked, norm: norm.clone(), head: head.clone(), products };
        let results =
            [Graph::predict(rows.clone(), call.clone()), stock::predict(rows.clone(), call)];
        compare(&format!("prediction {total}"), results, |all| {
            vec![
                ("rows".to_owned(), gradient(&rows, all)),
                ("norm.weight".to_owned(), gradient(&norm[0], all)),
                ("norm.bias".to_owned(), gradient(&norm[1], all)),
                ("head".to_owned(), gradient(&head.0, all)),
                ("head.bias".to_owned(), gradient(&head.1, all)),
            ]
        });
    }
}

#[test]
fn without_gradients_the_fast_operations_give_the_same_as_with_them() {
    let _graph = one_graph();
    let draw = &mut Draw::new(5);
    let (rows, dim, length) = (10, 6, 4);
    let input = draw.leaf([rows, dim], 1.0);
    let norm = [draw.leaf([dim], 1.0), draw.leaf([dim], 0.5)];
    let head = (draw.leaf([dim, length], 0.3), draw.leaf([length], 0.5));
    let picked = Tensor::<Flex, 1, Int>::from_data([1, 7], &FlexDevice);
    let products = DType::F32;
    let inner = PredictCall {
        picked: picked.clone(),
        norm: norm.clone().map(Tensor::inner),
        head: (head.0.clone().inner(), head.1.clone().inner()),
        products,
    };
    let plain = Flex::predict(input.clone().inner(), inner);
    let call = PredictCall { picked: Tensor::from_inner(picked), norm, head, products };
    let graph = Graph::predict(input, call);
    assert_eq!(values(plain), values(graph.inner()));
}

#[test]
fn an_update_is_that_of_the_plain_operations() {
    for (count, decay, factor) in [(1, 0.0, None), (1000, 0.05, Some(0.3)), (70_001, 0.05, None)] {
        let draw = &mut Draw::new(count as u64);
        let mut flat = |scale: f32| {
            let data = TensorData::new(draw.values(count, scale), [count]);
            Tensor::<Flex, 1>::from_data(data, &FlexDevice)
        };
        let (weight, first, second) = (flat(1.0), flat(0.1), flat(0.1).square());
        let gradient = flat(1.0);
        let trained =
            || Trained { weight: weight.clone(), moments: [first.clone(), second.clone()] };
        let factor = factor.map(|factor: f32| Tensor::<Flex, 1>::from_data([factor], &FlexDevice));
        let step = AdamWStep { betas: [0.9, 0.999], eps: 1e-8, lr: 1e-3, decay, update: 3 };
        let fast = Flex::adamw(trained(), gradient.clone(), factor.clone(), None, &step);
        let plain = stock::adamw(trained(), gradient.clone(), factor, None, &step);
        assert_close("weight", &values(fast.weight), &values(plain.weight));
        for (fast, plain) in fast.moments.into_iter().zip(plain.moments) {
            assert_close("moment", &values(fast), &values(plain));
        }
        let [fast, plain] =
            [Flex::square_sum(gradient.clone()), gradient.square().sum()].map(values);
        assert_close("square sum", &fast, &plain);
    }
}

#[test]
fn not_a_number_comes_through_every_operation() {
    let _graph = one_graph();
    let draw = &mut Draw::new(9);
    let (patches, dim, hidden) = (3, 4, 8);
    let mut rows = draw.values(patches * dim, 1.0);
    rows[5] = f32::NAN;
    let rows = Tensor::<Graph, 2>::from_data(TensorData::new(rows, [patches, dim]), &FlexDevice);
    let none = || BranchEnd { scale: None, factors: None };
    let call = BlockCall {
        norm1: [draw.leaf([dim], 1.0), draw.leaf([dim], 0.5)],
        qkv: (draw.leaf([dim, 3 * dim], 0.4), draw.leaf([3 * dim], 0.5)),
        proj: (draw.leaf([dim, dim], 0.4), draw.leaf([dim], 0.5)),
        norm2: [draw.leaf([dim], 1.0), draw.leaf([dim], 0.5)],
        fc1: (draw.leaf([dim, hidden], 0.4), draw.leaf([hidden], 0.5)),
        fc2: (draw.leaf([hidden, dim], 0.4), draw.leaf([dim], 0.5)),
        bias: None,
        ends: [none(), none()],
        heads: 2,
        patches,
        products: DType::F32,
    };
    let found = values(Graph::block(rows, call).inner());
    assert!(found.iter().all(|x| x.is_nan()), "attention spreads it over the image: {found:?}");
}
