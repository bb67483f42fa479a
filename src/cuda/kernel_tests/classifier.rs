use super::super::geometry::{self, Geometry};
use super::super::host::{self, ProductForm};
use super::super::machine::{Arithmetic, Fault, Number, Operands, ProductShape};
use super::bench::{Arg, BOTH, Bench, Data, Op, close, close_sums, maybe, out};

/// Cross-entropy with soft targets.
pub(super) fn cross_entropy(bench: &mut Bench) -> Result<(), Fault> {
    for (images, classes) in [(1, 10), (17, 37), (33, 1000), (3, 1), (10, 2)] {
        let (logits, numbers) = bench.operands(Op::F32, images * classes, 6.0);
        let mut targets = Vec::new();
        for _ in 0..images {
            let spread = 0.1 / classes as f64;
            let mut row = vec![spread; classes];
            row[(bench.uniform() * classes as f64) as usize] += 0.9;
            targets.extend(row);
        }
        let targets = Data::f32(&targets);
        let (sum, slopes) = host::cross_entropy(&numbers, &targets.numbers(), classes);
        let [loss_scale, slope_scale] = [1.0, 0.3].map(|x| x / images as f64);
        let want: Vec<f64> = slopes.iter().map(|slope| slope * slope_scale).collect();
        let usual = geometry::cross_entropy(images, bench.multiprocessors());
        for strips in [usual.grid[0], 1] {
            let launch = Geometry { grid: [strips, 1, 1], ..usual };
            let start = [Arg::In(logits.clone()), Arg::In(targets.clone())];
            let ends = [out(want.len()), out(strips as usize)];
            let sizes = [Arg::Int(images), Arg::Int(classes)];
            let scales = [Arg::Float(loss_scale), Arg::Float(slope_scale)];
            let args = [&start[..], &ends, &sizes, &scales].concat();
            let found = bench.run("cross_entropy", launch, &args)?;
            if classes > 1 {
                close("cross_entropy slopes", &found[0], &want, 2e-6, 0.0)?;
                close_sums("cross_entropy", &found[1], &[sum * loss_scale], 3e-6)?;
            }
        }
    }
    Ok(())
}

const FORMS: [(&str, ProductForm); 3] =
    [("nn", ProductForm::Nn), ("nt", ProductForm::Nt), ("tn", ProductForm::Tn)];

/// Products of 32-bit floats without tensor cores.
pub(super) fn plain_products(bench: &mut Bench) -> Result<(), Fault> {
    for sizes in [[1, 1, 1], [65, 10, 33], [7, 130, 65], [64, 64, 16], [100, 3, 20]] {
        for (name, form) in FORMS {
            let [m, n, k] = sizes;
            let (left, first) = bench.operands(Op::F32, m * k, 1.0);
            let (right, second) = bench.operands(Op::F32, k * n, 1.0);
            let (old, before) = bench.operands(Op::F32, m * n, 1.0);
            let (bias, row) = bench.operands(Op::F32, n, 1.0);
            let plain = host::product(form, &first, &second, sizes);
            for (add, biased) in [(false, false), (true, true), (true, false)] {
                let more = |i: usize| {
                    let bias = if biased { row[i % n] } else { 0.0 };
                    bias + if add { before[i] } else { 0.0 }
                };
                let want: Vec<f64> = plain.iter().enumerate().map(|(i, x)| x + more(i)).collect();
                let bias = maybe(biased.then_some(&bias));
                let mut ends = vec![(out(m * n), maybe(add.then_some(&old)))];
                if add {
                    ends.push((Arg::InOut(old.clone()), Arg::Same(2)));
                }
                for (d, c) in ends {
                    let start = [Arg::In(left.clone()), Arg::In(right.clone()), d, c, bias.clone()];
                    let args = [&start[..], &sizes.map(Arg::Int)].concat();
                    let kernel = format!("product_f32_{name}");
                    let found = bench.run(&kernel, geometry::product_f32(m, n), &args)?;
                    close(&kernel, &found[0], &want, 2e-6, 0.0)?;
                }
            }
        }
    }
    Ok(())
}

/// Rows, columns and threads of the tiles of `product.cu`.
const TILES: [[usize; 3]; 5] =
    [[128, 256, 256], [128, 192, 256], [128, 128, 128], [64, 128, 128], [64, 64, 128]];

/// Products on tensor cores.
pub(super) fn products(bench: &mut Bench) -> Result<(), Fault> {
    for (i, tile) in TILES.into_iter().enumerate() {
        for (name, form) in FORMS {
            // Numbers along a row are multiples of 8, the others are any.
            let m = if form == ProductForm::Tn { 136 } else { 131 };
            let k = if form == ProductForm::Tn { 77 } else { 72 };
            let stages = 2 + i % 3;
            tiled(bench, name, form, tile, [m, 264, k], stages)?;
        }
    }
    Ok(())
}

