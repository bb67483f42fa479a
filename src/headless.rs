//! The front end for logs and scripts. It prints one line per log period and no escape codes.

use crate::event::line::{Form, Wording, line};
use crate::event::state::RunState;
use crate::event::{
    Event, Finished, Level, Phase, Stamped, Started, StepReport, TaskKind, Validation,
};
use crate::shown;
use crate::terminal::unicode::plus_minus;
use crate::text::say::{UnwrittenOutput, json, say, still_read};
use crate::text::units::{percent, span};
use crate::train::{Session, TrainError};
use crossbeam_channel::RecvTimeoutError;
use std::io::Write;
use std::time::{Duration, Instant};

/// The form in which events are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Aligned text for people.
    Text,
    /// One JSON object per line, as in `events.jsonl`.
    Json,
}

/// Prints the events of a run until it ends, and returns its summary.
///
/// `state` holds what earlier events of the run say. A closed or blocked standard output does not hold up the run: the
/// event log has every line. If `out` can't be written for another reason than that its reader left, this is said at
/// once, and returned at the end.
///
/// # Errors
/// If the run ended early; the error says why.
pub fn follow(
    session: Session,
    mut state: RunState,
    style: Style,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<Option<UnwrittenOutput>, TrainError> {
    let mut lost = None;
    let mut silence = Silence::new();
    loop {
        let printed = match session.events.recv_timeout(silence.left(&state, style)) {
            Ok(event) => {
                state.apply(&event);
                silence.hear(&event.event);
                print(&event, &state, style, out, err)
            }
            Err(RecvTimeoutError::Timeout) => silence.end(&state, style, out),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if let Err(error) = still_read(printed)
            && lost.is_none()
        {
            say(
                err,
                &format!("warning: {error}; the run goes on, and events.jsonl has every line"),
            );
            lost = Some(error);
        }
    }
    let summary = session.join()?;
    if summary.unreadable_images > 0 {
        let count = summary.unreadable_images;
        let what = "images could not be read and were skipped; events.jsonl names them";
        say(err, &format!("warning: {count} {what}"));
    }
    Ok(lost)
}

/// Time between two lines about what takes long, in its first seconds and from then on.
const LINES: [Duration; 2] = [Duration::from_millis(1900), Duration::from_secs(10)];
const FIRST_SECONDS: Duration = Duration::from_secs(20);

/// How long nothing was printed, while something goes on that isn't training.
struct Silence {
    /// When the phase began.
    phase: Instant,
    /// When something was printed last.
    line: Instant,
}

impl Silence {
    fn new() -> Self {
        Self { phase: Instant::now(), line: Instant::now() }
    }

    /// Takes in an event. All but progress have lines or come with others that have.
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Progress(_) => {}
            Event::Phase { .. } | Event::Started(_) => *self = Self::new(),
            _ => self.line = Instant::now(),
        }
    }

    /// Returns how long to wait for an event before a line is due.
    fn left(&self, state: &RunState, style: Style) -> Duration {
        if what_goes_on(state, style).is_none() {
            return LINES[1];
        }
        let interval = LINES[usize::from(self.phase.elapsed() > FIRST_SECONDS)];
        interval.saturating_sub(self.line.elapsed())
    }

    /// Prints what goes on, if it is time for that.
    fn end(&mut self, state: &RunState, style: Style, out: &mut impl Write) -> std::io::Result<()> {
        let Some(text) = what_goes_on(state, style) else { return Ok(()) };
        self.line = Instant::now();
        writeln!(out, "{text}, {}", span(self.phase.elapsed().as_secs_f64()))?;
        out.flush()
    }
}

/// Says what goes on, if it isn't training or a pause.
fn what_goes_on(state: &RunState, style: Style) -> Option<String> {
    if style == Style::Json {
        return None; // a program gets what is logged
    }
    Some(match state.phase {
        None | Some(Phase::Starting) => "loading".to_owned(),
        Some(Phase::Compiling) => "preparing the device".to_owned(),
        Some(Phase::Saving) => "saving a checkpoint".to_owned(),
        Some(Phase::Evaluating) => state
            .progress
            .map_or("validating".to_owned(), |progress| format!("{} images", progress.text())),
        Some(Phase::Running | Phase::Paused | Phase::Stopping) => return None,
    })
}

