//! The sentence of an event in a log for people: headless runs print it, and the log on the screen shows it.

use super::{Alarm, Evaluated, Event, Phase, Validation};
use crate::text::units;

/// How a front end words its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wording {
    pub form: Form,
    /// The sign between a figure and its standard error: `±`, or `+-` for ASCII output.
    pub plus_minus: &'static str,
}

/// How much of its context a line repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The line stands alone, as on standard output: `step  25/400  epoch 1.00  evaluated: top-1 50.0 %`.
    Full { total_steps: u64 },
    /// The line stands in a log beside the charts: `step 25: top-1 50.0 %`.
    #[cfg_attr(not(feature = "tui"), expect(dead_code, reason = "only the screen has such a log"))]
    Short,
}

/// Returns the sentence of an event, or `None` for events that people see in another way: as figures, charts or
/// pictures.
pub fn line(event: &Event, wording: Wording) -> Option<String> {
    Some(match event {
        Event::Started(started) if started.resumed => {
            format!("going on after step {}", started.step)
        }
        Event::Phase { phase: Phase::Paused } => "paused".to_owned(),
        Event::Validated(validation) => wording.validated(validation),
        Event::Evaluated(evaluated) => wording.evaluated(evaluated),
        Event::CheckpointSaved { step, path, bytes, best } => {
            wording.checkpoint_saved(*step, path, *bytes, *best)
        }
        Event::Obeyed(order) => format!("{}, ordered by {}", order.command.name(), order.by),
        Event::Alarm(alarm) => wording.alarm(alarm),
        Event::Log { message, .. } => message.clone(),
        Event::Finished(finished) => {
            format!("{} at {}", finished.reason.in_full(), wording.at(finished.step))
        }
        Event::Started(_)
        | Event::Phase { .. }
        | Event::Step(_)
        | Event::Progress(_)
        | Event::Preview(_) => {
            return None;
        }
    })
}

impl Wording {
    /// Returns the words for a step. In the full form it is as wide as the last step, so that lines align.
    pub fn at(self, step: u64) -> String {
        match self.form {
            // A run that was resumed with fewer epochs than it had done is past its end.
            Form::Full { total_steps } if step <= total_steps => {
                let width = total_steps.to_string().len();
                format!("step {step:>width$}/{total_steps}")
            }
            Form::Full { .. } | Form::Short => format!("step {step}"),
        }
    }

    fn validated(self, validation: &Validation) -> String {
        let mut figures = vec![format!("val_loss {:.4}", validation.val_loss)];
        figures.extend(validation.quality());
        // Of two losses, the one that is compared with the others stands beside the word.
        figures.extend(validation.usual.as_ref().map(|usual| {
            format!("val_loss of the usual {} images {:.4}", usual.images, usual.val_loss)
        }));
        figures.extend(validation.best.then(|| "best so far".to_owned()));
        let images = validation.images;
        let what = match (validation.of, &validation.usual) {
            (Some(of), _) => format!("validated on {images} of {of} images"),
            (None, Some(_)) => format!("validated on all {images} images"),
            (None, None) => format!("validated on {images} images"),
        };
        self.figures(validation.step, validation.epoch, &what, &figures)
    }

    fn evaluated(self, evaluated: &Evaluated) -> String {
        let text = |metric: &super::Metric| metric.text(self.plus_minus);
        let figures: Vec<String> = evaluated.metrics.iter().map(text).collect();
        self.figures(evaluated.step, evaluated.epoch, "evaluated", &figures)
    }

    /// Returns figures with their step; in the full form also with the epoch and with what they are.
    fn figures(self, step: u64, epoch: f64, what: &str, figures: &[String]) -> String {
        let at = self.at(step);
        match self.form {
            Form::Full { .. } => format!("{at}  epoch {epoch:.2}  {what}: {}", figures.join("  ")),
            Form::Short => format!("{at}: {}", figures.join(", ")),
        }
    }

    fn checkpoint_saved(self, step: u64, path: &str, bytes: u64, best: bool) -> String {
        let (at, size) = (self.at(step), units::bytes(bytes));
        match self.form {
            Form::Full { .. } => format!("{at}  checkpoint {path} ({size})"),
            Form::Short => {
                let best = if best { ", best so far" } else { "" };
                format!("{at}: saved {path} ({size}{best})")
            }
        }
    }

