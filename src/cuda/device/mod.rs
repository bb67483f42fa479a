//! A real GPU, by the CUDA driver and cuBLASLt.
//!
//! The driver and cuBLASLt are loaded at run time: the same program starts on machines without them. NVRTC and CUDA's
//! headers are not needed.

mod driver;
mod kernels;
mod library;
mod peak;
mod staging;
#[cfg(test)]
mod tests;
mod uploads;

pub use driver::{Seen, loader_has, look, preload};
pub use kernels::{Code, LEAST_CAPABILITY, obstacle};

use super::libraries;
use super::machine::{Address, Facts, Fault, Launch, Machine, Operands, ProductShape, Stamp};
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, sys};
use driver::{Driver, fault};
use library::CublasLt;
use staging::Staging;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use sys::CUdevice_attribute as Attribute;
use uploads::Uploads;

/// How a GPU was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedGpu {
    pub seen: Seen,
    pub code: Code,
    /// cuBLASLt, or why products are by kernels of our own.
    pub library: Result<LoadedLibrary, String>,
    pub seconds: OpeningSeconds,
}

/// The library that multiplies matrices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedLibrary {
    /// Such as "12.4.5".
    pub version: String,
    /// Where it was found, if the system tells.
    pub path: Option<PathBuf>,
}

/// Seconds that opening a GPU took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpeningSeconds {
    pub context: f64,
    pub library: f64,
    pub kernels: f64,
}

/// Moments in the queue that are kept.
const STAMPS: usize = 1024;

/// A GPU with one queue of work.
pub struct GpuMachine {
    // Fields are dropped in this order: what needs the context goes before it.
    products: Option<CublasLt>,
    uploads: Uploads,
    staging: Staging,
    driver: Driver,
    work: Arc<CudaStream>,
    facts: Facts,
    /// The last moments in the queue, by their numbers modulo [`STAMPS`].
    stamps: Vec<CudaEvent>,
    stamped: usize,
    /// The last kernel or product that was queued, for faults that show later.
    last: &'static str,
    /// The first fault. A GPU that has failed stays failed.
    failed: Option<Fault>,
}

impl GpuMachine {
    /// Opens a GPU with its kernels, and with cuBLASLt where it is found.
    ///
    /// # Errors
    /// If there is no such GPU, if it can't run the kernels, or if the driver refuses them.
    pub fn open(index: usize) -> Result<(Self, OpenedGpu), Fault> {
        let mut last = Instant::now();
        let mut lap = || {
            let seconds = last.elapsed().as_secs_f64();
            last = Instant::now();
            seconds
        };
        let seen = look(index).map_err(Fault)?;
        if seen.capability < LEAST_CAPABILITY {
            let (major, minor) = seen.capability;
            return Err(Fault(format!(
                "compute capability 8.0 is needed, {} has {major}.{minor}",
                seen.name
            )));
        }
        if let Some(why) = obstacle(&seen) {
            return Err(Fault(why));
        }
        let code = Code::of(seen.capability);
        let mut driver = Driver::new(index, kernels::images(code))?;
        let context = lap();
        // The search may be over long before.
        let searched = LIBRARY.get().map_or(0.0, |(_, time)| time.as_secs_f64());
        let (products, library) = match open_library(&mut driver, &seen) {
            Ok((products, library)) => (Some(products), Ok(library)),
            Err(why) => (None, Err(why)),
        };
        let library_seconds = searched + lap();
        driver.load_first()?;
        let seconds = OpeningSeconds { context, library: library_seconds, kernels: lap() };
        let facts = facts(&driver.context, products.is_some())?;
        let work = driver.context.new_stream().map_err(fault("make a stream"))?;
        let uploads = Uploads::new(&driver)?;
        let machine = Self {
            products,
            uploads,
            staging: Staging::default(),
            driver,
            work,
            facts,
            stamps: Vec::new(),
            stamped: 0,
            last: "nothing",
            failed: None,
        };
        Ok((machine, OpenedGpu { seen, code, library, seconds }))
    }

    /// Does `work`, unless the GPU has failed before. A fault is kept.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if let Some(fault) = &self.failed {
            return Err(fault.clone());
        }
        let result = work(self);
        if let Err(fault) = &result {
            self.failed = Some(fault.clone());
        }
        result
    }

    /// Names what was queued last, in a fault that may come from any work before.
    fn late(&self, fault: &Fault) -> Fault {
        Fault(format!("{} (queued last: {})", fault.0, self.last))
    }

    fn no_room(&self, bytes: usize) -> Fault {
        let room = self.driver.context.mem_get_info().ok();
        Fault(no_room_text(bytes, room))
    }
}

/// Whether cuBLASLt was found, and how long the search took.
static LIBRARY: OnceLock<(Result<(), String>, Duration)> = OnceLock::new();

/// Returns why cuBLASLt isn't found for a driver with this major version of CUDA, if so. The first call looks for it.
pub fn library_missing(driver: i32) -> Option<String> {
    let look_for_it = || {
        let start = Instant::now();
        (libraries::provide(libraries::CUBLASLT, driver), start.elapsed())
    };
    LIBRARY.get_or_init(look_for_it).0.clone().err()
}

