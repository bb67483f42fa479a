//! The linear probe: multinomial logistic regression on standardised vectors.
//!
//! The objective is the mean cross-entropy plus `l2 / 2` times the sum of the squared weights, without the biases. It
//! is convex, so its optimum depends neither on a seed nor on the order of the vectors.

use super::Vectors;
use super::lbfgs::{Limits, minimize};
use crate::ops::kernel::{Matrix, MatrixMut, multiply};
use rayon::prelude::*;

/// Strengths of the regularisation that are tried, the strongest first.
const L2: [f64; 6] = [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5];
/// One in this many training vectors is held out to choose among them.
const HELD_OUT: u64 = 5;
const LIMITS: Limits = Limits { iterations: 300, gradient: 1e-5 };
/// Number of parts in which the training vectors are summed. It is fixed so that the sum doesn't depend on the machine.
const PARTS: usize = 16;

/// Fits a probe with the regularisation that does best on a fifth of the training vectors.
///
/// The choice is by accuracy, and of equal ones the stronger regularisation wins. The probe is then fitted to all of
/// the vectors. Labels are below `classes`. Returns `None` if `go_on` returned `false`.
pub(super) fn fit_and_choose(
    train: &Vectors,
    classes: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Option<Probe> {
    let (rest, held_out) = train.divide(HELD_OUT);
    let mut best = (0, L2[0]);
    for probe in path(&rest, classes, &L2, go_on)? {
        let predicted = probe.predict(&held_out);
        let right = predicted.iter().zip(&held_out.labels).filter(|(a, b)| a == b).count();
        if right > best.0 {
            best = (right, probe.l2);
        }
    }
    path(train, classes, &[best.1], go_on)?.pop()
}

/// Fits a probe for each of several strengths of regularisation, each starting from the optimum of the one before.
fn path(
    train: &Vectors,
    classes: usize,
    strengths: &[f64],
    go_on: &mut dyn FnMut() -> bool,
) -> Option<Vec<Probe>> {
    let scale = Standardizer::of(train);
    let values = scale.apply(train);
    let mut weights = vec![0.0; (train.dim + 1) * classes];
    let mut probes = Vec::new();
    for &l2 in strengths {
        let (labels, dim) = (&train.labels, train.dim);
        let problem = Problem { values: &values, labels, dim, classes, l2 };
        if !problem.solve(&mut weights, go_on) {
            return None;
        }
        probes.push(Probe { scale: scale.clone(), weights: weights.clone(), classes, l2 });
    }
    Some(probes)
}

/// A fitted probe.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    scale: Standardizer,
    /// Weights, and after them a row of biases. `[dim + 1, classes]`
    weights: Vec<f64>,
    classes: usize,
    /// The strength of the regularisation.
    l2: f64,
}

impl Probe {
    /// Predicts the likeliest class of each vector, and of equally likely ones that with the lower number. `[n]`
    pub fn predict(&self, vectors: &Vectors) -> Vec<u32> {
        let values = self.scale.apply(vectors);
        let weights: Vec<f32> = self.weights.iter().map(|&weight| weight as f32).collect();
        let logits = logits(&values, vectors.len(), vectors.dim, &weights, self.classes);
        let likeliest = |row: &[f32]| {
            let mut best = 0;
            for class in 1..row.len() {
                if row[class] > row[best] {
                    best = class;
                }
            }
            best as u32
        };
        logits.chunks_exact(self.classes.max(1)).map(likeliest).collect()
    }
}

/// Mean and deviation of each column of the training vectors, `[dim]` each.
#[derive(Debug, Clone)]
struct Standardizer {
    mean: Vec<f64>,
    /// 1 / deviation, or 0 for a constant column.
    factor: Vec<f64>,
}

impl Standardizer {
    fn of(vectors: &Vectors) -> Self {
        let (n, dim) = (vectors.len().max(1) as f64, vectors.dim);
        let rows = || vectors.values.chunks_exact(dim.max(1));
        let mut mean = vec![0.0; dim];
        for row in rows() {
            mean.iter_mut().zip(row).for_each(|(mean, &x)| *mean += f64::from(x) / n);
        }
        let mut square = vec![0.0; dim];
        for row in rows() {
            for ((square, mean), &x) in square.iter_mut().zip(&mean).zip(row) {
                *square += (f64::from(x) - mean).powi(2) / n;
            }
        }
        let factor = |(square, mean): (&f64, &f64)| {
            let deviation = square.sqrt();
            if deviation > 1e-7 * mean.abs().max(1e-30) { 1.0 / deviation } else { 0.0 }
        };
        Self { factor: square.iter().zip(&mean).map(factor).collect(), mean }
    }

