//! The `AdamW` update and the sum of squares on slices, in one pass each.

use super::AdamWStep;
use super::kernel::vectorized;
use super::math::sum;
use rayon::prelude::*;

/// Numbers per task of a pass over a parameter.
const TASK: usize = 1 << 16;

impl AdamWStep {
    /// Returns the bias corrections of both means, 1 − βᵗ, where t is the number of the update.
    pub(super) fn corrections(&self) -> [f64; 2] {
        self.betas.map(|beta| 1.0 - beta.powf(self.update as f64))
    }
}

/// The numbers of the step in the form that [`pass`] needs.
#[derive(Debug, Clone, Copy)]
struct Factors {
    /// β and 1 − β of both means.
    means: [[f32; 2]; 2],
    eps: f32,
    /// lr / (1 − β1ᵗ)
    rate: f32,
    /// √(1 − β2ᵗ)
    root: f32,
    /// 1 − lr · decay
    keep: f32,
    /// What the gradient is multiplied by to clip it.
    clip: f32,
}

/// Updates a weight and its moments in place. The gradient is multiplied by `clip`. `[elements]` each
pub fn update(
    weight: &mut [f32],
    gradient: &[f32],
    [first, second]: [&mut [f32]; 2],
    clip: f32,
    step: &AdamWStep,
) {
    let [correction1, correction2] = step.corrections();
    let factors = Factors {
        means: step.betas.map(|beta| [beta as f32, (1.0 - beta) as f32]),
        eps: step.eps as f32,
        rate: (step.lr / correction1) as f32,
        root: correction2.sqrt() as f32,
        keep: (1.0 - step.lr * step.decay) as f32,
        clip,
    };
    let parts = weight.par_chunks_mut(TASK).zip(gradient.par_chunks(TASK));
    let parts = parts.zip(first.par_chunks_mut(TASK)).zip(second.par_chunks_mut(TASK));
    parts.for_each(|(((weight, gradient), first), second)| {
        pass(weight, gradient, first, second, factors);
    });
}

/// Returns the sum of squares. The order of additions doesn't depend on the threads.
pub fn square_sum(values: &[f32]) -> f32 {
    let parts: Vec<f32> = values
        .par_chunks(TASK)
        .map(|part| {
            let mut total = 0.0;
            square_pass(part, &mut total);
            total
        })
        .collect();
    parts.iter().sum()
}

vectorized! {
    /// Updates one part of a weight and its moments. `[elements]` each
    fn pass(
        weight: &'k mut [f32],
        gradient: &'k [f32],
        first: &'k mut [f32],
        second: &'k mut [f32],
        factors: Factors,
    ) {
        let Factors { means: [[b1, a1], [b2, a2]], eps, rate, root, keep, clip } = factors;
        for (((w, &g), m), v) in weight.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = g * clip;
            *m = *m * b1 + g * a1;
            *v = *v * b2 + g * g * a2;
            *w = *w * keep - *m / (v.sqrt() / root + eps) * rate;
        }
    }

    /// Writes the sum of squares to `total`.
    fn square_pass(values: &'k [f32], total: &'k mut f32) {
        *total = sum(values, |x| x * x);
    }
}
