use super::super::geometry::{self, Geometry, Strips};
use super::super::host::{self, Factors};
use super::super::machine::Fault;
use super::bench::{Arg, BOTH, Bench, Data, Op, close, close_sums, maybe, out};

/// GELU and its gradient, with the sums of the bias before it.
pub(super) fn gelu(b: &mut Bench) -> Result<(), Fault> {
    for (rows, width) in [(3, 192), (37, 120), (1, 8), (19, 768)] {
        for op in BOTH {
            let mut pre = b.normal(rows * width, 2.5);
            if rows == 3 {
                let spread = |i: usize| -12.0 + 24.0 * i as f64 / (width - 1) as f64;
                (0..width).for_each(|i| pre[i] = spread(i));
                pre[width..2 * width].fill(0.0);
            }
            let pre = op.data(&pre);
            let numbers = pre.numbers();
            let want: Vec<f64> = numbers.iter().map(|x| host::gelu(*x)).collect();
            let count = rows * width;
            for multiprocessors in [b.multiprocessors(), 0] {
                let mut launch = geometry::flat(count, multiprocessors.max(1));
                launch.grid[0] = if multiprocessors == 0 { 1 } else { launch.grid[0] };
                let args = [Arg::In(pre.clone()), op.out(count), Arg::Long(count)];
                let found = b.run(&op.name("gelu_forward"), launch, &args)?;
                close("gelu_forward", &found[0], &want, 5e-7, op.round())?;
            }
            let (dout, slopes) = b.operands(op, count, 1.0);
            let pairs = slopes.iter().zip(&numbers);
            let want: Vec<f64> = pairs.map(|(d, x)| d * host::gelu_slope(*x)).collect();
            let usual = geometry::columns(Strips::Gelu, rows, width, b.multiprocessors());
            for strips in [usual.grid[1], 1, 4] {
                let launch = Geometry { grid: [usual.grid[0], strips, 1], ..usual };
                let mut args = vec![Arg::In(dout.clone()), Arg::In(pre.clone()), op.out(count)];
                args.extend([out(strips as usize * width), Arg::Int(rows), Arg::Int(width)]);
                let found = b.run(&op.name("gelu_backward_sums"), launch, &args)?;
                close("gelu_backward_sums dpre", &found[0], &want, 8e-7, op.round())?;
                let sums = host::sum_rows(&want, width);
                close_sums("gelu_backward_sums", &found[1], &sums, 3e-6)?;
            }
        }
    }
    Ok(())
}

/// Ends of branches with and without `LayerScale` and drop path.
pub(super) fn branches(b: &mut Bench) -> Result<(), Fault> {
    let factors = Data::f32(&[1.25, 0.0, 1.25, 0.0]);
    for (images, tokens, width) in [(3, 7, 264), (2, 10, 120), (4, 5, 192), (1, 1, 8)] {
        let scale = Data::f32(&b.normal(width, 0.5));
        let factor = Data::f32(&factors.numbers()[..images]);
        for op in BOTH {
            for (scale, factor) in [
                (None, None),
                (Some(&scale), None),
                (None, Some(&factor)),
                (Some(&scale), Some(&factor)),
            ] {
                branch(b, op, [images, tokens, width], scale, factor)?;
            }
        }
    }
    Ok(())
}

fn branch(
    b: &mut Bench,
    op: Op,
    [images, tokens, width]: [usize; 3],
    scale: Option<&Data>,
    factor: Option<&Data>,
) -> Result<(), Fault> {
    let rows = images * tokens;
    let count = rows * width;
    let (branch, numbers) = b.operands(op, count, 1.0);
    let (x, stream) = b.operands(Op::F32, count, 1.0);
    let (dout, slopes) = b.operands(Op::F32, count, 1.0);
    let given = [scale.map(Data::numbers), factor.map(Data::numbers)];
    let factors =
        Factors { scale: given[0].as_deref(), factor: given[1].as_deref(), tokens, width };
    let sizes = [Arg::Int(rows), Arg::Int(tokens), Arg::Int(width)];
    let given = [maybe(scale), maybe(factor)];

    let want = factors.branch_end(&stream, &numbers);
    let flat = geometry::flat(count, b.multiprocessors());
    for (from, to) in [(Arg::In(x.clone()), out(count)), (Arg::InOut(x), Arg::Same(0))] {
        let args = [&[from, Arg::In(branch.clone())], &given[..], &[to], &sizes].concat();
        let found = b.run(&op.name("branch_end"), flat, &args)?;
        close("branch_end", &found[0], &want, 3e-7, 0.0)?;
    }

    let [dbranch, dscale, dbias] = factors.branch_end_backward(&slopes, &numbers);
    let usual = geometry::columns(Strips::BranchEnd, rows, width, b.multiprocessors());
    for strips in [usual.grid[1], 1, 3] {
        let launch = Geometry { grid: [usual.grid[0], strips, 1], ..usual };
        let part = out(strips as usize * width);
        for whole in [true, false] {
            let read = if whole { Arg::In(branch.clone()) } else { Arg::Null };
            let wanted = if whole { part.clone() } else { Arg::Null };
            let ends = [op.out(count), wanted, part.clone()];
            let args = [&[Arg::In(dout.clone()), read], &given[..], &ends, &sizes].concat();
            let found = b.run(&op.name("branch_end_backward_sums"), launch, &args)?;
            close("dbranch", &found[0], &dbranch, 2e-7, op.round())?;
            if whole {
                close_sums("branch_end_backward_sums scale", &found[1], &dscale, 2e-6)?;
            }
            let last = &found[found.len() - 1];
            close_sums("branch_end_backward_sums bias", last, &dbias, 3e-6)?;
        }
    }
    Ok(())
}
