//! Exact t-SNE (van der Maaten & Hinton 2008), in which every pair of points counts.
//!
//! It starts from the principal components instead of at random, and sums in a fixed order, so that the same features
//! give the same picture. The learning rate is that of Belkina et al. 2019.

use crate::ops::kernel::{Matrix, MatrixMut, multiply};
use rayon::prelude::*;

/// Most points. Time and memory grow with their square.
pub(super) const MOST: usize = 5000;
/// Effective number of neighbours. Few points have fewer.
const PERPLEXITY: f64 = 30.0;
pub(super) const ITERATIONS: usize = 750;
/// Factor by which the attraction is stronger in the first iterations.
const EXAGGERATION: f64 = 12.0;
/// Number of those first iterations.
const EXAGGERATED: usize = 250;

/// Returns points for the rows of `values` `[n, dim]`, starting from `start` `[n]`. `progress` gets the number of
/// iterations done.
pub(super) fn tsne(
    values: &[f32],
    dim: usize,
    start: &[[f64; 2]],
    mut progress: impl FnMut(usize),
) -> Vec<[f64; 2]> {
    let n = start.len();
    if n < 4 {
        return start.to_vec();
    }
    let attraction = affinities(values, n, dim);
    let mut places = small(start);
    let rate = (n as f64 / EXAGGERATION / 4.0).max(50.0);
    let mut speed = vec![[0.0; 2]; n];
    let mut gains = vec![[1.0_f64; 2]; n];
    for iteration in 0..ITERATIONS {
        let early = iteration < EXAGGERATED;
        let (factor, momentum) = if early { (EXAGGERATION, 0.5) } else { (1.0, 0.8) };
        let gradient = gradient(&attraction, &places, factor);
        for point in 0..n {
            for axis in 0..2 {
                let (slope, speed, gain) =
                    (gradient[point][axis], &mut speed[point][axis], &mut gains[point][axis]);
                let same = (slope > 0.0) == (*speed > 0.0);
                *gain = if same { (*gain * 0.8).max(0.01) } else { *gain + 0.2 };
                *speed = momentum * *speed - rate * *gain * slope;
                places[point][axis] += *speed;
            }
        }
        progress(iteration + 1);
    }
    places
}

/// Scales the start down to a size at which the points hardly repel each other.
fn small(start: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let n = start.len() as f64;
    let variance = start.iter().map(|place| place[0].powi(2)).sum::<f64>() / n;
    let factor = if variance > 0.0 { 1e-4 / variance.sqrt() } else { 0.0 };
    // Points at the same place would never part, so each is shifted a little.
    let apart = |index: usize| 1e-7 * (index as f64 / n - 0.5);
    let place = |(index, place): (usize, &[f64; 2])| {
        [place[0] * factor + apart(index), place[1] * factor + apart(index * 7 % start.len())]
    };
    start.iter().enumerate().map(place).collect()
}

/// Returns symmetric neighbour probabilities, which sum to 1. `[n, n]`
fn affinities(values: &[f32], n: usize, dim: usize) -> Vec<f32> {
    let distances = squared_distances(values, n, dim);
    let perplexity = PERPLEXITY.min((n - 1) as f64 / 3.0);
    let mut given = vec![0.0_f32; n * n];
    given
        .par_chunks_mut(n)
        .zip(distances.par_chunks(n))
        .enumerate()
        .for_each(|(point, (out, distances))| neighbours(out, distances, point, perplexity));
    let scale = 1.0 / (2.0 * n as f32);
    let mut both = vec![0.0; n * n];
    both.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
        for (j, value) in row.iter_mut().enumerate() {
            *value = (given[i * n + j] + given[j * n + i]) * scale;
        }
    });
    both
}

/// Returns the squared distances between all pairs of rows. `[n, n]`
fn squared_distances(values: &[f32], n: usize, dim: usize) -> Vec<f32> {
    let mut products = vec![0.0; n * n];
    multiply(
        MatrixMut::new(&mut products, n, n),
        Matrix::new(values, n, dim),
        Matrix::new(values, n, dim).transposed(),
        1.0,
    );
    let squares: Vec<f32> = (0..n).map(|i| products[i * n + i]).collect();
    for (i, row) in products.chunks_exact_mut(n).enumerate() {
        for (product, square) in row.iter_mut().zip(&squares) {
            *product = (squares[i] + square - 2.0 * *product).max(0.0);
        }
    }
    products
}

/// Writes the Gaussian weights of all other points, which sum to 1. Their width is the one that gives the perplexity.
fn neighbours(out: &mut [f32], distances: &[f32], point: usize, perplexity: f64) {
    let others = || distances.iter().enumerate().filter(|&(other, _)| other != point);
    let nearest = others().map(|(_, &d)| f64::from(d)).fold(f64::INFINITY, f64::min);
    let (mut low, mut high, mut precision) = (0.0_f64, f64::INFINITY, 1.0_f64);
    let mut sum = 1.0;
    for _ in 0..64 {
        let (mut weights, mut moment) = (0.0, 0.0);
        for (_, &distance) in others() {
            let distance = f64::from(distance) - nearest;
            let weight = (-precision * distance).exp();
            weights += weight;
            moment += weight * distance;
        }
        sum = weights;
        // The entropy of the weights at this precision.
        let entropy = weights.ln() + precision * moment / weights;
        let error = entropy - perplexity.ln();
        if error.abs() < 1e-5 {
            break;
        }
        if error > 0.0 {
            low = precision;
            precision = if high.is_finite() { f64::midpoint(low, high) } else { precision * 2.0 };
        } else {
            high = precision;
            precision = f64::midpoint(low, high);
        }
    }
    for (other, &distance) in others() {
        out[other] = ((-precision * (f64::from(distance) - nearest)).exp() / sum) as f32;
    }
}

