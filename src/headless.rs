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
use std::io::Write;

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
    for event in &session.events {
        state.apply(&event);
        if let Err(error) = still_read(print(&event, &state, style, out, err))
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
    format!(
        "{model} {:.2} M parameters  {} epochs of {} steps, {} warm-up steps",
        started.parameters as f64 / 1e6,
        started.epochs,
        started.steps_per_epoch,
        started.warmup_steps,
    )
}

/// Returns the figures of a log period, with the newest validation loss among them.
fn figures(report: &StepReport, validation: Option<&Validation>) -> String {
    let val_loss =
        validation.map_or("-".to_owned(), |validation| format!("{:.4}", validation.val_loss));
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
