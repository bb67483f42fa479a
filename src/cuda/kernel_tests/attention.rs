use super::super::geometry::{self, AttentionShape, Geometry};
use super::super::host::{self, PlainAttention, Slopes};
use super::super::machine::Fault;
use super::bench::{Arg, BOTH, Bench, Data, Op, close, close_numbers, close_sums, maybe, out};

/// Images, tokens, heads, numbers of a head, whether there is a bias, and how far scores are spread; below 0 they lie near
/// -200, beside which zeros that padding leaves would be huge.
type Case = (usize, usize, usize, usize, bool, f64);

/// The kernels for tensor cores.
const CASES: [Case; 14] = [
    (1, 260, 1, 64, true, -0.3),
    (2, 10, 2, 64, false, 1.0),
    (1, 64, 1, 32, true, 1.0),
    (2, 33, 1, 48, true, 1.0),
    (1, 196, 1, 64, false, 1.0),
    (1, 10, 2, 40, true, 1.0),
    (1, 33, 1, 8, false, 1.0),
    (1, 16, 1, 56, true, 1.0),
    (2, 64, 2, 24, false, 3.0),
    (1, 1, 1, 64, true, 1.0),
    (2, 17, 2, 64, true, 1.0),
    (1, 37, 1, 64, false, -0.3),
    (3, 50, 1, 64, true, 1.0),
    (1, 257, 1, 32, false, 1.0),
];

/// Those for any width.
const ANY: [Case; 8] = [
    (2, 10, 2, 80, false, 1.0),
    (1, 33, 1, 128, true, 1.0),
    (2, 17, 2, 8, true, 1.0),
    (1, 64, 1, 64, false, 3.0),
    (1, 1, 1, 24, true, 1.0),
    (3, 65, 1, 48, true, 1.0),
    (1, 37, 1, 32, false, -0.3),
    (1, 196, 1, 80, false, 1.0),
];

/// Attention on tensor cores.
pub(super) fn attention(b: &mut Bench) -> Result<(), Fault> {
    CASES.into_iter().try_for_each(|case| attend(b, Family { tensor: true, op: Op::Bf16 }, case))
}

