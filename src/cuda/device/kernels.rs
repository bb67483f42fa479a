//! The compiled kernels that are part of the program: machine code for Hopper, and PTX for every other GPU since Ampere,
//! which the driver compiles once and keeps.

use super::driver::Seen;
use crate::cuda::machine::Fault;
use flate2::read::GzDecoder;
use std::io::Read as _;

/// The first compute capability that the kernels run on (Ampere).
pub const LEAST_CAPABILITY: (i32, i32) = (8, 0);
/// The compute capability that the machine code is for, and the driver's CUDA that it takes.
const HOPPER: (i32, i32) = (9, 0);
const HOPPER_CUDA: (i32, i32) = (12, 0);

const KERNELS_PTX: &[u8] = include_bytes!("../compiled/kernels.compute_80.ptx.gz");
const KERNELS_HOPPER: &[u8] = include_bytes!("../compiled/kernels.sm_90.cubin.gz");
const PRODUCT_PTX: &[u8] = include_bytes!("../compiled/product.compute_80.ptx.gz");
const PRODUCT_HOPPER: &[u8] = include_bytes!("../compiled/product.sm_90.cubin.gz");

/// What kernels a GPU gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Machine code.
    Machine,
    /// PTX, which the driver compiles.
    Ptx,
}

impl Code {
    /// Returns what a GPU of this compute capability gets.
    pub fn of(capability: (i32, i32)) -> Self {
        if capability == HOPPER { Self::Machine } else { Self::Ptx }
    }
}

/// A compiled source file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compiled {
    source: &'static str,
    packed: &'static [u8],
}

impl Compiled {
    /// Unpacks the code.
    pub fn code(&self) -> Result<Vec<u8>, Fault> {
        let mut code = Vec::with_capacity(8 * self.packed.len());
        let read = GzDecoder::new(self.packed).read_to_end(&mut code);
        read.map_err(|error| Fault(format!("{}: {error}", self.source)))?;
        Ok(code)
    }
}

/// Returns the kernels for a GPU: those of every step first, then the matrix products that replace cuBLASLt.
pub(super) fn images(code: Code) -> Vec<Compiled> {
    let (kernels, product) = match code {
        Code::Machine => (KERNELS_HOPPER, PRODUCT_HOPPER),
        Code::Ptx => (KERNELS_PTX, PRODUCT_PTX),
    };
    vec![
        Compiled { source: "kernels.cu", packed: kernels },
        Compiled { source: "product.cu", packed: product },
    ]
}

/// Returns why the driver can't load the kernels, if so.
pub fn obstacle(seen: &Seen) -> Option<String> {
    let needed = match Code::of(seen.capability) {
        Code::Machine => HOPPER_CUDA,
        Code::Ptx => cuda_of(&ptx_version(KERNELS_PTX)?)?,
    };
    obstacle_with(seen, needed)
}

fn obstacle_with(seen: &Seen, needed: (i32, i32)) -> Option<String> {
    let ((major, minor), (least_major, least_minor)) = (seen.cuda, needed);
    (seen.cuda < needed).then(|| {
        let driver =
            driver_of(needed).map(|n| format!(", driver {n} or newer")).unwrap_or_default();
        format!(
            "the NVIDIA driver is too old: it has CUDA {major}.{minor}, the kernels take \
             {least_major}.{least_minor}{driver}"
        )
    })
}

/// Returns what to tell if the driver refuses an image.
pub(super) fn refused(image: &Compiled, reason: &str) -> Fault {
    Fault(format!(
        "the NVIDIA driver refuses the kernels of {}: {reason}; a newer driver may take them",
        image.source
    ))
}

/// Reads the version that PTX begins with, such as "8.4".
fn ptx_version(packed: &[u8]) -> Option<String> {
    let mut head = [0; 4096];
    let mut filled = 0;
    let mut unpacked = GzDecoder::new(packed);
    while let Ok(read @ 1..) = unpacked.read(&mut head[filled..]) {
        filled += read;
    }
    let text = String::from_utf8_lossy(&head[..filled]);
    let line = text.lines().find_map(|line| line.strip_prefix(".version"))?;
    Some(line.trim().to_owned())
}

/// Returns the first CUDA whose driver reads PTX of this version.
fn cuda_of(version: &str) -> Option<(i32, i32)> {
    let (major, minor) = version.split_once('.')?;
    let minor: i32 = minor.parse().ok()?;
    match (major, minor) {
        ("7", _) => Some((11, minor)),
        ("8", ..=5) => Some((12, minor)),
        ("8", _) => Some((12, minor + 1)), // CUDA 12.5 and 12.6 have the same
        ("9", _) => Some((13, minor)),
        _ => None,
    }
}

/// Returns the first branch of the driver for Linux with this CUDA.
fn driver_of(cuda: (i32, i32)) -> Option<u32> {
    const BRANCHES: [((i32, i32), u32); 11] = [
        ((11, 8), 520),
        ((12, 0), 525),
        ((12, 1), 530),
        ((12, 2), 535),
        ((12, 3), 545),
        ((12, 4), 550),
        ((12, 5), 555),
        ((12, 6), 560),
        ((12, 8), 570),
        ((12, 9), 575),
        ((13, 0), 580),
    ];
    BRANCHES.into_iter().find(|(version, _)| *version >= cuda).map(|(_, branch)| branch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(capability: (i32, i32), cuda: (i32, i32)) -> Seen {
        Seen { name: "a GPU".to_owned(), capability, cuda }
    }

    #[test]
    fn the_kernels_that_are_part_of_the_program_unpack() {
        for code in [Code::Machine, Code::Ptx] {
            for image in images(code) {
                let unpacked = image.code().expect("whole");
                match code {
                    Code::Machine => assert!(unpacked.starts_with(b"\x7fELF"), "{}", image.source),
                    Code::Ptx => {
                        let text = String::from_utf8(unpacked).expect("text");
                        assert!(text.contains(".target sm_80"), "{}", image.source);
                    }
                }
            }
        }
    }

    #[test]
    fn the_driver_that_the_ptx_takes_is_known() {
        for packed in [KERNELS_PTX, PRODUCT_PTX] {
            let version = ptx_version(packed).expect("PTX has one");
            let cuda = cuda_of(&version).expect("known");
            assert!(driver_of(cuda).is_some(), "{version}");
        }
        let cases = [
            ("7.8", (11, 8)),
            ("8.4", (12, 4)),
            ("8.5", (12, 5)),
            ("8.6", (12, 7)),
            ("9.0", (13, 0)),
        ];
        for (ptx, cuda) in cases {
            assert_eq!(cuda_of(ptx), Some(cuda), "{ptx}");
        }
    }

    #[test]
    fn a_driver_that_is_too_old_is_told_which_would_do() {
        assert_eq!(obstacle_with(&seen((8, 0), (12, 4)), (12, 4)), None);
        let why = obstacle_with(&seen((8, 6), (12, 2)), (12, 4)).expect("too old");
        let expected = "the NVIDIA driver is too old: it has CUDA 12.2, the kernels take 12.4, driver 550 or newer";
        assert_eq!(why, expected);
        assert_eq!(obstacle(&seen((9, 0), (12, 0))), None);
        assert!(obstacle(&seen((9, 0), (11, 8))).is_some());
    }
}
