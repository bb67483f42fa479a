//! Which figures of a run are alarming. This is plain statistics: it needs no clock and no device.

use crate::config::{AlarmConfig, OnNan};
use crate::engine::StepFigures;
use crate::event::{Alarm, AlarmKind};
use std::collections::{BTreeMap, VecDeque};

/// Most recent steps that a value is compared with.
const WINDOW: usize = 128;
/// Steps that are needed before their spread is known.
const ENOUGH: usize = 32;
/// Until then a value is compared with the largest of the first ones, or with the median where that is larger.
const FIRST: usize = 3;
/// Until then these take the place of a robust deviation: a share of the loss, so that a loss of three times the usual
/// one is a spike with the 8 deviations of `alarms.loss_spike`, and a part of the logarithm of the gradient norm, so that
/// ten times the usual one is a jump.
const EARLY_LOSS: f64 = 0.25;
const EARLY_LOG_NORM: f64 = 0.288;
/// Good steps in a row that end an alarm.
const CALM: u32 = 20;
/// Slow log periods in a row that raise the alarm of a slow loader.
const SLOW_PERIODS: u32 = 3;
/// Seconds that these periods must have cost, so that a short run raises no alarm.
const SLOW_SECONDS: f64 = 10.0;
/// The factor from the median absolute deviation to the standard deviation of normally distributed values.
const MAD_TO_SIGMA: f64 = 1.4826;
/// The least factor above the median that counts as a spike of the loss: late in a run the deviation is tiny.
const LEAST_SPIKE: f64 = 1.2;
/// The least factor above the median that counts as a jump of the gradient norm.
const LEAST_JUMP: f64 = 4.0;

/// Watches the figures of a run.
#[derive(Debug)]
pub(super) struct Health {
    config: AlarmConfig,
    losses: RecentValues,
    /// Logarithms of the gradient norms.
    norms: RecentValues,
    /// Alarms that hold, with the good steps since each was last confirmed.
    held: BTreeMap<AlarmKind, u32>,
    /// Slow log periods in a row.
    slow_periods: u32,
    /// Seconds that steps waited for images in these periods.
    waited: f64,
    /// What to do about a slow loader.
    remedy: &'static str,
}

impl Health {
    pub(super) fn new(config: AlarmConfig) -> Self {
        Self {
            config,
            losses: RecentValues::default(),
            norms: RecentValues::default(),
            held: BTreeMap::new(),
            slow_periods: 0,
            waited: 0.0,
            remedy: "raise data.workers, or data.cache_mib, or use a faster disk",
        }
    }

    /// Takes in whether the run finds the number of loader threads by itself, so that nobody is told to raise it.
    pub(super) fn of_tuned_loader(mut self, tuned: bool) -> Self {
        if tuned {
            self.remedy =
                "raise data.cache_mib, or use a faster disk, more cores or smaller images";
        }
        self
    }

    /// Takes in the figures of one step. Returns the alarms that begin or end with it.
    pub(super) fn step(&mut self, step: u64, figures: StepFigures) -> Vec<Alarm> {
        let StepFigures { loss, grad_norm } = figures;
        if !figures.is_finite() {
            let consequence = match self.config.on_nan {
                OnNan::Ignore => "the update was made all the same",
                _ => "the update was left out",
            };
            let message = format!("loss {loss}, gradient norm {grad_norm}: {consequence}");
            return self.judge(AlarmKind::NotFinite, Some(message), step).into_iter().collect();
        }
        let (loss, norm) = (f64::from(loss), f64::from(grad_norm));
        let early = |usual: f64| EARLY_LOSS * usual.abs();
        let spike = self.losses.exceeded(loss, self.config.loss_spike, early, |median| {
            // This is added to the median, not multiplied with it, so it also suits a loss whose median is 0.
            median.abs() * (LEAST_SPIKE - 1.0)
        });
        let spike = spike.map(|median| format!("loss {loss:.4}, median {median:.4}"));
        let log_norm = norm.max(f64::MIN_POSITIVE).ln();
        let limit = self.config.gradient_jump;
        let jump = self.norms.exceeded(log_norm, limit, |_| EARLY_LOG_NORM, |_| LEAST_JUMP.ln());
        let jump =
            jump.map(|median| format!("gradient norm {norm:.3}, median {:.3}", median.exp()));
        self.losses.push(loss);
        self.norms.push(log_norm);
        [
            (AlarmKind::NotFinite, None),
            (AlarmKind::LossSpike, spike),
            (AlarmKind::GradientJump, jump),
        ]
        .into_iter()
        .filter_map(|(kind, bad)| self.judge(kind, bad, step))
        .collect()
    }

