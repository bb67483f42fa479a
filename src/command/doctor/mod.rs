//! The `doctor` command: says what this machine and terminal can do, what the program decides from it, and why.

mod compute;
mod cuda;
mod disk;
mod terminal;

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

/// Columns of the text.
const WIDTH: usize = 80;
/// Columns to the left of what was found.
const INDENT: usize = 18;

/// Examines machine, terminal and disk, and prints the findings. The folder for runs is tried out and left as it was.
///
/// # Errors
/// Returns an error if a run would fail here.
pub fn run(args: &DoctorArgs) -> Result<(), Error> {
    let mut findings = compute::look();
    findings.extend(terminal::look());
    findings.extend(disk::look(&args.run_dir));
    let failures = findings.iter().filter(|finding| finding.state == Verdict::Failure).count();
    let report = Diagnosis { version: version::BUILD, features: version::FEATURES, findings };
    let text = if args.json { json(&report) } else { text(&report) };
    tell_all(text.trim_end().lines().map(str::to_owned))?;
    if failures > 0 { Err(Error::Unwell { failures }) } else { Ok(()) }
}

/// What a finding means for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    /// Something is missing, and nothing is lost by it.
    Note,
    /// Something works worse than it could.
    Warning,
    /// A run will fail.
    Failure,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Warning => "WARN",
            Self::Failure => "FAIL",
        }
    }
}

/// One thing that was examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    area: &'static str,
    name: &'static str,
    state: Verdict,
    /// What was found or decided.
    found: String,
    /// Why that is so, and what would change it.
    why: String,
}

impl Finding {
    fn new(
        area: &'static str,
        name: &'static str,
        state: Verdict,
        found: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { area, name, state, found: found.into(), why: why.into() }
    }
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
    let mut lines = vec![format!("simmim-tui {} (features: {})", report.version, report.features)];
    let mut area = "";
    for finding in &report.findings {
        if finding.area != area {
            area = finding.area;
            lines.extend([String::new(), area.to_owned()]);
        }
        let Finding { name, state, found, why, .. } = finding;
        let mut label = format!("  {:<4}  {name:<9} ", state.word());
        for line in wrapped(found, WIDTH - INDENT).chain(wrapped(why, WIDTH - INDENT)) {
            lines.push(format!("{label:INDENT$}{line}"));
            label.clear();
        }
    }
    lines.join("\n") + "\n"
}

/// Breaks a text between words into lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> impl Iterator<Item = String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_stand_under_their_area_with_their_reason() {
        let findings = vec![
            Finding::new("device", "cpu", Verdict::Good, "2 threads", ""),
            Finding::new("device", "cuda", Verdict::Note, "none", "no driver"),
            Finding::new(
                "disk",
                "space",
                Verdict::Failure,
                "full",
                format!("{} b", "a".repeat(61)),
            ),
        ];
        let report = Diagnosis { version: "1.0.0+abc", features: "tui", findings };
        let expected = "simmim-tui 1.0.0+abc (features: tui)\n\
            \n\
            device\n\
            \x20 ok    cpu       2 threads\n\
            \x20 note  cuda      none\n\
            \x20                 no driver\n\
            \n\
            disk\n\
            \x20 FAIL  space     full\n\
            \x20                 AAA\n\
            \x20                 b\n";
        assert_eq!(text(&report), expected.replace("AAA", &"a".repeat(61)));
    }
}