fn tiled(
    bench: &mut Bench,
    name: &str,
    form: ProductForm,
    tile: [usize; 3],
    sizes: [usize; 3],
    stages: usize,
) -> Result<(), Fault> {
    let [rows, columns, threads] = tile;
    let [m, n, k] = sizes;
    let kernel = format!("product_{name}_{rows}x{columns}");
    let (left, first) = bench.operands(Op::Bf16, m * k, 1.0);
    let (right, second) = bench.operands(Op::Bf16, k * n, 1.0);
    let (old, before) = bench.operands(Op::F32, m * n, 1.0);
    let (bias, row) = bench.operands(Op::F32, n, 1.0);
    let plain = host::product(form, &first, &second, sizes);
    let with_bias: Vec<f64> = plain.iter().enumerate().map(|(i, x)| x + row[i % n]).collect();
    let with_both: Vec<f64> = with_bias.iter().zip(&before).map(|(x, c)| x + c).collect();
    let strides = if form == ProductForm::Tn {
        [m, n]
    } else {
        [k, if form == ProductForm::Nt { k } else { n }]
    };
    let blocks = m.div_ceil(rows) * n.div_ceil(columns);
    let launch = |strips: usize| Geometry {
        grid: [blocks as u32, strips as u32, 1],
        block: threads as u32,
        shared: ((rows + columns) * 64 * stages) as u32,
    };
    let numbers = [m, n, k, strides[0], strides[1], n, 8, stages].map(Arg::Int);
    let start = [Arg::In(left), Arg::In(right)];
    let mut run = |strips, middle: [Arg; 5]| {
        bench.run(&kernel, launch(strips), &[&start[..], &middle, &numbers].concat())
    };
    let bias = Arg::In(bias);
    let found = run(1, [Op::Bf16.out(m * n), Arg::Null, Arg::Null, Arg::Null, bias.clone()])?;
    close(&kernel, &found[0], &with_bias, 1e-6, Op::Bf16.round())?;
    let onto = [Arg::Null, Arg::InOut(old), Arg::Same(3), Arg::Null, bias];
    close(&kernel, &run(1, onto)?[0], &with_both, 1e-6, 0.0)?;
    let found = run(3, [Arg::Null, out(3 * m * n), Arg::Null, Arg::Null, Arg::Null])?;
    close_sums(&kernel, &found[0], &plain, 1e-6)?;
    let (old, before) = bench.operands(Op::F32, m * n, 1.0);
    let launch = Geometry { grid: [(m * n).div_ceil(1024) as u32, 1, 1], block: 256, shared: 0 };
    let part = Arg::In(found[0].clone());
    let args = [part, Arg::InOut(old), Arg::Long(m * n), Arg::Int(3), Arg::Int(1)];
    let want: Vec<f64> = plain.iter().zip(before).map(|(x, c)| x + c).collect();
    close("sum_splits", &bench.run("sum_splits", launch, &args)?[0], &want, 1e-6, 0.0)
}

/// Products of the machine's library, if it has one.
pub(super) fn library(bench: &mut Bench) -> Result<(), Fault> {
    if !bench.device.machine().facts().library {
        return Ok(());
    }
    for (_, form) in FORMS {
        for operand in BOTH {
            for result in BOTH {
                for (bias, add) in [(false, false), (true, false), (true, true), (false, true)] {
                    library_product(bench, form, operand, result, [bias, add])?;
                }
            }
        }
    }
    Ok(())
}

fn library_product(
    bench: &mut Bench,
    form: ProductForm,
    operand: Op,
    result: Op,
    [bias, add]: [bool; 2],
) -> Result<(), Fault> {
    // Only bf16 operands have bf16 results.
    if operand == Op::F32 && result == Op::Bf16 {
        return Ok(());
    }
    let sizes = [40, 24, 72];
    let [m, n, k] = sizes;
    let (left, first) = bench.operands(operand, m * k, 1.0);
    let (right, second) = bench.operands(operand, k * n, 1.0);
    let (old, before) = bench.operands(result, m * n, 1.0);
    let (row, biases) = bench.operands(result, n, 1.0);
    let mut want = host::product(form, &first, &second, sizes);
    for (i, x) in want.iter_mut().enumerate() {
        *x += if bias { biases[i % n] } else { 0.0 } + if add { before[i] } else { 0.0 };
    }
    let shape = ProductShape {
        m,
        n,
        k,
        a_transposed: form == ProductForm::Tn,
        b_transposed: form == ProductForm::Nt,
        arithmetic: if operand == Op::Bf16 { Arithmetic::Bf16 } else { Arithmetic::Fp32 },
        result: if result == Op::Bf16 { Number::Bf16 } else { Number::F32 },
        bias,
        add,
    };
    let places =
        [bench.upload(&left)?, bench.upload(&right)?, bench.upload(&old)?, bench.upload(&row)?];
    let [left, right, to, row] = places;
    let operands = Operands { a: left, b: right, c: to, d: to, bias: if bias { row } else { 0 } };
    bench.device.machine().product(shape, operands)?;
    let found = bench.download(to, &result.data(&before))?;
    // The library may round before each addition at the end of a product, and the sum may be far smaller than its terms.
    let terms = if bias || add { result.round() } else { 0.0 };
    close("the library's product", &found, &want, 2e-6 + terms, result.round())
}
