//! In which precision a device multiplies matrices, whatever the configuration asks for.

use super::Device;
use crate::config::Precision;

/// The first compute capability with TF32 and bf16 tensor cores (Ampere).
const TENSOR_CORES: (i32, i32) = (8, 0);

/// What computes matrix products on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// cuBLASLt.
    Library,
    /// Kernels of our own, of bf16 and of 32-bit floats.
    Own,
    /// Burn, on a GPU of this major and minor compute capability.
    Burn { capability: (i32, i32) },
}

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
            Device::Cuda(gpu) => Self::on_gpu(wanted, gpu.products()),
        }
    }

    fn on_cpu(wanted: Precision) -> Self {
        let why = "a CUDA device: on the CPU it is fp32";
        let notice = (wanted != Precision::Fp32)
            .then(|| format!("train.precision = \"{wanted}\" takes {why}"));
        Self { precision: Precision::Fp32, notice }
    }

    fn on_gpu(wanted: Precision, products: Products) -> Self {
        match (wanted, products) {
            (Precision::Tf32, Products::Own) => Self {
                precision: Precision::Fp32,
                notice: Some(
                    "train.precision = \"tf32\" takes cuBLASLt, which isn't found (see simmim-tui doctor): it is fp32"
                        .to_owned(),
                ),
            },
            (_, Products::Burn { capability }) => Self::by_burn(wanted, capability),
            _ => Self { precision: wanted, notice: None },
        }
    }

    /// Burn tunes products of 32-bit floats among kernels with and without TF32 (cubek-matmul's `adjust_dtypes`), and
    /// Burn 0.21 has no way to leave some out. So fp32 can't be promised where there are TF32 cores.
    fn by_burn(wanted: Precision, capability: (i32, i32)) -> Self {
        let (major, minor) = capability;
        match (wanted, capability < TENSOR_CORES) {
            (Precision::Fp32, false) => Self {
                precision: Precision::Tf32,
                notice: Some(
                    "train.precision = \"fp32\": Burn may take this GPU's TF32 cores for products of 32-bit \
                     floats and can't be told not to, so it is tf32"
                        .to_owned(),
                ),
            },
            (Precision::Tf32 | Precision::Bf16, true) => Self {
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
        let burn = |major, minor| Products::Burn { capability: (major, minor) };
        let cases = [
            (Fp32, Products::Library, Fp32, false),
            (Tf32, Products::Library, Tf32, false),
            (Bf16, Products::Library, Bf16, false),
            (Fp32, Products::Own, Fp32, false),
            (Tf32, Products::Own, Fp32, true),
            (Bf16, Products::Own, Bf16, false),
            (Fp32, burn(7, 5), Fp32, false),
            (Tf32, burn(7, 5), Fp32, true),
            (Bf16, burn(7, 0), Fp32, true),
            (Fp32, burn(8, 0), Tf32, true),
            (Tf32, burn(8, 6), Tf32, false),
            (Bf16, burn(9, 0), Bf16, false),
        ];
        for (wanted, products, precision, told) in cases {
            let found = Effective::on_gpu(wanted, products);
            assert_eq!(found.precision, precision, "{wanted} by {products:?}");
            assert_eq!(found.notice.is_some(), told, "{wanted} by {products:?}");
        }
    }
}
