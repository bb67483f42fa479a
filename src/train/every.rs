//! What is due after which step, and how much of it is still to come.

use super::meter::Todo;
use super::progress::RunLength;
use crate::config::Config;

/// Something that happens after every `period` steps of a run of `total` steps; with a period of 0 it never happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Every {
    period: u64,
    total: u64,
    /// Whether it also happens after the last step, wherever in a period that lies.
    last: bool,
}

impl Every {
    pub(super) fn new(period: u64, total: u64) -> Self {
        Self { period, total, last: false }
    }

    /// Makes it happen after the last step, too.
    pub(super) fn and_last(self) -> Self {
        Self { last: true, ..self }
    }

    /// Returns whether it happens after the first `step` steps; never before the first one.
    pub(super) fn due(&self, step: u64) -> bool {
        let at_last = self.last && step == self.total;
        self.period > 0 && step > 0 && (step.is_multiple_of(self.period) || at_last)
    }

    /// Returns how often it still happens after `step`, for estimating the time to the end. The last step is reported
    /// before what is due after it, so an occasion that only [`Self::and_last`] adds counts until the run is over.
    pub(super) fn left(&self, step: u64) -> u64 {
        if self.period == 0 {
            return 0;
        }
        let all =
            if self.last { self.total.div_ceil(self.period) } else { self.total / self.period };
        all.saturating_sub(step / self.period)
    }
}

/// All that recurs in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Periods {
    total: u64,
    report: Every,
    validation: Every,
    evaluation: Every,
    /// By epochs and by steps, independently of each other.
    checkpoints: [Every; 2],
}

impl Periods {
    /// The periods that the configuration asks for. Without `evaluates` there are no labelled images to evaluate on.
    pub(super) fn new(config: &Config, length: RunLength, evaluates: bool) -> Self {
        let RunLength { steps_per_epoch, total_steps: total } = length;
        let steps = |period: usize| Every::new(period as u64, total);
        let epochs = |period: usize| Every::new(period as u64 * steps_per_epoch, total);
        Self {
            total,
            report: steps(config.train.log_every),
            validation: Every::new(config.train.validation_period(steps_per_epoch), total)
                .and_last(),
            evaluation: epochs(if evaluates { config.eval.every } else { 0 }).and_last(),
            checkpoints: [
                epochs(config.checkpoint.every_epochs),
                steps(config.checkpoint.every_steps),
            ],
        }
    }

    /// Returns whether figures are reported after `step`. The very first step is always reported: it shows that the run
    /// works.
    pub(super) fn report_due(&self, step: u64) -> bool {
        step == 1 || self.report.due(step)
    }

    pub(super) fn validation_due(&self, step: u64) -> bool {
        self.validation.due(step)
    }

    pub(super) fn evaluation_due(&self, step: u64) -> bool {
        self.evaluation.due(step)
    }

    pub(super) fn checkpoint_due(&self, step: u64) -> bool {
        self.checkpoints.iter().any(|every| every.due(step))
    }

    /// Returns what is left to do after `step`.
    pub(super) fn todo(&self, step: u64) -> Todo {
        Todo {
            steps: self.total.saturating_sub(step),
            validations: self.validation.left(step),
            evaluations: self.evaluation.left(step),
            checkpoints: self.checkpoints.iter().map(|every| every.left(step)).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_steps(every: Every) -> Vec<u64> {
        (0..=every.total).filter(|&step| every.due(step)).collect()
    }

    #[test]
    fn the_end_of_each_period_is_due_and_the_last_step_on_request() {
        assert_eq!(due_steps(Every::new(3, 10)), [3, 6, 9]);
        assert_eq!(due_steps(Every::new(3, 10).and_last()), [3, 6, 9, 10]);
        assert_eq!(due_steps(Every::new(5, 10).and_last()), [5, 10]);
        assert_eq!(due_steps(Every::new(20, 10).and_last()), [10]);
        assert_eq!(due_steps(Every::new(0, 10).and_last()), Vec::<u64>::new());
    }

    #[test]
    fn the_last_step_itself_is_left_until_the_run_is_over() {
        assert_eq!(Every::new(3, 10).and_last().left(10), 1);
        assert_eq!(Every::new(3, 10).left(10), 0);
        assert_eq!(Every::new(5, 10).and_last().left(10), 0);
    }

    #[test]
    fn a_run_recurs_as_its_configuration_says() {
        let mut config = Config::default();
        (config.train.log_every, config.train.val_every, config.eval.every) = (4, Some(2), 3);
        (config.checkpoint.every_epochs, config.checkpoint.every_steps) = (4, 7);
        let length = RunLength { steps_per_epoch: 5, total_steps: 25 };
        let periods = Periods::new(&config, length, true);
        let steps = |due: &dyn Fn(u64) -> bool| (0..=25).filter(|&at| due(at)).collect::<Vec<_>>();
        assert_eq!(steps(&|at| periods.report_due(at)), [1, 4, 8, 12, 16, 20, 24]);
        assert_eq!(steps(&|at| periods.validation_due(at)), [10, 20, 25]);
        assert_eq!(steps(&|at| periods.evaluation_due(at)), [15, 25]);
        assert_eq!(steps(&|at| periods.checkpoint_due(at)), [7, 14, 20, 21]);
        let todo = Todo { steps: 15, validations: 2, evaluations: 2, checkpoints: 3 };
        assert_eq!(periods.todo(10), todo);
        (config.train.val_every, config.train.val_every_steps) = (None, Some(9));
        let by_steps = Periods::new(&config, length, true);
        assert_eq!(steps(&|at| by_steps.validation_due(at)), [9, 18, 25]);
        assert_eq!(by_steps.todo(10), todo);
        let without = Periods::new(&config, length, false);
        assert!((0..=25).all(|step| !without.evaluation_due(step)));
        assert_eq!(without.todo(10), Todo { evaluations: 0, ..todo });
    }

    /// All combinations of a small run.
    fn all() -> impl Iterator<Item = Every> {
        let combinations = (0..24).flat_map(|period| (1..48).map(move |total| (period, total)));
        combinations
            .flat_map(|(period, total)| [false, true].map(|last| Every { period, total, last }))
    }

    #[test]
    fn what_is_left_before_the_last_step_is_what_will_be_due() {
        for every in all() {
            for step in 0..every.total {
                let coming = (step + 1..=every.total).filter(|&step| every.due(step)).count();
                assert_eq!(every.left(step), coming as u64, "{every:?} after {step}");
            }
        }
    }

    #[test]
    fn nothing_is_due_before_the_first_step_or_without_a_period() {
        for every in all() {
            assert!(!every.due(0), "{every:?}");
            if every.period == 0 {
                assert_eq!((due_steps(every), every.left(0)), (Vec::new(), 0), "{every:?}");
            }
        }
    }

    #[test]
    fn a_run_that_is_past_its_end_has_nothing_left() {
        // A resume may ask for fewer epochs than are done.
        for every in all() {
            assert_eq!(every.left(every.total + 100), 0, "{every:?}");
        }
    }
}
