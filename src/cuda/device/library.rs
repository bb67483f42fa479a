//! Matrix products by cuBLASLt: one plan per shape, chosen once. One of the files with `unsafe` code, see
//! ARCHITECTURE.md.
#![allow(unsafe_code, reason = "calls of cuBLASLt, a C library")]

use super::driver::Driver;
use crate::cuda::machine::{Address, Arithmetic, Fault, Number, Operands, ProductShape};
use cudarc::cublaslt::sys as lt;
use cudarc::driver::CudaStream;
use std::collections::HashMap;
use std::ffi::c_void;
use std::time::{Duration, Instant};

/// Bytes that an algorithm may use beside its operands: what NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;
/// The alignment that the library expects of operands if it isn't told otherwise, and the least one that we use.
const ALIGNED: Address = 256;
const LEAST_ALIGNED: Address = 16;

type Status = lt::cublasStatus_t;
type Description = lt::cublasLtMatmulDescAttributes_t;
type Preferences = lt::cublasLtMatmulPreferenceAttributes_t;

fn check(status: Status, work: &str) -> Result<(), String> {
    if status == Status::CUBLAS_STATUS_SUCCESS {
        Ok(())
    } else {
        Err(format!("cuBLASLt: {work}: {}", status_name(status)))
    }
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::CUBLAS_STATUS_NOT_INITIALIZED => "it can't be used with this driver",
        Status::CUBLAS_STATUS_ALLOC_FAILED => "no room for its own data",
        Status::CUBLAS_STATUS_INVALID_VALUE => "invalid value",
        Status::CUBLAS_STATUS_ARCH_MISMATCH => "not on this GPU",
        Status::CUBLAS_STATUS_EXECUTION_FAILED => "execution failed",
        Status::CUBLAS_STATUS_NOT_SUPPORTED => "not supported",
        _ => "failed",
    }
}

/// What decides the algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Wanted {
    shape: ProductShape,
    /// All operands are aligned to [`ALIGNED`].
    aligned: bool,
}

/// How one shape is multiplied.
struct Found {
    description: lt::cublasLtMatmulDesc_t,
    layouts: [lt::cublasLtMatrixLayout_t; 3],
    algorithm: lt::cublasLtMatmulAlgo_t,
    /// The algorithm adds to its own result only.
    adds_in_place: bool,
}

impl Found {
    fn new() -> Self {
        // SAFETY: plain numbers, for which zeros are valid; the search fills them in.
        let algorithm = unsafe { std::mem::zeroed() };
        Self {
            description: std::ptr::null_mut(),
            layouts: [std::ptr::null_mut(); 3],
            algorithm,
            adds_in_place: false,
        }
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        // SAFETY: what isn't null was made by the library and is used nowhere else.
        unsafe {
            for layout in self.layouts {
                if !layout.is_null() {
                    lt::cublasLtMatrixLayoutDestroy(layout);
                }
            }
            if !self.description.is_null() {
                lt::cublasLtMatmulDescDestroy(self.description);
            }
        }
    }
}

/// The library with its plans.
pub(super) struct CublasLt {
    handle: lt::cublasLtHandle_t,
    /// What algorithms may ask for, with operands that are aligned well and ones that are not.
    preferences: [lt::cublasLtMatmulPreference_t; 2],
    plans: HashMap<Wanted, Found>,
    workspace: Address,
    /// Time that was spent on [`Self::search`].
    choosing: Duration,
}

// SAFETY: handles of the library may be used from any thread, one at a time; the context is made current before.
unsafe impl Send for CublasLt {}

