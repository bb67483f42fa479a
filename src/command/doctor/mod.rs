//! The `doctor` command: what this machine and terminal can do, what the program decides from it, and why.

pub(crate) mod compute;
pub(crate) mod disk;
#[cfg(feature = "tui")]
pub(crate) mod terminal;

use crate::error::Error;
use crate::text::say::{json, say};
use crate::version;
use serde::Serialize;
use std::io::stdout;
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
pub struct DoctorArgs {
    /// Where runs are to be kept
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub run_dir: PathBuf,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Columns of the text, and those left of what was found.
const WIDTH: usize = 80;
const INDENT: usize = 18;

/// What a finding means for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Good,
    /// Something is not there, and nothing is lost by it.
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

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub area: &'static str,
    pub name: &'static str,
    pub state: Verdict,
    /// What was found or decided.
    pub found: String,
    /// Where that comes from, and what would change it.
    pub why: String,
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

#[derive(Serialize)]
struct Diagnosis {
    version: &'static str,
    features: &'static str,
    findings: Vec<Finding>,
}

/// Looks at everything and prints it. The run folder is tried out, and left as it was.
///
/// # Errors
/// A run would fail here.
pub fn run(args: &DoctorArgs) -> Result<(), Error> {
    let mut findings = compute::look();
    #[cfg(feature = "tui")]
    findings.extend(terminal::look());
    #[cfg(not(feature = "tui"))]
    findings.push(Finding::new(
        "terminal",
        "screen",
        Verdict::Note,
        "none: plain lines",
        "this build was made without the feature tui",
    ));
    findings.extend(disk::look(&args.run_dir));
    let failures = findings.iter().filter(|finding| finding.state == Verdict::Failure).count();
    let report = Diagnosis { version: version::BUILD, features: version::FEATURES, findings };
    let text = if args.json { json(&report) } else { text(&report) };
    say(&mut stdout(), text.trim_end());
    if failures > 0 { Err(Error::Unwell { failures }) } else { Ok(()) }
}

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

/// Lines of at most `width` characters, cut between words.
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
