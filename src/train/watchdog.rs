//! Watches a run from threads of its own: the heartbeat, steps that don't end, space on the disk, the GPU's temperature.
//!
//! It counts its own ticks instead of reading a clock, so that neither a clock that jumps nor a suspended process raises
//! an alarm.

use super::emitter::Emitter;
use crate::config::AlarmConfig;
use crate::event::{Alarm, AlarmKind, Event, Phase, Stamped};
use crate::gpu::Gpus;
use crate::run_dir::RunDirError;
use crate::text::units::{bytes, span};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at the disk and the GPU.
const ROUND: u64 = 10;
/// Ticks between two heartbeats in the run directory.
const HEARTBEAT: u64 = 5;
/// Ticks that the first step may take, and a checkpoint on a slow disk: Burn may compile its kernels for minutes.
const PATIENCE_COMPILING: u64 = 1800;
const PATIENCE_SAVING: u64 = 600;
/// Checkpoints for which there should be space.
const CHECKPOINTS: u64 = 3;
/// Bytes that should be free for everything else.
const SLACK: u64 = 16 << 20;
/// Degrees Celsius. The alarm comes this much below the temperature at which the driver slows the GPU down, and ends
/// this much below the limit.
const MARGIN: u32 = 3;

/// Where the trainer is, and that it gets on: written by the trainer, read by the watchdog.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Grows with everything that the trainer completes.
    beats: AtomicU64,
    step: AtomicU64,
    phase: AtomicU8,
}

impl Pulse {
    /// `step` optimizer steps are done before the run begins or goes on.
    pub(super) fn new(step: u64) -> Self {
        Self { step: AtomicU64::new(step), ..Self::default() }
    }

    /// Notes that a micro-step or a batch of a validation has ended; `step` optimizer steps are done.
    pub(super) fn beat(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn step(&self) -> u64 {
        self.step.load(Ordering::Relaxed)
    }
}

/// What the watchdog needs to know of a run.
pub(super) struct WatchedRun {
    pub(super) emitter: Arc<Emitter>,
    pub(super) pulse: Arc<Pulse>,
    /// The run directory.
    pub(super) root: PathBuf,
    pub(super) checkpoint_bytes: u64,
    pub(super) alarms: AlarmConfig,
    /// Number of the GPU that computes.
    pub(super) gpu: Option<usize>,
    /// Shows other hosts that this process is running.
    pub(super) heartbeat: Box<dyn Fn() + Send + Sync>,
    /// Makes sure that the run directory is still this process's own; returns whether its lock was made again.
    pub(super) keep: Box<dyn Fn() -> Result<bool, RunDirError> + Send + Sync>,
}

/// The threads that watch a run; they end when this value is dropped.
pub(super) struct Watchdog {
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// Starts a thread that works once a tick until `stopped` is disconnected.
fn every(
    tick: Duration,
    stopped: Receiver<()>,
    name: &str,
    mut work: impl FnMut(u64) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        for ticks in 0.. {
            work(ticks);
            if stopped.recv_timeout(tick) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
    })
}

impl Watchdog {
    /// Starts to watch a run.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(run: Arc<WatchedRun>) -> std::io::Result<Self> {
        Self::start_with(run, TICK)
    }

    fn start_with(run: Arc<WatchedRun>, tick: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let mut others = GpuAndStalls::new(Arc::clone(&run));
        let mut disk = Disk { run, low: false, lost: false };
        // The disk gets a thread of its own because it may hang, which the other thread then reports as a stall.
        let threads = [
            every(tick, stopped.clone(), "watchdog", move |ticks| others.look(ticks))?,
            every(tick, stopped, "heartbeat", move |ticks| disk.look(ticks))?,
        ];
        Ok(Self { stop: Some(stop), threads: threads.into() })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic has printed its message already
        }
    }
}

impl WatchedRun {
    /// Tells the listeners before it tries the log, which may be what is stuck.
    fn alarm(&self, kind: AlarmKind, active: bool, message: String) {
        let alarm = Alarm { kind, active, step: self.pulse.step(), message };
        self.emitter.send_unlogged(Stamped::now(Event::Alarm(alarm)));
        self.emitter.flush();
    }
}

/// Watches the disk, and writes the heartbeat to it.
struct Disk {
    run: Arc<WatchedRun>,
    low: bool,
    /// Whether files of the run are not where they belong.
    lost: bool,
}

impl Disk {
    fn look(&mut self, ticks: u64) {
        if ticks.is_multiple_of(HEARTBEAT) {
            (self.run.heartbeat)();
            self.look_after_files();
        }
        let need = CHECKPOINTS * self.run.checkpoint_bytes + SLACK;
        if ticks.is_multiple_of(ROUND)
            && let Some(free) = free_space(&self.run.root)
            && let Some(message) = room(free, need, &mut self.low)
        {
            self.run.alarm(AlarmKind::DiskLow, self.low, message);
        }
    }
}