/// Returns the gradient of the Kullback-Leibler divergence, with the attraction times `factor`. `[n]`
fn gradient(attraction: &[f32], places: &[[f64; 2]], factor: f64) -> Vec<[f64; 2]> {
    let n = places.len();
    let rows: Vec<(f64, [f64; 2], [f64; 2])> = (0..n)
        .into_par_iter()
        .map(|i| {
            let (mut sum, mut pull, mut push) = (0.0, [0.0; 2], [0.0; 2]);
            let row = &attraction[i * n..(i + 1) * n];
            let here = places[i];
            for (there, &p) in places.iter().zip(row) {
                let away = [here[0] - there[0], here[1] - there[1]];
                let near = 1.0 / (1.0 + away[0] * away[0] + away[1] * away[1]);
                sum += near;
                let (p, q) = (f64::from(p) * near, near * near);
                for axis in 0..2 {
                    pull[axis] += p * away[axis];
                    push[axis] += q * away[axis];
                }
            }
            (sum - 1.0, pull, push) // without the point itself
        })
        .collect();
    let total: f64 = rows.iter().map(|row| row.0).sum();
    let total = total.max(f64::MIN_POSITIVE);
    let slope = |(_, pull, push): &(f64, [f64; 2], [f64; 2])| {
        [0, 1].map(|axis| 4.0 * (factor * pull[axis] - push[axis] / total))
    };
    rows.iter().map(slope).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::embed::pca::pca;
    use crate::rng::{Purpose, stream};
    use rand::RngExt as _;

    /// Returns three clouds of points, far apart in ten dimensions.
    fn clouds(n: usize) -> Vec<f32> {
        let mut rng = stream(3, Purpose::Bench, 0, 0);
        let mut values = Vec::new();
        for point in 0..n {
            values.extend((0..10).map(|axis| {
                let centre = if axis == point % 3 { 8.0 } else { 0.0 };
                centre + rng.random::<f32>()
            }));
        }
        values
    }

    #[test]
    fn affinities_sum_to_one_and_have_the_perplexity() {
        let values = clouds(60);
        let p = affinities(&values, 60, 10);
        let sum: f64 = p.iter().map(|&p| f64::from(p)).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
        let distances = squared_distances(&values, 60, 10);
        let mut row = vec![0.0; 60];
        neighbours(&mut row, &distances[..60], 0, 12.0);
        let entropy: f64 =
            row.iter().filter(|&&p| p > 0.0).map(|&p| -f64::from(p) * f64::from(p).ln()).sum();
        assert!((entropy.exp() - 12.0).abs() < 0.01, "{}", entropy.exp());
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let p = affinities(&clouds(12), 12, 10);
        let places: Vec<[f64; 2]> =
            (0..12).map(|i| [f64::from(i).sin(), (f64::from(i) * 1.7).cos()]).collect();
        let divergence = |places: &[[f64; 2]]| -> f64 {
            let near = |i: usize, j: usize| {
                let [x, y] = [0, 1].map(|axis| places[i][axis] - places[j][axis]);
                1.0 / (1.0 + x * x + y * y)
            };
            let pairs = || (0..144).map(|k| (k / 12, k % 12)).filter(|(i, j)| i != j);
            let total: f64 = pairs().map(|(i, j)| near(i, j)).sum();
            let part = |(i, j): (usize, usize)| {
                let p = f64::from(p[i * 12 + j]);
                if p > 0.0 { p * (p * total / near(i, j)).ln() } else { 0.0 }
            };
            pairs().map(part).sum()
        };
        let slopes = gradient(&p, &places, 1.0);
        for (point, slope) in slopes.iter().enumerate() {
            let mut moved = places.clone();
            moved[point][1] += 1e-5;
            let up = divergence(&moved);
            moved[point][1] -= 2e-5;
            let difference = (up - divergence(&moved)) / 2e-5;
            assert!((difference - slope[1]).abs() < 1e-4, "{point}: {difference}");
        }
    }

    #[test]
    fn clouds_stay_apart_and_the_picture_is_the_same_every_time() {
        let values = clouds(90);
        let start = pca(&values, 10).places;
        let mut seen = 0;
        let places = tsne(&values, 10, &start, |done| seen = done);
        assert_eq!(seen, ITERATIONS);
        let far = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
        for i in 0..90 {
            let nearest = (0..90)
                .filter(|&j| j != i)
                .min_by(|&a, &b| far(places[i], places[a]).total_cmp(&far(places[i], places[b])));
            assert_eq!(nearest.expect("others") % 3, i % 3, "the nearest is of the same cloud");
        }
        assert_eq!(places, tsne(&values, 10, &start, |_| ()));
    }

    #[test]
    fn equal_and_few_points_give_numbers() {
        for n in [0, 1, 3, 4, 9] {
            let places = tsne(&vec![1.0; n * 2], 2, &vec![[0.0; 2]; n], |_| ());
            assert!(places.iter().flatten().all(|x| x.is_finite()), "{n}: {places:?}");
        }
    }
}