impl CublasLt {
    /// Opens the library, which the loader must find.
    pub fn new(driver: &mut Driver) -> Result<Self, String> {
        driver.bind().map_err(|fault| fault.0)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the library writes one handle.
        check(unsafe { lt::cublasLtCreate(&raw mut handle) }, "start")?;
        let none = std::ptr::null_mut();
        let mut products = Self {
            handle,
            preferences: [none; 2],
            plans: HashMap::new(),
            workspace: 0,
            choosing: Duration::ZERO,
        };
        products.preferences = [preference(ALIGNED)?, preference(LEAST_ALIGNED)?];
        let workspace = driver.allocate(WORKSPACE).map_err(|fault| fault.0)?;
        products.workspace = workspace.ok_or("no room for cuBLASLt's workspace of 32 MiB")?;
        Ok(products)
    }

    /// Returns the version, such as "12.4.5".
    pub fn version() -> String {
        // SAFETY: it asks for a number.
        let number = unsafe { lt::cublasLtGetVersion() };
        version_text(number)
    }

    /// Returns the seconds that were spent on choosing algorithms.
    pub fn choosing_s(&self) -> f64 {
        self.choosing.as_secs_f64()
    }

    pub fn run(
        &mut self,
        driver: &Driver,
        stream: &CudaStream,
        shape: ProductShape,
        at: Operands,
    ) -> Result<(), Fault> {
        let named = |why: String| Fault(format!("product {}: {why}", describe(shape)));
        check_operands(driver, shape, at).map_err(named)?;
        driver.bind()?;
        let used = [
            at.a,
            at.b,
            at.d,
            if shape.add { at.c } else { 0 },
            if shape.bias { at.bias } else { 0 },
        ];
        let wanted = Wanted { shape, aligned: used.iter().all(|at| at % ALIGNED == 0) };
        if !self.plans.contains_key(&wanted) {
            let start = Instant::now();
            let found = self.search(wanted).map_err(named)?;
            self.plans.insert(wanted, found);
            self.choosing += start.elapsed();
        }
        let found = self.plans.get_mut(&wanted).expect("just put there");
        if shape.bias {
            set(found.description, Description::CUBLASLT_MATMUL_DESC_BIAS_POINTER, at.bias)
                .map_err(named)?;
        }
        let own = self.workspace;
        let multiply = |found: &Found, c| {
            multiply(self.handle, found, own, stream, shape, Operands { c, ..at })
        };
        let c = if shape.add { at.c } else { at.d };
        if !(found.adds_in_place && c != at.d) {
            let status = multiply(found, c);
            if status == Status::CUBLAS_STATUS_SUCCESS || c == at.d {
                return check(status, "multiply").map_err(named);
            }
            found.adds_in_place = true;
        }
        let bytes = shape.m * shape.n * size(shape.result);
        driver.copy(stream, c, at.d, bytes)?;
        check(multiply(found, at.d), "multiply").map_err(named)
    }

    /// Takes the library's first choice. It counts in columns: its result is ours transposed, its first operand our
    /// second.
    fn search(&self, wanted: Wanted) -> Result<Found, String> {
        let ProductShape { m, n, k, a_transposed, b_transposed, arithmetic, result, .. } =
            wanted.shape;
        let operand = data_type(operand_type(arithmetic));
        let compute = match arithmetic {
            Arithmetic::Bf16 | Arithmetic::Fp32 => lt::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            Arithmetic::Tf32 => lt::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        };
        let mut found = Found::new();
        let (first, second) = (
            if b_transposed { (k, n) } else { (n, k) },
            if a_transposed { (m, k) } else { (k, m) },
        );
        found.layouts = [layout(operand, first)?, std::ptr::null_mut(), std::ptr::null_mut()];
        found.layouts[1] = layout(operand, second)?;
        found.layouts[2] = layout(data_type(result), (n, m))?;
        let floats = lt::cudaDataType::CUDA_R_32F;
        // SAFETY: the library writes one handle.
        let made =
            unsafe { lt::cublasLtMatmulDescCreate(&raw mut found.description, compute, floats) };
        check(made, "describe")?;
        let description = found.description;
        set(description, Description::CUBLASLT_MATMUL_DESC_TRANSA, u32::from(b_transposed))?;
        set(description, Description::CUBLASLT_MATMUL_DESC_TRANSB, u32::from(a_transposed))?;
        if wanted.shape.bias {
            let epilogue = lt::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
            set(description, Description::CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue)?;
            let kind = data_type(result) as u32;
            set(description, Description::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, kind)?;
            // Some versions look at the pointer's alignment when they choose.
            set(description, Description::CUBLASLT_MATMUL_DESC_BIAS_POINTER, self.workspace)?;
        }
        found.algorithm = self.choose(&found, wanted.aligned)?;
        Ok(found)
    }

