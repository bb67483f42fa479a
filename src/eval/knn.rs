//! Classification by the k nearest neighbours, by the cosine of the angle between vectors.

use super::Vectors;
use crate::ops::kernel::{Matrix, MatrixMut, multiply};
use rayon::prelude::*;

/// Test vectors whose similarities each thread has in memory at a time.
const CHUNK: usize = 64;

/// Test vectors between two calls of `go_on`.
const BLOCK: usize = 16 * CHUNK;

/// Predicts the classes of the test vectors for each number of neighbours in `ks`. `[ks.len(), test.len()]`
///
/// The majority of the k nearest decides. Among classes with equally many neighbours, the one with the larger sum of
/// cosines wins, then the one with the lower number. Of neighbours at the same angle the earlier one comes first, so
/// the result depends on nothing but the input. A vector of zeros counts as orthogonal to all others.
///
/// Returns `None` if `go_on` returned `false`.
pub(super) fn predict(
    train: &Vectors,
    test: &Vectors,
    classes: usize,
    ks: &[usize],
    go_on: &mut dyn FnMut() -> bool,
) -> Option<Vec<Vec<u32>>> {
    let most = ks.iter().copied().max().unwrap_or(0).min(train.len());
    if most == 0 || train.dim == 0 {
        return Some(vec![vec![0; test.len()]; ks.len()]);
    }
    let (known, asked) = (normalized(train), normalized(test));
    let mut voted = vec![Vec::with_capacity(test.len()); ks.len()];
    for block in asked.chunks(BLOCK * test.dim) {
        if !go_on() {
            return None;
        }
        let chunks: Vec<Vec<Vec<u32>>> = block
            .par_chunks(CHUNK * test.dim)
            .map(|chunk| votes(&known, train, chunk, classes, ks))
            .collect();
        for chunk in chunks {
            voted.iter_mut().zip(chunk).for_each(|(voted, more)| voted.extend(more));
        }
    }
    Some(voted)
}

/// Predicts like [`predict`], for test vectors `asked` of length 1. `known` are the training vectors at length 1.
fn votes(
    known: &[f32],
    train: &Vectors,
    asked: &[f32],
    classes: usize,
    ks: &[usize],
) -> Vec<Vec<u32>> {
    let (rows, columns, dim) = (asked.len() / train.dim, train.len(), train.dim);
    let most = ks.iter().copied().max().unwrap_or(0).min(columns);
    let mut cosines = vec![0.0; rows * columns];
    multiply(
        MatrixMut::new(&mut cosines, rows, columns),
        Matrix::new(asked, rows, dim),
        Matrix::new(known, columns, dim).transposed(),
        1.0,
    );
    let mut order: Vec<u32> = Vec::new();
    let mut voted = vec![Vec::with_capacity(rows); ks.len()];
    for cosines in cosines.chunks_exact(columns) {
        nearest(cosines, most, &mut order);
        for (voted, &k) in voted.iter_mut().zip(ks) {
            let voters = order[..k.min(most)].iter().map(|&index| index as usize);
            voted.push(vote(voters.map(|index| (train.labels[index], cosines[index])), classes));
        }
    }
    voted
}

/// Fills `order` with the indices of the `count` largest numbers, the largest first, of equal ones the earlier first.
fn nearest(cosines: &[f32], count: usize, order: &mut Vec<u32>) {
    let before =
        |&a: &u32, &b: &u32| cosines[b as usize].total_cmp(&cosines[a as usize]).then(a.cmp(&b));
    order.clear();
    order.extend(0..cosines.len() as u32);
    if count < order.len() {
        order.select_nth_unstable_by(count - 1, before);
        order.truncate(count);
    }
    order.sort_unstable_by(before);
}

/// Returns the class that wins among votes of (class, cosine).
fn vote(votes: impl Iterator<Item = (u32, f32)>, classes: usize) -> u32 {
    let mut counts = vec![(0_u32, 0.0_f64); classes];
    for (class, cosine) in votes {
        let (count, sum) = &mut counts[class as usize];
        *count += 1;
        *sum += f64::from(cosine);
    }
    let better = |a: (u32, f64), b: (u32, f64)| a.0 > b.0 || (a.0 == b.0 && a.1 > b.1);
    let mut best = 0;
    for class in 1..classes {
        // A class without votes has a sum of 0, which must not win over a negative one.
        if counts[class].0 > 0 && better(counts[class], counts[best]) {
            best = class;
        }
    }
    best as u32
}

/// Returns the vectors scaled to length 1. `[n, dim]`
fn normalized(vectors: &Vectors) -> Vec<f32> {
    let mut values = vectors.values.clone();
    for row in values.chunks_exact_mut(vectors.dim) {
        let length = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            for value in row {
                *value = (f64::from(*value) / length) as f32;
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use rand::RngExt as _;

    fn random(n: usize, dim: usize, classes: u32, seed: u64) -> Vectors {
        let mut rng = stream(seed, Purpose::Bench, 0, 0);
        let values = (0..n * dim).map(|_| rng.random::<f32>() - 0.5).collect();
        let labels = (0..n).map(|_| rng.random_range(0..classes)).collect();
        Vectors { values, dim, labels }
    }

    fn predict(train: &Vectors, test: &Vectors, classes: usize, ks: &[usize]) -> Vec<Vec<u32>> {
        super::predict(train, test, classes, ks, &mut || true).expect("not broken off")
    }

    #[test]
    fn the_answer_is_that_of_looking_at_every_pair() {
        let (train, test) = (random(203, 7, 4, 1), random(131, 7, 4, 2));
        let cosine = |a: &[f32], b: &[f32]| -> f64 {
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
            };
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let ks = [1, 5, 20, 1000];
        let voted = predict(&train, &test, 4, &ks);
        for (index, row) in test.values.chunks_exact(7).enumerate() {
            let mut all: Vec<(f64, u32)> = train
                .values
                .chunks_exact(7)
                .zip(&train.labels)
                .map(|(known, &label)| (cosine(row, known), label))
                .collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            for (&k, voted) in ks.iter().zip(&voted) {
                let mut counts = [(0, 0.0); 4];
                for (cosine, label) in all.iter().take(k) {
                    counts[*label as usize].0 += 1;
                    counts[*label as usize].1 += cosine;
                }
                let best = (0..4).max_by(|&a, &b| {
                    counts[a].0.cmp(&counts[b].0).then(counts[a].1.total_cmp(&counts[b].1))
                });
                assert_eq!(voted[index], best.expect("four") as u32, "k {k}, vector {index}");
            }
        }
    }

    #[test]
    fn ties_go_to_the_nearer_class_then_to_the_lower_number() {
        let train = Vectors {
            values: vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0],
            dim: 2,
            labels: vec![2, 1, 2, 1],
        };
        let asked = |x: f32, y: f32| Vectors { values: vec![x, y], dim: 2, labels: vec![0] };
        assert_eq!(predict(&train, &asked(2.0, 1.0), 3, &[4]), [[2]], "nearer");
        assert_eq!(predict(&train, &asked(1.0, 1.0), 3, &[4]), [[1]], "the lower number");
        assert_eq!(predict(&train, &asked(0.0, 0.0), 3, &[1, 4]), [[2], [1]], "earlier first");
        assert_eq!(predict(&train, &asked(-1.0, -1.0), 3, &[4]), [[1]], "no empty class wins");
    }
}