    /// Returns the vectors standardised. `[n, dim]`
    fn apply(&self, vectors: &Vectors) -> Vec<f32> {
        let mut values = vectors.values.clone();
        for row in values.chunks_exact_mut(vectors.dim.max(1)) {
            for ((x, mean), factor) in row.iter_mut().zip(&self.mean).zip(&self.factor) {
                *x = ((f64::from(*x) - mean) * factor) as f32;
            }
        }
        values
    }
}

/// The objective of one fit: standardised vectors, their classes, and the regularisation.
struct Problem<'a> {
    /// `[n, dim]`
    values: &'a [f32],
    labels: &'a [u32],
    dim: usize,
    classes: usize,
    l2: f64,
}

impl Problem<'_> {
    /// Returns the number of vectors that are summed together.
    fn part(&self) -> usize {
        self.labels.len().div_ceil(PARTS).max(1)
    }

    /// Returns the value of the objective at `weights` `[dim + 1, classes]`, and writes its gradient.
    fn objective(&self, weights: &[f64], gradient: &mut [f64]) -> f64 {
        let (dim, classes) = (self.dim, self.classes);
        let flat: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
        let part = self.part();
        let sums: Vec<(f64, Vec<f32>, Vec<f64>)> = self
            .values
            .par_chunks(part * dim)
            .zip(self.labels.par_chunks(part))
            .map(|(values, labels)| {
                let rows = labels.len();
                let mut logits = logits(values, rows, dim, &flat, classes);
                let mut loss = 0.0;
                let mut biases = vec![0.0; classes];
                for (row, &label) in logits.chunks_exact_mut(classes).zip(labels) {
                    loss += cross_entropy(row, label as usize);
                    biases.iter_mut().zip(&*row).for_each(|(sum, &d)| *sum += f64::from(d));
                }
                let mut sum = vec![0.0; dim * classes];
                multiply(
                    MatrixMut::new(&mut sum, dim, classes),
                    Matrix::new(values, rows, dim).transposed(),
                    Matrix::new(&logits, rows, classes),
                    1.0,
                );
                (loss, sum, biases)
            })
            .collect();
        let n = self.labels.len().max(1) as f64;
        let (free, biases) = gradient.split_at_mut(dim * classes);
        for (gradient, weight) in free.iter_mut().zip(weights) {
            *gradient = self.l2 * weight;
        }
        biases.fill(0.0);
        let mut value = free.iter().zip(weights).map(|(g, w)| 0.5 * g * w).sum::<f64>();
        for (loss, sum, bias) in &sums {
            value += loss / n;
            free.iter_mut().zip(sum).for_each(|(g, &s)| *g += f64::from(s) / n);
            biases.iter_mut().zip(bias).for_each(|(g, s)| *g += s / n);
        }
        value
    }

    /// Moves `weights` to the optimum. Returns `false` if `go_on` returned `false` before it was found.
    fn solve(&self, weights: &mut [f64], go_on: &mut dyn FnMut() -> bool) -> bool {
        let mut whole = true;
        minimize(weights, LIMITS, |point, gradient| {
            whole = whole && go_on();
            // A value that is no number ends the search.
            if whole { self.objective(point, gradient) } else { f64::NAN }
        });
        whole
    }
}

/// Returns the logits of standardised vectors. `[rows, classes]`
fn logits(values: &[f32], rows: usize, dim: usize, weights: &[f32], classes: usize) -> Vec<f32> {
    let mut logits = vec![0.0; rows * classes];
    multiply(
        MatrixMut::new(&mut logits, rows, classes),
        Matrix::new(values, rows, dim),
        Matrix::new(&weights[..dim * classes], dim, classes),
        1.0,
    );
    let biases = &weights[dim * classes..];
    for row in logits.chunks_exact_mut(classes) {
        row.iter_mut().zip(biases).for_each(|(logit, bias)| *logit += bias);
    }
    logits
}

