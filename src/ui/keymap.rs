//! The table of keys: which key means which [`Action`]. The screen, its help and `docs/reference.md` all follow it.
//!
//! What an action does to the state is in `app/keys.rs`.

use super::panel::Panel;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key means. No single key ends a run, and none changes it for good: quitting asks in a box, and the key that
/// pauses also resumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    PauseResume,
    Checkpoint,
    Quit,
    Help,
    FocusNext,
    FocusPrevious,
    Left,
    Right,
    Up,
    Down,
    Enlarge,
    Back,
    Toggle(Panel),
    Chart(ChartAction),
    Freeze,
    Filter,
    Level,
    Raw,
    FullPicture,
}

/// A change of what the loss chart shows, or how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChartAction {
    LogScale,
    Smoother,
    Rougher,
    ZoomIn,
    ZoomOut,
    ZoomReset,
    PanLeft,
    PanRight,
    XAxis,
    Overlays,
}

/// One line of the table.
pub(super) struct Binding {
    pub keys: &'static [KeyCode],
    /// The keys as people read them.
    pub label: &'static str,
    pub action: Action,
    pub help: &'static str,
}

const fn binding(
    keys: &'static [KeyCode],
    label: &'static str,
    action: Action,
    help: &'static str,
) -> Binding {
    Binding { keys, label, action, help }
}

use KeyCode::{BackTab, Char, Enter, Esc, Tab};

/// All keys of the dashboard. Ctrl-C means the same as `q`; [`action`] sees to that.
pub(super) const BINDINGS: [Binding; 33] = [
    binding(&[Char('p')], "p", Action::PauseResume, "pause or resume training"),
    binding(&[Char('c')], "c", Action::Checkpoint, "save a checkpoint now and go on"),
    binding(&[Char('q')], "q Ctrl-C", Action::Quit, "box: detach, stop and save, cancel"),
    binding(&[Char('?')], "?", Action::Help, "this help"),
    binding(&[Tab], "Tab", Action::FocusNext, "next panel"),
    binding(&[BackTab], "Shift-Tab", Action::FocusPrevious, "previous panel"),
    binding(&[KeyCode::Left, Char('h')], "Left h", Action::Left, "cursor back, previews follow"),
    binding(&[KeyCode::Right, Char('l')], "Right l", Action::Right, "cursor on, previews follow"),
    binding(&[KeyCode::Up, Char('k')], "Up k", Action::Up, "previous picture, log up"),
    binding(&[KeyCode::Down, Char('j')], "Down j", Action::Down, "next picture, log down"),
    binding(&[Enter], "Enter", Action::Enlarge, "focused panel on the whole screen"),
    binding(&[Esc], "Esc", Action::Back, "alarm seen; back; cursor off"),
    binding(&[Char('1')], "1", Action::Toggle(Panel::Loss), "show or hide the loss"),
    binding(&[Char('2')], "2", Action::Toggle(Panel::Previews), "show or hide the previews"),
    binding(&[Char('3')], "3", Action::Toggle(Panel::Schedule), "show or hide the learning rate"),
    binding(&[Char('4')], "4", Action::Toggle(Panel::Figures), "show or hide the figures"),
    binding(&[Char('5')], "5", Action::Toggle(Panel::Log), "show or hide the log"),
    binding(&[Char('6')], "6", Action::Toggle(Panel::Accuracy), "show or hide the accuracy"),
    binding(&[Char('y')], "y", Action::Chart(ChartAction::LogScale), "loss: logarithmic or linear"),
    binding(&[Char('s')], "s", Action::Chart(ChartAction::Smoother), "loss: smoother"),
    binding(&[Char('S')], "S", Action::Chart(ChartAction::Rougher), "loss: less smooth"),
    binding(&[Char('+'), Char('=')], "+", Action::Chart(ChartAction::ZoomIn), "loss: zoom in"),
    binding(&[Char('-')], "-", Action::Chart(ChartAction::ZoomOut), "loss: zoom out"),
    binding(&[Char('0')], "0", Action::Chart(ChartAction::ZoomReset), "loss: whole run"),
    binding(&[Char('[')], "[", Action::Chart(ChartAction::PanLeft), "loss: pan back"),
    binding(&[Char(']')], "]", Action::Chart(ChartAction::PanRight), "loss: pan on"),
    binding(&[Char('x')], "x", Action::Chart(ChartAction::XAxis), "loss: steps or time"),
    binding(
        &[Char('o')],
        "o",
        Action::Chart(ChartAction::Overlays),
        "loss: show or hide earlier runs",
    ),
    binding(&[Char('f')], "f", Action::Freeze, "freeze the view; the run goes on"),
    binding(&[Char('/')], "/", Action::Filter, "log: show lines with a text"),
    binding(&[Char('v')], "v", Action::Level, "log: all lines, or warnings and errors"),
    binding(&[Char('r')], "r", Action::Raw, "previews: raw output, or visible patches pasted in"),
    binding(
        &[Char('z')],
        "z",
        Action::FullPicture,
        "previews: selected picture on the whole screen",
    ),
];

/// Returns what a key means on the dashboard.
pub(super) fn action(key: &KeyEvent) -> Option<Action> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control {
        return (key.code == Char('c')).then_some(Action::Quit);
    }
    BINDINGS.iter().find(|binding| binding.keys.contains(&key.code)).map(|binding| binding.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the table as Markdown, for `docs/reference.md`.
    fn markdown() -> String {
        let row = |binding: &Binding| {
            let keys: Vec<String> =
                binding.label.split(' ').map(|key| format!("`{key}`")).collect();
            format!("| {} | {} |\n", keys.join(" "), binding.help)
        };
        let head = "| key | what it does |\n|---|---|\n".to_owned();
        BINDINGS.iter().map(row).fold(head, |table, row| table + &row)
    }

    #[test]
    fn no_key_has_two_meanings() {
        let mut seen = Vec::new();
        for key in BINDINGS.iter().flat_map(|binding| binding.keys) {
            assert!(!seen.contains(key), "{key:?} is bound twice");
            seen.push(*key);
        }
    }

    #[test]
    fn the_reference_has_this_table() {
        let reference = include_str!("../../docs/reference.md");
        assert!(reference.contains(&markdown()), "put this into the reference:\n{}", markdown());
    }
}