    fn alarm(self, alarm: &Alarm) -> String {
        let (kind, step, message) = (alarm.kind.name(), alarm.step, &alarm.message);
        match (self.form, alarm.active) {
            (Form::Full { .. }, true) => format!("ALARM: {kind} at step {step}: {message}"),
            (Form::Full { .. }, false) => format!("over: {kind} at step {step}: {message}"),
            (Form::Short, true) => format!("step {step}: {kind}: {message}"),
            (Form::Short, false) => format!("{kind} is over: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AlarmKind, Command, Finished, Metric, Order, Reason, Started, UsualImages};

    /// The sentences of an event in full and in short.
    fn both(event: &Event) -> [Option<String>; 2] {
        [Form::Full { total_steps: 400 }, Form::Short]
            .map(|form| line(event, Wording { form, plus_minus: "+-" }))
    }

    #[test]
    fn one_event_says_the_same_in_full_and_in_short() {
        let events = [
            (
                Event::Validated(Validation {
                    step: 25,
                    epoch: 1.0,
                    val_loss: 0.5,
                    psnr: Some(18.25),
                    ssim: None,
                    accuracy: None,
                    images: 40,
                    of: None,
                    usual: None,
                    best: true,
                    seconds: 1.0,
                }),
                "step  25/400  epoch 1.00  validated on 40 images: val_loss 0.5000  psnr 18.25 dB  best so far",
                "step 25: val_loss 0.5000, psnr 18.25 dB, best so far",
            ),
            (
                Event::Evaluated(Evaluated {
                    step: 25,
                    epoch: 1.0,
                    metrics: vec![
                        Metric::bare("top-1", 0.5, Some(0.01)),
                        Metric::bare("k-NN", 0.25, None),
                    ],
                    baselines: Vec::new(),
                    seconds: 1.0,
                }),
                "step  25/400  epoch 1.00  evaluated: top-1 50.0 +- 1.0 %  k-NN 25.0 %",
                "step 25: top-1 50.0 +- 1.0 %, k-NN 25.0 %",
            ),
            (
                Event::CheckpointSaved { step: 25, path: "c".to_owned(), bytes: 12, best: true },
                "step  25/400  checkpoint c (12 B)",
                "step 25: saved c (12 B, best so far)",
            ),
            (
                Event::Finished(Finished {
                    step: 25,
                    reason: Reason::Stopped,
                    best_val_loss: None,
                    best_accuracy: None,
                    elapsed_s: 1.0,
                }),
                "stopped and saved at step  25/400",
                "stopped and saved at step 25",
            ),
            (
                Event::Obeyed(Order::new(Command::Pause, "ctl")),
                "pause, ordered by ctl",
                "pause, ordered by ctl",
            ),
        ];
        for (event, full, short) in events {
            assert_eq!(both(&event), [Some(full.to_owned()), Some(short.to_owned())]);
        }
    }

    #[test]
    fn a_validation_says_on_how_many_images_it_was() {
        let mut validation = Validation {
            step: 25,
            epoch: 1.0,
            val_loss: 0.5,
            psnr: None,
            ssim: None,
            accuracy: None,
            images: 40,
            of: Some(900),
            usual: None,
            best: false,
            seconds: 1.0,
        };
        let full = |validation: &Validation| {
            let [full, _] = both(&Event::Validated(validation.clone()));
            full.unwrap_or_default().replace("step  25/400  epoch 1.00  ", "")
        };
        assert_eq!(full(&validation), "validated on 40 of 900 images: val_loss 0.5000");
        validation.of = None;
        validation.images = 900;
        validation.usual = Some(UsualImages { images: 40, val_loss: 0.25, accuracy: None });
        let text =
            "validated on all 900 images: val_loss 0.5000  val_loss of the usual 40 images 0.2500";
        assert_eq!(full(&validation), text);
        assert_eq!(validation.compared_on(), Some(40));
    }

    #[test]
    fn an_alarm_is_told_when_it_begins_and_when_it_is_over() {
        let alarm = |active| {
            let (kind, step, message) = (AlarmKind::DiskFull, 7, "why".to_owned());
            both(&Event::Alarm(Alarm { kind, active, step, message }))
                .map(Option::unwrap_or_default)
        };
        assert_eq!(alarm(true), ["ALARM: disk full at step 7: why", "step 7: disk full: why"]);
        assert_eq!(alarm(false), ["over: disk full at step 7: why", "disk full is over: why"]);
    }

    #[test]
    fn only_a_resumed_start_has_a_sentence() {
        assert_eq!(both(&Event::Started(Started::sample(0))), [None, None]);
        let resumed = both(&Event::Started(Started::sample(3))).map(Option::unwrap_or_default);
        assert_eq!(resumed, ["going on after step 3", "going on after step 3"]);
    }
}
