//! The CUDA driver: memory, kernels and copies. One of the files with `unsafe` code, see ARCHITECTURE.md.
//!
//! Everything that is handed to the driver is checked here: addresses lie in memory that was allocated here and not
//! given back, copies stay inside of it, and a kernel is never given fewer arguments than it reads.
#![allow(unsafe_code, reason = "calls of the CUDA driver, a C library")]

use super::kernels::{self, Compiled};
use crate::cuda::machine::{Address, Fault, KernelArg, Launch};
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result, sys};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, c_void};
use std::path::Path;
use std::sync::Arc;

/// More arguments than any kernel takes.
const MOST_VALUES: usize = 48;

/// A GPU as its driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    /// Major and minor compute capability.
    pub capability: (i32, i32),
    /// The version of CUDA that the driver has, major and minor.
    pub cuda: (i32, i32),
}

/// Looks at the GPU with this number. Never panics.
///
/// # Errors
/// Returns what is missing, in one line.
pub fn look(index: usize) -> Result<Seen, String> {
    // SAFETY: it only tries to open the library.
    if !unsafe { sys::is_culib_present() } {
        return Err("no NVIDIA driver found (libcuda.so)".to_owned());
    }
    let silent = |error| format!("the NVIDIA driver doesn't answer: {}", reason(error));
    let count = CudaContext::device_count().map_err(silent)?;
    if count == 0 {
        return Err("no NVIDIA GPU found".to_owned());
    }
    if index >= count as usize {
        return Err(format!("there are {count} GPUs, numbered from 0"));
    }
    let mut version = 0;
    // SAFETY: the driver writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(silent)?;
    let described =
        describe(index).map_err(|error| format!("GPU {index} can't be used: {}", reason(error)));
    let (name, capability) = described?;
    Ok(Seen { name, capability, cuda: (version / 1000, version % 1000 / 10) })
}

/// Returns name and compute capability, without a context, which would take a fifth of a second.
fn describe(index: usize) -> Result<(String, (i32, i32)), DriverError> {
    use sys::CUdevice_attribute as Attribute;
    let device = result::device::get(index as i32)?;
    // SAFETY: the device is one that the driver has just named.
    let (major, minor) = unsafe {
        (
            result::device::get_attribute(
                device,
                Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            )?,
            result::device::get_attribute(
                device,
                Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )?,
        )
    };
    Ok((result::device::get_name(device)?, (major, minor)))
}

/// Returns why the driver refused, for people.
pub(super) fn reason(error: DriverError) -> String {
    let name = error.error_name().map(|name| name.to_string_lossy().into_owned());
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    match (text, name) {
        (Ok(text), Ok(name)) => format!("{text} ({name})"),
        _ => format!("error {}", error.0 as u32),
    }
}

/// Returns a function that says in which work the driver refused.
pub(super) fn fault(work: &str) -> impl FnOnce(DriverError) -> Fault {
    move |error| Fault(format!("the GPU can't {work}: {}", reason(error)))
}

/// Whether the loader finds a library by one of the names that it is asked for by, or one of such a name is loaded.
pub fn loader_has(library: &str) -> bool {
    let names = cudarc::get_lib_name_candidates(library);
    // SAFETY: the initialisers of NVIDIA's libraries don't touch this program.
    names.iter().any(|name| unsafe { libloading::Library::new(name) }.is_ok())
}

/// Loads a shared library for the rest of the process, so that whoever asks for it by its own name gets it.
///
/// # Errors
/// Returns the loader's reason.
pub fn preload(library: &Path) -> Result<(), String> {
    // SAFETY: the initialisers of NVIDIA's libraries don't touch this program; the library is never unloaded.
    let loaded = unsafe { libloading::Library::new(library) }.map_err(|error| error.to_string())?;
    std::mem::forget(loaded);
    Ok(())
}

/// Memory of the host that the GPU reads by itself.
pub(super) struct Pinned {
    at: *mut u8,
    bytes: usize,
    context: Arc<CudaContext>,
}

// SAFETY: the memory belongs to this value alone, and the driver may be called from any thread.
unsafe impl Send for Pinned {}

