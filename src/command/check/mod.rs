//! The `check` command: says whether what is in a run directory is sound, and what to do if it isn't.
//!
//! It reads everything once and changes nothing: the configuration, each line of the log, the checksum of each
//! checkpoint, each preview picture, and whatever else lies there.

mod files;
mod log;

use super::findings::{self, Finding, Verdict};
use crate::config::file;
use crate::error::Error;
use crate::run_dir::{self, EVENTS, Liveness, liveness};
use crate::shown;
use crate::text::say::{json, tell_all};
use crate::text::shell::for_shell;
use files::CheckedFiles;
use log::LogSurvey;
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// Run directory
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What was found in a run directory. `--json` prints it.
#[derive(Serialize)]
struct RunReport {
    run: String,
    sound: bool,
    /// Optimizer steps that a resume starts from; absent if there is no sound checkpoint.
    resumes_at: Option<u64>,
    findings: Vec<Finding>,
}

/// Examines a run directory and prints the findings.
///
/// # Errors
/// Returns an error if the directory is none of a run, or if something in it isn't sound.
pub fn run(args: &CheckArgs) -> Result<(), Error> {
    let root = &args.run;
    if !run_dir::holds_run(root) {
        let problem = if root.exists() { "there is no run in" } else { "there is no" };
        return Err(Error::Usage(format!("{problem} {}", shown::path(root))));
    }
    // The process is looked at first. So if it is gone, the files are as it left them.
    let writer = writer(root);
    let log = LogSurvey::of(&root.join(EVENTS));
    let files = CheckedFiles::of(root, &log);
    let mut findings: Vec<Finding> = writer.into_iter().chain([config(root)]).collect();
    findings.extend(log.findings(files.newest));
    findings.extend(files.findings);
    let failures = findings::failures(&findings);
    let report = RunReport {
        run: shown::text(root),
        sound: failures == 0,
        resumes_at: files.newest,
        findings,
    };
    if args.json {
        tell_all([json(&report)])?;
    } else {
        tell_all(text(root, &report))?;
    }
    if failures > 0 { Err(Error::Unsound { failures }) } else { Ok(()) }
}

/// Returns the findings as text for people.
fn text(root: &Path, report: &RunReport) -> Vec<String> {
    let verdict = if report.sound { "sound" } else { "not sound" };
    let next = match report.resumes_at {
        Some(step) => format!(
            "the weights of step {step} are whole; simmim-tui --resume {} goes on from there",
            for_shell(root)
        ),
        None => "there is no whole checkpoint to go on from".to_owned(),
    };
    let head = vec![shown::path(root).to_string()];
    let end = vec![String::new(), format!("{verdict}: {next}")];
    [head, findings::lines(&report.findings), end].concat()
}

/// Says that a process writes the run, because files may then change while they are looked at.
fn writer(root: &Path) -> Option<Finding> {
    let (Liveness::Local(owner) | Liveness::Remote(owner)) = liveness(root) else { return None };
    let found = format!("{} trains this run", shown::line(&owner.describe()));
    let why =
        "files may change while they are looked at; a finding that is gone the next time is none";
    Some(Finding::new("run", "process", Verdict::Note, found, why))
}

fn config(root: &Path) -> Finding {
    let path = run_dir::config_path(root);
    let name = "config";
    match file::load(Some(&path), &[]) {
        Ok(_) => Finding::new("run", name, Verdict::Good, "config.toml is valid", ""),
        Err(error) => {
            let why =
                "each checkpoint holds the configuration too, so --resume works without this file";
            Finding::new("run", name, Verdict::Failure, shown::line(&error.to_string()), why)
        }
    }
}
