//! Projects vectors onto their first two principal components, found by orthogonal iteration.

use crate::ops::kernel::{Matrix, MatrixMut, multiply};
use crate::rng::{Purpose, stream};
use rand::RngExt as _;

/// Number of directions that are iterated. More than two converge faster if the variances after the second are close
/// to it.
const DIRECTIONS: usize = 8;
const ITERATIONS: usize = 300;
/// Change of a direction below which it counts as converged.
const STILL: f64 = 1e-7;

/// Points along the first two principal components.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pca {
    /// One point per vector, `[n]`.
    pub places: Vec<[f64; 2]>,
    /// Share of the variance along each of the two components, 0 to 1.
    pub explained: [f64; 2],
}

/// Projects row-major `values` `[n, dim]`. The same input gives the same result: the sign of a component is chosen so
/// that its largest loading is positive.
pub(super) fn pca(values: &[f32], dim: usize) -> Pca {
    let n = values.len() / dim.max(1);
    if n == 0 {
        return Pca { places: Vec::new(), explained: [0.0; 2] };
    }
    let centred = centred(values, n, dim);
    let total: f64 = centred.iter().map(|&x| f64::from(x).powi(2)).sum();
    let count = DIRECTIONS.min(dim);
    let mut rng = stream(0, Purpose::Embed, 0, 0);
    let mut directions: Vec<Vec<f64>> =
        (0..count).map(|_| (0..dim).map(|_| rng.random::<f64>() - 0.5).collect()).collect();
    orthonormal(&mut directions);
    for _ in 0..ITERATIONS {
        let flat: Vec<f32> = directions.iter().flatten().map(|&x| x as f32).collect();
        let projected = project(&centred, n, dim, &flat, count);
        let mut next = vec![0.0; count * dim];
        multiply(
            MatrixMut::new(&mut next, count, dim),
            Matrix::new(&projected, n, count).transposed(),
            Matrix::new(&centred, n, dim),
            1.0,
        );
        let mut next: Vec<Vec<f64>> =
            next.chunks_exact(dim).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
        orthonormal(&mut next);
        let still = |(a, b): (&Vec<f64>, &Vec<f64>)| 1.0 - dot(a, b).abs() < STILL;
        let stands = directions.iter().zip(&next).take(2).all(still);
        directions = next;
        if stands {
            break;
        }
    }
    for direction in &mut directions {
        let largest =
            direction.iter().copied().fold(0.0, |m: f64, x| if x.abs() > m.abs() { x } else { m });
        if largest < 0.0 {
            for x in direction {
                *x = -*x;
            }
        }
    }
    let flat: Vec<f32> = directions.iter().flatten().map(|&x| x as f32).collect();
    let projected = project(&centred, n, dim, &flat, count);
    let at = |row: &[f32], axis: usize| row.get(axis).copied().map_or(0.0, f64::from);
    let places: Vec<[f64; 2]> =
        projected.chunks_exact(count).map(|row| [at(row, 0), at(row, 1)]).collect();
    let explained = [0, 1].map(|axis| {
        let variance: f64 = places.iter().map(|place| place[axis].powi(2)).sum();
        if total > 0.0 { variance / total } else { 0.0 }
    });
    Pca { places, explained }
}

/// Returns the coordinates of the vectors along `count` directions. `[n, count]`
fn project(values: &[f32], n: usize, dim: usize, directions: &[f32], count: usize) -> Vec<f32> {
    let mut out = vec![0.0; n * count];
    multiply(
        MatrixMut::new(&mut out, n, count),
        Matrix::new(values, n, dim),
        Matrix::new(directions, count, dim).transposed(),
        1.0,
    );
    out
}

fn centred(values: &[f32], n: usize, dim: usize) -> Vec<f32> {
    let mut mean = vec![0.0; dim];
    for row in values.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(mean, &x)| *mean += f64::from(x) / n as f64);
    }
    let shifted = |(index, &x): (usize, &f32)| (f64::from(x) - mean[index % dim]) as f32;
    values.iter().enumerate().map(shifted).collect()
}

/// Makes the directions orthonormal by Gram-Schmidt. A direction that depends on those before becomes zero.
fn orthonormal(directions: &mut [Vec<f64>]) {
    for index in 0..directions.len() {
        let (before, rest) = directions.split_at_mut(index);
        let this = &mut rest[0];
        let size = dot(this, this).sqrt();
        for other in before.iter() {
            let along = dot(this, other);
            this.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
        }
        let length = dot(this, this).sqrt();
        let factor = if length > 1e-9 * size { 1.0 / length } else { 0.0 };
        for x in this {
            *x *= factor;
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axes_of_an_ellipse_are_found_in_order() {
        // An ellipse around (5, 5, 5): its long axis is (1, 1, 0), its short one (1, -1, 0), and it is flat.
        let values: Vec<f32> = (0..40)
            .flat_map(|i| {
                let angle = std::f64::consts::TAU * f64::from(i) / 40.0;
                let (a, b) = (3.0 * angle.cos(), angle.sin());
                [5.0 + a + b, 5.0 + a - b, 5.0].map(|x| x as f32)
            })
            .collect();
        let found = pca(&values, 3);
        assert!((found.explained[0] - 0.9).abs() < 1e-4, "{:?}", found.explained);
        assert!((found.explained[1] - 0.1).abs() < 1e-4, "{:?}", found.explained);
        for (i, place) in found.places.iter().enumerate() {
            let angle = std::f64::consts::TAU * i as f64 / 40.0;
            let root = 2.0_f64.sqrt();
            assert!((place[0] - 3.0 * root * angle.cos()).abs() < 1e-3, "{i}: {place:?}");
            assert!((place[1].abs() - root * angle.sin().abs()).abs() < 1e-3, "{i}: {place:?}");
        }
        assert_eq!(found, pca(&values, 3));
    }

    #[test]
    fn nothing_to_see_is_no_error() {
        assert_eq!(pca(&[], 3).places, Vec::<[f64; 2]>::new());
        assert_eq!(pca(&[2.0; 12], 3).places, [[0.0; 2]; 4]);
        assert_eq!(pca(&[1.0, 3.0], 1).places.len(), 2);
    }
}
