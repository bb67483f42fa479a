//! Scalar functions that the compiler can vectorise: arithmetic without branches, with the same bits for every
//! instruction set.
//!
//! They return NaN for NaN, except where one says otherwise.
#![allow(
    clippy::inline_always,
    clippy::excessive_precision,
    reason = "a part of the kernels, compiled for their instructions; constants are quoted as published"
)]

/// Number of partial results, which are independent so that one operation needn't wait for another.
const LANES: usize = 32;

/// Returns `x`, or the bound that it lies beyond.
#[inline(always)]
fn bounded(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > high { high } else { x };
    if x < low { low } else { x }
}

/// Returns eˣ to 2 ulp, by the polynomial of Cephes around the nearest multiple of ln 2. Below −87 it stays at e⁻⁸⁷.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³. A sum with it has the nearest integer in its lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = bounded(x, -87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 is split in two parts. The first one has few digits, so that n times it is exact.
    let r = x - n * 0.693_359_375 - n * -2.121_944_4e-4;
    let p = 1.987_569_15e-4;
    let p = p * r + 1.398_199_95e-3;
    let p = p * r + 8.333_451_9e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.000_000_1e-1;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    (p * (r * r) + r + 1.0) * power
}

/// Returns the error function to some ulp, by a rational approximation on `[−4, 4]`. Beyond, it rounds to ±1.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let x = bounded(x, -4.0, 4.0);
    let s = x * x;
    let p = -2.726_142_3e-10;
    let p = p * s + 2.770_681_4e-8;
    let p = p * s - 2.101_024_0e-6;
    let p = p * s - 5.692_506_4e-5;
    let p = p * s - 7.349_906_3e-4;
    let p = p * s - 2.954_599_8e-3;
    let p = p * s - 1.609_603_3e-2;
    let q = -1.456_607_2e-5;
    let q = q * s - 2.133_740_6e-4;
    let q = q * s - 1.682_827e-3;
    let q = q * s - 7.373_329e-3;
    let q = q * s - 1.426_473_9e-2;
    x * p / q
}

/// Returns Φ(x), the normal distribution function.
#[inline(always)]
pub fn normal_cdf(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// Returns φ(x), the normal density.
#[inline(always)]
pub fn normal_density(x: f32) -> f32 {
    /// 1 / √(2π)
    const FACTOR: f32 = 0.398_942_28;
    FACTOR * exp(-0.5 * x * x)
}

/// Returns the sum of `f` over the pairs of `a` and `b`.
#[inline(always)]
pub fn sum_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest = rest.map(|(&x, &y)| f(x, y)).sum::<f32>();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += f(x[lane], y[lane]);
        }
    }
    fold(lanes, |x, y| x + y) + rest
}

/// Returns the sum of `f` over all numbers.
#[inline(always)]
pub fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum_pairs(values, values, |x, _| f(x))
}

/// Returns the largest number. NaN is skipped.
#[inline(always)]
pub fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, larger);
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    larger(fold(lanes, larger), rest)
}

/// Returns the larger number, compared as the machine instruction does. `f32::max` would need a second comparison for NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Combines the two halves with each other until one number is left.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = f(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_right_to_a_few_units_in_the_last_place_and_hands_nan_on() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 3e-7, "exp({x}) is off by {error}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn the_normal_distribution_agrees_with_its_density_and_its_ends() {
        assert!((normal_cdf(0.0) - 0.5).abs() < 1e-7);
        assert!((normal_cdf(1.0) - 0.841_344_75).abs() < 2e-7);
        assert!((normal_cdf(-2.0) - 0.022_750_132).abs() < 2e-7);
        assert!((normal_cdf(9.0) - 1.0).abs() < 1e-7 && normal_cdf(-9.0).abs() < 1e-7);
        for i in -60..60 {
            let x = i as f32 / 10.0;
            let slope = (normal_cdf(x + 0.02) - normal_cdf(x - 0.02)) / 0.04;
            assert!((slope - normal_density(x)).abs() < 1e-4, "at {x}");
        }
        assert!(normal_cdf(f32::NAN).is_nan());
    }

    #[test]
    fn sums_and_maxima_take_every_number_once() {
        for len in [0, 1, 31, 32, 33, 100] {
            let values: Vec<f32> = (0..len).map(|i| (i % 17) as f32).collect();
            let expected: f32 = values.iter().sum();
            assert!((sum(&values, |x| x) - expected).abs() < 1e-3, "{len}");
            let expected = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert!((largest(&values) - expected).abs() < 1e-6 || len == 0, "{len}");
        }
    }
}