impl Disk {
    /// Puts the lock and the log of the run back if somebody has removed them, and tells of it.
    fn look_after_files(&mut self) {
        let run = Arc::clone(&self.run);
        let lock = (run.keep)();
        if matches!(lock, Err(RunDirError::Taken { .. })) {
            // The trainer stops on its own account. What it says of that doesn't belong into the others' log.
            run.emitter.give_up_log();
        }
        let (lock, log) = match lock.and_then(|lock| Ok((lock, run.emitter.keep_log()?))) {
            Ok(made) => made,
            Err(error) => return self.lose(error.to_string()),
        };
        let made: Vec<&str> = [(lock, "lock"), (log, "events.jsonl")]
            .iter()
            .filter(|made| made.0)
            .map(|made| made.1)
            .collect();
        if !made.is_empty() {
            let files = made.join(" and ");
            self.lose(format!("{files} of the run were removed or replaced; put back"));
        }
        if std::mem::take(&mut self.lost) {
            let message = "the run's files are in their place".to_owned();
            run.alarm(AlarmKind::FilesLost, false, message);
        }
    }

    fn lose(&mut self, message: String) {
        if !std::mem::replace(&mut self.lost, true) {
            self.run.alarm(AlarmKind::FilesLost, true, message);
        }
    }
}

/// Watches what needs no disk: stalled steps and the GPU's temperature.
struct GpuAndStalls {
    run: Arc<WatchedRun>,
    stall: Stall,
    gpus: Gpus,
    hot: bool,
}

impl GpuAndStalls {
    fn new(run: Arc<WatchedRun>) -> Self {
        Self { stall: Stall::new(run.alarms.stall_s), gpus: Gpus::open(), hot: false, run }
    }

    fn look(&mut self, ticks: u64) {
        if let Some((active, message)) = self.stall.tick(&self.run.pulse) {
            self.run.alarm(AlarmKind::Stalled, active, message);
        }
        if ticks.is_multiple_of(ROUND) {
            self.look_at_gpu();
        }
    }

    fn look_at_gpu(&mut self) {
        let Some(gpu) = self.run.gpu.and_then(|index| self.gpus.read(index)) else { return };
        let limit = match self.run.alarms.gpu_celsius {
            0 if gpu.slowdown == 0 => return,
            0 => gpu.slowdown.saturating_sub(MARGIN),
            limit => limit,
        };
        if let Some(message) = heat(gpu.temperature, limit, &mut self.hot) {
            self.run.alarm(AlarmKind::GpuHot, self.hot, message);
        }
    }
}

/// Counts ticks without a beat.
struct Stall {
    /// Ticks without a beat that raise the alarm; 0 turns it off.
    limit: u64,
    /// The number of beats at the last tick.
    beats: u64,
    /// Ticks since the last beat.
    still: u64,
    /// Most ticks between two beats so far: a large model on a small machine takes its time.
    longest: u64,
    active: bool,
}

impl Stall {
    fn new(limit: u64) -> Self {
        Self { limit, beats: 0, still: 0, longest: 0, active: false }
    }

    /// Counts a tick. Returns whether a stall begins (true) or ends (false) with it, and a message.
    fn tick(&mut self, pulse: &Pulse) -> Option<(bool, String)> {
        let phase = pulse.phase.load(Ordering::Relaxed);
        let is = |other: Phase| phase == other as u8;
        let limit = if is(Phase::Running) || is(Phase::Evaluating) {
            self.limit.max(3 * self.longest)
        } else if is(Phase::Compiling) {
            self.limit.max(PATIENCE_COMPILING)
        } else if is(Phase::Saving) {
            self.limit.max(PATIENCE_SAVING)
        } else {
            u64::MAX
        };
        let beats = pulse.beats.load(Ordering::Relaxed);
        if beats != self.beats {
            if !self.active && (is(Phase::Running) || is(Phase::Evaluating)) {
                self.longest = self.longest.max(self.still);
            }
            (self.beats, self.still) = (beats, 0);
            let over = std::mem::take(&mut self.active);
            return over.then(|| (false, "steps end again".to_owned()));
        }
        self.still += 1;
        if self.limit == 0 || self.active || self.still < limit {
            return None;
        }
        self.active = true;
        let time = span(self.still as f64 * TICK.as_secs_f64());
        Some((
            true,
            format!("no step has ended for {time}: is the data's disk or the device gone?"),
        ))
    }
}

