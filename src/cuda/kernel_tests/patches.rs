use super::super::geometry::{self, Geometry, Strips};
use super::super::host::{self, PlainLoss};
use super::super::machine::Fault;
use super::bench::{Arg, BOTH, Bench, Data, Op, close, close_numbers, close_sums, maybe, out};

const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

/// Images as bytes and as floats, and their patches as they are to be.
struct Images {
    pixels: Data,
    mean: Data,
    inv_std: Data,
    patches: Vec<f64>,
}

fn images(b: &mut Bench, count: usize, grid: [usize; 2], p: usize, floats: bool) -> Images {
    let [rows, columns] = grid;
    let pixels = rows * columns * p * p;
    let (mean, inv_std) = (Data::f32(&MEAN), Data::f32(&STD.map(|x| 1.0 / x)));
    let triple = |data: &Data| data.numbers().try_into().expect("three channels");
    if floats {
        let (pixels, planes) = b.operands(Op::F32, count * 3 * pixels, 1.0);
        return Images { pixels, mean, inv_std, patches: host::patches(&planes, grid, p) };
    }
    let bytes: Vec<u8> = (0..count * 3 * pixels).map(|_| (b.uniform() * 256.0) as u8).collect();
    let planes = host::planes(&bytes, pixels, triple(&mean), triple(&inv_std));
    Images { pixels: Data::U8(bytes), mean, inv_std, patches: host::patches(&planes, grid, p) }
}

/// Images cut into patches, and the losses of predicted patches.
pub(super) fn patches(b: &mut Bench) -> Result<(), Fault> {
    let cases = [(2, [3, 5], 16), (3, [2, 2], 4), (2, [3, 2], 8), (1, [2, 3], 12), (1, [1, 1], 32)];
    for (count, grid, p) in cases {
        for floats in [false, true] {
            let images = images(b, count, grid, p, floats);
            for op in BOTH {
                patchify(b, op, &images, count, grid, p)?;
                losses(b, op, &images, grid, p)?;
            }
        }
    }
    Ok(())
}

fn pixel_args(images: &Images) -> [Arg; 4] {
    let floats = usize::from(matches!(images.pixels, Data::F32(_)));
    let data = |data: &Data| Arg::In(data.clone());
    [data(&images.pixels), Arg::Int(floats), data(&images.mean), data(&images.inv_std)]
}

fn patchify(
    b: &mut Bench,
    op: Op,
    images: &Images,
    count: usize,
    [rows, columns]: [usize; 2],
    p: usize,
) -> Result<(), Fault> {
    let numbers = images.patches.len();
    let launch = geometry::flat(numbers, b.multiprocessors());
    let mut args = pixel_args(images).to_vec();
    args.extend([op.out(numbers), Arg::Int(count), Arg::Int(rows), Arg::Int(columns), Arg::Int(p)]);
    let found = b.run(&op.name("patchify"), launch, &args)?;
    close("patchify", &found[0], &images.patches, 3e-7, op.round())
}

