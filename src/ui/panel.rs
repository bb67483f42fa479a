//! The panels of the dashboard.

/// A panel of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panel {
    Loss,
    /// What evaluations measured. The panel appears with the first of them.
    Accuracy,
    Previews,
    Schedule,
    Figures,
    Log,
}

impl Panel {
    /// All panels, in the order in which the focus moves.
    pub const ALL: [Self; 6] =
        [Self::Loss, Self::Accuracy, Self::Previews, Self::Schedule, Self::Figures, Self::Log];

    pub fn title(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Accuracy => "accuracy",
            Self::Previews => "previews",
            Self::Schedule => "learning rate",
            Self::Figures => "figures",
            Self::Log => "log",
        }
    }
}
