//! Colours by meaning, for terminals of every depth; and how that depth is found, without asking the terminal.

pub use crate::terminal::unicode::has_unicode;
use ratatui::style::{Color, Modifier, Style};

/// How many colours the terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorDepth {
    True,
    /// The xterm palette of 256.
    Indexed,
    /// The 16 colours that the user's palette defines.
    Sixteen,
    /// None: `NO_COLOR`, or a dumb terminal.
    Mono,
}

/// A depth and the reason for it, for the help screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    pub depth: ColorDepth,
    pub reason: String,
}

/// Terminals whose TERM alone tells that they have true colours.
const TRUE_COLOR_TERMS: [&str; 6] = ["kitty", "alacritty", "foot", "ghostty", "wezterm", "contour"];

/// Decides by the environment alone: a query could hang on a silent terminal.
///
/// `forced` is what the user asked for: auto, true, 256, 16 or none.
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

/// What a thing on the screen means; its look follows from the depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    pub depth: ColorDepth,
}

impl Theme {
    fn style(self, indexed: u8, sixteen: Color, mono: Modifier) -> Style {
        match self.depth {
            ColorDepth::True | ColorDepth::Indexed => Style::new().fg(Color::Indexed(indexed)),
            ColorDepth::Sixteen => Style::new().fg(sixteen),
            ColorDepth::Mono => Style::new().add_modifier(mono),
        }
    }

    pub fn text(self) -> Style {
        Style::new()
    }

    /// Frames, axes, labels.
    pub fn dim(self) -> Style {
        self.style(244, Color::DarkGray, Modifier::DIM)
    }

    pub fn title(self) -> Style {
        self.style(252, Color::White, Modifier::empty()).add_modifier(Modifier::BOLD)
    }

    /// The frame and title of the focused panel.
    pub fn focus(self) -> Style {
        self.style(81, Color::Cyan, Modifier::BOLD)
    }

    /// Raw training loss behind its mean.
    pub fn train_raw(self) -> Style {
        self.style(24, Color::Blue, Modifier::DIM)
    }

    /// Smoothed training loss.
    pub fn train(self) -> Style {
        self.style(75, Color::LightBlue, Modifier::empty())
    }

    pub fn val(self) -> Style {
        self.style(214, Color::Yellow, Modifier::BOLD)
    }

    /// Earlier runs: the first six differ in colour.
    pub fn overlay(self, index: usize) -> Style {
        use Color::{Cyan, Gray, Green, LightGreen, LightRed, Magenta};
        const COLORS: [(u8, Color); 6] = [
            (170, Magenta),
            (71, Green),
            (173, LightRed),
            (37, Cyan),
            (98, LightGreen),
            (143, Gray),
        ];
        COLORS
            .get(index)
            .map_or(self.dim(), |&(indexed, sixteen)| self.style(indexed, sixteen, Modifier::DIM))
    }

    /// Curves of accuracies: the first four differ in colour.
    pub fn metric(self, index: usize) -> Style {
        use Color::{Cyan, Green, Magenta, Yellow};
        const COLORS: [(u8, Color); 4] = [(114, Green), (214, Yellow), (141, Magenta), (81, Cyan)];
        let (indexed, sixteen) = COLORS[index % COLORS.len()];
        self.style(indexed, sixteen, Modifier::empty())
    }

    /// A line that must not be missed.
    pub fn alarm(self) -> Style {
        self.error().add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    pub fn lr(self) -> Style {
        self.style(141, Color::Magenta, Modifier::empty())
    }

    pub fn cursor(self) -> Style {
        self.style(255, Color::White, Modifier::REVERSED)
    }

    pub fn good(self) -> Style {
        self.style(114, Color::Green, Modifier::empty())
    }

    pub fn warning(self) -> Style {
        self.style(221, Color::Yellow, Modifier::BOLD)
    }

    pub fn error(self) -> Style {
        self.style(203, Color::Red, Modifier::BOLD)
    }

    /// Keys in hints.
    pub fn key(self) -> Style {
        self.style(81, Color::Cyan, Modifier::UNDERLINED)
    }
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
