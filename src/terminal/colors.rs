//! How many colours the terminal shows, found in the environment without asking the terminal.

/// How many colours the terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorDepth {
    True,
    /// The xterm palette of 256.
    Indexed,
    /// The 16 colours that the user's palette defines.
    Sixteen,
    /// No colours, because of `NO_COLOR` or a dumb terminal.
    Mono,
}

impl ColorDepth {
    /// Returns the name that the screen's help shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::Indexed => "Indexed",
            Self::Sixteen => "Sixteen",
            Self::Mono => "Mono",
        }
    }
}

/// A depth and the reason for it, for the help screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    pub depth: ColorDepth,
    pub reason: String,
}

/// The terminals whose TERM alone tells that they have true colours.
const TRUE_COLOR_TERMS: [&str; 6] = ["kitty", "alacritty", "foot", "ghostty", "wezterm", "contour"];

/// Finds the colour depth by the environment alone, because a query could hang on a silent terminal. `forced` is what
/// the user asked for, if anything.
pub fn detect(forced: Option<ColorDepth>, env: impl Fn(&str) -> Option<String>) -> Detected {
    let found = |depth, reason: &str| Detected { depth, reason: reason.to_owned() };
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    if let Some(depth) = forced {
        return found(depth, "--color");
    }
    if set("NO_COLOR").is_some() {
        return found(ColorDepth::Mono, "NO_COLOR is set");
    }
    let term = set("TERM").unwrap_or_default();
    if term == "dumb" || term.is_empty() {
        return found(ColorDepth::Mono, "TERM is dumb or not set");
    }
    if set("COLORTERM").is_some_and(|v| v.contains("truecolor") || v.contains("24bit")) {
        return found(ColorDepth::True, "COLORTERM says so");
    }
    if term.ends_with("-direct") || TRUE_COLOR_TERMS.iter().any(|name| term.contains(name)) {
        return found(ColorDepth::True, &format!("TERM is {term}"));
    }
    if matches!(term.as_str(), "linux" | "vt100" | "vt220" | "ansi" | "xterm-16color") {
        return found(ColorDepth::Sixteen, &format!("TERM is {term}"));
    }
    found(ColorDepth::Indexed, "COLORTERM is not set")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Variables = &'static [(&'static str, &'static str)];

    #[test]
    fn the_environment_decides_and_gives_its_reason() {
        use ColorDepth::{Indexed, Mono, Sixteen, True};
        let table: [(Variables, ColorDepth, &str); 7] = [
            (&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")], True, "COLORTERM"),
            (&[("TERM", "xterm-256color")], Indexed, "COLORTERM is not set"),
            (&[("TERM", "xterm-kitty")], True, "TERM is xterm-kitty"),
            (&[("TERM", "linux")], Sixteen, "TERM is linux"),
            (&[("TERM", "dumb"), ("COLORTERM", "truecolor")], Mono, "dumb"),
            (&[("TERM", "xterm"), ("COLORTERM", "24bit"), ("NO_COLOR", "1")], Mono, "NO_COLOR"),
            (&[("TERM", "tmux-256color"), ("NO_COLOR", "")], Indexed, "COLORTERM is not set"),
        ];
        for (variables, depth, reason) in table {
            let env = |name: &str| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let detected = detect(None, env);
            assert_eq!(detected.depth, depth, "{variables:?}");
            assert!(detected.reason.contains(reason), "{}", detected.reason);
            assert_eq!(detect(Some(Sixteen), env).depth, Sixteen, "--color wins");
        }
    }
}
