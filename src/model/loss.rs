//! The objective on hidden patches: equal counts per image make a plain mean the right average.

use crate::config::{LossConfig, LossKind};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Added to the variance of a patch, as in MAE.
pub const PATCH_VARIANCE_EPS: f64 = 1e-6;

/// What the head shall predict. [B·M, P] normalised pixels -> [B·M, P]
pub fn target<B: Backend>(patches: Tensor<B, 2>, config: &LossConfig) -> Tensor<B, 2> {
    if !config.normalize_targets {
        return patches;
    }
    let (variance, mean) = patches.clone().var_mean(1); // [B·M, 1] each, unbiased
    (patches - mean) / variance.add_scalar(PATCH_VARIANCE_EPS).sqrt()
}

/// Mean loss over all numbers of prediction and target. [B·M, P] twice -> [1]
pub fn loss<B: Backend>(
    prediction: Tensor<B, 2>,
    target: Tensor<B, 2>,
    config: &LossConfig,
) -> Tensor<B, 1> {
    let error = prediction - target;
    match config.kind {
        LossKind::L1 => error.abs().mean(),
        LossKind::Mse => error.square().mean(),
        LossKind::SmoothL1 => {
            // |e| < beta: e² / (2·beta), else |e| − beta / 2. With c = min(|e|, beta) both are
            // c·(|e| − c/2) / beta.
            let size = error.abs();
            let capped = size.clone().clamp_max(config.beta);
            (capped.clone() * (size - capped.div_scalar(2.0))).mean().div_scalar(config.beta)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::{Tensor, TensorData};

    fn row(values: &[f32]) -> Tensor<Autodiff<Flex>, 2> {
        let data = TensorData::new(values.to_vec(), [1, values.len()]);
        Tensor::from_data(data, &burn_flex::FlexDevice)
    }

    type Scalar = Box<dyn Fn(f32) -> f32>;

    #[test]
    fn each_kind_and_its_gradient_follow_the_definition() {
        let errors = [-2.0_f32, -0.25, 0.5, 3.0];
        let beta = 0.5_f32;
        let smooth = move |e: f32| {
            if e.abs() < beta { e * e / (2.0 * beta) } else { e.abs() - beta / 2.0 }
        };
        let cases: [(LossKind, Scalar, Scalar); 3] = [
            (LossKind::L1, Box::new(f32::abs), Box::new(f32::signum)),
            (LossKind::Mse, Box::new(|e| e * e), Box::new(|e| 2.0 * e)),
            (LossKind::SmoothL1, Box::new(smooth), Box::new(move |e| (e / beta).clamp(-1.0, 1.0))),
        ];
        for (kind, value, slope) in cases {
            let config = LossConfig { kind, beta: f64::from(beta), normalize_targets: false };
            let prediction = row(&errors).require_grad();
            let got = loss(prediction.clone(), row(&[0.0; 4]), &config);
            let expected = errors.iter().map(|&e| value(e)).sum::<f32>() / 4.0;
            assert!((got.clone().into_scalar() - expected).abs() < 1e-6, "{kind:?}");
            let gradient = prediction.grad(&got.backward()).expect("a gradient").into_data();
            for (g, &e) in gradient.iter::<f32>().zip(&errors) {
                assert!((g - slope(e) / 4.0).abs() < 1e-6, "{kind:?} at {e}: {g}");
            }
        }
    }

    #[test]
    fn normalised_targets_have_mean_zero_and_unit_variance() {
        let config = LossConfig { normalize_targets: true, ..LossConfig::default() };
        let got = target(row(&[1.0, 2.0, 3.0, 6.0]), &config).into_data();
        let got: Vec<f32> = got.iter::<f32>().collect();
        let sum: f32 = got.iter().sum();
        let square: f32 = got.iter().map(|x| x * x).sum();
        assert!(sum.abs() < 1e-5 && (square / 3.0 - 1.0).abs() < 1e-4, "{got:?}");
        let flat = target(row(&[2.0; 4]), &config).into_data();
        assert!(flat.iter::<f32>().all(|x| x == 0.0), "a flat patch doesn't divide by zero");
    }
}
