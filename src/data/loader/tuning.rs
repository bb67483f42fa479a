//! How many loader threads suit a run: a decision on measured periods, which knows no clock and no thread.
//!
//! While steps wait for images, twice as many threads are tried. They stay if steps come faster with them. Where the
//! step computes on the same cores as the threads, more of them may slow it down, and where the device is the limit,
//! they gain nothing: then it goes back.

use crate::config::Config;
use std::fmt;

/// The share of their time that steps wait for images before more threads are tried.
const MUCH_WAITING: f64 = 0.1;
/// More threads stay if the rate grows by this factor at least.
const GAIN: f64 = 1.05;
/// Seconds that a rate is measured over.
const WINDOW_S: f64 = 1.0;
/// Seconds until more threads are tried again after they gained nothing.
const REST_S: f64 = 60.0;
/// Attempts that gain nothing before the number stays as it is.
const MOST_FAILURES: u32 = 2;
/// Threads at the start where they take no core from the step, and where nothing is measured.
const SOME: usize = 4;

/// Returns the number of cores that this process may use, under its limits (affinity, cgroups).
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Returns the most threads on a machine of `cores`. `shared` says that the step computes on them, too. Beside a GPU,
/// a core or two stay free for what feeds it.
pub fn most_workers(cores: usize, shared: bool) -> usize {
    let free = match cores {
        _ if shared => 0,
        0..=4 => 1,
        _ => 2,
    };
    cores.saturating_sub(free).max(1)
}

/// Returns the threads that a loader starts with if the configuration leaves it open.
fn first_workers(cores: usize, shared: bool) -> usize {
    if shared { 1 } else { most_workers(cores, shared).min(SOME) }
}

/// Returns the threads of a loader that nothing measures, by `data.workers`.
pub(super) fn fixed_workers(wanted: usize) -> usize {
    if wanted == 0 { cores().min(SOME) } else { wanted }
}

/// What loader and steps did in some time of undisturbed training.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LoadPeriod {
    pub seconds: f64,
    /// Seconds of it that steps waited for images.
    pub waited: f64,
    /// Images that the steps took.
    pub images: f64,
}

/// Another number of threads, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorkerChange {
    pub workers: usize,
    pub why: ChangeReason,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ChangeReason {
    /// Steps waited for this share of their time.
    Waited(f64),
    /// This many threads made steps no faster.
    NoFaster(usize),
}

impl fmt::Display for WorkerChange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = if self.workers == 1 { "loader worker" } else { "loader workers" };
        let workers = self.workers;
        match self.why {
            ChangeReason::Waited(share) => {
                write!(out, "{workers} {threads}: steps waited {:.0} % of the time", share * 100.0)
            }
            ChangeReason::NoFaster(tried) => {
                write!(out, "{workers} {threads} again: steps came no faster with {tried}")
            }
        }
    }
}

/// Finds the number of threads while a run goes on.
#[derive(Debug)]
pub struct WorkerTuning {
    workers: usize,
    most: usize,
    window: LoadPeriod,
    /// What was there before more threads were tried, while the attempt lasts.
    before: Option<BeforeTrial>,
    /// The next period began with batches of the time before a change.
    mixed: bool,
    failures: u32,
    /// Seconds until the next attempt.
    rest: f64,
}

#[derive(Debug, Clone, Copy)]
struct BeforeTrial {
    workers: usize,
    images_per_s: f64,
}

impl WorkerTuning {
    /// Returns the tuning for a machine of `cores`; see [`most_workers`] for `shared`. Returns `None` if the
    /// configuration gives a number.
    pub fn new(config: &Config, cores: usize, shared: bool) -> Option<Self> {
        (config.data.workers == 0).then(|| Self {
            workers: first_workers(cores, shared),
            most: most_workers(cores, shared),
            window: LoadPeriod::default(),
            before: None,
            mixed: false,
            failures: 0,
            rest: 0.0,
        })
    }

    /// Returns the threads that the loader should have now.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Takes in that the system gave no more than `workers` threads.
    pub fn limit(&mut self, workers: usize) {
        self.workers = self.workers.min(workers.max(1));
        self.most = self.workers;
    }

    /// Takes in a period of training. Returns the change that it leads to.
    pub fn judge(&mut self, period: LoadPeriod) -> Option<WorkerChange> {
        if std::mem::take(&mut self.mixed) {
            return None;
        }
        self.rest = (self.rest - period.seconds).max(0.0);
        self.window.seconds += period.seconds;
        self.window.waited += period.waited;
        self.window.images += period.images;
        if self.window.seconds < WINDOW_S {
            return None;
        }
        let LoadPeriod { seconds, waited, images } = std::mem::take(&mut self.window);
        let images_per_s = images / seconds;
        if let Some(before) = self.before.take()
            && images_per_s < GAIN * before.images_per_s
        {
            let why = ChangeReason::NoFaster(self.workers);
            self.failures += 1;
            self.rest = REST_S;
            return Some(self.change(before.workers, why));
        }
        let share = waited / seconds;
        let may = self.workers < self.most && self.failures < MOST_FAILURES && self.rest <= 0.0;
        if !may || share < MUCH_WAITING {
            return None;
        }
        self.before = Some(BeforeTrial { workers: self.workers, images_per_s });
        Some(self.change((2 * self.workers).min(self.most), ChangeReason::Waited(share)))
    }

