//! What runs the launches of a plan: a GPU, or its emulation on the CPU.

use crate::config::Precision;
use thiserror::Error;

/// A place in the memory of a machine, in bytes.
pub type Address = u64;

/// Why a machine could not do its work, in one line that names what and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// What plans depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Multiprocessors of the GPU: sums are cut into about as many strips.
    pub multiprocessors: usize,
    /// Shared memory of a multiprocessor in bytes.
    pub shared_memory: usize,
    /// Whether [`Machine::product`] works. Otherwise products are launches of the kernels in `product.cu`.
    pub library: bool,
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KernelArg {
    Address(Address),
    Int(i32),
    Long(i64),
    Float(f32),
}

/// One launch of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    pub kernel: &'static str,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Dynamic shared memory of a block in bytes.
    pub shared: u32,
    pub values: Vec<KernelArg>,
}

/// How products are computed. Sums are always of 32-bit floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// Operands are bf16.
    Bf16,
    /// Operands are 32-bit floats that the tensor cores round to 10 bits of mantissa.
    Tf32,
    /// Operands are 32-bit floats.
    Fp32,
}

impl From<Precision> for Arithmetic {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Bf16 => Self::Bf16,
            Precision::Tf32 => Self::Tf32,
            Precision::Fp32 => Self::Fp32,
        }
    }
}

/// The type of the numbers of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Number {
    F32,
    Bf16,
}

/// What one product needs to know beside its operands: `d = op(a) · op(b) (+ bias) (+ c)`, all row-major and dense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent property of the product")]
pub struct ProductShape {
    /// Rows of `d`, columns of `d`, and the length of the sums.
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// `a` is stored as `[k, m]` instead of `[m, k]`.
    pub a_transposed: bool,
    /// `b` is stored as `[n, k]` instead of `[k, n]`.
    pub b_transposed: bool,
    pub arithmetic: Arithmetic,
    /// The type of `d`, `c` and the bias.
    pub result: Number,
    /// Whether a bias is added to each row.
    pub bias: bool,
    /// Whether `c` is added.
    pub add: bool,
}

/// The operands of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operands {
    pub a: Address,
    pub b: Address,
    /// May be `d`. 0 if there is none.
    pub c: Address,
    pub d: Address,
    /// 0 if there is none.
    pub bias: Address,
}

/// A moment in the queue of a machine, see [`Machine::stamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub usize);

/// A device that computes. Everything but [`Machine::read`], [`Machine::sync`] and allocations is put into one queue and
/// done in its order; only those wait.
pub trait Machine: Send {
    fn facts(&self) -> Facts;

    /// Returns memory that is aligned to 256 bytes. What it holds is undefined.
    ///
    /// # Errors
    /// If there is no room.
    fn allocate(&mut self, bytes: usize) -> Result<Address, Fault>;

    /// Gives memory back, once all work that was queued before is done.
    fn release(&mut self, at: Address);

    /// Copies bytes into the machine's memory. The caller may reuse them at once.
    ///
    /// # Errors
    /// If the machine has failed.
    fn write(&mut self, at: Address, bytes: &[u8]) -> Result<(), Fault>;

    /// Like [`Self::write`], for a buffer that no work queued since the last [`Self::mark`] but one reads. So the copy may
    /// overlap with that work, and only waits for what was queued before.
    ///
    /// # Errors
    /// If the machine has failed.
    fn upload(&mut self, at: Address, bytes: &[u8]) -> Result<(), Fault> {
        self.write(at, bytes)
    }

    /// Ends a unit of work that began with uploads, see [`Self::upload`].
    fn mark(&mut self) {}

    /// Copies bytes out of the machine's memory. Device sync.
    ///
    /// # Errors
    /// If the machine has failed.
    fn read(&mut self, at: Address, bytes: &mut [u8]) -> Result<(), Fault>;

    /// Sets bytes to zero.
    ///
    /// # Errors
    /// If the machine has failed.
    fn zero(&mut self, at: Address, bytes: usize) -> Result<(), Fault>;

    /// Launches a kernel of `kernels.cu` or `product.cu`.
    ///
    /// # Errors
    /// If the kernel is unknown or the launch is refused.
    fn launch(&mut self, launch: &Launch) -> Result<(), Fault>;

    /// Multiplies two matrices with the library. The same shape takes the same algorithm each time.
    ///
    /// # Errors
    /// If there is no library, or it refuses the shape.
    fn product(&mut self, shape: ProductShape, operands: Operands) -> Result<(), Fault>;

    /// Returns the seconds that were spent on choosing algorithms for [`Self::product`] so far.
    fn choosing_s(&self) -> f64 {
        0.0
    }

    /// Waits until all queued work is done. Device sync.
    ///
    /// # Errors
    /// If the machine has failed.
    fn sync(&mut self) -> Result<(), Fault>;

    /// Puts a moment into the queue that [`Self::ms_between`] measures from or to. The last 1024 are kept. Machines without a
    /// clock have none.
    ///
    /// # Errors
    /// If the machine has failed.
    fn stamp(&mut self) -> Result<Option<Stamp>, Fault> {
        Ok(None)
    }

    /// Returns the milliseconds that the machine took from one moment to a later one. Device sync.
    ///
    /// # Errors
    /// If the machine has no clock, or has failed.
    fn ms_between(&mut self, _from: Stamp, _to: Stamp) -> Result<f64, Fault> {
        Err(Fault("this machine has no clock".to_owned()))
    }
}
