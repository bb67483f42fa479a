//! What the kernels compute, as plain loops in double precision. All matrices are row-major, names and shapes those of
//! `kernels.cu`.

mod attention;
mod loss;
mod optimizer;

pub(crate) use attention::*;
pub(crate) use loss::*;
pub(crate) use optimizer::*;

/// Returns y, and mean and 1 / deviation of each row.
pub(crate) fn norm(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> [Vec<f64>; 3] {
    let width = gamma.len();
    let [mut y, mut means, mut scales] = [vec![], vec![], vec![]];
    for row in x.chunks_exact(width) {
        let mean = row.iter().sum::<f64>() / width as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
        let scale = 1.0 / (variance + eps).sqrt();
        y.extend(row.iter().zip(gamma).zip(beta).map(|((x, g), b)| (x - mean) * scale * g + b));
        means.push(mean);
        scales.push(scale);
    }
    [y, means, scales]
}

/// Returns the gradients of x, gamma and beta.
pub(crate) fn norm_backward(dy: &[f64], x: &[f64], gamma: &[f64], eps: f64) -> [Vec<f64>; 3] {
    let width = gamma.len();
    let [hat, _, scales] = norm(x, &vec![1.0; width], &vec![0.0; width], eps);
    let [mut dx, mut dgamma, mut dbeta] = [vec![], vec![0.0; width], vec![0.0; width]];
    for ((dy, hat), scale) in dy.chunks_exact(width).zip(hat.chunks_exact(width)).zip(scales) {
        let slopes: Vec<f64> = dy.iter().zip(gamma).map(|(d, g)| d * g).collect();
        let mean = slopes.iter().sum::<f64>() / width as f64;
        let along = slopes.iter().zip(hat).map(|(s, h)| s * h).sum::<f64>() / width as f64;
        dx.extend(slopes.iter().zip(hat).map(|(s, h)| scale * (s - mean - h * along)));
        for column in 0..width {
            dgamma[column] += dy[column] * hat[column];
            dbeta[column] += dy[column];
        }
    }
    [dx, dgamma, dbeta]
}

/// Returns the sums over the rows.
pub(crate) fn sum_rows(x: &[f64], columns: usize) -> Vec<f64> {
    let mut sums = vec![0.0; columns];
    for row in x.chunks_exact(columns) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    sums
}

/// Returns the share of a normal distribution below x, and the density at x.
fn below(x: f64) -> [f64; 2] {
    let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x.abs() > 9.0 {
        return [if x > 0.0 { 1.0 } else { 0.0 }, density];
    }
    // Φ(x) = 1/2 + φ(x) · (x + x³/3 + x⁵/(3·5) + ...), all terms of one sign
    let (mut term, mut sum, mut odd) = (x, x, 3.0);
    while term.abs() > 1e-18 * sum.abs() {
        term *= x * x / odd;
        sum += term;
        odd += 2.0;
    }
    [0.5 + density * sum, density]
}

pub(crate) fn gelu(x: f64) -> f64 {
    x * below(x)[0]
}

pub(crate) fn gelu_slope(x: f64) -> f64 {
    let [share, density] = below(x);
    share + x * density
}

/// Factors of a branch: one for each column (LayerScale) and one for each image (drop path), 1 without.
pub(crate) struct Factors<'a> {
    pub scale: Option<&'a [f64]>,
    pub factor: Option<&'a [f64]>,
    pub tokens: usize,
    pub width: usize,
}

impl Factors<'_> {
    /// Of the number at a place of `[B·N, D]`: that of its column, and that of its image.
    fn at(&self, i: usize) -> [f64; 2] {
        let image = i / self.width / self.tokens;
        [self.scale.map_or(1.0, |s| s[i % self.width]), self.factor.map_or(1.0, |f| f[image])]
    }

    pub(crate) fn branch_end(&self, x: &[f64], branch: &[f64]) -> Vec<f64> {
        let sum = |(i, (x, b)): (usize, (&f64, &f64))| x + self.at(i).iter().product::<f64>() * b;
        x.iter().zip(branch).enumerate().map(sum).collect()
    }

    /// Returns the gradients of the branch, of the scale and of a bias within the branch.
    pub(crate) fn branch_end_backward(&self, dout: &[f64], branch: &[f64]) -> [Vec<f64>; 3] {
        let all = || dout.iter().enumerate().map(|(i, d)| (i, *d, self.at(i)));
        let dbranch: Vec<f64> = all().map(|(_, d, [scale, factor])| d * factor * scale).collect();
        let dscale: Vec<f64> = all().map(|(i, d, [_, factor])| d * factor * branch[i]).collect();
        let sums = [sum_rows(&dscale, self.width), sum_rows(&dbranch, self.width)];
        let [dscale, dbias] = sums;
        [dbranch, dscale, dbias]
    }
}

/// Returns what the head is to predict for images of `[3, H, W]` numbers each: a row of each patch, channel by channel.
pub(crate) fn patches(planes: &[f64], [rows, columns]: [usize; 2], p: usize) -> Vec<f64> {
    let (height, width) = (rows * p, columns * p);
    let mut all = Vec::with_capacity(planes.len());
    for image in planes.chunks_exact(3 * height * width) {
        for patch in 0..rows * columns {
            for i in 0..3 * p * p {
                let (channel, y, x) = (i / (p * p), i / p % p, i % p);
                let (y, x) = (patch / columns * p + y, patch % columns * p + x);
                all.push(image[(channel * height + y) * width + x]);
            }
        }
    }
    all
}

/// Returns images of bytes `[H, W, 3]` as planes, normalised.
pub(crate) fn planes(bytes: &[u8], pixels: usize, mean: [f64; 3], inv_std: [f64; 3]) -> Vec<f64> {
    let mut all = Vec::with_capacity(bytes.len());
    for image in bytes.chunks_exact(3 * pixels) {
        for channel in 0..3 {
            let value = |x: &u8| (f64::from(*x) / 255.0 - mean[channel]) * inv_std[channel];
            all.extend(image.iter().skip(channel).step_by(3).map(value));
        }
    }
    all
}

/// How the operands of a product are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProductForm {
    /// a `[M, K]`, b `[K, N]`
    Nn,
    /// a `[M, K]`, b `[N, K]`
    Nt,
    /// a `[K, M]`, b `[K, N]`
    Tn,
}

pub(crate) fn product(
    form: ProductForm,
    first: &[f64],
    second: &[f64],
    [m, n, k]: [usize; 3],
) -> Vec<f64> {
    let mut out = vec![0.0; m * n];
    for (row, sums) in out.chunks_exact_mut(n).enumerate() {
        for term in 0..k {
            let left =
                if form == ProductForm::Tn { first[term * m + row] } else { first[row * k + term] };
            for (column, sum) in sums.iter_mut().enumerate() {
                let at =
                    if form == ProductForm::Nt { column * k + term } else { term * n + column };
                *sum += left * second[at];
            }
        }
    }
    out
}
