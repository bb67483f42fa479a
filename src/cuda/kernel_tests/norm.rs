use super::super::geometry::{self, Strips};
use super::super::host;
use super::super::machine::Fault;
use super::bench::{Arg, BOTH, Bench, Data, Op, close, close_sums, maybe, out};

const EPS: f64 = 1e-6;

/// Layer norm and its gradients.
pub(super) fn norms(b: &mut Bench) -> Result<(), Fault> {
    for (rows, width) in [(33, 192), (9, 120), (3, 8), (10, 24), (5, 1024), (6, 1280)] {
        for op in BOTH {
            norm(b, op, rows, width)?;
        }
    }
    Ok(())
}

fn norm(b: &mut Bench, op: Op, rows: usize, width: usize) -> Result<(), Fault> {
    let x: Vec<f64> =
        b.normal(rows * width, 2.0).iter().map(|x| f64::from((x + 0.5) as f32)).collect();
    let gamma: Vec<f64> =
        b.normal(width, 0.3).iter().map(|x| f64::from((1.0 + x) as f32)).collect();
    let beta = b.normal(width, 0.2);
    let inputs = [&x, &gamma, &beta].map(|numbers| Arg::In(Data::f32(numbers)));
    let [input, weight, bias] = inputs;
    let sizes = [Arg::Int(rows), Arg::Int(width)];
    let mut args =
        vec![input.clone(), weight.clone(), bias, op.out(rows * width), out(rows), out(rows)];
    args.extend([sizes[0].clone(), sizes[1].clone(), Arg::Float(EPS)]);
    let found = b.run(&op.name("norm_forward"), geometry::norm_forward(rows), &args)?;
    let want = host::norm(&x, &gamma, &beta, EPS);
    close("norm_forward y", &found[0], &want[0], 2e-6, op.round())?;
    close("norm_forward mean", &found[1], &want[1], 1e-6, 0.0)?;
    close("norm_forward rstd", &found[2], &want[2], 1e-6, 0.0)?;

    let (dy, slopes) = b.operands(op, rows * width, 1.0);
    let upstream = b.normal(rows * width, 1.0);
    let want = host::norm_backward(&slopes, &x, &gamma, EPS);
    let flow: Vec<f64> = want[0].iter().zip(&upstream).map(|(a, b)| a + b).collect();
    let upstream = Data::f32(&upstream);
    let usual = geometry::norm_backward(rows, b.multiprocessors());
    let mut start = vec![Arg::In(dy), input, Arg::In(found[1].clone()), Arg::In(found[2].clone())];
    start.push(weight);
    for strips in [usual.grid[0], 1, rows as u32 + 2] {
        let launch = geometry::Geometry { grid: [strips, 1, 1], ..usual };
        let part = || out(strips as usize * width);
        for above in [None, Some(&upstream)] {
            let end = [part(), part(), sizes[0].clone(), sizes[1].clone()];
            let args = [&start[..], &[maybe(above), out(rows * width)], &end].concat();
            let found = b.run(&op.name("norm_backward"), launch, &args)?;
            let dx = if above.is_some() { &flow } else { &want[0] };
            close("norm_backward dx", &found[0], dx, 2e-6, 0.0)?;
            close_sums("norm_backward gamma", &found[1], &want[1], 3e-6)?;
            close_sums("norm_backward beta", &found[2], &want[2], 3e-6)?;
            if op == Op::Bf16 {
                let more = [maybe(above), out(rows * width), op.out(rows * width)];
                let args = [&start[..], &more, &end].concat();
                let again = b.run("norm_backward_copy", launch, &args)?;
                close("norm_backward_copy", &again[1], &again[0].numbers(), 1e-30, op.round())?;
                if [&again[0], &again[2], &again[3]] != [&found[0], &found[1], &found[2]] {
                    return Err(Fault("norm_backward_copy differs from norm_backward".to_owned()));
                }
            }
        }
    }
    // In place.
    let place = start.len();
    let end = [Arg::InOut(upstream), Arg::Same(place)];
    let strips = usual.grid[0] as usize * width;
    let args = [&start[..], &end, &[out(strips), out(strips)], &sizes].concat();
    let found = b.run(&op.name("norm_backward"), usual, &args)?;
    close("norm_backward in place", &found[0], &flow, 2e-6, 0.0)
}

/// Both stages of sums over rows.
pub(super) fn sums(b: &mut Bench) -> Result<(), Fault> {
    for (strips, columns) in [(1, 40), (17, 192), (300, 72), (5, 33), (4, 1)] {
        let (part, numbers) = b.operands(Op::F32, strips * columns, 1.0);
        let (old, before) = b.operands(Op::F32, columns, 1.0);
        let want = host::sum_rows(&numbers, columns);
        let onto: Vec<f64> = want.iter().zip(before).map(|(a, b)| a + b).collect();
        let usual = geometry::sum_strips(strips, columns);
        for block in [usual.block, 1024, 32] {
            let launch = geometry::Geometry { block, ..usual };
            for (to, accumulate, want) in
                [(out(columns), 0, &want), (Arg::InOut(old.clone()), 1, &onto)]
            {
                let sizes = [Arg::Int(strips), Arg::Int(columns), Arg::Int(accumulate)];
                let args = [&[Arg::In(part.clone()), to], &sizes[..]].concat();
                close("sum_strips", &b.run("sum_strips", launch, &args)?[0], want, 2e-6, 0.0)?;
            }
        }
        for (to, accumulate, want) in [(out(columns), 0, &want), (Arg::InOut(old), 1, &onto)] {
            let sizes = [Arg::Int(strips), Arg::Int(columns), Arg::Int(accumulate)];
            let args = [&[Arg::In(part.clone()), to], &sizes[..]].concat();
            let found = b.run("column_totals", geometry::column_totals(columns), &args)?;
            close("column_totals", &found[0], want, 2e-6, 0.0)?;
        }
    }
    for (rows, width) in [(37, 192), (131, 120), (70, 576), (3, 264), (7, 8)] {
        for op in BOTH {
            let (x, numbers) = b.operands(op, rows * width, 1.0);
            let usual = geometry::columns(Strips::Columns, rows, width, b.multiprocessors());
            for strips in [usual.grid[1], 1, 5] {
                let launch = geometry::Geometry { grid: [usual.grid[0], strips, 1], ..usual };
                let part = out(strips as usize * width);
                let args = [Arg::In(x.clone()), part, Arg::Int(rows), Arg::Int(width)];
                let found = b.run(&op.name("column_sums"), launch, &args)?;
                close_sums("column_sums", &found[0], &host::sum_rows(&numbers, width), 2e-6)?;
            }
        }
    }
    Ok(())
}