/// Finds and opens cuBLASLt.
fn open_library(driver: &mut Driver, seen: &Seen) -> Result<(CublasLt, LoadedLibrary), String> {
    if let Some(why) = library_missing(seen.cuda.0) {
        return Err(why);
    }
    let path = libraries::loaded_path(libraries::CUBLASLT);
    let place = || path.as_ref().map_or(String::new(), |path| format!(" ({})", path.display()));
    let products = CublasLt::new(driver).map_err(|why| format!("{why}{}", place()))?;
    Ok((products, LoadedLibrary { version: CublasLt::version(), path }))
}

fn facts(context: &CudaContext, library: bool) -> Result<Facts, Fault> {
    let ask = |attribute| context.attribute(attribute).map_err(fault("describe itself"));
    Ok(Facts {
        multiprocessors: ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
        shared_memory: ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?
            as usize,
        library,
    })
}

/// `room` is what is free and what there is, in bytes.
fn no_room_text(bytes: usize, room: Option<(usize, usize)>) -> String {
    let gib = |bytes: usize| bytes as f64 / (1_u64 << 30) as f64;
    let wanted = if bytes < 100 << 20 {
        format!("{:.0} MiB", (bytes as f64 / (1_u64 << 20) as f64).max(1.0))
    } else {
        format!("{:.1} GiB", gib(bytes))
    };
    let room = room.map_or(String::new(), |(free, all)| {
        format!(" ({:.1} GiB of {:.1} GiB are free)", gib(free), gib(all))
    });
    format!(
        "the GPU has no room for {wanted} more{room}: train.batch_size smaller, train.activation_checkpointing = true"
    )
}

impl Machine for GpuMachine {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, Fault> {
        self.attempt(|gpu| gpu.driver.allocate(bytes)?.ok_or_else(|| gpu.no_room(bytes)))
    }

    fn release(&mut self, at: Address) {
        let _ = self.attempt(|gpu| gpu.driver.release(at)); // a fault is kept for the next call
    }

    fn write(&mut self, at: Address, bytes: &[u8]) -> Result<(), Fault> {
        self.attempt(|gpu| {
            gpu.uploads.join(&gpu.work)?;
            gpu.uploads.written(at, bytes.len());
            gpu.staging.send(&gpu.driver, &gpu.work, at, bytes)
        })
    }

    fn upload(&mut self, at: Address, bytes: &[u8]) -> Result<(), Fault> {
        let beside = self.attempt(|gpu| gpu.uploads.send(&gpu.driver, &gpu.work, at, bytes))?;
        if beside { Ok(()) } else { self.write(at, bytes) }
    }

    fn mark(&mut self) {
        let _ = self.attempt(|gpu| gpu.uploads.mark(&gpu.work)); // a fault is kept for the next call
    }

    fn read(&mut self, at: Address, bytes: &mut [u8]) -> Result<(), Fault> {
        self.attempt(|gpu| {
            gpu.uploads.join(&gpu.work)?;
            gpu.driver.copy_out(&gpu.work, at, bytes).map_err(|fault| gpu.late(&fault))
        })
    }

    fn zero(&mut self, at: Address, bytes: usize) -> Result<(), Fault> {
        self.attempt(|gpu| {
            gpu.uploads.join(&gpu.work)?;
            gpu.uploads.written(at, bytes);
            gpu.driver.zero(&gpu.work, at, bytes)
        })
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), Fault> {
        self.attempt(|gpu| {
            gpu.uploads.join(&gpu.work)?;
            gpu.driver.launch(&gpu.work, launch)?;
            gpu.last = launch.kernel;
            Ok(())
        })
    }

    fn product(&mut self, shape: ProductShape, operands: Operands) -> Result<(), Fault> {
        self.attempt(|gpu| {
            gpu.uploads.join(&gpu.work)?;
            let Some(products) = &mut gpu.products else {
                return Err(Fault("there is no cuBLASLt for products".to_owned()));
            };
            products.run(&gpu.driver, &gpu.work, shape, operands)?;
            gpu.last = "a product";
            Ok(())
        })
    }

    fn choosing_s(&self) -> f64 {
        self.products.as_ref().map_or(0.0, CublasLt::choosing_s)
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.attempt(|gpu| {
            gpu.uploads.join(&gpu.work)?;
            gpu.work
                .synchronize()
                .map_err(fault("finish its work"))
                .map_err(|fault| gpu.late(&fault))
        })
    }

    fn stamp(&mut self) -> Result<Option<Stamp>, Fault> {
        self.attempt(|gpu| {
            gpu.uploads.join(&gpu.work)?;
            if gpu.stamps.len() < STAMPS {
                let flags = Some(sys::CUevent_flags::CU_EVENT_DEFAULT); // with a clock
                let event = gpu.driver.context.new_event(flags).map_err(fault("make an event"))?;
                gpu.stamps.push(event);
            }
            let number = gpu.stamped;
            gpu.stamped += 1;
            gpu.stamps[number % STAMPS].record(&gpu.work).map_err(fault("mark its work"))?;
            Ok(Some(Stamp(number)))
        })
    }

    fn ms_between(&mut self, from: Stamp, to: Stamp) -> Result<f64, Fault> {
        self.attempt(|gpu| {
            let event = |stamp: Stamp| {
                let kept = stamp.0 < gpu.stamped && stamp.0 + STAMPS >= gpu.stamped;
                let gone = || Fault(format!("moment {} of the queue isn't kept", stamp.0));
                if kept { Ok(&gpu.stamps[stamp.0 % STAMPS]) } else { Err(gone()) }
            };
            driver::elapsed_ms(event(from)?, event(to)?).map_err(fault("measure its work"))
        })
    }
}