    /// Takes in a log period of `seconds`, of which the share `data_wait` was spent waiting for images. Returns the alarm
    /// that begins or ends with it.
    pub(super) fn period(&mut self, step: u64, data_wait: f64, seconds: f64) -> Option<Alarm> {
        let limit = self.config.data_wait;
        if limit > 0.0 && data_wait > limit {
            self.slow_periods += 1;
            self.waited += data_wait * seconds;
        } else {
            (self.slow_periods, self.waited) = (0, 0.0);
        }
        let message = format!(
            "steps wait {:.0} % of the time for images: {}",
            data_wait * 100.0,
            self.remedy
        );
        let kind = AlarmKind::SlowLoader;
        if self.slow_periods >= SLOW_PERIODS && self.waited >= SLOW_SECONDS {
            return self.judge(kind, Some(message), step);
        }
        // The alarm ends below half the limit; between the two values nothing changes.
        let over = data_wait < limit / 2.0 && self.held.remove(&kind).is_some();
        over.then(|| Alarm { kind, active: false, step, message: "images come in time".to_owned() })
    }

    /// Begins or confirms the alarm with the message `bad`, or counts a good step, which may end it.
    fn judge(&mut self, kind: AlarmKind, bad: Option<String>, step: u64) -> Option<Alarm> {
        if let Some(message) = bad {
            let known = self.held.insert(kind, 0).is_some();
            return (!known).then_some(Alarm { kind, active: true, step, message });
        }
        let calm = self.held.get_mut(&kind)?;
        *calm += 1;
        if *calm < CALM {
            return None;
        }
        self.held.remove(&kind);
        Some(Alarm { kind, active: false, step, message: format!("{CALM} good steps in a row") })
    }
}

/// The most recent values of a figure.
#[derive(Debug, Default)]
struct RecentValues(VecDeque<f64>);

