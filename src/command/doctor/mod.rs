//! The `doctor` command: says what this machine and terminal can do, what the program decides from it, and why.

mod compute;
mod cuda;
mod disk;
mod terminal;

use super::findings::{self, Finding, Verdict};
use crate::error::Error;
use crate::text::say::{json, tell_all};
use crate::version;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
pub struct DoctorArgs {
    /// Try out this folder for runs
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub run_dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Examines machine, terminal and disk, and prints the findings. The folder for runs is tried out and left as it was.
///
/// # Errors
/// Returns an error if a run would fail here.
pub fn run(args: &DoctorArgs) -> Result<(), Error> {
    let mut findings = compute::look();
    findings.extend(terminal::look());
    findings.extend(disk::look(&args.run_dir));
    let failures = findings::failures(&findings);
    let report = Diagnosis { version: version::BUILD, features: version::FEATURES, findings };
    let text = if args.json { json(&report) } else { text(&report) };
    tell_all(text.lines().map(str::to_owned))?;
    if failures > 0 { Err(Error::Unwell { failures }) } else { Ok(()) }
}

/// All findings. `--json` prints it.
#[derive(Serialize)]
struct Diagnosis {
    version: &'static str,
    features: &'static str,
    findings: Vec<Finding>,
}

/// Returns the findings as text for people.
fn text(report: &Diagnosis) -> String {
    let head = format!("simmim-tui {} (features: {})", report.version, report.features);
    [vec![head], findings::lines(&report.findings)].concat().join("\n")
}
