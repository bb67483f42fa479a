//! The answers of the NVIDIA driver.

use super::Gpu;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{TemperatureSensor, TemperatureThreshold};

/// The driver's library, if this machine has one.
pub struct Gpus(Option<Nvml>);

impl Gpus {
    /// Loads the driver's library.
    pub fn open() -> Self {
        Self(Nvml::init().ok())
    }

    /// Returns the driver's version.
    pub fn driver(&self) -> Option<String> {
        self.0.as_ref()?.sys_driver_version().ok()
    }

    /// Returns the figures of the GPU with this number.
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