fn losses(
    b: &mut Bench,
    op: Op,
    images: &Images,
    [rows, columns]: [usize; 2],
    p: usize,
) -> Result<(), Fault> {
    let numbers = 3 * p * p;
    let all = images.patches.len() / numbers;
    let count = (all * 6 / 10).max(1);
    let hidden = b.some_of(count, all);
    let target: Vec<f64> = hidden
        .iter()
        .flat_map(|row| &images.patches[row * numbers..(row + 1) * numbers])
        .copied()
        .collect();
    let (prediction, predicted) = b.operands(op, count * numbers, 1.0);
    let hidden = Data::I32(hidden.iter().map(|row| *row as i32).collect());
    // Neither is a power of two, nor the other's neighbour.
    let [loss_scale, slope_scale] = [1.0, 0.3].map(|x| x / (count * numbers) as f64);
    let usual = geometry::patch_loss(count, b.multiprocessors());
    let cases = [(PlainLoss::Absolute, 1.0), (PlainLoss::Squared, 1.0), (PlainLoss::Smooth, 0.7)];
    for ((kind, beta), normalise) in cases.into_iter().flat_map(|c| [(c, false), (c, true)]) {
        let aim = if normalise { &host::normalise(&target, numbers) } else { &target };
        let (sum, slopes) = host::loss(kind, beta, &predicted, aim);
        let slopes: Vec<f64> = slopes.iter().map(|slope| slope * slope_scale).collect();
        for strips in [usual.grid[0], 1] {
            let launch = Geometry { grid: [strips, 1, 1], ..usual };
            let ends = [op.out(count * numbers), out(strips as usize)];
            let sizes = [count, rows, columns, p].map(Arg::Int);
            let scales = [Arg::Float(loss_scale), Arg::Float(slope_scale)];
            let how = [Arg::Int(kind as usize), Arg::Float(beta), Arg::Int(normalise.into())];
            let rows = [Arg::In(hidden.clone())];
            let start = [Arg::In(prediction.clone())];
            let args =
                [&start[..], &pixel_args(images), &rows, &ends, &sizes, &scales, &how].concat();
            let found = b.run(&op.name("patch_loss"), launch, &args)?;
            close_sums("patch_loss", &found[1], &[sum * loss_scale], 3e-6)?;
            // Next to an error of zero, and to the corner of the smooth loss, rounding decides about the slope's sign.
            let mut got = found[0].numbers();
            let near = |i: usize| (predicted[i] - aim[i]).abs() < 1e-5;
            (0..got.len()).filter(|i| near(*i)).for_each(|i| got[i] = slopes[i]);
            close_numbers("patch_loss slopes", &got, &slopes, 1e-5, op.round())?;
        }
    }
    Ok(())
}

/// Mask token, positions, and rows picked and put back.
pub(super) fn tokens(b: &mut Bench) -> Result<(), Fault> {
    for (images, tokens, width) in [(3, 7, 264), (2, 10, 120), (5, 5, 192), (1, 1, 8)] {
        for op in BOTH {
            embed(b, op, [images, tokens, width])?;
            rows(b, op, images * tokens, width)?;
            pool(b, op, [images, tokens, width])?;
        }
    }
    Ok(())
}

fn embed(b: &mut Bench, op: Op, [images, tokens, width]: [usize; 3]) -> Result<(), Fault> {
    let count = images * tokens * width;
    let rows = images * tokens;
    let (proj, projected) = b.operands(op, count, 1.0);
    let (token, masked) = b.operands(Op::F32, width, 1.0);
    let (position, positions) = b.operands(Op::F32, tokens * width, 1.0);
    let (dx, slopes) = b.operands(Op::F32, count, 1.0);
    let hidden = Data::U8((0..rows).map(|_| u8::from(b.uniform() < 0.6)).collect());
    let flags = hidden.numbers();
    let flat = geometry::flat(count, b.multiprocessors());
    for (mask, place) in [(true, true), (true, false), (false, true), (false, false)] {
        let is_hidden = |i: usize| mask && flags[i / width] != 0.0;
        let value = |i: usize| {
            let own = if is_hidden(i) { masked[i % width] } else { projected[i] };
            own + if place { positions[i % (tokens * width)] } else { 0.0 }
        };
        let want: Vec<f64> = (0..count).map(value).collect();
        let [mask, token] = [maybe(mask.then_some(&hidden)), maybe(mask.then_some(&token))];
        let mut args = vec![Arg::In(proj.clone()), mask.clone(), token];
        args.extend([maybe(place.then_some(&position)), out(count)]);
        args.extend([rows, tokens, width].map(Arg::Int));
        let found = b.run(&op.name("embed_finish"), flat, &args)?;
        close("embed_finish", &found[0], &want, 2e-7, 0.0)?;

        let want = |hid: bool| -> Vec<f64> {
            (0..count).map(|i| if is_hidden(i) == hid { slopes[i] } else { 0.0 }).collect()
        };
        let usual = geometry::columns(Strips::BranchEnd, rows, width, b.multiprocessors());
        for strips in [usual.grid[1], 3] {
            let launch = Geometry { grid: [usual.grid[0], strips, 1], ..usual };
            let whole = !matches!(mask, Arg::Null);
            let part = if whole { out(strips as usize * width) } else { Arg::Null };
            let mut args = vec![Arg::In(dx.clone()), mask.clone(), op.out(count), part];
            args.extend([Arg::Int(rows), Arg::Int(width)]);
            let found = b.run(&op.name("embed_backward"), launch, &args)?;
            close("embed_backward", &found[0], &want(false), 1e-9, op.round())?;
            if whole {
                let sums = host::sum_rows(&want(true), width);
                close_sums("embed_backward token", &found[1], &sums, 2e-6)?;
            }
        }
    }
    let sums = host::sum_rows(&slopes, tokens * width);
    let onto: Vec<f64> = sums.iter().zip(&positions).map(|(a, b)| a + b).collect();
    let cases = [(out(tokens * width), 0, sums), (Arg::InOut(position), 1, onto)];
    for (to, accumulate, want) in cases {
        let sizes = [images, tokens, width, accumulate].map(Arg::Int);
        let args = [&[Arg::In(dx.clone()), to], &sizes[..]].concat();
        let found = b.run("position_sums", geometry::position_sums(tokens, width), &args)?;
        close("position_sums", &found[0], &want, 2e-6, 0.0)?;
    }
    Ok(())
}

