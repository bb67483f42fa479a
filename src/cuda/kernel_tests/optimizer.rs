use super::super::geometry;
use super::super::host::{self, Adam, AdamWeight};
use super::super::machine::{Address, Fault};
use super::bench::{Arg, Bench, Data, Op, close, close_numbers, out};

/// Numbers of a parameter, its weight decay, the factor of its learning rate, and whether it has a copy in bf16.
const PARTS: [(usize, f64, f64, bool); 4] =
    [(40, 0.05, 1.0, true), (513, 0.0, 1.0, false), (1000, 0.05, 0.65, true), (3, 0.0, 1.0, true)];

/// Where the parts begin. What follows the second lies askew.
fn offsets() -> [usize; 4] {
    [0, 40, 553, 1553 + 7]
}

const ALL: usize = 1600;

/// Arrays of a group of parameters in a machine's memory.
struct Arrays {
    param: Address,
    grad: Address,
    first: Address,
    second: Address,
    copy: Address,
}

/// Descriptors of 56 bytes, as kernels read them.
fn table(arrays: &Arrays) -> Data {
    let mut bytes = Vec::new();
    for ((count, decay, rate, copied), at) in PARTS.into_iter().zip(offsets()) {
        let wide =
            [arrays.param, arrays.grad, arrays.first, arrays.second].map(|a| a + 4 * at as u64);
        let copy = if copied { arrays.copy + 2 * at as u64 } else { 0 };
        bytes.extend(wide.iter().chain([&copy]).flat_map(|address| address.to_le_bytes()));
        bytes.extend((count as u32).to_le_bytes());
        bytes.extend([decay as f32, rate as f32, 0.0].iter().flat_map(|x| x.to_le_bytes()));
    }
    Data::U8(bytes)
}

/// The norm of all gradients, `AdamW` and the copies in bf16.
pub(super) fn optimizer(b: &mut Bench) -> Result<(), Fault> {
    let param = b.normal(ALL, 1.0);
    let grad = b.normal(ALL, 3.0);
    let first = b.normal(ALL, 0.1);
    let second: Vec<f64> = b.normal(ALL, 0.1).iter().map(|x| f64::from((x * x) as f32)).collect();
    for (step, clip) in [(1, 5.0), (10, 0.0), (1000, 1e9)] {
        let start = [&param, &grad, &first, &second].map(|numbers| Data::f32(numbers));
        let places: Result<Vec<Address>, Fault> = start.iter().map(|data| b.upload(data)).collect();
        let blank = Data::Bf16(vec![half::bf16::NAN; ALL]);
        let copy = b.upload(&blank)?;
        let [param_at, grad_at, first_at, second_at] = places?[..] else { unreachable!("four") };
        let arrays =
            Arrays { param: param_at, grad: grad_at, first: first_at, second: second_at, copy };
        let table = table(&arrays);
        let launch = geometry::chunks(PARTS.len());

        let args = [Arg::In(table.clone()), out(PARTS.len()), Arg::Int(PARTS.len())];
        let found = b.run("sum_squares", launch, &args)?;
        let squares: Vec<f64> = PARTS
            .iter()
            .zip(offsets())
            .map(|(part, at)| grad[at..at + part.0].iter().map(|x| x * x).sum())
            .collect();
        close("sum_squares", &found[0], &squares, 2e-6, 0.0)?;

        let norm = squares.iter().sum::<f64>().sqrt();
        let factor = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let closed = close_step(b, &found[0], &[0.75, 0.5], clip, true)?;
        close("close_step figures", &closed[0], &[norm, factor], 1e-9, 1e-6)?;
        close("close_step slot", &closed[2], &[0.625, norm], 1e-9, 1e-6)?;
        close("close_step bad", &closed[1], &[0.0], 1e-9, 0.0)?;

        // Orders of threads can't be compared where the result isn't an argument.
        let orders = std::mem::replace(&mut b.orders, 1);
        let result = weights(b, &arrays, &table, &closed, step, factor, &start);
        b.orders = orders;
        result?;
    }
    bad_steps(b)
}

