//! Colours by meaning, for terminals of every depth.

use crate::terminal::colors::ColorDepth;
use ratatui::style::{Color, Modifier, Style};

/// The style of each meaning on the screen. It follows from the terminal's colour depth.
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

    /// Plain text, in the terminal's own colours.
    pub fn text() -> Style {
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

    /// The raw training loss behind its mean.
    pub fn train_raw(self) -> Style {
        self.style(24, Color::Blue, Modifier::DIM)
    }

    /// The smoothed training loss.
    pub fn train(self) -> Style {
        self.style(75, Color::LightBlue, Modifier::empty())
    }

    pub fn val(self) -> Style {
        self.style(214, Color::Yellow, Modifier::BOLD)
    }

    /// Earlier runs. The first six differ in colour.
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

    /// Curves of accuracies. The first four differ in colour.
    pub fn metric(self, index: usize) -> Style {
        use Color::{Cyan, Green, Magenta, Yellow};
        const COLORS: [(u8, Color); 4] = [(114, Green), (214, Yellow), (141, Magenta), (81, Cyan)];
        let (indexed, sixteen) = COLORS[index % COLORS.len()];
        self.style(indexed, sixteen, Modifier::empty())
    }

    /// A line that nobody should miss.
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