/// Returns the loss of one row of logits, and replaces the logits by the gradient with respect to them.
fn cross_entropy(row: &mut [f32], label: usize) -> f64 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    let loss = sum.ln() - f64::from(row[label] - most);
    for logit in row.iter_mut() {
        *logit = (f64::from(*logit - most).exp() / sum) as f32;
    }
    row[label] -= 1.0;
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use rand::RngExt as _;

    fn fit(train: &Vectors, classes: usize, l2: f64) -> Probe {
        path(train, classes, &[l2], &mut || true).expect("not broken off").remove(0)
    }

    fn chosen(train: &Vectors, classes: usize) -> Probe {
        fit_and_choose(train, classes, &mut || true).expect("not broken off")
    }

    /// Returns overlapping clouds of points around one corner per class.
    fn clouds(n: usize, dim: usize, classes: usize, seed: u64) -> Vectors {
        let mut rng = stream(seed, Purpose::Bench, 0, 0);
        let mut vectors = Vectors { dim, ..Vectors::default() };
        for index in 0..n {
            let class = index % classes;
            for column in 0..dim {
                let centre = if column % classes == class { 1.0 } else { 0.0 };
                vectors.values.push(centre + 3.0 * (rng.random::<f32>() - 0.5));
            }
            vectors.labels.push(class as u32);
        }
        vectors
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let data = clouds(37, 4, 3, 1);
        let problem =
            Problem { values: &data.values, labels: &data.labels, dim: 4, classes: 3, l2: 0.3 };
        let at: Vec<f64> = (0..15).map(|i| (f64::from(i) * 0.7).sin()).collect();
        let mut gradient = vec![0.0; 15];
        problem.objective(&at, &mut gradient);
        for index in 0..15 {
            let value = |shift: f64| {
                let mut moved = at.clone();
                moved[index] += shift;
                problem.objective(&moved, &mut [0.0; 15])
            };
            let difference = (value(1e-2) - value(-1e-2)) / 2e-2;
            assert!((difference - gradient[index]).abs() < 1e-3, "{index}: {difference}");
        }
    }

    #[test]
    fn two_points_have_the_optimum_of_the_formula() {
        // Standardised, the points are -1 and 1. By symmetry the weights are a and -a, and the biases are 0.
        let data = Vectors { values: vec![3.0, 7.0], dim: 1, labels: vec![0, 1] };
        let l2 = 0.1;
        let probe = fit(&data, 2, l2);
        let [a, b] = [probe.weights[0], probe.weights[1]];
        assert!((a + b).abs() < 1e-4 && (probe.weights[2] - probe.weights[3]).abs() < 1e-4);
        // The loss is ln(1 + exp(2a)) at both points and the penalty l2/2·(a² + b²) = l2·a², whose slopes sum to 0.
        let slope = 2.0 / (1.0 + (-2.0 * a).exp()) + 2.0 * l2 * a;
        assert!(slope.abs() < 1e-4, "{slope} at {a}");
        assert_eq!(probe.predict(&data), [0, 1]);
    }

    #[test]
    fn clouds_are_told_apart_and_the_choice_is_the_same_every_time() {
        let (train, test) = (clouds(900, 6, 3, 2), clouds(600, 6, 3, 3));
        let probe = chosen(&train, 3);
        let right = probe.predict(&test).iter().zip(&test.labels).filter(|(a, b)| a == b).count();
        assert!(right > 400, "{right} of 600");
        let again = chosen(&train, 3);
        assert_eq!((probe.l2, &probe.weights), (again.l2, &again.weights));
        let mut left = 20;
        let cancelled = fit_and_choose(&train, 3, &mut || {
            left -= 1;
            left > 0
        });
        assert!(cancelled.is_none() && left == 0, "asked {left} times more");
    }

    #[test]
    fn constant_columns_do_no_harm() {
        let mut train = clouds(90, 3, 3, 4);
        train.values.chunks_exact_mut(3).for_each(|row| row[1] = 1e6);
        let probe = fit(&train, 3, 1e-2);
        assert!(probe.weights.iter().all(|weight| weight.is_finite()));
    }
}
