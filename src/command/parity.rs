//! The hidden `parity` command: compares with values that PyTorch computed.

use crate::config::Precision;
use crate::engine::device::{self, Device, precision::Effective};
use crate::engine::parity;
use crate::error::Error;
use crate::text::say::{say, tell};
use std::io::stderr;
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
pub struct ParityArgs {
    /// File of safetensors with parameters, inputs and expected values
    pub file: PathBuf,
    /// Compute on this device: cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

/// Prints the largest error of every group of values beside its tolerance.
///
/// # Errors
/// Returns an error if the file or the device can't be used, or if a group exceeds its tolerance.
pub fn run(args: &ParityArgs) -> Result<(), Error> {
    let device: Device = device::select(&args.device)?.device;
    let Effective { precision, notice } = Effective::of(Precision::Fp32, &device);
    if let Some(notice) = notice {
        say(&mut stderr(), &notice); // why the tolerances are wider
    }
    let (mut failed, mut all) = compare(args, &device, precision)?;
    // What training on a GPU may use, beside what is compared best.
    let low = Effective::of(Precision::Bf16, &device).precision;
    if low != precision {
        let (more_failed, more) = compare(args, &device, low)?;
        failed += more_failed;
        all += more;
    }
    if failed > 0 {
        return Err(Error::PastTolerance { failed, groups: all });
    }
    Ok(())
}

/// Prints the groups of values in one precision. Returns how many exceed their tolerance, and how many there are.
fn compare(
    args: &ParityArgs,
    device: &Device,
    precision: Precision,
) -> Result<(usize, usize), Error> {
    let groups = parity::check_in(&args.file, device, precision)?;
    if *device != Device::Cpu {
        tell(&format!("{precision}:"))?;
    }
    for group in &groups {
        let verdict = if group.passes() { "ok  " } else { "FAIL" };
        let line = format!(
            "{verdict} {:<16} largest error {:.2e}  tolerance {:.0e}  {}",
            group.name, group.error, group.tolerance, group.at
        );
        tell(&line)?;
    }
    Ok((groups.iter().filter(|group| !group.passes()).count(), groups.len()))
}
