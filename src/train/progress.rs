//! How long a run is and where it stands.

use crate::config::Config;

/// Steps of a run over its training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLength {
    pub steps_per_epoch: u64,
    pub total_steps: u64,
}

impl RunLength {
    /// Counts whole steps only, and at least one per epoch: the loader repeats a small set within the epoch.
    pub fn new(config: &Config, images: usize) -> Self {
        let steps_per_epoch = (images / config.images_per_step()).max(1) as u64;
        Self { steps_per_epoch, total_steps: config.train.total_steps(steps_per_epoch) }
    }
}

/// How far a run has come. The number of micro-batches is the only counter: steps and epochs follow from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    micro: u64,
    accumulation: u64,
    length: RunLength,
}

impl Progress {
    pub(super) fn new(config: &Config, length: RunLength, micro: u64) -> Self {
        Self { micro, accumulation: config.train.accumulation as u64, length }
    }

    /// Counts one more micro-batch.
    pub(super) fn advance(&mut self) {
        self.micro += 1;
    }

    /// Micro-batches taken since the start of the run.
    pub(super) fn micro(&self) -> u64 {
        self.micro
    }

    /// Optimizer steps done.
    pub(super) fn step(&self) -> u64 {
        self.micro / self.accumulation
    }

    /// Micro-batches of the unfinished step.
    pub(super) fn accumulated(&self) -> u64 {
        self.micro % self.accumulation
    }

    /// Whether the next micro-batch completes an optimizer step.
    pub(super) fn completes_step(&self) -> bool {
        self.accumulated() + 1 == self.accumulation
    }

    /// Epochs done, with the share of the current one.
    pub(super) fn epoch(&self) -> f64 {
        self.step() as f64 / self.length.steps_per_epoch as f64
    }

    /// Returns the length of the run in epochs, rounded up where it ends within one.
    pub(super) fn epochs(&self) -> u64 {
        self.length.total_steps.div_ceil(self.length.steps_per_epoch)
    }

    pub(super) fn total_steps(&self) -> u64 {
        self.length.total_steps
    }

    pub(super) fn is_complete(&self) -> bool {
        self.step() >= self.length.total_steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_epochs_follow_from_the_micro_batches() {
        let mut config = Config::default();
        (config.train.batch_size, config.train.accumulation) = (4, 3);
        config.train.epochs = Some(2);
        let length = RunLength::new(&config, 30);
        assert_eq!(length, RunLength { steps_per_epoch: 2, total_steps: 4 });
        let mut at = Progress::new(&config, length, 4);
        assert_eq!((at.step(), at.accumulated(), at.completes_step()), (1, 1, false));
        at.advance();
        assert_eq!((at.micro(), at.step(), at.completes_step()), (5, 1, true));
        at.advance();
        assert_eq!((at.step(), at.accumulated(), at.is_complete()), (2, 0, false));
        assert!((at.epoch() - 1.0).abs() < 1e-12);
        assert!(Progress::new(&config, length, 12).is_complete());
        (config.train.epochs, config.train.steps) = (None, Some(5));
        let length = RunLength::new(&config, 30);
        assert_eq!(length, RunLength { steps_per_epoch: 2, total_steps: 5 });
        let within_an_epoch = Progress::new(&config, length, 14);
        assert_eq!((within_an_epoch.epochs(), within_an_epoch.is_complete()), (3, false));
        assert!(Progress::new(&config, length, 15).is_complete());
    }

    #[test]
    fn an_epoch_has_at_least_one_step() {
        let config = Config::default();
        assert_eq!(RunLength::new(&config, 1).steps_per_epoch, 1);
    }
}
