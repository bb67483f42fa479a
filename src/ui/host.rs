//! The load of the machine: CPU, memory, and the GPU if the driver tells.

use crate::gpu::{Gpu, Gpus};
use std::time::{Duration, Instant};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// The load of the machine at one moment. Shares are 0 to 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    pub cpu: f64,
    pub memory_used: u64,
    pub memory_total: u64,
    pub gpu: Option<Gpu>,
}

/// Reads the figures every few seconds.
pub struct Monitor {
    system: System,
    gpus: Gpus,
    last: Option<Instant>,
}

/// The time between two readings.
const PERIOD: Duration = Duration::from_secs(2);

impl Monitor {
    pub fn new() -> Self {
        let what = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_cpu_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        Self { system: System::new_with_specifics(what), gpus: Gpus::open(), last: None }
    }

    /// Returns new figures every two seconds, and `None` in between.
    pub fn poll(&mut self) -> Option<Host> {
        if self.last.is_some_and(|last| last.elapsed() < PERIOD) {
            return None;
        }
        self.last = Some(Instant::now());
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        Some(Host {
            cpu: f64::from(self.system.global_cpu_usage()) / 100.0,
            memory_used: self.system.used_memory(),
            memory_total: self.system.total_memory(),
            gpu: self.gpus.read(0),
        })
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self::new()
    }
}