    fn change(&mut self, workers: usize, why: ChangeReason) -> WorkerChange {
        self.workers = workers;
        self.mixed = true;
        WorkerChange { workers, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine in a model: `step` images/s of the device, `worker` images/s of one thread. A shared machine has
    /// `cores`, on which both divide their work.
    struct Machine {
        step: f64,
        worker: f64,
        cores: usize,
        shared: bool,
    }

    impl Machine {
        /// Returns what a second of training gives with so many threads.
        fn second(&self, workers: usize) -> LoadPeriod {
            let loader = self.worker * workers.min(self.cores) as f64;
            let both = 1.0 / (1.0 / self.step + 1.0 / (self.worker * self.cores as f64));
            let device = if self.shared { both } else { self.step };
            let images = loader.min(device);
            LoadPeriod { seconds: 1.0, waited: 1.0 - images / device.max(images), images }
        }

        /// Trains for so many seconds. Returns the number of threads in the end, and what was told.
        fn train(&self, seconds: usize) -> (usize, Vec<String>) {
            let mut tuning =
                WorkerTuning::new(&Config::default(), self.cores, self.shared).expect("it is open");
            let told = (0..seconds)
                .filter_map(|_| tuning.judge(self.second(tuning.workers())))
                .map(|change| change.to_string())
                .collect();
            (tuning.workers(), told)
        }
    }

    #[test]
    fn threads_are_added_until_the_device_is_busy() {
        let gpu = Machine { step: 3400.0, worker: 500.0, cores: 16, shared: false };
        let (workers, told) = gpu.train(100);
        assert_eq!(
            (workers, told),
            (8, vec!["8 loader workers: steps waited 41 % of the time".to_owned()])
        );
        let fast = Machine { worker: 100.0, ..gpu };
        let (workers, told) = fast.train(100);
        assert_eq!((workers, told.len()), (14, 2), "all but two cores: {told:?}");
    }

    #[test]
    fn a_fast_loader_stays_alone_beside_a_step_on_the_same_cores() {
        let cpu = Machine { step: 258.0, worker: 3000.0, cores: 2, shared: true };
        assert_eq!(cpu.train(1000), (1, Vec::new()));
    }

    #[test]
    fn a_slow_loader_gets_the_idle_cores_of_a_cpu() {
        let cpu = Machine { step: 2000.0, worker: 200.0, cores: 4, shared: true };
        let (workers, told) = cpu.train(100);
        assert_eq!((workers, told.len()), (4, 2), "{told:?}");
    }

    #[test]
    fn threads_that_gain_nothing_go_and_it_is_tried_twice_at_most() {
        let mut tuning = WorkerTuning::new(&Config::default(), 8, true).expect("it is open");
        let slow_disk = LoadPeriod { seconds: 0.5, waited: 0.4, images: 50.0 };
        let told: Vec<_> = (0..10_000)
            .filter_map(|_| tuning.judge(slow_disk))
            .map(|change| change.to_string())
            .collect();
        let more = "2 loader workers: steps waited 80 % of the time";
        let back = "1 loader worker again: steps came no faster with 2";
        assert_eq!(told, [more, back, more, back]);
        assert_eq!(tuning.workers(), 1);
    }

    #[test]
    fn a_number_stays_and_the_system_may_set_a_limit() {
        let mut config = Config::default();
        config.data.workers = 3;
        assert!(WorkerTuning::new(&config, 8, false).is_none());
        let mut tuning = WorkerTuning::new(&Config::default(), 64, false).expect("it is open");
        let waiting = LoadPeriod { seconds: 2.0, waited: 1.9, images: 10.0 };
        assert_eq!(tuning.judge(waiting).map(|change| change.workers), Some(8));
        tuning.limit(5);
        let faster = LoadPeriod { images: 20.0, ..waiting };
        assert_eq!((0..9).find_map(|_| tuning.judge(faster)), None, "5 are all that there are");
        assert_eq!(tuning.workers(), 5);
    }

    #[test]
    fn the_bounds_follow_the_cores() {
        let bounds = [1, 2, 4, 5, 16].map(|cores| {
            (most_workers(cores, true), most_workers(cores, false), first_workers(cores, false))
        });
        assert_eq!(bounds, [(1, 1, 1), (2, 1, 1), (4, 3, 3), (5, 3, 3), (16, 14, 4)]);
        assert_eq!((fixed_workers(7), fixed_workers(0)), (7, cores().min(4)));
    }
}
