/// The kinds of loss, by their numbers in `kernels.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlainLoss {
    Absolute = 0,
    Squared = 1,
    Smooth = 2,
}

/// Returns the patches with mean 0 and variance 1 each.
pub(crate) fn normalise(patches: &[f64], numbers: usize) -> Vec<f64> {
    let mut all = Vec::with_capacity(patches.len());
    for patch in patches.chunks_exact(numbers) {
        let mean = patch.iter().sum::<f64>() / numbers as f64;
        let squares = patch.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        let variance = squares / (numbers - 1) as f64;
        all.extend(patch.iter().map(|x| (x - mean) / (variance + 1e-6).sqrt()));
    }
    all
}

/// Returns the sum of the losses, and the slope of each number.
pub(crate) fn loss(
    kind: PlainLoss,
    beta: f64,
    prediction: &[f64],
    target: &[f64],
) -> (f64, Vec<f64>) {
    let mut sum = 0.0;
    let mut slopes = Vec::with_capacity(target.len());
    for (prediction, target) in prediction.iter().zip(target) {
        let error = prediction - target;
        let smooth = kind == PlainLoss::Smooth && error.abs() < beta;
        let (loss, slope) = match kind {
            PlainLoss::Squared => (error * error, 2.0 * error),
            _ if smooth => (error * error / (2.0 * beta), error / beta),
            PlainLoss::Smooth => (error.abs() - beta / 2.0, error.signum()),
            PlainLoss::Absolute => (error.abs(), if error == 0.0 { 0.0 } else { error.signum() }),
        };
        sum += loss;
        slopes.push(slope);
    }
    (sum, slopes)
}

/// Returns the sum over the rows of −Σ target · log softmax(logits), and its gradient.
pub(crate) fn cross_entropy(logits: &[f64], targets: &[f64], classes: usize) -> (f64, Vec<f64>) {
    let mut sum = 0.0;
    let mut slopes = Vec::with_capacity(logits.len());
    for (row, targets) in logits.chunks_exact(classes).zip(targets.chunks_exact(classes)) {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let level = most + row.iter().map(|x| (x - most).exp()).sum::<f64>().ln();
        let total = targets.iter().sum::<f64>();
        sum -= row.iter().zip(targets).map(|(x, t)| t * (x - level)).sum::<f64>();
        slopes.extend(row.iter().zip(targets).map(|(x, t)| (x - level).exp() * total - t));
    }
    (sum, slopes)
}
