//! Minimises smooth convex functions by limited-memory BFGS (Nocedal & Wright 2006, algorithm 7.5).

/// Pairs of steps and changes of the gradient that approximate the inverse Hessian.
const MEMORY: usize = 10;
/// Halvings of a step before the search gives up.
const HALVINGS: usize = 30;

/// When the search ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub iterations: usize,
    /// The search ends when no entry of the gradient has a larger absolute value.
    pub gradient: f64,
}

/// Moves `point` to the minimum of a function, and returns the value there. `f` writes the gradient and returns the
/// value.
///
/// If the function isn't finite somewhere, the search ends at the last good point.
pub(super) fn minimize(
    point: &mut [f64],
    limits: Limits,
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> f64 {
    let n = point.len();
    let mut gradient = vec![0.0; n];
    let mut value = f(point, &mut gradient);
    let mut pairs: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
    let (mut next, mut next_gradient) = (vec![0.0; n], vec![0.0; n]);
    for iteration in 0..limits.iterations {
        let steepest = gradient.iter().fold(0.0_f64, |max, g| max.max(g.abs()));
        if steepest.is_nan() || steepest <= limits.gradient || !value.is_finite() {
            break;
        }
        let mut direction = descent(&gradient, &pairs);
        let mut slope = dot(&gradient, &direction);
        if slope >= 0.0 {
            // Rounding has spoilt the approximation, so the search starts it anew with a step down the gradient.
            pairs.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = -dot(&gradient, &gradient);
        }
        let mut step = if iteration == 0 { 1.0 / dot(&gradient, &gradient).sqrt() } else { 1.0 };
        let mut moved = false;
        for _ in 0..HALVINGS {
            for ((next, point), direction) in next.iter_mut().zip(&*point).zip(&direction) {
                *next = point + step * direction;
            }
            let next_value = f(&next, &mut next_gradient);
            if next_value <= value + 1e-4 * step * slope {
                let s: Vec<f64> = direction.iter().map(|d| d * step).collect();
                let y: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
                if dot(&s, &y) > 1e-12 * dot(&y, &y) {
                    pairs.push((s, y));
                    if pairs.len() > MEMORY {
                        pairs.remove(0);
                    }
                }
                point.copy_from_slice(&next);
                std::mem::swap(&mut gradient, &mut next_gradient);
                value = next_value;
                moved = true;
                break;
            }
            step *= 0.5;
        }
        if !moved {
            break; // the point is as near to the minimum as the arithmetic allows
        }
    }
    value
}

/// Returns the quasi-Newton direction, by two loops over the pairs (s, y) of steps and changes of the gradient.
fn descent(gradient: &[f64], pairs: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(pairs.len());
    for (s, y) in pairs.iter().rev() {
        let alpha = dot(s, &q) / dot(s, y);
        add(&mut q, -alpha, y);
        alphas.push(alpha);
    }
    if let Some((s, y)) = pairs.last() {
        let scale = dot(s, y) / dot(y, y);
        for q in &mut q {
            *q *= scale;
        }
    }
    for ((s, y), alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
        let beta = dot(y, &q) / dot(s, y);
        add(&mut q, alpha - beta, s);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, what: &[f64]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += factor * what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quadratic_of_bad_condition_is_solved() {
        let n = 30;
        let curvature: Vec<f64> = (0..n).map(|i| 10_f64.powf(f64::from(i) / 10.0)).collect();
        let mut point = vec![0.0; n as usize];
        let limits = Limits { iterations: 500, gradient: 1e-9 };
        let value = minimize(&mut point, limits, |x, gradient| {
            let mut value = 0.0;
            for (i, &c) in curvature.iter().enumerate() {
                let distance = x[i] - i as f64;
                gradient[i] = c * distance;
                value += 0.5 * c * distance * distance;
            }
            value
        });
        assert!(value < 1e-12, "{value}");
        for (i, x) in point.iter().enumerate() {
            assert!((x - i as f64).abs() < 1e-6, "{i}: {x}");
        }
    }

    #[test]
    fn a_function_without_a_value_ends_it() {
        let mut point = [1.0];
        let value = minimize(&mut point, Limits { iterations: 9, gradient: 0.0 }, |_, g| {
            g[0] = f64::NAN;
            f64::NAN
        });
        assert!(value.is_nan());
        assert_eq!(point[0].to_bits(), 1.0_f64.to_bits());
    }
}
