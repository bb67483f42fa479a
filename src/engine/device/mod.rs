//! Which device computes: the one place that names Burn's backends.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub mod precision;

use super::Engine;
use super::learner::{Learner, LearnerConfig};
use crate::config::Precision;
use crate::model;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use precision::Effective;
use std::time::Instant;
use thiserror::Error;

/// The CPU backend with gradients.
pub type Cpu = burn::backend::Autodiff<burn_flex::Flex>;

/// A device that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// CUDA device by its number.
    #[cfg(feature = "cuda")]
    Cuda(usize),
}

#[cfg(feature = "cuda")]
impl Device {
    /// The number of the GPU, if it is one.
    pub fn gpu(&self) -> Option<usize> {
        match self {
            Self::Cpu => None,
            Self::Cuda(index) => Some(*index),
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

/// A device, and in one line why it isn't a GPU when `auto` was asked.
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
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => match cuda::name(*index) {
                Ok(name) => write!(out, "cuda:{index} ({name})"),
                Err(_) => write!(out, "cuda:{index}"),
            },
        }
    }
}

/// Resolves `auto`, `cpu` or `cuda[:N]`. Never panics, with or without a GPU.
///
/// # Errors
/// An unknown word, or CUDA asked for by name and not usable.
pub fn select(wanted: &str) -> Result<Selection, DeviceError> {
    let unusable = |reason| DeviceError::Unusable { wanted: wanted.to_owned(), reason };
    match wanted {
        "cpu" => Ok(Selection { device: Device::Cpu, notice: None }),
        "auto" => Ok(match probe_cuda(0) {
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
            probe_cuda(index).map(|device| Selection { device, notice: None }).map_err(unusable)
        }
    }
}

/// A learner with fresh weights on `device`, in the precision that `device` has.
pub fn engine(device: &Device, mut config: LearnerConfig) -> Box<dyn Engine> {
    config.precision = Effective::of(config.precision, device).precision;
    match device {
        Device::Cpu => Box::new(Learner::<Cpu>::new(config, burn_flex::FlexDevice)),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => cuda::engine(*index, config),
    }
}

/// Multiplications and additions per second of the product of two square matrices: the best of some, in the precision
/// that `device` makes of `wanted`.
pub fn matmul_flops_per_s(device: &Device, wanted: Precision, side: usize) -> f64 {
    let kind = model::products(Effective::of(wanted, device).precision);
    match device {
        Device::Cpu => fastest_matmul::<burn_flex::Flex>(&burn_flex::FlexDevice, kind, side),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => cuda::matmul_flops_per_s(*index, kind, side),
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

#[cfg(feature = "cuda")]
fn probe_cuda(index: usize) -> Result<Device, String> {
    cuda::probe(index).map(|()| Device::Cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn probe_cuda(_index: usize) -> Result<Device, String> {
    Err("this build has no CUDA (feature `cuda` is off)".to_owned())
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
