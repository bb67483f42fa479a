//! Tries CUDA out.

use crate::command::doctor::disk::{self, Trial, existing};
use crate::command::doctor::{Finding, Verdict, compute};
use crate::cuda::device::{self as own, Code, GpuMachine, LEAST_CAPABILITY, LoadedLibrary, Seen};
use crate::engine::device;
use crate::gpu::Gpus;
use crate::ops;
use crate::shown;

/// Tries the first CUDA device.
pub fn look() -> Vec<Finding> {
    match own::look(0) {
        Err(why) => vec![unusable(Verdict::Note, why)],
        Ok(seen) if by_burn(&seen) => vec![burn(&seen)],
        Ok(seen) => match (own::obstacle(&seen), Gpus::open().driver()) {
            (Some(why), _) => vec![unusable(Verdict::Warning, why)],
            (None, driver) => match GpuMachine::open(0) {
                Err(fault) => vec![unusable(Verdict::Failure, fault.0)],
                Ok((_, opened)) => vec![
                    kernels(&opened.seen, driver.as_deref(), opened.code),
                    products(&opened.library, opened.seen.cuda.0),
                ],
            },
        },
    }
}

fn unusable(state: Verdict, why: String) -> Finding {
    Finding::new(compute::AREA, "cuda", state, "not usable", why)
}

/// Returns whether Burn computes on this GPU, and not kernels of our own.
fn by_burn(seen: &Seen) -> bool {
    ops::plain_wanted() || seen.capability < LEAST_CAPABILITY
}

fn burn(seen: &Seen) -> Finding {
    let why = match device::select("cuda") {
        Ok(selection) => {
            let why = format!(
                "{}: Burn's plain operations; NVRTC and CUDA's headers are there",
                reason(seen)
            );
            return Finding::new(
                compute::AREA,
                "cuda",
                Verdict::Good,
                selection.device.to_string(),
                why,
            );
        }
        Err(error) => error.to_string(),
    };
    let why = why.strip_prefix("device cuda: ").unwrap_or(&why);
    let why = why.split("; use --device").next().unwrap_or(why);
    unusable(Verdict::Note, format!("{}: {why}", reason(seen)))
}

/// Says why Burn computes.
fn reason(seen: &Seen) -> String {
    let (major, minor) = seen.capability;
    if seen.capability < LEAST_CAPABILITY {
        format!("compute capability {major}.{minor} is below 8.0")
    } else {
        "SIMMIM_PLAIN_OPS is 1".to_owned()
    }
}

/// `driver` is the driver's version, if NVML tells it.
fn kernels(seen: &Seen, driver: Option<&str>, code: Code) -> Finding {
    let ((major, minor), (cuda, update)) = (seen.capability, seen.cuda);
    let driver = driver.map_or_else(
        || format!("driver with CUDA {cuda}.{update}; NVML doesn't answer: no figures of the GPU on the screen"),
        |driver| format!("driver {driver} with CUDA {cuda}.{update}"),
    );
    let code = match code {
        Code::Machine => "the program has machine code for it",
        Code::Ptx => "the driver compiles the program's kernels at the first start and keeps them",
    };
    let why = format!("compute capability {major}.{minor}: {code}; {driver}");
    Finding::new(compute::AREA, "cuda", Verdict::Good, format!("cuda:0 ({})", seen.name), why)
}

/// `driver` is the major version of the driver's CUDA.
fn products(library: &Result<LoadedLibrary, String>, driver: i32) -> Finding {
    match library {
        Ok(LoadedLibrary { version, path }) => {
            let why = path
                .as_ref()
                .map_or_else(String::new, |path| format!("from {}", shown::path(path)));
            let found = format!("by cuBLASLt {version}");
            Finding::new(compute::AREA, "products", Verdict::Good, found, why)
        }
        Err(why) => {
            let package = if driver >= 13 { "nvidia-cublas" } else { "nvidia-cublas-cu12" };
            let why = format!(
                "{why}; with cuBLASLt a step is about 1.5 times as fast (ViT-B/16 on an H100: 3311 instead of 2263 \
                 images/s): pip install {package}"
            );
            Finding::new(compute::AREA, "products", Verdict::Warning, "by kernels of our own", why)
        }
    }
}

/// Tries the folder for kernels that Burn compiles, where it does.
pub fn cache() -> Vec<Finding> {
    if !own::look(0).is_ok_and(|seen| by_burn(&seen)) {
        return Vec::new();
    }
    let Some(folder) = dirs::cache_dir().map(|folder| folder.join("simmim-tui")) else {
        let why =
            "neither XDG_CACHE_HOME nor HOME is set: GPU kernels are compiled anew in each run";
        let found = "no user cache folder";
        return vec![Finding::new(disk::AREA, "cache", Verdict::Note, found, why)];
    };
    vec![match Trial::new(&existing(&folder)) {
        Ok(_) => {
            let why = "compiled and tuned GPU kernels are kept there";
            let found = shown::path(&folder).to_string();
            Finding::new(disk::AREA, "cache", Verdict::Good, found, why)
        }
        Err(error) => {
            let found = format!("{} can't be written", shown::path(&folder));
            let why = format!("{error}: GPU kernels are compiled anew in each run");
            Finding::new(disk::AREA, "cache", Verdict::Note, found, why)
        }
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn seen(capability: (i32, i32), cuda: (i32, i32)) -> Seen {
        Seen { name: "NVIDIA H100".to_owned(), capability, cuda }
    }

    #[test]
    fn a_gpu_is_described_with_what_its_kernels_are() {
        let hopper = kernels(&seen((9, 0), (13, 0)), Some("580.159.04"), Code::Machine);
        assert_eq!((hopper.state, &hopper.found[..]), (Verdict::Good, "cuda:0 (NVIDIA H100)"));
        let expected = "compute capability 9.0: the program has machine code for it; driver 580.159.04 with CUDA 13.0";
        assert_eq!(hopper.why, expected);
        let ampere = kernels(&seen((8, 6), (12, 4)), None, Code::Ptx).why;
        assert!(ampere.starts_with("compute capability 8.6: the driver compiles"), "{ampere}");
        assert!(ampere.contains("driver with CUDA 12.4; NVML doesn't answer"), "{ampere}");
    }

    #[test]
    fn the_library_is_named_with_its_place() {
        let path = PathBuf::from("/opt/venv/nvidia/cublas/lib/libcublasLt.so.12");
        let library = LoadedLibrary { version: "12.4.5".to_owned(), path: Some(path) };
        let found = products(&Ok(library), 12);
        assert_eq!((found.state, &found.found[..]), (Verdict::Good, "by cuBLASLt 12.4.5"));
        assert_eq!(found.why, "from /opt/venv/nvidia/cublas/lib/libcublasLt.so.12");
    }

    #[test]
    fn a_missing_library_comes_with_what_it_costs_and_the_command_that_mends_it() {
        for (driver, command) in
            [(12, "pip install nvidia-cublas-cu12"), (13, "pip install nvidia-cublas")]
        {
            let found = products(&Err("no libcublasLt.so is found".to_owned()), driver);
            assert_eq!(
                (found.state, &found.found[..]),
                (Verdict::Warning, "by kernels of our own")
            );
            assert!(
                found.why.starts_with("no libcublasLt.so is found; with cuBLASLt"),
                "{}",
                found.why
            );
            assert!(
                found.why.contains("1.5 times") && found.why.ends_with(command),
                "{}",
                found.why
            );
        }
    }
}
