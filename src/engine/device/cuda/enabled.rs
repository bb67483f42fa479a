//! The CUDA side of a build with the feature `cuda`.
//!
//! The driver and NVRTC are loaded at run time, so the same binary starts on machines without them.

use crate::engine::device::fastest_matmul;
use crate::engine::learner::{Learner, LearnerConfig};
use crate::engine::{Engine, Guard};
use burn::backend::Autodiff;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cuda::CudaDevice;
use cubecl::cuda::CudaRuntime;
use cubecl_runtime::config::cache::CacheConfig;
use cubecl_runtime::config::{CubeClRuntimeConfig, RuntimeConfig as _};
use cudarc::driver::CudaContext;
use std::panic;
use std::path::Path;
use std::sync::Once;

/// The CUDA backend with gradients. Burn's dispatch backend is compiled once inside Burn, where a
/// generic `Cuda` would compile all of its kernels again in this crate at each change.
type GpuBackend = Autodiff<Plain>;
type Plain = CubeBackend<CudaRuntime, f32, i32, u8>;

/// A GPU that this program can use, by its CUDA number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cuda(usize);

impl Cuda {
    /// Checks the driver, the device and NVRTC. Never panics.
    ///
    /// # Errors
    /// Returns what is missing, in one line.
    pub(in crate::engine::device) fn probe(index: usize) -> Result<Self, String> {
        probe(index).map(|()| Self(index))
    }

    pub(in crate::engine::device) fn index(&self) -> usize {
        self.0
    }

    /// Returns the name that the driver gives the GPU, if it answers.
    pub(in crate::engine::device) fn name(&self) -> Option<String> {
        name(self.0).ok()
    }

    /// Returns the major and minor compute capability, if the driver answers.
    pub(in crate::engine::device) fn capability(&self) -> Option<(i32, i32)> {
        let index = self.0;
        let capability =
            move || CudaContext::new(index).and_then(|context| context.compute_capability());
        quiet(capability).ok()?.ok()
    }

    pub(in crate::engine::device) fn engine(&self, config: LearnerConfig) -> Box<dyn Engine> {
        keep_kernels();
        dispatched(CudaDevice::new(self.0), config)
    }

    pub(in crate::engine::device) fn matmul_flops_per_s(&self, kind: DType, side: usize) -> f64 {
        keep_kernels();
        fastest_matmul::<Plain>(&CudaDevice::new(self.0), kind, side)
    }
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

fn dispatched(device: CudaDevice, mut config: LearnerConfig) -> Box<dyn Engine> {
    if config.guard == Guard::Host {
        config.guard = Guard::Device; // no step waits for the host
    }
    Box::new(Learner::<GpuBackend>::new(config, device))
}

fn probe(index: usize) -> Result<(), String> {
    let count = quiet(|| CudaContext::device_count().map_err(|error| error.to_string()))
        .map_err(|()| "no NVIDIA driver found (libcuda.so)".to_owned())?
        .map_err(|error| format!("the NVIDIA driver doesn't answer ({})", first_line(&error)))?;
    if count == 0 {
        return Err("no NVIDIA GPU found".to_owned());
    }
    if index >= count as usize {
        return Err(format!("there are {count} GPUs, numbered from 0"));
    }
    name(index)?;
    let compiled = quiet(|| cudarc::nvrtc::compile_ptx("extern \"C\" __global__ void k() {}"));
    match compiled {
        Err(()) => return Err("NVRTC is missing (libnvrtc.so of the CUDA toolkit)".to_owned()),
        Ok(Err(error)) => {
            return Err(format!("NVRTC doesn't work ({})", first_line(&format!("{error:?}"))));
        }
        Ok(Ok(_)) => {}
    }
    headers()
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

/// Returns the name that the driver gives the device.
fn name(index: usize) -> Result<String, String> {
    quiet(|| CudaContext::new(index).and_then(|context| context.name()))
        .map_err(|()| "no NVIDIA driver found (libcuda.so)".to_owned())?
        .map_err(|error| {
            format!("GPU {index} can't be opened ({})", first_line(&error.to_string()))
        })
}

/// Runs `probe` and turns the panic of a missing library into an error, without its message on the screen.
fn quiet<T>(probe: impl FnOnce() -> T + panic::UnwindSafe) -> Result<T, ()> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(probe);
    panic::set_hook(hook);
    result.map_err(|_| ())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
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
