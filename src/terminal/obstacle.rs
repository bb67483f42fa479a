//! Whether this process has a terminal that a screen can be drawn on.

use std::io::{IsTerminal as _, stdin, stdout};

/// Returns why no screen can be drawn on the terminal of this process, if so.
pub fn obstacle() -> Option<&'static str> {
    if !stdout().is_terminal() || !stdin().is_terminal() {
        return Some("no terminal");
    }
    std::env::var_os("TERM").is_none_or(|term| term == "dumb").then_some("TERM is dumb or not set")
}
