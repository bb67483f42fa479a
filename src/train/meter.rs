//! Where the time of a run goes: the rate of steps, the wait for data, and the estimated time to the end.

use crate::event::TimeSplit;
use std::time::{Duration, Instant};

/// Weight of the newest period in the running means.
const NEWEST: f64 = 0.3;

/// Times of a run. Pauses count in none of them.
#[derive(Debug)]
pub(super) struct Meter {
    /// Training time of earlier sessions of the run.
    before: Duration,
    /// Training time of this session, up to the last lap.
    worked: Duration,
    /// End of the last lap.
    last: Instant,
    /// Time spent on steps in the current log period.
    compute: Duration,
    /// Time spent waiting for data in the current log period.
    wait: Duration,
    /// Steps of the current log period.
    steps: u64,
    /// Whether something other than steps happened in the current log period. The first one has the start.
    interrupted: bool,
    /// Times of the whole session.
    split: TimeSplit,
    /// Log periods closed in this session.
    periods: u64,
    /// Running means of the durations of single activities, in seconds.
    step_s: Option<f64>,
    validation_s: Option<f64>,
    evaluation_s: Option<f64>,
    saving_s: Option<f64>,
}

/// What a stretch of time was spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    DataWait,
    Compute,
    Validation,
    /// Evaluation on labelled images. Reports add it to validation.
    Evaluation,
    Saving,
    /// Start-up and housekeeping, which count as elapsed time but in no rate.
    Other,
    /// Waiting for people, which doesn't count at all.
    Pause,
}

/// The rate of a log period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    pub(super) images_per_s: f64,
    /// Share of the period that was spent waiting for data, 0 to 1.
    pub(super) data_wait: f64,
    /// Training time of the period.
    pub(super) seconds: f64,
    /// Whether something other than steps happened in it, such as a validation: the loader went on alone meanwhile.
    pub(super) interrupted: bool,
}

/// How much is left to do in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Todo {
    pub(super) steps: u64,
    /// Of the usual number of images.
    pub(super) validations: u64,
    pub(super) evaluations: u64,
    pub(super) checkpoints: u64,
}

impl Meter {
    /// Starts to measure. `before_s` is the training time of earlier sessions of the run, in seconds.
    pub(super) fn new(before_s: f64) -> Self {
        Self {
            before: Duration::try_from_secs_f64(before_s).unwrap_or_default(),
            worked: Duration::ZERO,
            last: Instant::now(),
            compute: Duration::ZERO,
            wait: Duration::ZERO,
            steps: 0,
            interrupted: true,
            split: TimeSplit::default(),
            periods: 0,
            step_s: None,
            validation_s: None,
            evaluation_s: None,
            saving_s: None,
        }
    }

    /// Books the time since the last lap to `activity` and returns it.
    pub(super) fn lap(&mut self, activity: Activity) -> Duration {
        let now = Instant::now();
        let time = now - self.last;
        self.last = now;
        if activity != Activity::Pause {
            self.worked += time;
        }
        let seconds = time.as_secs_f64();
        self.interrupted |=
            !matches!(activity, Activity::DataWait | Activity::Compute | Activity::Other);
        match activity {
            Activity::DataWait => {
                self.wait += time;
                self.split.data_wait += seconds;
            }
            Activity::Compute => {
                self.compute += time;
                self.split.compute += seconds;
            }
            Activity::Validation => self.split.validation += seconds,
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

    /// Books the time since the last lap, after which a validation begins.
    pub(super) fn begin_validation(&mut self) {
        self.lap(Activity::Other);
    }

    /// Books the time of a validation on `share` times as many images as usual, and returns it.
    pub(super) fn end_validation(&mut self, share: f64) -> Duration {
        let time = self.lap(Activity::Validation);
        mix(&mut self.validation_s, time.as_secs_f64() / share.max(1e-6));
        time
    }

    /// Counts an optimizer step.
    pub(super) fn count_step(&mut self) {
        self.steps += 1;
    }

    /// Closes a log period and returns its rate. The first period includes the preparation of the device, so its time per step
    /// is forgotten once there is a second one.
    pub(super) fn close_period(&mut self, images_per_step: usize) -> Rate {
        let busy = (self.compute + self.wait).as_secs_f64().max(1e-9);
        let rate = Rate {
            images_per_s: self.steps as f64 * images_per_step as f64 / busy,
            data_wait: self.wait.as_secs_f64() / busy,
            seconds: busy,
            interrupted: std::mem::take(&mut self.interrupted),
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

    /// Returns the seconds of training so far over all sessions, without pauses.
    pub(super) fn elapsed_s(&self) -> f64 {
        (self.before + self.worked).as_secs_f64()
    }

    /// Returns where the time of this session went.
    pub(super) fn split(&self) -> TimeSplit {
        self.split
    }

    /// Estimates the seconds to the end of the run.
    /// The last validation is `rest` times longer than the usual ones.
    pub(super) fn eta_s(&self, todo: &Todo, rest: f64) -> f64 {
        let part = |count: u64, mean: Option<f64>| count as f64 * mean.unwrap_or(0.0);
        part(todo.steps, self.step_s)
            + part(todo.validations, self.validation_s)
            + rest * part(todo.validations.min(1), self.validation_s)
            + part(todo.evaluations, self.evaluation_s)
            + part(todo.checkpoints, self.saving_s)
    }
}

/// Moves a running mean towards `value`.
fn mix(mean: &mut Option<f64>, value: f64) {
    *mean = Some(mean.map_or(value, |mean| mean + NEWEST * (value - mean)));
}
