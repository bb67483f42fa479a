//! Examines the terminal and its surroundings.

use crate::command::doctor::{Finding, Verdict};
use crate::command::screen::{LookArgs, obstacle};
use crate::terminal::colors::ColorDepth;
use crate::terminal::graphics;
use std::io::{IsTerminal as _, stdout};

const AREA: &str = "terminal";
/// Columns and rows below which the screen leaves panels out.
const COMFORTABLE: (u16, u16) = (80, 24);

pub fn look() -> Vec<Finding> {
    let mut findings = vec![screen()];
    if stdout().is_terminal() {
        findings.extend([size(), colours(), characters(), pictures()]);
    }
    findings.extend(between());
    findings
}

/// Returns an environment variable that is set and not empty.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn screen() -> Finding {
    let term = set("TERM").unwrap_or_default();
    match obstacle() {
        None => {
            let why = format!("standard input and output are a terminal, TERM is {term}");
            Finding::new(AREA, "screen", Verdict::Good, "a run has the screen", why)
        }
        Some(why) => Finding::new(AREA, "screen", Verdict::Note, "a run prints plain lines", why),
    }
}

fn size() -> Finding {
    let (columns, rows) = graphics::size();
    let (least_columns, least_rows) = COMFORTABLE;
    let large = columns >= least_columns && rows >= least_rows;
    let state = if large { Verdict::Good } else { Verdict::Warning };
    let why = if large { "" } else { "panels are left out below 80x24" };
    Finding::new(AREA, "size", state, format!("{columns} columns, {rows} rows"), why)
}

fn colours() -> Finding {
    let (detected, _) = LookArgs::default().detect();
    let (state, found) = match detected.depth {
        ColorDepth::True => (Verdict::Good, "24 bits"),
        ColorDepth::Indexed => (Verdict::Good, "256"),
        ColorDepth::Sixteen => (Verdict::Note, "16: previews are grey characters"),
        ColorDepth::Mono => (Verdict::Note, "none: previews are grey characters"),
    };
    let why = format!("{}; --color true|256|16|none overrides it", detected.reason);
    Finding::new(AREA, "colours", state, found, why)
}

fn characters() -> Finding {
    let (_, ascii) = LookArgs::default().detect();
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| set(name).map(|value| format!("{name} is {value}")))
        .unwrap_or_else(|| "no locale is set".to_owned());
    let (state, found) = if ascii {
        (Verdict::Warning, "ASCII: coarse charts and pictures")
    } else {
        (Verdict::Good, "Unicode: blocks and braille")
    };
    let advice =
        if ascii { "; a UTF-8 locale, such as LC_ALL=C.UTF-8, would give more" } else { "" };
    Finding::new(AREA, "locale", state, found, format!("{locale}{advice}"))
}

fn pictures() -> Finding {
    let (found, why) = graphics::detect();
    Finding::new(AREA, "pictures", Verdict::Good, found, why)
}

/// Looks for what stands between this process and the terminal: multiplexers and SSH.
fn between() -> Vec<Finding> {
    let mut findings = Vec::new();
    let multiplexer = ["TMUX", "STY", "ZELLIJ"].into_iter().find(|name| set(name).is_some());
    if let Some(name) = multiplexer {
        let found = match name {
            "TMUX" => "tmux",
            "STY" => "screen",
            _ => "zellij",
        };
        let why = match (name, set("COLORTERM")) {
            ("TMUX", None) => {
                "the run survives a dropped line in it; for 24-bit colours give it COLORTERM=truecolor and the RGB \
                 feature (set -as terminal-features ',*:RGB')"
            }
            _ => "the run survives a dropped line in it; pictures stay half blocks",
        };
        findings.push(Finding::new(AREA, "inside", Verdict::Good, found, why));
    }
    if set("SSH_CONNECTION").is_some() {
        let why = "a dropped line costs no step: the run goes on, and `simmim-tui attach RUN` brings the screen back";
        findings.push(Finding::new(AREA, "line", Verdict::Good, "SSH", why));
    }
    findings
}