    fn choose(&self, found: &Found, aligned: bool) -> Result<lt::cublasLtMatmulAlgo_t, String> {
        let preference = self.preferences[usize::from(!aligned)];
        let [first, second, out] = found.layouts;
        let mut count = 0;
        // SAFETY: plain numbers; all handles are alive, and there is room for the one result that is asked for.
        let (status, best) = unsafe {
            let mut best: lt::cublasLtMatmulHeuristicResult_t = std::mem::zeroed();
            let status = lt::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                found.description,
                first,
                second,
                out,
                out,
                preference,
                1,
                &raw mut best,
                &raw mut count,
            );
            (status, best)
        };
        check(status, "choose")?;
        check(best.state, "choose")?;
        if count < 1 || best.workspaceSize > WORKSPACE {
            return Err("cuBLASLt has no algorithm".to_owned());
        }
        Ok(best.algo)
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: what isn't null was made by the library; nothing uses it any more.
        unsafe {
            for preference in self.preferences {
                if !preference.is_null() {
                    lt::cublasLtMatmulPreferenceDestroy(preference);
                }
            }
            lt::cublasLtDestroy(self.handle);
        }
    }
}

/// Queues one product. `at.c` is what is added, or the result itself.
fn multiply(
    handle: lt::cublasLtHandle_t,
    found: &Found,
    workspace: Address,
    stream: &CudaStream,
    shape: ProductShape,
    at: Operands,
) -> Status {
    let (alpha, beta) = (1.0_f32, if shape.add { 1.0_f32 } else { 0.0 });
    let [first, second, out] = found.layouts;
    // SAFETY: `check_operands` has seen that matrices of this shape are allocated there, as is the workspace; the handles
    // are alive, and the factors are read before the call returns.
    unsafe {
        lt::cublasLtMatmul(
            handle,
            found.description,
            (&raw const alpha).cast(),
            at.b as *const c_void,
            first,
            at.a as *const c_void,
            second,
            (&raw const beta).cast(),
            at.c as *const c_void,
            out,
            at.d as *mut c_void,
            out,
            &raw const found.algorithm,
            workspace as *mut c_void,
            WORKSPACE,
            stream.cu_stream().cast(),
        )
    }
}

/// Sets an attribute of a description, of four or eight bytes as the library documents it.
fn set<T: Copy>(
    description: lt::cublasLtMatmulDesc_t,
    attribute: Description,
    value: T,
) -> Result<(), String> {
    // SAFETY: the description is alive; the library copies the value and checks its size.
    let status = unsafe {
        let value = (&raw const value).cast();
        lt::cublasLtMatmulDescSetAttribute(description, attribute, value, size_of::<T>())
    };
    check(status, "describe")
}

fn layout(
    kind: lt::cudaDataType,
    (rows, columns): (usize, usize),
) -> Result<lt::cublasLtMatrixLayout_t, String> {
    let mut layout = std::ptr::null_mut();
    let (rows, columns, stride) = (rows as u64, columns as u64, rows as i64);
    // SAFETY: the library writes one handle.
    let status =
        unsafe { lt::cublasLtMatrixLayoutCreate(&raw mut layout, kind, rows, columns, stride) };
    check(status, "describe a matrix").map(|()| layout)
}