fn rows(b: &mut Bench, op: Op, rows: usize, width: usize) -> Result<(), Fault> {
    let (x, numbers) = b.operands(op, rows * width, 1.0);
    let picked = b.some_of((rows * 6 / 10).max(1), rows);
    let count = picked.len();
    let list = Data::I32(picked.iter().map(|row| *row as i32).collect());
    let flat = geometry::flat(count * width, b.multiprocessors());
    let sizes = [Arg::Int(count), Arg::Int(width)];
    let args = [&[Arg::In(x), Arg::In(list.clone()), op.out(count * width)], &sizes[..]].concat();
    let found = b.run(&op.name("gather_rows"), flat, &args)?;
    let whole = |row: &usize| numbers[row * width..(row + 1) * width].to_vec();
    let want: Vec<f64> = picked.iter().flat_map(whole).collect();
    close("gather_rows", &found[0], &want, 1e-30, 0.0)?;
    let zeros = op.data(&vec![0.0; rows * width]);
    let start = [Arg::In(found[0].clone()), Arg::In(list), Arg::InOut(zeros)];
    let found = b.run(&op.name("scatter_rows"), flat, &[&start[..], &sizes].concat())?;
    let kept = |(i, x): (usize, &f64)| if picked.contains(&(i / width)) { *x } else { 0.0 };
    let want: Vec<f64> = numbers.iter().enumerate().map(kept).collect();
    close("scatter_rows", &found[0], &want, 1e-30, 0.0)
}

fn pool(b: &mut Bench, op: Op, [images, tokens, width]: [usize; 3]) -> Result<(), Fault> {
    let count = images * tokens * width;
    let (x, numbers) = b.operands(op, count, 1.0);
    let sizes = [images, tokens, width].map(Arg::Int);
    let args = [&[Arg::In(x), out(images * width)], &sizes[..]].concat();
    let launch = geometry::pool_tokens(images, width);
    let found = b.run(&op.name("pool_tokens"), launch, &args)?;
    let sums = |image: &[f64]| host::sum_rows(image, width);
    let means = numbers.chunks_exact(tokens * width).flat_map(sums).map(|x| x / tokens as f64);
    close("pool_tokens", &found[0], &means.collect::<Vec<_>>(), 1e-6, 0.0)?;
    let (dpooled, slopes) = b.operands(Op::F32, images * width, 1.0);
    let flat = geometry::flat(count, b.multiprocessors());
    let args = [&[Arg::In(dpooled), op.out(count)], &sizes[..]].concat();
    let found = b.run(&op.name("pool_backward"), flat, &args)?;
    let slope = |i: usize| slopes[i / width / tokens * width + i % width] / tokens as f64;
    let want: Vec<f64> = (0..count).map(slope).collect();
    close("pool_backward", &found[0], &want, 2e-7, op.round())
}
