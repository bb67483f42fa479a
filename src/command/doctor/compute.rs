//! What a training step would be computed on.

use super::{Finding, Verdict, cuda};
use crate::command::memory::{MemoryNeed, Operations};
use crate::config::Config;
use crate::engine::device::{self, Device};
use crate::ops::kernel::Simd;
use crate::process::memory::{FreeMemory, free};
use crate::text::units::bytes;
use std::thread::available_parallelism;

pub(super) const AREA: &str = "device";

pub(super) fn look() -> Vec<Finding> {
    let mut findings = vec![cpu(), instructions()];
    findings.extend(free().map(memory));
    findings.extend(cuda::look());
    findings.push(decision());
    findings
}

fn cpu() -> Finding {
    let cores = available_parallelism().map_or(1, usize::from);
    let threads = rayon::current_num_threads();
    let why = match std::env::var("RAYON_NUM_THREADS") {
        Ok(value) => format!("RAYON_NUM_THREADS is {value}; this process may use {cores} cores"),
        Err(_) => {
            "one per core that this process may use; RAYON_NUM_THREADS sets another number".into()
        }
    };
    let state = if threads > cores { Verdict::Warning } else { Verdict::Good };
    Finding::new(AREA, "cpu", state, format!("{threads} threads for the step"), why)
}

fn instructions() -> Finding {
    let (state, found, why) = match Simd::get() {
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 => (Verdict::Good, "AVX-512", "the processor has it"),
        #[cfg(target_arch = "x86_64")]
        Simd::Avx2 => {
            (Verdict::Good, "AVX2", "the processor has no AVX-512, or SIMMIM_SIMD is avx2")
        }
        Simd::Baseline => (
            if cfg!(target_arch = "x86_64") { Verdict::Warning } else { Verdict::Good },
            "what the compiler's target has",
            "the processor has no AVX2, or SIMMIM_SIMD is none",
        ),
    };
    Finding::new(AREA, "vectors", state, found, why)
}

/// Compares the memory that is free with what the default run needs on the CPU.
fn memory(free: FreeMemory) -> Finding {
    let need = MemoryNeed::new(&Config::default(), Operations::Fused);
    let found = format!("{} free {}", bytes(free.bytes), free.limit);
    let enough = need.lack(Some(free)).is_none();
    let state = if enough { Verdict::Good } else { Verdict::Failure };
    let advice = if enough { "; plan says it of others" } else { ": lower train.batch_size" };
    let why = format!("the default run on the CPU needs about {}{advice}", bytes(need.total()));
    Finding::new(AREA, "memory", state, found, why)
}

/// Finds what `--device auto` chooses.
fn decision() -> Finding {
    match device::select("auto") {
        Ok(selection) => {
            let why = match (&selection.device, selection.notice) {
                (Device::Cpu, Some(notice)) => notice,
                _ => "the first CUDA device is usable".to_owned(),
            };
            let found = format!("--device auto takes {}", selection.device);
            Finding::new(AREA, "choice", Verdict::Good, found, why)
        }
        Err(error) => Finding::new(AREA, "choice", Verdict::Failure, "none", error.to_string()),
    }
}