/// Attention without them, for both kinds of operands.
pub(super) fn attention_any(b: &mut Bench) -> Result<(), Fault> {
    for (case, op) in ANY.into_iter().flat_map(|case| BOTH.map(|op| (case, op))) {
        attend(b, Family { tensor: false, op }, case)?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Family {
    tensor: bool,
    op: Op,
}

impl Family {
    fn name(self, what: &str) -> String {
        self.op.name(&format!("attention_{}{what}", if self.tensor { "" } else { "any_" }))
    }

    /// Returns the geometry that plans use, and others that are right too.
    fn launches(self, shape: AttentionShape, backward: bool) -> Vec<Geometry> {
        let usual = match (self.tensor, backward) {
            (true, false) => geometry::attention_forward(shape),
            (true, true) => geometry::attention_backward(shape),
            (false, false) => geometry::attention_any_forward(shape),
            (false, true) => geometry::attention_any_backward(shape),
        };
        let mut all = vec![usual];
        if self.tensor && [50, 257].contains(&shape.tokens) {
            for (warps, across) in [(3, 2), (1, 1)] {
                let across = if backward { 2 * across } else { across };
                let grid = [across, usual.grid[1], usual.grid[2]];
                all.push(Geometry { grid, block: 32 * warps, ..usual });
            }
        }
        all
    }
}

/// What a case is made of.
struct Given {
    shape: AttentionShape,
    family: Family,
    qkv: Data,
    dout: Data,
    bias: Option<Data>,
    scale: f64,
    /// Scores are moderate, so that rounded weights are near to the exact ones.
    moderate: bool,
}

fn attend(b: &mut Bench, family: Family, case: Case) -> Result<(), Fault> {
    let (images, tokens, heads, width, biased, spread) = case;
    let shape = AttentionShape { images, tokens, heads, width };
    let (rows, all) = (images * tokens, heads * width);
    let mut qkv = b.normal(rows * 3 * all, spread.abs());
    if spread < 0.0 {
        qkv.chunks_exact_mut(3 * all).for_each(|row| {
            row[..all].iter_mut().for_each(|q| *q += 5.0);
            row[all..2 * all].iter_mut().for_each(|k| *k -= 5.0);
        });
    }
    let (dout, _) = b.operands(family.op, rows * all, 1.0);
    let bias = biased.then(|| b.operands(Op::F32, heads * tokens * tokens, 1.0).0);
    let scale = f64::from((width as f32).sqrt().recip());
    let qkv = family.op.data(&qkv);
    let given = Given { shape, family, qkv, dout, bias, scale, moderate: spread > 0.0 };
    let [result, lse] = forward(b, &given)?;
    backward(b, &given, &result, &lse)
}

impl Given {
    fn sizes(&self) -> [Arg; 5] {
        let AttentionShape { images, tokens, heads, width } = self.shape;
        let [b, n, h, d] = [images, tokens, heads, width].map(Arg::Int);
        [b, n, h, d, Arg::Float(self.scale)]
    }

    /// Whether weights and slopes of scores are rounded to bf16.
    fn narrow(&self) -> bool {
        self.family.tensor
    }
}

fn host_of<'a>(given: &Given, qkv: &'a [f64], bias: Option<&'a [f64]>) -> PlainAttention<'a> {
    let AttentionShape { images, tokens, heads, width } = given.shape;
    PlainAttention { qkv, bias, images, tokens, heads, width, scale: given.scale }
}

fn forward(b: &mut Bench, given: &Given) -> Result<[Data; 2], Fault> {
    let Given { shape, family, qkv, bias, .. } = given;
    let (numbers, biases) = (qkv.numbers(), bias.as_ref().map(Data::numbers));
    let [want, want_lse] = host_of(given, &numbers, biases.as_deref()).forward();
    // Weights rounded to bf16 before the second product are off by up to 2^-8 each, with random sign.
    // 32-bit scores near -200 are off by some 1e-5, and so are exact weights.
    let allowed = match (given.narrow(), given.moderate) {
        (true, _) => 4e-3,
        (false, true) => 2e-6,
        (false, false) => 3e-5,
    };
    let mut results = None;
    for launch in family.launches(*shape, false) {
        let start = [Arg::In(qkv.clone()), maybe(bias.as_ref())];
        let ends = [family.op.out(want.len()), out(want_lse.len())];
        let args = [&start[..], &ends, &given.sizes()].concat();
        let found = b.run(&family.name("forward"), launch, &args)?;
        let what = format!("{} {shape:?}", family.name("forward"));
        close(&format!("{what} out"), &found[0], &want, allowed, family.op.round())?;
        close(&format!("{what} lse"), &found[1], &want_lse, 1e-6, 1e-6)?;
        let [out, lse] = found.try_into().expect("two outputs");
        results = Some([out, lse]);
    }
    Ok(results.expect("one launch at least"))
}

fn backward(b: &mut Bench, given: &Given, result: &Data, lse: &Data) -> Result<(), Fault> {
    let Given { shape, family, qkv, dout, bias, .. } = given;
    let (numbers, biases) = (qkv.numbers(), bias.as_ref().map(Data::numbers));
    let attention = host_of(given, &numbers, biases.as_deref());
    let [exact_out, exact_lse] = attention.forward();
    let slopes = dout.numbers();
    let exact = Slopes { out: &exact_out, lse: &exact_lse, dout: &slopes, narrow: false };
    let exact = attention.backward(exact);
    let (out_read, lse_read) = (result.numbers(), lse.numbers());
    let same = Slopes { out: &out_read, lse: &lse_read, dout: &slopes, narrow: given.narrow() };
    let same = attention.backward(same);

    let what = family.name("backward");
    let start =
        [Arg::In(qkv.clone()), maybe(bias.as_ref()), Arg::In(result.clone()), Arg::In(lse.clone())];
    let mut delta = None;
    for launch in family.launches(*shape, true) {
        let ends = [Arg::In(dout.clone()), family.op.out(numbers.len()), out(lse_read.len())];
        let args = [&start[..], &ends, &given.sizes()].concat();
        let found = b.run(&what, launch, &args)?;
        close_gradients(given, &found[0], [&exact.dqkv, &same.dqkv])?;
        close(&format!("{what} delta"), &found[1], &same.delta, 1e-6, 0.0)?;
        if family.tensor && bias.is_none() {
            let ends = [Arg::In(dout.clone()), family.op.out(numbers.len()), Arg::Null];
            let again = b.run(&what, launch, &[&start[..], &ends, &given.sizes()].concat())?;
            if again[0] != found[0] {
                return Err(Fault(format!("{what}: without delta it gives other bits")));
            }
        }
        delta = Some(found[1].clone());
    }
    let delta = delta.expect("one launch at least");
    bias_backward(b, given, lse, &delta, [&exact.dbias, &same.dbias])
}

/// Checks the gradients of queries, keys and values against the exact ones, and those with the kernels' rounding.
fn close_gradients(given: &Given, got: &Data, [exact, same]: [&[f64]; 2]) -> Result<(), Fault> {
    let Given { shape, family, .. } = given;
    let columns = shape.heads * shape.width;
    let got = got.numbers();
    // With a single token the gradients of queries and keys are nothing but rounding.
    for part in if shape.tokens == 1 { 2..3 } else { 0..3 } {
        let take = |all: &[f64]| -> Vec<f64> {
            let rows = all.chunks_exact(3 * columns);
            rows.flat_map(|row| &row[part * columns..(part + 1) * columns]).copied().collect()
        };
        let got = take(&got);
        let what = format!("{} {shape:?} {}", family.name("backward"), ["dq", "dk", "dv"][part]);
        let round = family.op.round();
        if given.moderate {
            let allowed = if family.op == Op::Bf16 { 1.2e-2 } else { 5e-6 };
            close_numbers(&what, &got, &take(exact), allowed, round)?;
        }
        // With the same rounding only flips of single roundings are left.
        let allowed = match (given.narrow(), given.moderate) {
            (true, true) => 1.5e-3,
            (true, false) => 2e-2,
            (false, true) => 5e-6,
            (false, false) => 3e-4,
        };
        close_numbers(&format!("{what}, same rounding"), &got, &take(same), allowed, round)?;
    }
    Ok(())
}

fn bias_backward(
    b: &mut Bench,
    given: &Given,
    lse: &Data,
    delta: &Data,
    [exact, same]: [&[f64]; 2],
) -> Result<(), Fault> {
    let Given { shape, family, qkv, dout, bias: Some(bias), .. } = given else { return Ok(()) };
    let what = family.name("bias_backward");
    let multiprocessors = b.multiprocessors();
    let usual = if family.tensor {
        geometry::attention_bias_backward(*shape, multiprocessors)
    } else {
        geometry::attention_any_bias_backward(*shape, multiprocessors)
    };
    for strips in [usual.grid[2], 1, shape.images as u32] {
        let launch = Geometry { grid: [usual.grid[0], usual.grid[1], strips], ..usual };
        let data = |data: &Data| Arg::In(data.clone());
        let start = [data(qkv), data(bias), data(lse), data(delta), data(dout)];
        let end = [out(strips as usize * exact.len())];
        let found = b.run(&what, launch, &[&start[..], &end, &given.sizes()].concat())?;
        if shape.tokens == 1 {
            continue;
        }
        if given.moderate {
            let allowed = if given.family.op == Op::Bf16 { 1.2e-2 } else { 5e-6 };
            close_sums(&what, &found[0], exact, allowed)?;
        }
        let allowed = if given.moderate { 1e-5 } else { 1e-4 };
        close_sums(&format!("{what}, same rounding"), &found[0], same, allowed)?;
    }
    Ok(())
}

/// The relative bias and the gradient of its table.
pub(super) fn relative_bias(b: &mut Bench) -> Result<(), Fault> {
    for (grid, heads) in [([2, 5], 3), ([1, 1], 1), ([4, 3], 2), ([7, 7], 1)] {
        let tokens = grid[0] * grid[1];
        let offsets = (2 * grid[0] - 1) * (2 * grid[1] - 1);
        let (table, numbers) = b.operands(Op::F32, offsets * heads, 1.0);
        let sizes = [grid[0], grid[1], heads].map(Arg::Int);
        let count = heads * tokens * tokens;
        let launch = geometry::relative_bias(tokens, heads, b.multiprocessors());
        let args = [&[Arg::In(table.clone()), out(count)], &sizes[..]].concat();
        let found = b.run("relative_bias", launch, &args)?;
        close("relative_bias", &found[0], &host::relative_bias(&numbers, grid, heads), 1e-30, 0.0)?;

        let (dbias, slopes) = b.operands(Op::F32, count, 1.0);
        let want = host::relative_bias_backward(&slopes, grid, heads);
        let onto: Vec<f64> = want.iter().zip(&numbers).map(|(a, b)| a + b).collect();
        let launch = geometry::relative_bias_backward(offsets, heads);
        for (to, accumulate, want) in [(out(want.len()), 0, want), (Arg::InOut(table), 1, onto)] {
            let accumulate = Arg::Int(accumulate);
            let args = [&[Arg::In(dbias.clone()), to], &sizes[..], &[accumulate]].concat();
            let found = b.run("relative_bias_backward", launch, &args)?;
            close("relative_bias_backward", &found[0], &want, 2e-6, 0.0)?;
        }
    }
    Ok(())
}
