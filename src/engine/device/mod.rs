//! Which device computes. Burn's backends are chosen here and nowhere else.

mod cuda;
mod library_settings;
pub mod precision;

pub use library_settings::fix_library_settings;

use super::learner::{Learner, LearnerConfig};
use super::{Engine, MakeEngine};
use crate::config::Precision;
use crate::model;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use cuda::Cuda;
use precision::Effective;
use std::time::Instant;
use thiserror::Error;

/// The CPU backend with gradients.
pub type Cpu = burn::backend::Autodiff<burn_flex::Flex>;

/// A device that this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    Cpu,
    Cuda(Cuda),
}

impl Device {
    /// Returns the number of the GPU, if it is one.
    pub fn gpu(&self) -> Option<usize> {
        match self {
            Self::Cpu => None,
            Self::Cuda(gpu) => Some(gpu.index()),
        }
    }
}

/// Why the wanted device can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    #[error("device {0:?} is unknown: use auto, cpu, cuda or cuda:N")]
    Unknown(String),
    #[error("device {wanted}: {reason}; use --device cpu or --device auto")]
    Unusable { wanted: String, reason: String },
}

/// A device and, where `auto` found no GPU, the reason in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub device: Device,
    pub notice: Option<String>,
}

impl std::fmt::Display for Device {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => {
                let threads = std::thread::available_parallelism().map_or(1, usize::from);
                write!(out, "cpu ({threads} threads)")
            }
            Self::Cuda(gpu) => write!(out, "cuda:{} ({})", gpu.index(), gpu.name()),
        }
    }
}

/// Resolves `auto`, `cpu` or `cuda[:N]`. Never panics, with or without a GPU.
///
/// # Errors
/// If the word is unknown, or CUDA was asked for by name and can't be used.
pub fn select(wanted: &str) -> Result<Selection, DeviceError> {
    let unusable = |reason| DeviceError::Unusable { wanted: wanted.to_owned(), reason };
    match wanted {
        "cpu" => Ok(Selection { device: Device::Cpu, notice: None }),
        "auto" => Ok(match Cuda::probe(0).map(Device::Cuda) {
            Ok(device) => Selection { device, notice: None },
            Err(reason) => Selection {
                device: Device::Cpu,
                notice: Some(format!("training on the CPU: {reason}")),
            },
        }),
        _ => {
            let index = match wanted.strip_prefix("cuda") {
                Some("") => Some(0),
                Some(rest) => rest.strip_prefix(':').and_then(|number| number.parse().ok()),
                None => None,
            };
            let index = index.ok_or_else(|| DeviceError::Unknown(wanted.to_owned()))?;
            let device = Cuda::probe(index).map(Device::Cuda).map_err(unusable)?;
            Ok(Selection { device, notice: None })
        }
    }
}

/// Returns a learner with fresh weights on `device`, in the precision that `device` has.
pub fn engine(device: &Device, mut config: LearnerConfig) -> Box<dyn Engine> {
    config.precision = Effective::of(config.precision, device).precision;
    match device {
        Device::Cpu => Box::new(Learner::<Cpu>::new(config, burn_flex::FlexDevice)),
        Device::Cuda(gpu) => gpu.engine(config),
    }
}

/// Returns what makes a learner on `device`, see [`engine`], when it is called.
pub fn engine_maker(device: &Device, config: LearnerConfig) -> MakeEngine {
    let device = device.clone();
    Box::new(move || engine(&device, config))
}

/// Measures the multiplications and additions per second of the product of two square matrices: the best of some, in the
/// precision that `device` makes of `wanted`.
pub fn matmul_flops_per_s(device: &Device, wanted: Precision, side: usize) -> f64 {
    let precision = Effective::of(wanted, device).precision;
    match device {
        Device::Cpu => {
            let kind = model::products(precision);
            fastest_matmul::<burn_flex::Flex>(&burn_flex::FlexDevice, kind, side)
        }
        Device::Cuda(gpu) => gpu.matmul_flops_per_s(precision, side),
    }
}

fn fastest_matmul<B: Backend>(device: &B::Device, kind: DType, side: usize) -> f64 {
    const TRIES: usize = 8;
    let numbers = |seed: usize| {
        let values: Vec<f32> = (0..side * side).map(|i| ((i * seed) % 17) as f32 - 8.0).collect();
        Tensor::<B, 2>::from_data(TensorData::new(values, [side, side]), device).cast(kind)
    };
    let (a, b) = (numbers(7), numbers(11));
    let times = (0..TRIES).map(|_| {
        let start = Instant::now();
        let product = a.clone().matmul(b.clone());
        // One number waits for all of them: device sync.
        drop(product.slice([0..1, 0..1]).into_data());
        start.elapsed().as_secs_f64()
    });
    let best = times.fold(f64::INFINITY, f64::min);
    2.0 * (side as f64).powi(3) / best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_words_are_checked() {
        let cpu = select("cpu").expect("always there");
        assert_eq!(cpu, Selection { device: Device::Cpu, notice: None });
        for word in ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "", "cuda0"] {
            assert_eq!(select(word), Err(DeviceError::Unknown(word.to_owned())), "{word}");
        }
    }

    #[test]
    fn auto_always_finds_a_device_and_says_why_it_is_not_a_gpu() {
        let auto = select("auto").expect("auto never fails");
        assert_eq!(auto.device == Device::Cpu, auto.notice.is_some());
    }

    #[test]
    fn a_gpu_that_no_machine_has_is_a_clear_error() {
        let error = select("cuda:4711").expect_err("nobody has this many").to_string();
        assert!(error.starts_with("device cuda:4711: "), "{error}");
        assert!(error.ends_with("use --device cpu or --device auto"), "{error}");
    }
}
