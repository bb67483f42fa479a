//! Load of the machine: CPU, memory, and the GPU where the driver tells.

use std::time::{Duration, Instant};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// Figures of the machine. Shares are 0 to 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    pub cpu: f64,
    pub memory_used: u64,
    pub memory_total: u64,
    pub gpu: Option<Gpu>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    pub name: String,
    pub utilization: f64,
    pub memory_used: u64,
    pub memory_total: u64,
    /// Watts.
    pub power: f64,
    /// Degrees Celsius.
    pub temperature: u32,
}

/// Reads the figures every few seconds.
pub struct Monitor {
    system: System,
    nvml: Option<nvml_wrapper::Nvml>,
    last: Option<Instant>,
}

const PERIOD: Duration = Duration::from_secs(2);

impl Monitor {
    pub fn new() -> Self {
        let what = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_cpu_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        Self {
            system: System::new_with_specifics(what),
            nvml: nvml_wrapper::Nvml::init().ok(),
            last: None,
        }
    }

    /// New figures when it is time for them.
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
            gpu: self.gpu(),
        })
    }

    fn gpu(&self) -> Option<Gpu> {
        let device = self.nvml.as_ref()?.device_by_index(0).ok()?;
        let memory = device.memory_info().ok()?;
        let utilization = device.utilization_rates().ok()?;
        Some(Gpu {
            name: device.name().ok()?,
            utilization: f64::from(utilization.gpu) / 100.0,
            memory_used: memory.used,
            memory_total: memory.total,
            power: device.power_usage().map_or(0.0, |milliwatts| f64::from(milliwatts) / 1000.0),
            temperature: device
                .temperature(nvml_wrapper::enum_wrappers::device::TemperatureSensor::Gpu)
                .unwrap_or(0),
        })
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self::new()
    }
}
