//! What was examined and what was found, for `doctor` and `check`.

use serde::Serialize;

/// Columns of the text.
const WIDTH: usize = 80;
/// Columns to the left of what was found.
const INDENT: usize = 18;

/// What a finding means for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Good,
    /// Something is missing, and nothing is lost by it.
    Note,
    /// Something works worse than it could.
    Warning,
    /// A run fails or has lost something.
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
pub(super) struct Finding {
    pub area: &'static str,
    pub name: &'static str,
    pub state: Verdict,
    /// What was found or decided.
    pub found: String,
    /// Why that is so, and what would change it.
    pub why: String,
}

impl Finding {
    pub fn new(
        area: &'static str,
        name: &'static str,
        state: Verdict,
        found: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { area, name, state, found: found.into(), why: why.into() }
    }
}

/// Counts the failures among the findings.
pub(super) fn failures(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.state == Verdict::Failure).count()
}

/// Returns the findings as lines for people, under the heads of their areas.
pub(super) fn lines(findings: &[Finding]) -> Vec<String> {
    let (mut lines, mut area) = (Vec::new(), "");
    for finding in findings {
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
    lines
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
        let expected = "\n\
            device\n\
            \x20 ok    cpu       2 threads\n\
            \x20 note  cuda      none\n\
            \x20                 no driver\n\
            \n\
            disk\n\
            \x20 FAIL  space     full\n\
            \x20                 AAA\n\
            \x20                 b";
        assert_eq!(lines(&findings).join("\n"), expected.replace("AAA", &"a".repeat(61)));
        assert_eq!(failures(&findings), 1);
    }
}