impl Pinned {
    pub fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, Fault> {
        context.bind_to_thread().map_err(fault("be used"))?;
        // SAFETY: the memory is only read after `fill` has written it.
        let at = unsafe { result::malloc_host(bytes, 0) }.map_err(fault("pin memory"))?;
        Ok(Self { at: at.cast(), bytes, context: context.clone() })
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Copies bytes to `offset`. No copy to the GPU that reads there may be under way.
    pub fn fill(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.bytes, "staged bytes fit");
        // SAFETY: the range is inside of the memory, as just checked, and nobody else has a reference to it.
        unsafe { self.at.add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let done = self.context.bind_to_thread().and_then(|()| self.context.synchronize());
        if done.is_ok() {
            // SAFETY: the memory came from `malloc_host`, and no copy reads it any more. Otherwise it is left as it is.
            let _ = unsafe { result::free_host(self.at.cast()) };
        }
    }
}

/// One GPU with its memory and kernels.
pub(super) struct Driver {
    pub context: Arc<CudaContext>,
    /// Sizes of what is allocated, by address.
    memory: BTreeMap<Address, usize>,
    /// Kernels that were not asked for so far, those to be searched first at the end.
    images: Vec<Compiled>,
    modules: Vec<sys::CUmodule>,
    functions: HashMap<&'static str, sys::CUfunction>,
}

// SAFETY: modules and functions are handles of the driver, which may be used from any thread in which the context is
// current; every method makes it so.
unsafe impl Send for Driver {}

impl Driver {
    pub fn new(index: usize, mut images: Vec<Compiled>) -> Result<Self, Fault> {
        let context = CudaContext::new(index).map_err(fault("be opened"))?;
        // SAFETY: events order cudarc's own slices, of which there are none.
        unsafe { context.disable_event_tracking() };
        images.reverse();
        Ok(Self {
            context,
            memory: BTreeMap::new(),
            images,
            modules: Vec::new(),
            functions: HashMap::new(),
        })
    }

    pub fn bind(&self) -> Result<(), Fault> {
        self.context.bind_to_thread().map_err(fault("be used"))
    }

    /// Returns `None` if there is no room. Device sync, as the driver likes.
    pub fn allocate(&mut self, bytes: usize) -> Result<Option<Address>, Fault> {
        self.bind()?;
        // SAFETY: what the memory holds is undefined for callers, too.
        match unsafe { result::malloc_sync(bytes.max(1)) } {
            Ok(at) => {
                self.memory.insert(at, bytes);
                Ok(Some(at))
            }
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
            Err(error) => Err(fault("give memory")(error)),
        }
    }

    /// Gives memory back after all work of all streams. Device sync.
    pub fn release(&mut self, at: Address) -> Result<(), Fault> {
        self.bind()?;
        if self.memory.remove(&at).is_none() {
            return Err(Fault(format!("no memory begins at {at:#x}")));
        }
        self.context.synchronize().map_err(fault("finish its work"))?;
        // SAFETY: the memory was allocated here, is used by no work, and is forgotten.
        unsafe { result::free_sync(at) }.map_err(fault("take memory back"))
    }

    /// Checks that memory from here holds these bytes.
    pub fn within(&self, at: Address, bytes: usize) -> Result<(), Fault> {
        let found = self.memory.range(..=at).next_back();
        let fits = found.is_some_and(|(begin, size)| {
            let offset = (at - begin) as usize;
            offset <= *size && bytes <= *size - offset
        });
        if fits {
            Ok(())
        } else {
            Err(Fault(format!("{bytes} bytes at {at:#x} are not allocated")))
        }
    }

    pub fn zero(&self, stream: &CudaStream, at: Address, bytes: usize) -> Result<(), Fault> {
        self.within(at, bytes)?;
        self.bind()?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the range is allocated.
        unsafe { result::memset_d8_async(at, 0, bytes, stream.cu_stream()) }
            .map_err(fault("zero memory"))
    }

