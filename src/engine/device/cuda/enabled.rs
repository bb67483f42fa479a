//! The CUDA side of a build with the feature `cuda`.
//!
//! The driver and the libraries are loaded at run time, so the same binary starts on machines without them. A step is
//! computed by kernels of our own, see `cuda`. Where they can't run, or `SIMMIM_PLAIN_OPS=1` asks for it, Burn computes
//! it, for which it takes NVRTC and CUDA's headers.

use crate::config::Precision;
use crate::cuda::device::{self as own, GpuMachine, LEAST_CAPABILITY, OpeningSeconds, Seen};
use crate::cuda::libraries;
use crate::engine::device::fastest_matmul;
use crate::engine::device::precision::Products;
use crate::engine::learner::{Learner, LearnerConfig};
use crate::engine::planned::Planned;
use crate::engine::{DeviceFailure, Engine, Guard, Startup};
use crate::{model, ops};
use burn::backend::Autodiff;
use burn_cubecl::CubeBackend;
use burn_cuda::CudaDevice;
use cubecl::cuda::CudaRuntime;
use cubecl_runtime::config::cache::CacheConfig;
use cubecl_runtime::config::{CubeClRuntimeConfig, RuntimeConfig as _};
use std::panic;
use std::path::Path;
use std::sync::Once;

/// The CUDA backend with gradients, of Burn's plain operations.
type GpuBackend = Autodiff<Plain>;
type Plain = CubeBackend<CudaRuntime, f32, i32, u8>;

/// A GPU that this program can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cuda {
    index: usize,
    seen: Seen,
    /// Burn computes, not the kernels of our own.
    plain: bool,
}

impl Cuda {
    /// Checks the driver, the device, and what computes on it. Never panics.
    ///
    /// # Errors
    /// Returns what is missing, in one line.
    pub(in crate::engine::device) fn probe(index: usize) -> Result<Self, String> {
        let seen = own::look(index)?;
        let plain = ops::plain_wanted() || seen.capability < LEAST_CAPABILITY;
        if plain {
            burn_works(&seen)?;
        } else if let Some(why) = own::obstacle(&seen) {
            return Err(why);
        }
        Ok(Self { index, seen, plain })
    }

    pub(in crate::engine::device) fn index(&self) -> usize {
        self.index
    }

    /// Returns the name that the driver gives the GPU.
    pub(in crate::engine::device) fn name(&self) -> &str {
        &self.seen.name
    }

    /// Returns what matrix products are computed by.
    pub(in crate::engine::device) fn products(&self) -> Products {
        match self.plain {
            true => Products::Burn { capability: self.seen.capability },
            false if own::library_missing(self.seen.cuda.0).is_some() => Products::Own,
            false => Products::Library,
        }
    }

    pub(in crate::engine::device) fn engine(&self, config: LearnerConfig) -> Box<dyn Engine> {
        if self.plain {
            keep_kernels();
            return plain_engine(CudaDevice::new(self.index), config);
        }
        let opened = GpuMachine::open(self.index);
        let made = opened.and_then(|(gpu, opened)| {
            let OpeningSeconds { context, library, kernels } = opened.seconds;
            let opening = Startup { context, libraries: library, kernels, ..Startup::default() };
            Ok(Planned::new(config, Box::new(gpu))?.opened(&opening))
        });
        match made {
            Ok(engine) => Box::new(engine),
            // Engines have no errors, see `DeviceFailure`.
            Err(fault) => panic::resume_unwind(Box::new(DeviceFailure(fault.0))),
        }
    }

    /// `precision` is one that the GPU has. Not a number if the GPU fails.
    pub(in crate::engine::device) fn matmul_flops_per_s(
        &self,
        precision: Precision,
        side: usize,
    ) -> f64 {
        if self.plain {
            keep_kernels();
            let kind = model::products(precision);
            return fastest_matmul::<Plain>(&CudaDevice::new(self.index), kind, side);
        }
        let arithmetic = precision.into();
        let opened = GpuMachine::open(self.index);
        let measured = opened.and_then(|(mut gpu, _)| gpu.product_flops_per_s(arithmetic, side));
        measured.unwrap_or(f64::NAN)
    }
}

/// Checks what Burn takes to compile its kernels: NVRTC, and CUDA's headers.
fn burn_works(seen: &Seen) -> Result<(), String> {
    libraries::provide(libraries::NVRTC, seen.cuda.0)
        .map_err(|why| format!("NVRTC is missing: {why}"))?;
    libraries::try_nvrtc().map_err(|why| format!("NVRTC doesn't work: {why}"))?;
    headers()
}

/// Keeps tuned and compiled kernels in the user's cache directory, so that only the first run on a machine waits for them.
/// CubeCL's environment variables are followed, files in the working directory are not: see
/// [`fix_library_settings`](crate::engine::device::fix_library_settings). To be called before the device is used.
fn keep_kernels() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let settings = CubeClRuntimeConfig::default().override_from_env();
        let folder = dirs::cache_dir().map(|folder| folder.join("simmim-tui"));
        CubeClRuntimeConfig::set(match folder {
            Some(folder) => with_cache(settings, &folder),
            None => settings,
        });
    });
}

fn with_cache(mut config: CubeClRuntimeConfig, folder: &Path) -> CubeClRuntimeConfig {
    let place = || CacheConfig::File(folder.to_owned());
    if matches!(config.autotune.cache, CacheConfig::Target) {
        config.autotune.cache = place(); // the default, which means the build folder of a crate
    }
    config.compilation.cache.get_or_insert_with(place);
    config
}

fn plain_engine(device: CudaDevice, mut config: LearnerConfig) -> Box<dyn Engine> {
    if config.guard == Guard::Host {
        config.guard = Guard::Device; // no step waits for the host
    }
    Box::new(Learner::<GpuBackend>::new(config, device))
}

/// Checks that CUDA's headers are there, which the kernels include. `CubeCL` looks for them in the same places.
fn headers() -> Result<(), String> {
    let root = match std::env::var("CUDA_PATH") {
        Ok(path) => path,
        Err(_) => ["/usr/local/cuda", "/opt/cuda", "/usr"]
            .into_iter()
            .find(|root| Path::new(root).join("include/cuda_fp16.h").exists())
            .unwrap_or("/usr/local/cuda")
            .to_owned(),
    };
    if Path::new(&root).join("include/cuda_fp16.h").exists() {
        return Ok(());
    }
    Err(format!("CUDA headers not found in {root}/include; set CUDA_PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_kept_for_the_user_unless_settings_name_another_place() {
        let folder = Path::new("/cache/simmim-tui");
        let usual = with_cache(CubeClRuntimeConfig::default(), folder);
        assert_eq!(usual.autotune.cache.root(), folder);
        assert_eq!(usual.compilation.cache.expect("kept").root(), folder);
        let mut own = CubeClRuntimeConfig::default();
        own.autotune.cache = CacheConfig::File("/elsewhere".into());
        own.compilation.cache = Some(CacheConfig::File("/elsewhere".into()));
        let own = with_cache(own, folder);
        assert_eq!(own.autotune.cache.root(), Path::new("/elsewhere"));
        assert_eq!(own.compilation.cache.expect("kept").root(), Path::new("/elsewhere"));
    }
}
