//! Where the time goes: rate, data wait, and the time to the end.

use crate::event::TimeSplit;
use std::time::{Duration, Instant};

/// Weight of the newest period in the running means.
const NEWEST: f64 = 0.3;

/// Times of a run. Pauses belong to none of them.
#[derive(Debug)]
pub struct Meter {
    /// Training time of earlier sessions of the run.
    before: Duration,
    /// Training time of this session, up to the last lap.
    worked: Duration,
    /// End of the last lap.
    last: Instant,
    /// Of the current log period.
    compute: Duration,
    wait: Duration,
    steps: u64,
    /// Of the whole session.
    split: TimeSplit,
    /// Periods closed in this session.
    periods: u64,
    /// Running means, seconds.
    step_s: Option<f64>,
    validation_s: Option<f64>,
    evaluation_s: Option<f64>,
    saving_s: Option<f64>,
}

/// What a stretch of time went into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    DataWait,
    Compute,
    Validation,
    /// On labelled images; told together with validation.
    Evaluation,
    Saving,
    /// Start-up and housekeeping: counted as elapsed, not in any rate.
    Other,
    /// Not counted at all.
    Pause,
}

/// Rate of a log period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub images_per_s: f64,
    /// 0 to 1.
    pub data_wait: f64,
    /// Length of the period, without what isn't training.
    pub seconds: f64,
}

/// What is left to do, in pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Todo {
    pub steps: u64,
    pub validations: u64,
    pub evaluations: u64,
    pub checkpoints: u64,
}

impl Meter {
    pub fn new(before_s: f64) -> Self {
        Self {
            before: Duration::try_from_secs_f64(before_s).unwrap_or_default(),
            worked: Duration::ZERO,
            last: Instant::now(),
            compute: Duration::ZERO,
            wait: Duration::ZERO,
            steps: 0,
            split: TimeSplit::default(),
            periods: 0,
            step_s: None,
            validation_s: None,
            evaluation_s: None,
            saving_s: None,
        }
    }

    /// Books the time since the last lap to `activity` and returns it.
    pub fn lap(&mut self, activity: Activity) -> Duration {
        let now = Instant::now();
        let time = now - self.last;
        self.last = now;
        if activity != Activity::Pause {
            self.worked += time;
        }
        let seconds = time.as_secs_f64();
        match activity {
            Activity::DataWait => {
                self.wait += time;
                self.split.data_wait += seconds;
            }
            Activity::Compute => {
                self.compute += time;
                self.split.compute += seconds;
            }
            Activity::Validation => {
                mix(&mut self.validation_s, seconds);
                self.split.validation += seconds;
            }
            Activity::Evaluation => {
                mix(&mut self.evaluation_s, seconds);
                self.split.validation += seconds;
            }
            Activity::Saving => {
                mix(&mut self.saving_s, seconds);
                self.split.saving += seconds;
            }
            Activity::Other | Activity::Pause => {}
        }
        time
    }

    /// An optimizer step is done.
    pub fn count_step(&mut self) {
        self.steps += 1;
    }

    /// Closes a log period. The first one holds compilation and tuning: it only stands in until the second.
    pub fn close_period(&mut self, images_per_step: usize) -> Rate {
        let busy = (self.compute + self.wait).as_secs_f64().max(1e-9);
        let rate = Rate {
            images_per_s: self.steps as f64 * images_per_step as f64 / busy,
            data_wait: self.wait.as_secs_f64() / busy,
            seconds: busy,
        };
        if self.steps > 0 {
            if self.periods < 2 {
                self.step_s = None;
            }
            mix(&mut self.step_s, busy / self.steps as f64);
            self.periods += 1;
        }
        (self.compute, self.wait, self.steps) = (Duration::ZERO, Duration::ZERO, 0);
        rate
    }

    /// Seconds of training so far over all sessions, without pauses.
    pub fn elapsed_s(&self) -> f64 {
        (self.before + self.worked).as_secs_f64()
    }

    /// Where the time of this session went.
    pub fn split(&self) -> TimeSplit {
        self.split
    }

    /// Seconds to the end.
    pub fn eta_s(&self, todo: &Todo) -> f64 {
        let part = |count: u64, mean: Option<f64>| count as f64 * mean.unwrap_or(0.0);
        part(todo.steps, self.step_s)
            + part(todo.validations, self.validation_s)
            + part(todo.evaluations, self.evaluation_s)
            + part(todo.checkpoints, self.saving_s)
    }
}

fn mix(mean: &mut Option<f64>, value: f64) {
    *mean = Some(mean.map_or(value, |mean| mean + NEWEST * (value - mean)));
}