/// Returns the bytes that this process may still write below `path`.
fn free_space(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Returns a message if the alarm begins or ends with this much free space, and turns `low` over.
fn room(free: u64, need: u64, low: &mut bool) -> Option<String> {
    let now = if *low { free < need + need / 4 } else { free < need };
    if now == *low {
        return None;
    }
    *low = now;
    let free = bytes(free);
    Some(if now {
        format!(
            "{free} left on the disk of the run, {CHECKPOINTS} checkpoints need {}",
            bytes(need)
        )
    } else {
        format!("{free} are free again")
    })
}

/// Returns a message if the alarm begins or ends with this temperature, and turns `hot` over.
fn heat(celsius: u32, limit: u32, hot: &mut bool) -> Option<String> {
    let now = if *hot { celsius + MARGIN > limit } else { celsius >= limit };
    if now == *hot {
        return None;
    }
    *hot = now;
    Some(format!("the GPU has {celsius} °C, the limit is {limit} °C"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_dir::EventLog;
    use crossbeam_channel::unbounded;

    fn told(stall: &mut Stall, pulse: &Pulse, ticks: u64) -> Vec<(u64, bool)> {
        (1..=ticks).filter_map(|tick| Some((tick, stall.tick(pulse)?.0))).collect()
    }

    #[test]
    fn a_stall_is_told_once_and_ends_with_the_next_step() {
        let (mut stall, pulse) = (Stall::new(5), Pulse::default());
        pulse.enter(Phase::Running);
        assert_eq!(told(&mut stall, &pulse, 20), [(6, true)], "the first tick sees the phase");
        pulse.beat(1);
        assert_eq!(told(&mut stall, &pulse, 3), [(1, false)]);
    }

    #[test]
    fn waits_that_are_meant_are_no_stall() {
        for (phase, ticks) in [
            (Phase::Paused, 100_000),
            (Phase::Starting, 100_000),
            (Phase::Stopping, 100_000),
            (Phase::Compiling, PATIENCE_COMPILING),
            (Phase::Saving, PATIENCE_SAVING),
        ] {
            let (mut stall, pulse) = (Stall::new(5), Pulse::default());
            pulse.enter(phase);
            assert_eq!(told(&mut stall, &pulse, ticks), [], "{phase:?}");
        }
        let (mut off, pulse) = (Stall::new(0), Pulse::default());
        pulse.enter(Phase::Running);
        assert_eq!(told(&mut off, &pulse, 100_000), []);
    }

    #[test]
    fn slow_steps_stretch_the_limit() {
        let (mut stall, pulse) = (Stall::new(10), Pulse::default());
        pulse.enter(Phase::Running);
        for step in 0..5 {
            assert_eq!(told(&mut stall, &pulse, 9), []);
            pulse.beat(step);
        }
        assert_eq!(told(&mut stall, &pulse, 100).first(), Some(&(1 + 24, true)));
    }

    #[test]
    fn alarms_of_disk_and_heat_end_a_little_beyond_their_limit() {
        let mut low = false;
        let told: Vec<_> = [120, 100, 99, 110, 124, 125, 101]
            .map(|free| room(free, 100, &mut low).map(|_| free))
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(told, [99, 125]);
        let mut hot = false;
        let told: Vec<_> = [70, 85, 86, 84, 83, 82, 84]
            .map(|celsius| heat(celsius, 85, &mut hot).map(|_| celsius))
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(told, [85, 82]);
    }

    #[test]
    fn the_thread_tells_and_ends_with_its_value() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let log = EventLog::open(&temp.path().join("events.jsonl")).expect("writable");
        let (sender, events) = unbounded::<Stamped>();
        let (beat, beats) = unbounded();
        let pulse = Arc::new(Pulse::default());
        pulse.enter(Phase::Running);
        pulse.beat(7);
        let run = WatchedRun {
            emitter: Arc::new(Emitter::new(log, vec![Box::new(sender)])),
            pulse: Arc::clone(&pulse),
            root: temp.path().to_owned(),
            // More than any disk has.
            checkpoint_bytes: 1 << 60,
            alarms: AlarmConfig { stall_s: 3, ..AlarmConfig::default() },
            gpu: None,
            heartbeat: Box::new(move || {
                let _ = beat.send(()); // the test may be over
            }),
            keep: Box::new(|| Ok(false)),
        };
        let watchdog = Watchdog::start_with(Arc::new(run), Duration::from_millis(1));
        let watchdog = watchdog.expect("a thread");
        let mut kinds = Vec::new();
        while kinds.len() < 2 {
            let event = events.recv_timeout(Duration::from_mins(1)).expect("it is told").event;
            let Event::Alarm(alarm) = event else { panic!("{event:?}") };
            assert!(alarm.active && alarm.step == 7, "{alarm:?}");
            kinds.push(alarm.kind);
        }
        kinds.sort();
        assert_eq!(kinds, [AlarmKind::Stalled, AlarmKind::DiskLow]);
        pulse.beat(8);
        let over = events.recv_timeout(Duration::from_mins(1)).expect("it is told").event;
        assert!(matches!(over, Event::Alarm(Alarm { active: false, .. })), "{over:?}");
        drop(watchdog);
        assert!(beats.try_iter().count() > 0, "there were heartbeats");
        assert!(beats.recv().is_err(), "the thread has ended");
    }
}
