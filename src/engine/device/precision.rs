//! In which precision a device multiplies matrices, whatever the configuration asks for.

use super::Device;
use crate::config::Precision;

/// The first compute capability with TF32 and bf16 tensor cores (Ampere).
const TENSOR_CORES: (i32, i32) = (8, 0);

/// The precision that a device has and, where it is not the wanted one, the reason in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    pub precision: Precision,
    pub notice: Option<String>,
}

impl Effective {
    /// Returns what `device` makes of `wanted`.
    pub fn of(wanted: Precision, device: &Device) -> Self {
        match device {
            Device::Cpu => Self::on_cpu(wanted),
            Device::Cuda(gpu) => Self::on_gpu(wanted, gpu.capability()),
        }
    }

    fn on_cpu(wanted: Precision) -> Self {
        let why = "a CUDA device: on the CPU it is fp32";
        let notice = (wanted != Precision::Fp32)
            .then(|| format!("train.precision = \"{wanted}\" takes {why}"));
        Self { precision: Precision::Fp32, notice }
    }

    /// `capability` is the major and minor compute capability, if the driver answers.
    ///
    /// Burn tunes products of 32-bit floats among kernels with and without TF32 (cubek-matmul's `adjust_dtypes`), and
    /// Burn 0.21 has no way to leave some out. So fp32 can't be promised where there are TF32 cores.
    fn on_gpu(wanted: Precision, capability: Option<(i32, i32)>) -> Self {
        let old = capability.filter(|&capability| capability < TENSOR_CORES);
        match (wanted, old) {
            (Precision::Fp32, None) => Self {
                precision: Precision::Tf32,
                notice: Some(
                    "train.precision = \"fp32\": Burn may take this GPU's TF32 cores for products of 32-bit \
                     floats and can't be told not to, so it is tf32"
                        .to_owned(),
                ),
            },
            (Precision::Tf32 | Precision::Bf16, Some((major, minor))) => Self {
                precision: Precision::Fp32,
                notice: Some(format!(
                    "train.precision = \"{wanted}\" takes compute capability 8.0, this GPU has \
                     {major}.{minor}: it is fp32"
                )),
            },
            _ => Self { precision: wanted, notice: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes_in_fp32_and_says_so_when_asked_for_less() {
        let fp32 = Effective::of(Precision::Fp32, &Device::Cpu);
        assert_eq!(fp32, Effective { precision: Precision::Fp32, notice: None });
        for wanted in [Precision::Tf32, Precision::Bf16] {
            let found = Effective::of(wanted, &Device::Cpu);
            assert_eq!(found.precision, Precision::Fp32);
            let notice = found.notice.expect("said");
            assert!(notice.contains(&wanted.to_string()) && notice.contains("CPU"), "{notice}");
        }
    }

    #[test]
    fn a_gpu_gets_what_it_has_cores_for() {
        use Precision::{Bf16, Fp32, Tf32};
        let cases = [
            (Fp32, Some((7, 5)), Fp32, false),
            (Tf32, Some((7, 5)), Fp32, true),
            (Bf16, Some((7, 0)), Fp32, true),
            (Fp32, Some((8, 0)), Tf32, true),
            (Tf32, Some((8, 6)), Tf32, false),
            (Bf16, Some((9, 0)), Bf16, false),
            (Bf16, None, Bf16, false),
        ];
        for (wanted, capability, precision, told) in cases {
            let found = Effective::on_gpu(wanted, capability);
            assert_eq!(found.precision, precision, "{wanted} at {capability:?}");
            assert_eq!(found.notice.is_some(), told, "{wanted} at {capability:?}");
        }
    }
}