    /// Copies `bytes` bytes of pinned memory into the GPU's. They must stay as they are until the stream is done with it.
    pub fn copy_in(
        &self,
        stream: &CudaStream,
        at: Address,
        from: &Pinned,
        offset: usize,
        bytes: usize,
    ) -> Result<(), Fault> {
        self.within(at, bytes)?;
        self.bind()?;
        assert!(offset + bytes <= from.bytes, "staged bytes are in the pinned memory");
        // SAFETY: both ranges are allocated; pinned memory is freed only after all copies.
        let copied = unsafe {
            let source = from.at.add(offset).cast::<c_void>();
            sys::cuMemcpyHtoDAsync_v2(at, source, bytes, stream.cu_stream())
        };
        copied.result().map_err(fault("take bytes"))
    }

    /// Copies memory of the GPU, in the order of the stream.
    pub fn copy(
        &self,
        stream: &CudaStream,
        from: Address,
        to: Address,
        bytes: usize,
    ) -> Result<(), Fault> {
        self.within(from, bytes)?;
        self.within(to, bytes)?;
        self.bind()?;
        // SAFETY: both ranges are allocated.
        unsafe { result::memcpy_dtod_async(to, from, bytes, stream.cu_stream()) }
            .map_err(fault("copy memory"))
    }

    /// Copies bytes out, in the order of the stream. Device sync.
    pub fn copy_out(
        &self,
        stream: &CudaStream,
        at: Address,
        bytes: &mut [u8],
    ) -> Result<(), Fault> {
        self.within(at, bytes.len())?;
        self.bind()?;
        let copied = if bytes.is_empty() {
            Ok(())
        } else {
            // SAFETY: the range is allocated. The slice outlives the copy, which is waited for below.
            unsafe { result::memcpy_dtoh_async(bytes, at, stream.cu_stream()) }
        };
        let waited = stream.synchronize();
        copied.and(waited).map_err(fault("give bytes back"))
    }

    /// Loads the kernels that are to be searched first.
    pub fn load_first(&mut self) -> Result<(), Fault> {
        if self.modules.is_empty() { self.load_next().map(|_| ()) } else { Ok(()) }
    }

    /// Loads the next image of kernels. Returns whether there was one.
    fn load_next(&mut self) -> Result<bool, Fault> {
        let Some(image) = self.images.pop() else { return Ok(false) };
        self.bind()?;
        let mut code = image.code()?;
        code.push(0); // PTX is text that ends with a zero
        // SAFETY: the image is whole, and the driver checks it.
        let module = unsafe { result::module::load_data(code.as_ptr().cast()) };
        let module = module.map_err(|error| kernels::refused(&image, &reason(error)))?;
        self.modules.push(module);
        Ok(true)
    }

    fn function(&mut self, name: &'static str) -> Result<sys::CUfunction, Fault> {
        if let Some(found) = self.functions.get(name) {
            return Ok(*found);
        }
        let mut next = 0;
        loop {
            if next == self.modules.len() && !self.load_next()? {
                return Err(Fault(format!("there is no kernel {name}")));
            }
            let text = CString::new(name).expect("a kernel's name has no zero");
            // SAFETY: the module is loaded and lives as long as this value.
            match unsafe { result::module::get_function(self.modules[next], text) } {
                Ok(function) => {
                    self.raise_shared_memory(function)?;
                    self.functions.insert(name, function);
                    return Ok(function);
                }
                Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_FOUND)) => next += 1,
                Err(error) => return Err(Fault(format!("kernel {name}: {}", reason(error)))),
            }
        }
    }

    /// Lets a kernel ask for all shared memory that a block can have.
    fn raise_shared_memory(&self, function: sys::CUfunction) -> Result<(), Fault> {
        use sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN as MOST;
        use sys::CUfunction_attribute as Attribute;
        let most = self.context.attribute(MOST).map_err(fault("tell its shared memory"))?;
        // SAFETY: the function is of a loaded module.
        let raised = unsafe {
            let own = Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
            result::function::get_function_attribute(function, own).and_then(|own| {
                let limit = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                result::function::set_function_attribute(function, limit, most - own)
            })
        };
        raised.map_err(fault("give a kernel shared memory"))
    }

    pub fn launch(&mut self, stream: &CudaStream, launch: &Launch) -> Result<(), Fault> {
        self.bind()?;
        let function = self.function(launch.kernel)?;
        let named = |why: String| {
            let ([x, y, z], kernel) = (launch.grid, launch.kernel);
            let Launch { block, shared, .. } = launch;
            let size = format!("grid {x}x{y}x{z}, block {block}, {shared} bytes shared");
            Fault(format!("kernel {kernel}, {size}: {why}"))
        };
        if launch.values.len() > MOST_VALUES {
            return Err(named(format!("{} arguments are too many", launch.values.len())));
        }
        let mut slots = [0_u64; MOST_VALUES];
        for (slot, value) in slots.iter_mut().zip(&launch.values) {
            *slot = slot_of(*value);
            if let KernelArg::Address(at) = *value
                && at != 0
            {
                self.within(at, 0).map_err(|fault| named(fault.0))?;
            }
        }
        // Every argument has eight bytes of its own, and there are more of them than any kernel takes.
        let first = slots.as_mut_ptr();
        let mut pointers: [*mut c_void; MOST_VALUES] =
            std::array::from_fn(|i| first.wrapping_add(i).cast());
        let grid = launch.grid.into();
        let block = (launch.block, 1, 1);
        let queue = stream.cu_stream();
        // SAFETY: the driver copies the arguments before it returns; it reads as many pointers as the kernel has
        // parameters, fewer than there are, each of at most eight bytes.
        unsafe { result::launch_kernel(function, grid, block, launch.shared, queue, &mut pointers) }
            .map_err(|error| named(reason(error)))
    }
}