/// Prints the line of an event, if it has one: warnings and alarms on standard error, everything else on standard
/// output.
fn print(
    stamped: &Stamped,
    state: &RunState,
    style: Style,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<()> {
    if style == Style::Json {
        if matches!(stamped.event, Event::Progress(_)) {
            return Ok(()); // it isn't logged either
        }
        writeln!(out, "{}", json(stamped))?;
        return out.flush();
    }
    // The program itself reports the error that ended the run, once, at the end.
    if matches!(stamped.event, Event::Log { level: Level::Error, .. }) {
        return Ok(());
    }
    if let Event::Started(started) = &stamped.event {
        writeln!(out, "{}", shown::line(&setting(started)))?;
    }
    let Some(line) = text(&stamped.event, state) else { return Ok(()) };
    match &stamped.event {
        Event::Log { level: Level::Warning, .. } => say(err, &format!("warning: {line}")),
        Event::Alarm(_) => say(err, &line),
        _ => {
            writeln!(out, "{}", shown::line(&line))?;
            out.flush()?;
        }
    }
    Ok(())
}

/// Returns the line of an event that has one.
fn text(event: &Event, state: &RunState) -> Option<String> {
    let total_steps = state.total_steps();
    let wording = Wording { form: Form::Full { total_steps }, plus_minus: plus_minus() };
    let sentence = line(event, wording);
    Some(match event {
        Event::Started(started) => {
            let going_on = sentence.map_or(String::new(), |text| format!("  {text}"));
            format!("{}{going_on}", overview(started))
        }
        Event::Phase { phase: Phase::Compiling } => "first step: the device is prepared".to_owned(),
        Event::Phase { phase: Phase::Stopping } if state.step() < total_steps => {
            "stopping: a checkpoint is saved (interrupt again to abort at once)".to_owned()
        }
        Event::Step(report) => {
            let at = wording.at(report.step);
            format!("{at}  {}", figures(report, state.last_validation.as_ref()))
        }
        Event::Preview(preview) => {
            format!("{}  preview {}", wording.at(preview.step), preview.path)
        }
        Event::Finished(finished) => format!("{}{}", sentence?, results(finished, state)),
        _ => sentence?,
    })
}

/// Returns the first of the two lines that a run begins with.
fn setting(started: &Started) -> String {
    format!("device {}  data {}", started.computes_on(), started.data)
}

/// Returns the second of them.
fn overview(started: &Started) -> String {
    let model = match started.task {
        TaskKind::Pretraining => "model",
        TaskKind::Classification => "classifier",
    };
    let epochs = started.epochs_text();
    let whole = !epochs.contains('.');
    let steps = if whole { String::new() } else { format!("{} steps, ", started.total_steps) };
    format!(
        "{model} {:.2} M parameters  {steps}{epochs} epochs of {} steps, {} warm-up steps",
        started.parameters as f64 / 1e6,
        started.steps_per_epoch,
        started.warmup_steps,
    )
}

/// Returns the figures of a log period, with the newest validation loss among them.
fn figures(report: &StepReport, validation: Option<&Validation>) -> String {
    let val_loss =
        validation.map_or("-".to_owned(), |known| format!("{:.4}", known.comparable_loss()));
    format!(
        "epoch {:.2}  loss {:.4}  val_loss {val_loss}  lr {:.2e}  grad_norm {:.3}  {:.1} images/s  \
         data_wait {:.1}%  eta {}",
        report.epoch,
        report.loss,
        report.lr,
        report.grad_norm,
        report.images_per_s,
        report.data_wait * 100.0,
        span(report.eta_s),
    )
}

/// Returns the best figures and the duration of a run, for the end of its last line.
fn results(finished: &Finished, state: &RunState) -> String {
    let resumed = state.started.as_ref().is_some_and(|started| started.resumed);
    let losses = match (state.first_val_loss, finished.best_val_loss) {
        (Some(first), Some(best)) if !resumed => format!("  val_loss {first:.4} -> best {best:.4}"),
        (_, Some(best)) => format!("  best val_loss {best:.4}"),
        _ => String::new(),
    };
    let top1 = finished.best_accuracy.map(percent);
    let top1 = top1.map_or(String::new(), |top1| format!("  best top-1 {top1}"));
    format!("{losses}{top1}  after {}", span(finished.elapsed_s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Work, WorkProgress};

    #[test]
    fn what_takes_long_is_told_every_two_seconds_at_first() {
        let ago = |seconds| {
            let time = Duration::from_secs(seconds);
            Instant::now().checked_sub(time).expect("the machine runs for longer")
        };
        let mut state = RunState::default();
        let mut silence = Silence { phase: ago(5), line: ago(3) };
        let mut out = Vec::new();
        let apply = |state: &mut RunState, event| state.apply(&Stamped { time: 1.0, event });
        assert_eq!(silence.left(&state, Style::Text), Duration::ZERO, "it is loading");
        apply(&mut state, Event::Phase { phase: Phase::Evaluating });
        let (step, work) = (0, Work::Validation);
        let progress = WorkProgress { step, work, done: 3200, total: 50_000 };
        apply(&mut state, Event::Progress(progress));
        silence.hear(&Event::Progress(progress));
        assert_eq!(silence.left(&state, Style::Text), Duration::ZERO, "progress is no line");
        silence.end(&state, Style::Text, &mut out).expect("written");
        assert_eq!(String::from_utf8_lossy(&out), "validating 3,200/50,000 images, 5s\n");
        let left = silence.left(&state, Style::Text);
        assert!(left > Duration::from_secs(1) && left < Duration::from_secs(2), "{left:?}");
        silence.phase = ago(60);
        assert!(silence.left(&state, Style::Text) > Duration::from_secs(9), "less often later");
        silence.line = ago(60);
        out.clear();
        silence.end(&state, Style::Json, &mut out).expect("nothing to write");
        assert!(out.is_empty() && silence.left(&state, Style::Json) > Duration::ZERO);
        apply(&mut state, Event::Phase { phase: Phase::Running });
        silence.end(&state, Style::Text, &mut out).expect("nothing to write");
        assert!(out.is_empty() && silence.left(&state, Style::Text) > Duration::ZERO);
        silence.hear(&Event::Phase { phase: Phase::Running });
        assert!(silence.phase.elapsed() < Duration::from_secs(5), "each phase has its own time");
    }
}
