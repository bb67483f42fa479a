//! Looks after a run from a thread of its own: heartbeat, steps that don't end, room on the disk, heat of the GPU.
//!
//! It counts its own ticks instead of reading a clock: neither a clock that jumps nor a suspended process alarms it.

use super::emitter::Emitter;
use crate::config::AlarmConfig;
use crate::event::{Alarm, AlarmKind, Event, Phase, Stamped};
use crate::text::units::{bytes, span};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at disk and GPU.
const ROUND: u64 = 10;
/// Ticks between two signs of life in the run folder.
const HEARTBEAT: u64 = 5;
/// Compiling and tuning kernels takes minutes; so does a checkpoint on a slow disk. Ticks.
const PATIENCE_COMPILING: u64 = 1800;
const PATIENCE_SAVING: u64 = 600;
/// Checkpoints for which there should be room, and some for the rest.
const CHECKPOINTS: u64 = 3;
const SLACK: u64 = 16 << 20;
/// Degrees Celsius: the alarm comes this much before the driver slows the GPU down, and ends so much below the limit.
#[cfg(any(feature = "cuda", test))]
const MARGIN: u32 = 3;

/// Signs of life of the trainer.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: AtomicU64,
    step: AtomicU64,
    phase: AtomicU8,
}

impl Pulse {
    /// A micro-step or a batch of a validation has ended; `step` optimizer steps are done.
    pub fn beat(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    fn step(&self) -> u64 {
        self.step.load(Ordering::Relaxed)
    }
}

/// What is looked after.
pub struct WatchedRun {
    pub emitter: Arc<Emitter>,
    pub pulse: Arc<Pulse>,
    /// The run folder.
    pub root: PathBuf,
    pub checkpoint_bytes: u64,
    pub alarms: AlarmConfig,
    /// Number of the GPU that computes.
    #[cfg(feature = "cuda")]
    pub gpu: Option<usize>,
    pub heartbeat: Box<dyn Fn() + Send + Sync>,
}

/// The threads; they end with this value.
pub struct Watchdog {
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// A thread that works once a tick until `stopped` is disconnected.
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
    /// # Errors
    /// The system gives no thread.
    pub fn start(charge: WatchedRun) -> std::io::Result<Self> {
        Self::start_with(charge, TICK)
    }

    fn start_with(charge: WatchedRun, tick: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let charge = Arc::new(charge);
        let mut watch = GpuAndStalls::new(Arc::clone(&charge));
        let mut disk = Disk { charge, low: false };
        // On threads of their own, as a disk that hangs is among what is told.
        let threads = [
            every(tick, stopped.clone(), "sentinel", move |ticks| watch.look(ticks))?,
            every(tick, stopped, "heartbeat", move |ticks| disk.look(ticks))?,
        ];
        Ok(Self { stop: Some(stop), threads: threads.into() })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // its panic would be told already
        }
    }
}

impl WatchedRun {
    /// Told first: the log may be what is stuck.
    fn alarm(&self, kind: AlarmKind, active: bool, message: String) {
        let alarm = Alarm { kind, active, step: self.pulse.step(), message };
        self.emitter.send_unlogged(Stamped::now(Event::Alarm(alarm)));
        self.emitter.flush();
    }
}

/// What touches the disk.
struct Disk {
    charge: Arc<WatchedRun>,
    low: bool,
}

impl Disk {
    fn look(&mut self, ticks: u64) {
        if ticks.is_multiple_of(HEARTBEAT) {
            (self.charge.heartbeat)();
        }
        let need = CHECKPOINTS * self.charge.checkpoint_bytes + SLACK;
        if ticks.is_multiple_of(ROUND)
            && let Some(free) = free_space(&self.charge.root)
            && let Some(message) = room(free, need, &mut self.low)
        {
            self.charge.alarm(AlarmKind::DiskLow, self.low, message);
        }
    }
}

/// What doesn't.
struct GpuAndStalls {
    charge: Arc<WatchedRun>,
    stall: Stall,
    #[cfg(feature = "cuda")]
    hot: bool,
    #[cfg(feature = "cuda")]
    gpus: crate::gpu::Gpus,
}

impl GpuAndStalls {
    fn new(charge: Arc<WatchedRun>) -> Self {
        Self {
            stall: Stall::new(charge.alarms.stall_s),
            #[cfg(feature = "cuda")]
            hot: false,
            #[cfg(feature = "cuda")]
            gpus: crate::gpu::Gpus::open(),
            charge,
        }
    }

    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "only the GPU has rounds"))]
    fn look(&mut self, ticks: u64) {
        if let Some((active, message)) = self.stall.tick(&self.charge.pulse) {
            self.charge.alarm(AlarmKind::Stalled, active, message);
        }
        #[cfg(feature = "cuda")]
        if ticks.is_multiple_of(ROUND) {
            self.look_at_gpu();
        }
    }

    #[cfg(feature = "cuda")]
    fn look_at_gpu(&mut self) {
        let Some(gpu) = self.charge.gpu.and_then(|index| self.gpus.read(index)) else { return };
        let limit = match self.charge.alarms.gpu_celsius {
            0 if gpu.slowdown == 0 => return,
            0 => gpu.slowdown.saturating_sub(MARGIN),
            limit => limit,
        };
        if let Some(message) = heat(gpu.temperature, limit, &mut self.hot) {
            self.charge.alarm(AlarmKind::GpuHot, self.hot, message);
        }
    }
}

/// Counts ticks without a beat.
struct Stall {
    /// Ticks that are too many; 0 = any are right.
    limit: u64,
    beats: u64,
    /// Ticks since the last beat.
    still: u64,
    /// Most ticks between two beats so far: big models on small machines take their time.
    longest: u64,
    active: bool,
}

impl Stall {
    fn new(limit: u64) -> Self {
        Self { limit, beats: 0, still: 0, longest: 0, active: false }
    }

    /// What begins (true) or ends (false) with this tick.
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

/// Bytes that this process may still write below `path`.
fn free_space(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// What begins or ends with this much free space; `low` is turned with it.
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

/// What begins or ends with this temperature; `hot` is turned with it.
#[cfg(any(feature = "cuda", test))]
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
        let charge = WatchedRun {
            emitter: Arc::new(Emitter::new(log, vec![Box::new(sender)])),
            pulse: Arc::clone(&pulse),
            root: temp.path().to_owned(),
            // More than any disk has.
            checkpoint_bytes: 1 << 60,
            alarms: AlarmConfig { stall_s: 3, ..AlarmConfig::default() },
            #[cfg(feature = "cuda")]
            gpu: None,
            heartbeat: Box::new(move || {
                let _ = beat.send(()); // the test may be over
            }),
        };
        let sentinel = Watchdog::start_with(charge, Duration::from_millis(1)).expect("a thread");
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
        drop(sentinel);
        assert!(beats.try_iter().count() > 0, "it has shown that it lives");
        assert!(beats.recv().is_err(), "the thread has ended");
    }
}