/// An argument as the first bytes of eight. GPUs and their hosts have the lowest byte first.
fn slot_of(value: KernelArg) -> u64 {
    match value {
        KernelArg::Address(at) => at,
        KernelArg::Int(number) => u64::from(number as u32),
        KernelArg::Long(number) => number as u64,
        KernelArg::Float(number) => u64::from(number.to_bits()),
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.context.bind_to_thread().and_then(|()| self.context.synchronize()).is_err() {
            return; // a GPU that has failed gives everything back when the process ends
        }
        for at in self.memory.keys() {
            // SAFETY: the memory was allocated here and not given back; all work is done.
            let _ = unsafe { result::free_sync(*at) };
        }
        for module in &self.modules {
            // SAFETY: the module was loaded here, and none of its kernels runs.
            let _ = unsafe { result::module::unload(*module) };
        }
    }
}

/// Returns the milliseconds on the device between two recorded events. Device sync.
pub(super) fn elapsed_ms(from: &CudaEvent, to: &CudaEvent) -> Result<f64, DriverError> {
    type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;
    to.synchronize()?;
    let mut ms = 0.0_f32;
    // SAFETY: the symbol has this type in all drivers (cudarc asks for a second version that older ones lack); the events
    // are alive, and the driver writes one number.
    let done = unsafe {
        match sys::culib().get::<Elapsed>(b"cuEventElapsedTime\0") {
            Ok(elapsed) => elapsed(&raw mut ms, from.cu_event(), to.cu_event()),
            Err(_) => sys::CUresult::CUDA_ERROR_NOT_FOUND,
        }
    };
    done.result().map(|()| f64::from(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_at_the_start_of_its_eight_bytes() {
        assert_eq!(slot_of(KernelArg::Int(-2)).to_le_bytes()[..4], (-2_i32).to_le_bytes());
        assert_eq!(slot_of(KernelArg::Float(1.5)).to_le_bytes()[..4], 1.5_f32.to_le_bytes());
        assert_eq!(slot_of(KernelArg::Long(-2)).to_le_bytes(), (-2_i64).to_le_bytes());
        assert_eq!(slot_of(KernelArg::Address(0x7f00_0000_0100)), 0x7f00_0000_0100);
    }

    #[test]
    fn no_kernel_takes_more_arguments_than_are_passed() {
        for source in [include_str!("../kernels.cu"), include_str!("../product.cu")] {
            for text in source.split("__global__").skip(1) {
                let (_, after) = text.split_once('(').expect("a kernel has parameters");
                let body = after.find('{').unwrap_or(after.len());
                assert!(after[..body].matches(',').count() < MOST_VALUES, "{}", &after[..body]);
            }
        }
    }
}
