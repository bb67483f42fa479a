/// Settings of one step of `AdamW`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adam {
    pub lr: f64,
    pub betas: [f64; 2],
    pub eps: f64,
    /// 1 / (1 − beta^t) for both
    pub corrections: [f64; 2],
    /// What gradients are multiplied by.
    pub factor: f64,
    pub decay: f64,
}

/// A parameter and its moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamWeight {
    pub value: f64,
    pub first: f64,
    pub second: f64,
}

impl Adam {
    pub(crate) fn step(&self, weight: AdamWeight, gradient: f64) -> AdamWeight {
        let gradient = gradient * self.factor;
        let [beta1, beta2] = self.betas;
        let first = beta1 * weight.first + (1.0 - beta1) * gradient;
        let second = beta2 * weight.second + (1.0 - beta2) * gradient * gradient;
        let root = (second * self.corrections[1]).sqrt();
        let step = first * self.corrections[0] / (root + self.eps);
        let value = weight.value * (1.0 - self.lr * self.decay) - self.lr * step;
        AdamWeight { value, first, second }
    }
}
