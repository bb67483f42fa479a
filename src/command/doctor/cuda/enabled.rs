//! Tries CUDA out.

use crate::command::doctor::disk::{self, Trial, existing};
use crate::command::doctor::{Finding, Verdict, compute};
use crate::engine::device;
use crate::gpu::Gpus;

/// Tries the first CUDA device.
pub fn look() -> Finding {
    match device::select("cuda") {
        Ok(selection) => {
            let driver = Gpus::open().driver().map_or_else(
                || "NVML doesn't answer: no figures of the GPU on the screen".to_owned(),
                |driver| {
                    format!("driver {driver}; NVRTC and the CUDA headers are there and compile")
                },
            );
            let found = selection.device.to_string();
            Finding::new(compute::AREA, "cuda", Verdict::Good, found, driver)
        }
        Err(error) => {
            let text = error.to_string();
            let why = text.strip_prefix("device cuda: ").unwrap_or(&text);
            let why = why.split("; use --device").next().unwrap_or(why);
            Finding::new(compute::AREA, "cuda", Verdict::Note, "not usable", why)
        }
    }
}

/// Tries the folder for compiled kernels.
pub fn cache() -> Vec<Finding> {
    let Some(folder) = dirs::cache_dir().map(|folder| folder.join("simmim-tui")) else {
        let why =
            "neither XDG_CACHE_HOME nor HOME is set: GPU kernels are compiled anew in each run";
        let found = "no user cache folder";
        return vec![Finding::new(disk::AREA, "cache", Verdict::Note, found, why)];
    };
    vec![match Trial::new(&existing(&folder)) {
        Ok(_) => {
            let why = "compiled and tuned GPU kernels are kept there";
            let found = folder.display().to_string();
            Finding::new(disk::AREA, "cache", Verdict::Good, found, why)
        }
        Err(error) => {
            let found = format!("{} can't be written", folder.display());
            let why = format!("{error}: GPU kernels are compiled anew in each run");
            Finding::new(disk::AREA, "cache", Verdict::Note, found, why)
        }
    }]
}
