//! Chooses the vector instructions and multiplies matrices. One of the files with `unsafe` code, see
//! ARCHITECTURE.md.
//!
//! The kernels of the neighbouring files are plain loops. `vectorized!` compiles each of them three times (for AVX-512,
//! for AVX2 and for any processor) and chooses one of these at run time. For tests, `SIMMIM_SIMD=avx2` keeps to AVX2 where
//! there is AVX-512, and `SIMMIM_SIMD=none` takes the loops for any processor. Matrix products then choose for
//! themselves.
#![allow(unsafe_code, reason = "vector instructions and matrix products by pointer")]

use std::sync::OnceLock;

/// The instruction sets that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simd {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What every processor of the compiler's target has: SSE2, or NEON.
    Baseline,
}

impl Simd {
    /// Returns the best one that this processor has and that `SIMMIM_SIMD` allows.
    pub fn get() -> Self {
        static FOUND: OnceLock<Simd> = OnceLock::new();
        *FOUND.get_or_init(Self::detect)
    }

    #[cfg(target_arch = "x86_64")]
    fn detect() -> Self {
        let limit = std::env::var("SIMMIM_SIMD").unwrap_or_default();
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        match (avx512 && limit != "avx2", avx2) {
            _ if limit == "none" => Self::Baseline,
            (true, _) => Self::Avx512,
            (false, true) => Self::Avx2,
            (false, false) => Self::Baseline,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect() -> Self {
        Self::Baseline
    }
}

/// A loop with its arguments. `run` must be `#[inline(always)]` to be compiled for the instructions of its caller.
pub trait Kernel {
    fn run(self);
}

/// Runs a kernel with the instructions of [`Simd::get`].
pub fn dispatch(kernel: impl Kernel) {
    match Simd::get() {
        // SAFETY: `Simd::detect` found all features that the function is compiled for.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx512 => unsafe { run_avx512(kernel) },
        // SAFETY: `Simd::detect` found AVX2 and FMA, which the function is compiled for.
        #[cfg(target_arch = "x86_64")]
        Simd::Avx2 => unsafe { run_avx2(kernel) },
        Simd::Baseline => kernel.run(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512(kernel: impl Kernel) {
    kernel.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2(kernel: impl Kernel) {
    kernel.run();
}

/// Defines functions that are compiled for each instruction set. The lifetimes of all arguments are `'k`.
macro_rules! vectorized {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        #[allow(
            clippy::too_many_arguments,
            clippy::needless_lifetimes,
            reason = "a kernel has as many arguments as slices, and 'k names the lifetime of them all"
        )]
        $vis fn $name<'k>($($arg: $ty),*) {
            struct Call<'k> { $($arg: $ty),* }
            impl<'k> $crate::ops::kernel::Kernel for Call<'k> {
                #[allow(
                    clippy::inline_always,
                    reason = "inlined into `run_avx512` and others, it is compiled for their instructions"
                )]
                #[inline(always)]
                fn run(self) {
                    let Self { $($arg),* } = self;
                    $body
                }
            }
            $crate::ops::kernel::dispatch(Call { $($arg),* });
        }
    )*};
}
pub(super) use vectorized;

/// A matrix inside a slice, with any strides.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Returns a row-major matrix without gaps. `[rows, columns]`
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Returns a row-major matrix with `row_stride` numbers from row to row. `[rows, columns]`
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(span(rows, columns, row_stride) <= data.len(), "the matrix lies inside the slice");
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// Returns the transpose, which reads the same slice.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A row-major matrix to write into.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// Returns a matrix without gaps. `[rows, columns]`
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Returns a matrix with `row_stride` numbers from row to row. `[rows, columns]`
    pub fn strided(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(columns <= row_stride || rows <= 1, "rows don't overlap");
        assert!(span(rows, columns, row_stride) <= data.len(), "the matrix lies inside the slice");
        Self { data, rows, columns, row_stride }
    }
}

/// Returns how many numbers of a slice a row-major matrix spans from its first element to its last.
fn span(rows: usize, columns: usize, row_stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + columns }
}

/// Computes `out = scale · lhs · rhs` on this thread.
#[allow(clippy::needless_pass_by_value, reason = "a matrix to write into is used up")]
pub fn multiply(out: MatrixMut<'_>, lhs: Matrix<'_>, rhs: Matrix<'_>, scale: f32) {
    assert!(
        lhs.columns == rhs.rows && out.rows == lhs.rows && out.columns == rhs.columns,
        "shapes of a product fit"
    );
    let gemm = match Simd::get() {
        #[cfg(target_arch = "x86_64")]
        Simd::Avx2 => gemm_avx2,
        _ => gemm::gemm::<f32>,
    };
    // SAFETY: every element that the strides reach lies inside its slice, which the constructors checked (and which
    // transposing doesn't change); `out` is borrowed mutably, so it overlaps neither operand, and its rows don't
    // overlap one another. `gemm_avx2` runs only where AVX2 and FMA were found.
    unsafe {
        gemm(
            out.rows,
            out.columns,
            lhs.columns,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            false,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            0.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Does what `gemm::gemm` does, but with its AVX2 kernels where that would choose those for AVX-512.
///
/// # Safety
/// The caller fulfils the contract of `gemm::gemm` and runs this on a processor with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[allow(
    clippy::too_many_arguments,
    clippy::fn_params_excessive_bools,
    clippy::similar_names,
    reason = "the signature of `gemm::gemm`"
)]
unsafe fn gemm_avx2(
    m: usize,
    n: usize,
    k: usize,
    dst: *mut f32,
    dst_cs: isize,
    dst_rs: isize,
    read_dst: bool,
    lhs: *const f32,
    lhs_cs: isize,
    lhs_rs: isize,
    rhs: *const f32,
    rhs_cs: isize,
    rhs_rs: isize,
    alpha: f32,
    beta: f32,
    conj_dst: bool,
    conj_lhs: bool,
    conj_rhs: bool,
    parallelism: gemm::Parallelism,
) {
    use gemm_f32::microkernel::fma::f32::{H_M, H_N, H_UKR, MR_DIV_N, NR, UKR};
    const LANES: usize = 8;
    let simd = gemm_common::simd::V3::try_new().expect("detected before");
    // SAFETY: the caller fulfils the contract of `gemm::gemm`, which hands its arguments to this function in the same
    // way, and `simd` shows that there are AVX2 and FMA.
    unsafe {
        gemm_common::gemm::gemm_basic_generic::<
            _,
            f32,
            LANES,
            { MR_DIV_N * LANES },
            NR,
            MR_DIV_N,
            H_M,
            H_N,
        >(
            simd,
            m,
            n,
            k,
            dst,
            dst_cs,
            dst_rs,
            read_dst,
            lhs,
            lhs_cs,
            lhs_rs,
            rhs,
            rhs_cs,
            rhs_rs,
            alpha,
            beta,
            conj_dst,
            conj_lhs,
            conj_rhs,
            |a, b, c| a * b + c,
            &UKR,
            &H_UKR,
            false,
            parallelism,
        );
    }
}
