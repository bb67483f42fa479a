//! The objectives: the error of predicted pixels, and cross-entropy for a classifier.
//!
//! All images hide the same number of patches, so the mean over all predicted numbers weighs the images equally.

use crate::config::{LossConfig, LossKind};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData, activation};

/// A number added to the variance of a patch before the square root, as in MAE.
pub const PATCH_VARIANCE_EPS: f64 = 1e-6;

/// Returns what the head is to predict for hidden patches: their pixels, each patch normalised if `config` says so.
/// `[B·M, P]` -> `[B·M, P]`
pub fn target<B: Backend>(patches: Tensor<B, 2>, config: &LossConfig) -> Tensor<B, 2> {
    if !config.normalize_targets {
        return patches;
    }
    let (variance, mean) = patches.clone().var_mean(1); // [B·M, 1] each, unbiased
    (patches - mean) / variance.add_scalar(PATCH_VARIANCE_EPS).sqrt()
}

/// Returns the mean loss over all numbers of prediction and target. `[B·M, P]` twice -> `[1]`
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
            // The loss is e² / (2·beta) if |e| < beta, else |e| − beta / 2. With c = min(|e|, beta) both are
            // c·(|e| − c/2) / beta.
            let size = error.abs();
            let capped = size.clone().clamp_max(config.beta);
            (capped.clone() * (size - capped.div_scalar(2.0))).mean().div_scalar(config.beta)
        }
    }
}

/// Returns the probabilities that a classifier is to predict, `[B, C]`. With `smoothing` s, the class of an image gets
/// 1 − s, and s is spread evenly over all classes (label smoothing, Szegedy et al. 2016, as in
/// `torch.nn.CrossEntropyLoss`). Labels are below `classes`.
pub fn class_probabilities(labels: &[u32], classes: usize, smoothing: f64) -> Vec<f32> {
    let spread = smoothing / classes as f64;
    let mut targets = vec![spread as f32; labels.len() * classes];
    for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        row[label as usize] = (1.0 - smoothing + spread) as f32;
    }
    targets
}

/// Uploads what [`class_probabilities`] returns. `[B]` -> `[B, C]`
pub fn class_targets<B: Backend>(
    labels: &[u32],
    classes: usize,
    smoothing: f64,
    device: &B::Device,
) -> Tensor<B, 2> {
    let targets = class_probabilities(labels, classes, smoothing);
    Tensor::from_data(TensorData::new(targets, [labels.len(), classes]), device)
}

/// Returns the cross-entropy, the mean over the images of −Σ target · log softmax(logits). `[B, C]` twice -> `[1]`
pub fn cross_entropy<B: Backend>(logits: Tensor<B, 2>, targets: Tensor<B, 2>) -> Tensor<B, 1> {
    let images = logits.dims()[0];
    (activation::log_softmax(logits, 1) * targets).sum().div_scalar(images as f64).neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::one_graph;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::{Tensor, TensorData};

    fn row(values: &[f32]) -> Tensor<Autodiff<Flex>, 2> {
        let data = TensorData::new(values.to_vec(), [1, values.len()]);
        Tensor::from_data(data, &burn_flex::FlexDevice)
    }

    #[test]
    fn cross_entropy_and_its_gradient_follow_the_definition_with_and_without_smoothing() {
        let _graph = one_graph();
        let logits = [[1.0_f32, -2.0, 0.5], [30.0, -40.0, 3.0]];
        let labels = [2_u32, 0];
        for smoothing in [0.0, 0.1, 0.6] {
            let rows = logits.map(|row| row.map(f64::from));
            let softmax = rows.map(|row| {
                let sum: f64 = row.iter().map(|x| x.exp()).sum();
                row.map(|x| x.exp() / sum)
            });
            let wanted = labels.map(|label| {
                [0_u32, 1, 2].map(|class| {
                    let own = if class == label { 1.0 - smoothing } else { 0.0 };
                    own + smoothing / 3.0
                })
            });
            let pairs = || softmax.iter().flatten().zip(wanted.iter().flatten());
            let expected = -pairs().map(|(p, t)| t * p.ln()).sum::<f64>() / 2.0;
            let data = TensorData::new(logits.as_flattened().to_vec(), [2, 3]);
            let device = burn_flex::FlexDevice;
            let input = Tensor::<Autodiff<Flex>, 2>::from_data(data, &device).require_grad();
            let targets = class_targets(&labels, 3, smoothing, &device);
            let loss = cross_entropy(input.clone(), targets);
            let found = f64::from(loss.clone().into_scalar());
            assert!((found - expected).abs() < 1e-5, "{smoothing}: {found} is not {expected}");
            let gradient = input.grad(&loss.backward()).expect("a gradient").into_data();
            for (found, (p, t)) in gradient.iter::<f32>().zip(pairs()) {
                assert!((f64::from(found) - (p - t) / 2.0).abs() < 1e-6, "{smoothing}");
            }
        }
    }

    type Scalar = Box<dyn Fn(f32) -> f32>;

    #[test]
    fn each_kind_and_its_gradient_follow_the_definition() {
        let _graph = one_graph();
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
