//! What the NVIDIA driver tells about a GPU.

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{TemperatureSensor, TemperatureThreshold};

/// Figures of one GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    pub name: String,
    /// 0 to 1.
    pub utilization: f64,
    /// Bytes.
    pub memory_used: u64,
    pub memory_total: u64,
    /// Watts.
    pub power: f64,
    /// Degrees Celsius.
    pub temperature: u32,
    /// Degrees Celsius from which the driver slows the GPU down; 0 if it doesn't say.
    pub slowdown: u32,
}

/// The driver's library. On machines without one every question is answered by `None`.
pub struct Gpus(Option<Nvml>);

impl Gpus {
    pub fn open() -> Self {
        Self(Nvml::init().ok())
    }

    /// The driver's version.
    pub fn driver(&self) -> Option<String> {
        self.0.as_ref()?.sys_driver_version().ok()
    }

    /// Figures of the GPU with this number.
    pub fn read(&self, index: usize) -> Option<Gpu> {
        let device = self.0.as_ref()?.device_by_index(index as u32).ok()?;
        let memory = device.memory_info().ok()?;
        let utilization = device.utilization_rates().ok()?;
        Some(Gpu {
            name: device.name().ok()?,
            utilization: f64::from(utilization.gpu) / 100.0,
            memory_used: memory.used,
            memory_total: memory.total,
            power: device.power_usage().map_or(0.0, |milliwatts| f64::from(milliwatts) / 1000.0),
            temperature: device.temperature(TemperatureSensor::Gpu).unwrap_or(0),
            slowdown: device.temperature_threshold(TemperatureThreshold::Slowdown).unwrap_or(0),
        })
    }
}