/// What algorithms may ask for. Sums of parts are of 32-bit floats in a second pass of fixed order, or there are no
/// parts, so that the same bits come each time.
fn preference(alignment: Address) -> Result<lt::cublasLtMatmulPreference_t, String> {
    let mut preference = std::ptr::null_mut();
    // SAFETY: the library writes one handle.
    check(unsafe { lt::cublasLtMatmulPreferenceCreate(&raw mut preference) }, "start")?;
    let set = |attribute, value: *const c_void, bytes| {
        // SAFETY: the handle is alive; values are of the sizes that the library documents, and copied.
        let status = unsafe {
            lt::cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, bytes)
        };
        check(status, "set what it may ask for")
    };
    let room = WORKSPACE as u64;
    set(Preferences::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (&raw const room).cast(), 8)?;
    let schemes = lt::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
    set(Preferences::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, (&raw const schemes).cast(), 4)?;
    if alignment != ALIGNED {
        let least = alignment as u32;
        for attribute in [
            Preferences::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preferences::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preferences::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preferences::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            set(attribute, (&raw const least).cast(), 4)?;
        }
    }
    Ok(preference)
}

fn operand_type(arithmetic: Arithmetic) -> Number {
    if arithmetic == Arithmetic::Bf16 { Number::Bf16 } else { Number::F32 }
}

fn data_type(number: Number) -> lt::cudaDataType {
    match number {
        Number::F32 => lt::cudaDataType::CUDA_R_32F,
        Number::Bf16 => lt::cudaDataType::CUDA_R_16BF,
    }
}

/// Bytes of a number.
fn size(number: Number) -> usize {
    match number {
        Number::F32 => 4,
        Number::Bf16 => 2,
    }
}

/// Checks that all operands are allocated and aligned.
fn check_operands(driver: &Driver, shape: ProductShape, at: Operands) -> Result<(), String> {
    let ProductShape { m, n, k, result, bias, add, .. } = shape;
    let operand = size(operand_type(shape.arithmetic));
    let result = size(result);
    let mut places = vec![(at.a, m * k * operand), (at.b, k * n * operand), (at.d, m * n * result)];
    if add {
        places.push((at.c, m * n * result));
    }
    if bias {
        places.push((at.bias, n * result));
    }
    for (address, bytes) in places {
        driver.within(address, bytes).map_err(|fault| fault.0)?;
        if address % LEAST_ALIGNED != 0 {
            return Err(format!("{address:#x} is not aligned to {LEAST_ALIGNED} bytes"));
        }
    }
    Ok(())
}

/// Returns the shape as people write it.
fn describe(shape: ProductShape) -> String {
    let ProductShape { m, n, k, a_transposed, b_transposed, arithmetic, result, bias, add } = shape;
    let form = |transposed| if transposed { "t" } else { "n" };
    let arithmetic = match arithmetic {
        Arithmetic::Bf16 => "bf16",
        Arithmetic::Tf32 => "tf32",
        Arithmetic::Fp32 => "fp32",
    };
    let result = match result {
        Number::F32 => "f32",
        Number::Bf16 => "bf16",
    };
    let (a, b) = (form(a_transposed), form(b_transposed));
    let (bias, add) = (if bias { ", bias" } else { "" }, if add { ", added" } else { "" });
    format!("m {m}, n {n}, k {k}, {a}{b}, {arithmetic} to {result}{bias}{add}")
}

/// Returns the version behind the library's number: 120405 and 130100 are 12.4.5 and 13.1.0.
fn version_text(number: usize) -> String {
    format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_shapes_are_written_for_people() {
        assert_eq!(version_text(120_405), "12.4.5");
        assert_eq!(version_text(130_100), "13.1.0");
        let shape = ProductShape {
            m: 12,
            n: 34,
            k: 56,
            a_transposed: true,
            b_transposed: false,
            arithmetic: Arithmetic::Bf16,
            result: Number::F32,
            bias: false,
            add: true,
        };
        assert_eq!(describe(shape), "m 12, n 34, k 56, tn, bf16 to f32, added");
    }
}