impl RecentValues {
    fn push(&mut self, value: f64) {
        if self.0.len() == WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// Returns the median if `value` exceeds it by `sigmas` robust deviations and by `least(median)`. With `sigmas` of 0
    /// nothing is exceeded. As long as there are few values, `early(usual)` stands for the deviation.
    fn exceeded(
        &self,
        value: f64,
        sigmas: f64,
        early: impl Fn(f64) -> f64,
        least: impl Fn(f64) -> f64,
    ) -> Option<f64> {
        if sigmas <= 0.0 || self.0.is_empty() {
            return None;
        }
        let median = median(self.0.iter().copied());
        if self.0.len() < ENOUGH {
            let usual = self.0.iter().take(FIRST).copied().fold(median, f64::max);
            return (value - usual > sigmas * early(usual)).then_some(median);
        }
        let deviation = MAD_TO_SIGMA * self::median(self.0.iter().map(|x| (x - median).abs()));
        (value - median > (sigmas * deviation).max(least(median))).then_some(median)
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(loss: f32, grad_norm: f32) -> StepFigures {
        StepFigures { loss, grad_norm }
    }

    /// Returns noise from 0 to 1 by a hash of the step.
    fn noise(step: u64) -> f32 {
        let mixed = (step + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        mixed as f32 / (1 << 24) as f32
    }

    /// Returns a falling loss with noise, as those of real runs are.
    fn usual(step: u64) -> StepFigures {
        let falling = 0.5 + 0.6 * (-(step as f32) / 150.0).exp();
        figures(falling + 0.08 * (noise(step) - 0.5), 1.0 + noise(step + 7777))
    }

    fn health() -> Health {
        Health::new(AlarmConfig::default())
    }

    #[test]
    fn a_usual_run_raises_nothing() {
        let mut health = health();
        for step in 1..5000 {
            assert_eq!(health.step(step, usual(step)), [], "step {step}");
            assert_eq!(health.period(step, 0.1, 60.0), None);
        }
    }

    #[test]
    fn each_kind_is_raised_once_and_ends_after_calm() {
        let cases = [
            (figures(3.0, 1.5), AlarmKind::LossSpike),
            (figures(0.5, 40.0), AlarmKind::GradientJump),
            (figures(f32::NAN, 1.5), AlarmKind::NotFinite),
            (figures(0.5, f32::INFINITY), AlarmKind::NotFinite),
        ];
        for (bad, kind) in cases {
            let mut health = health();
            for step in 1..400 {
                health.step(step, usual(step));
            }
            let raised = health.step(400, bad);
            assert_eq!(raised.len(), 1, "{kind:?}: {raised:?}");
            assert_eq!((raised[0].kind, raised[0].active, raised[0].step), (kind, true, 400));
            assert_eq!(health.step(401, bad), [], "{kind:?} is told once");
            let told: Vec<_> = (402..500).flat_map(|step| health.step(step, usual(step))).collect();
            assert_eq!(told.len(), 1, "{kind:?}: {told:?}");
            let end = 401 + u64::from(CALM);
            assert_eq!((told[0].kind, told[0].active, told[0].step), (kind, false, end));
        }
    }

    #[test]
    fn a_new_level_becomes_usual() {
        let mut health = health();
        let mut told = Vec::new();
        for step in 1..1000 {
            let level = if step < 300 { 0.5 } else { 0.9 };
            let all = health.step(step, figures(level + 0.02 * noise(step), 1.0));
            told.extend(all.into_iter().map(|alarm| (alarm.kind, alarm.active)));
        }
        assert_eq!(told, [(AlarmKind::LossSpike, true), (AlarmKind::LossSpike, false)]);
    }

    #[test]
    fn an_explosion_is_told_from_the_first_steps_on() {
        /// Losses, the growth of the gradient norm in each step, and the alarms with their steps.
        type Case<'a> = (&'a [f32], f32, &'a [(AlarmKind, u64)]);
        let (spike, jump) = (AlarmKind::LossSpike, AlarmKind::GradientJump);
        let cases: [Case<'_>; 6] = [
            (&[0.8, 90.0], 1.0, &[(spike, 2)]),
            (&[0.8, 1.1, 2.2, 4.4, 8.8], 1.0, &[(spike, 5)]),
            (&[0.8, 1.1, 0.9, 1.3, 1.2, 1.1, 2.0], 1.0, &[]),
            (&[2.3, 2.0, 1.0, 0.5, 0.3, 0.6, 0.2], 1.0, &[]),
            (&[0.8, 0.8, 0.8, 0.8], 3.0, &[]),
            (&[0.8, 0.8, 0.8, 0.8], 12.0, &[(jump, 2)]),
        ];
        for (losses, growth, expected) in cases {
            let mut health = health();
            let told = losses.iter().zip(1_u8..).flat_map(|(&loss, step)| {
                let alarms =
                    health.step(u64::from(step), figures(loss, growth.powi(i32::from(step))));
                alarms.into_iter().map(|alarm| (alarm.kind, alarm.step))
            });
            assert_eq!(told.collect::<Vec<_>>(), expected, "{losses:?}");
        }
    }

    #[test]
    fn nothing_is_judged_when_it_is_off() {
        let config = AlarmConfig {
            loss_spike: 0.0,
            gradient_jump: 0.0,
            data_wait: 0.0,
            ..AlarmConfig::default()
        };
        let mut off = Health::new(config);
        for step in 1..400 {
            off.step(step, usual(step));
            assert_eq!(off.period(step, 0.99, 60.0), None);
        }
        assert_eq!(off.step(400, figures(1e6, 1e6)), []);
    }

    #[test]
    fn a_slow_loader_is_told_after_three_periods_and_forgiven_below_half_the_limit() {
        let mut health = health();
        let told: Vec<_> = [0.9, 0.9, 0.2, 0.6, 0.7, 0.8, 0.9, 0.4, 0.3, 0.2, 0.1]
            .into_iter()
            .enumerate()
            .filter_map(|(step, wait)| health.period(step as u64, wait, 60.0))
            .map(|alarm| (alarm.step, alarm.active))
            .collect();
        assert_eq!(told, [(5, true), (9, false)]);
    }

    #[test]
    fn nobody_is_told_to_raise_a_number_that_the_run_finds_by_itself() {
        for tuned in [false, true] {
            let mut health = health().of_tuned_loader(tuned);
            let told: Vec<_> = (0..3).filter_map(|step| health.period(step, 0.9, 60.0)).collect();
            assert_eq!(told.len(), 1);
            assert_eq!(told[0].message.contains("data.workers"), !tuned, "{told:?}");
        }
    }

    #[test]
    fn a_slow_loader_must_have_cost_some_seconds() {
        let mut health = health();
        let told: Vec<_> = (0..20)
            .filter_map(|step| health.period(step, 0.8, 1.0))
            .map(|alarm| alarm.step)
            .collect();
        assert_eq!(told, [12], "after 13 periods of 0.8 s");
    }
}
