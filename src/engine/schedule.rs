//! The learning rate of every step: linear warm-up, then cosine, multistep or constant.

use crate::config::{Config, ScheduleConfig, ScheduleKind};

/// Learning rates of a whole run, in optimizer steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    pub kind: ScheduleKind,
    /// The peak rate. All three rates include the scaling by the batch size.
    pub base_lr: f64,
    pub warmup_lr: f64,
    pub min_lr: f64,
    pub warmup_steps: u64,
    pub total_steps: u64,
    /// Steps at which a multistep schedule multiplies the rate by `gamma`.
    pub milestones: Vec<u64>,
    pub gamma: f64,
}

impl Schedule {
    pub fn new(config: &Config, steps_per_epoch: u64) -> Self {
        let ScheduleConfig { kind, base_lr, warmup_lr, min_lr, gamma, .. } = config.schedule;
        let scale = if config.schedule.scale_by_batch {
            config.images_per_step() as f64 / 512.0
        } else {
            1.0
        };
        let steps = |epochs: f64| (epochs * steps_per_epoch as f64).round() as u64;
        let total_steps = config.train.total_steps(steps_per_epoch);
        Self {
            kind,
            base_lr: base_lr * scale,
            warmup_lr: warmup_lr * scale,
            min_lr: min_lr * scale,
            // A short run with a long recipe must not consist of warm-up alone.
            warmup_steps: config.schedule.warmup(steps_per_epoch).min(total_steps / 2),
            total_steps,
            milestones: config.schedule.milestones.iter().map(|&epoch| steps(epoch)).collect(),
            gamma,
        }
    }

    /// Returns the learning rate of step `step`, counted from 0.
    pub fn lr(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            let share = step as f64 / self.warmup_steps as f64;
            return self.warmup_lr + (self.base_lr - self.warmup_lr) * share;
        }
        match self.kind {
            ScheduleKind::Constant => self.base_lr,
            ScheduleKind::Multistep => {
                let passed = self.milestones.iter().filter(|&&milestone| step >= milestone).count();
                self.base_lr * self.gamma.powi(passed as i32)
            }
            ScheduleKind::Cosine => {
                let rest = self.total_steps.saturating_sub(self.warmup_steps).max(1);
                let share = ((step - self.warmup_steps) as f64 / rest as f64).min(1.0);
                let cosine = 0.5 * (1.0 + (std::f64::consts::PI * share).cos());
                self.min_lr + (self.base_lr - self.min_lr) * cosine
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: ScheduleKind) -> Config {
        let mut config = Config::default();
        config.train.epochs = Some(10);
        config.train.batch_size = 256;
        config.train.accumulation = 4;
        config.schedule = ScheduleConfig {
            kind,
            base_lr: 1e-4,
            warmup_lr: 5e-7,
            min_lr: 1e-6,
            warmup_epochs: Some(2.0),
            warmup_steps: None,
            milestones: vec![5.0, 8.0],
            gamma: 0.1,
            scale_by_batch: true,
        };
        config
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} and {b}");
    }

    #[test]
    fn rates_scale_with_the_total_batch_and_warm_up_is_linear() {
        let schedule = Schedule::new(&config(ScheduleKind::Constant), 100);
        assert_eq!((schedule.warmup_steps, schedule.total_steps), (200, 1000));
        close(schedule.lr(0), 1e-6);
        close(schedule.lr(100), f64::midpoint(1e-6, 2e-4));
        close(schedule.lr(200), 2e-4);
        close(schedule.lr(999), 2e-4);
    }

    #[test]
    fn warm_up_takes_half_of_a_short_run_at_most() {
        let mut config = config(ScheduleKind::Cosine);
        config.train.epochs = Some(1);
        assert_eq!(Schedule::new(&config, 100).warmup_steps, 50);
        assert_eq!(Schedule::new(&config, 1).warmup_steps, 0);
    }

    #[test]
    fn a_length_in_steps_is_exact_and_its_milestones_stay_in_epochs() {
        let mut config = config(ScheduleKind::Multistep);
        (config.train.epochs, config.train.steps) = (None, Some(777));
        (config.schedule.warmup_epochs, config.schedule.warmup_steps) = (None, Some(33));
        let schedule = Schedule::new(&config, 100);
        assert_eq!((schedule.warmup_steps, schedule.total_steps), (33, 777));
        assert_eq!(schedule.milestones, [500, 800]);
        config.train.steps = Some(40);
        assert_eq!(Schedule::new(&config, 100).warmup_steps, 20, "half of the run");
        config.schedule.kind = ScheduleKind::Cosine;
        let cosine = Schedule::new(&config, 100);
        close(cosine.lr(40), 2e-6);
        assert!(cosine.lr(39) > 2e-6);
    }

    #[test]
    fn multistep_drops_at_its_milestones() {
        let schedule = Schedule::new(&config(ScheduleKind::Multistep), 100);
        for (step, expected) in [(499, 2e-4), (500, 2e-5), (799, 2e-5), (800, 2e-6)] {
            close(schedule.lr(step), expected);
        }
    }

    #[test]
    fn cosine_falls_from_the_peak_to_the_minimum() {
        let schedule = Schedule::new(&config(ScheduleKind::Cosine), 100);
        close(schedule.lr(200), 2e-4);
        close(schedule.lr(600), f64::midpoint(2e-4, 2e-6));
        close(schedule.lr(1000), 2e-6);
        assert!((201..1000).all(|step| schedule.lr(step) < schedule.lr(step - 1)));
    }
}
