//! Events as people see them. Texts in events may have foreign parts, such as names of files and hosts, and an event may
//! come from a log or a socket that somebody else wrote.

use super::{Event, Stamped};
use crate::shown;
use std::borrow::Cow;

impl Stamped {
    /// Returns the event with texts that a terminal only draws. The path of a preview stays, as it names a file.
    #[cfg_attr(
        not(feature = "tui"),
        expect(dead_code, reason = "only the screen draws texts itself")
    )]
    pub(crate) fn shown(&self) -> Cow<'_, Self> {
        // Most events of a long log are of these kinds.
        if matches!(
            self.event,
            Event::Step(_) | Event::Phase { .. } | Event::Validated(_) | Event::Progress(_)
        ) {
            return Cow::Borrowed(self);
        }
        let mut shown = self.clone();
        shown.event.texts(|text| {
            if let Cow::Owned(line) = shown::line(text) {
                *text = line;
            }
        });
        Cow::Owned(shown)
    }
}

impl Event {
    /// Calls `each` for every text that people see.
    fn texts(&mut self, mut each: impl FnMut(&mut String)) {
        match self {
            Self::Started(started) => {
                for text in [
                    &mut started.device,
                    &mut started.precision,
                    &mut started.data,
                    &mut started.version,
                ] {
                    each(text);
                }
            }
            Self::Evaluated(evaluated) => {
                let metrics = evaluated.metrics.iter_mut().chain(&mut evaluated.baselines);
                metrics.for_each(|metric| each(&mut metric.name));
            }
            Self::CheckpointSaved { path, .. } => each(path),
            Self::Obeyed(order) => each(&mut order.by),
            Self::Alarm(alarm) => each(&mut alarm.message),
            Self::Log { message, .. } => each(message),
            Self::Step(_)
            | Self::Phase { .. }
            | Self::Validated(_)
            | Self::Progress(_)
            | Self::Preview(_)
            | Self::Finished(_) => {}
        }
    }
}

#[cfg(all(test, feature = "tui"))]
mod tests {
    use super::*;
    use crate::event::line::{Form, Wording, line};
    use crate::event::{Alarm, AlarmKind, Command, Evaluated, Level, Metric, Order, Started};

    #[test]
    fn no_event_has_a_line_that_a_terminal_obeys() {
        let bad = || "a\n\x1b[2J\u{9b}31m\u{202e}b".to_owned();
        let metrics = vec![Metric { name: bad(), value: 0.5, stderr: None, interval: None }];
        let (step, path) = (1, bad());
        let started = Started { device: bad(), data: bad(), version: bad(), ..Started::sample(1) };
        let alarm = Alarm { kind: AlarmKind::Stalled, active: true, step, message: bad() };
        let baselines = metrics.clone();
        let events = [
            Event::Started(started),
            Event::Evaluated(Evaluated { step, epoch: 1.0, metrics, baselines, seconds: 1.0 }),
            Event::CheckpointSaved { step, path, bytes: 1, best: false },
            Event::Obeyed(Order::new(Command::Pause, bad())),
            Event::Alarm(alarm),
            Event::Log { level: Level::Warning, message: bad() },
        ];
        for event in events {
            let stamped = Stamped::now(event);
            let shown = stamped.shown().into_owned();
            let wording = Wording { form: Form::Short, plus_minus: "+-" };
            let text = line(&shown.event, wording).unwrap_or_default();
            assert!(!text.contains(shown::is_hostile), "{text:?}");
            let debug = format!("{shown:?}");
            assert!(!debug.contains(r"\u{202e}b") || debug.contains(r"\\u{202e}b"), "{debug}");
        }
    }
}