fn weights(
    b: &mut Bench,
    arrays: &Arrays,
    table: &Data,
    closed: &[Data],
    step: i32,
    factor: f64,
    start: &[Data; 4],
) -> Result<(), Fault> {
    let launch = geometry::chunks(PARTS.len());
    let (lr, betas, eps) = (1e-3, [0.9, 0.999], 1e-8);
    let corrections = betas.map(|beta: f64| 1.0 / (1.0 - beta.powi(step)));
    let args = |bad: Data| {
        let numbers = [lr, betas[0], betas[1], eps, corrections[0], corrections[1]];
        let mut args = vec![Arg::In(table.clone())];
        args.extend(numbers.map(Arg::Float));
        args.extend([Arg::In(closed[0].clone()), Arg::In(bad), Arg::Int(PARTS.len())]);
        args
    };
    b.run("adamw", launch, &args(Data::U8(vec![1])))?;
    for (at, data) in [(arrays.param, &start[0]), (arrays.second, &start[3])] {
        if b.download(at, data)? != *data {
            return Err(Fault("adamw: a bad step changed something".to_owned()));
        }
    }
    b.run("adamw", launch, &args(closed[1].clone()))?;
    let read = |b: &mut Bench, at| b.download(at, &start[0]).map(|data| data.numbers());
    let found = [read(b, arrays.param)?, read(b, arrays.first)?, read(b, arrays.second)?];
    let copies = b.download(arrays.copy, &Data::Bf16(vec![half::bf16::NAN; ALL]))?.numbers();
    let [param, grad, first, second] = start.each_ref().map(Data::numbers);
    for ((count, decay, rate, copied), at) in PARTS.into_iter().zip(offsets()) {
        let adam = Adam { lr: lr * rate, betas, eps, corrections, factor, decay };
        let part = at..at + count;
        let want: Vec<AdamWeight> = part
            .clone()
            .map(|i| {
                adam.step(
                    AdamWeight { value: param[i], first: first[i], second: second[i] },
                    grad[i],
                )
            })
            .collect();
        let take = |of: fn(&AdamWeight) -> f64| want.iter().map(of).collect::<Vec<f64>>();
        close_numbers("adamw param", &found[0][part.clone()], &take(|w| w.value), 1e-6, 0.0)?;
        close_numbers("adamw first", &found[1][part.clone()], &take(|w| w.first), 1e-6, 0.0)?;
        // beta2 as a float differs from the double by 1e-8, so 1 − beta2 by 1.3e-5 of it.
        close_numbers("adamw second", &found[2][part.clone()], &take(|w| w.second), 1e-6, 2e-5)?;
        let moved = |after: &[f64]| -> Vec<f64> {
            after.iter().zip(&param[part.clone()]).map(|(a, b)| a - b).collect()
        };
        // The parameter itself is rounded.
        let steps = [moved(&found[0][part.clone()]), moved(&take(|w| w.value))];
        close_numbers("adamw step", &steps[0], &steps[1], 3e-4, 0.0)?;
        let own = &copies[part.clone()];
        if copied {
            close_numbers("adamw copy", own, &found[0][part], 1e-9, Op::Bf16.round())?;
        } else if !own.iter().all(|x| x.is_nan()) {
            return Err(Fault("adamw wrote a copy that nobody asked for".to_owned()));
        }
    }
    narrow(b, arrays, table, &param)
}

fn narrow(b: &mut Bench, arrays: &Arrays, table: &Data, param: &[f64]) -> Result<(), Fault> {
    let machine = b.device.machine();
    machine.write(arrays.param, &Data::f32(param).bytes())?;
    machine.write(arrays.copy, &[0xFF; 2 * ALL])?;
    let args = [Arg::In(table.clone()), Arg::Int(PARTS.len())];
    b.run("narrow_weights", geometry::chunks(PARTS.len()), &args)?;
    let copies = b.download(arrays.copy, &Data::Bf16(vec![half::bf16::NAN; ALL]))?.numbers();
    for ((count, _, _, copied), at) in PARTS.into_iter().zip(offsets()) {
        let own = &copies[at..at + count];
        if copied {
            let want = Op::Bf16.data(&param[at..at + count]).numbers();
            close_numbers("narrow_weights", own, &want, 1e-30, 0.0)?;
        } else if !own.iter().all(|x| x.is_nan()) {
            return Err(Fault("narrow_weights wrote a copy that nobody asked for".to_owned()));
        }
    }
    Ok(())
}

/// Returns figures, bad and slot.
fn close_step(
    b: &mut Bench,
    part: &Data,
    losses: &[f64],
    clip: f64,
    guard: bool,
) -> Result<Vec<Data>, Fault> {
    let mut args = vec![Arg::In(part.clone()), Arg::Int(part.numbers().len())];
    args.extend([Arg::In(Data::f32(losses)), Arg::Int(losses.len()), Arg::Float(clip)]);
    args.extend([Arg::Int(guard.into()), out(2), Arg::Out(Data::U8(vec![0])), out(2)]);
    b.run("close_step", geometry::close_step(), &args)
}

/// Steps whose loss or norm isn't finite are bad if they are watched.
fn bad_steps(b: &mut Bench) -> Result<(), Fault> {
    let many: Vec<f64> = b.normal(1000, 1.0).iter().map(|x| x * x).collect();
    let norm = host::sum_rows(&many, 1)[0].sqrt();
    let closed = close_step(b, &Data::f32(&many), &[2.5], 1.0, false)?;
    close("close_step figures", &closed[0], &[norm, 1.0 / (norm + 1e-6)], 1e-9, 1e-6)?;
    for (part, loss, bad) in [
        ([1.0, f64::INFINITY], 1.0, 1.0),
        ([f64::NAN, 1.0], 1.0, 1.0),
        ([1.0, 2.0], f64::NAN, 1.0),
        ([1.0, 2.0], f64::NEG_INFINITY, 1.0),
        ([1.0, 2.0], 1.0, 0.0),
    ] {
        for guard in [true, false] {
            let closed = close_step(b, &Data::f32(&part), &[1.0, loss], 5.0, guard)?;
            let want = if guard { bad } else { 0.0 };
            close("close_step bad", &closed[1], &[want], 1e-9, 0.0)?;
        }
    }
    Ok(())
}
