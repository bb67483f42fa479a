//! The front end for logs and scripts: one line per log period, no escape codes.

use crate::event::line::{self, Form, line};
use crate::event::state::RunState;
use crate::event::{
    Event, Finished, Level, Phase, Stamped, Started, StepReport, TaskKind, Validation,
};
use crate::terminal::unicode::plus_minus;
use crate::text::units::{percent, span};
use crate::train::Session;
use crate::train::trainer::{RunSummary, TrainError};
use std::io::Write;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Aligned text.
    Text,
    /// The lines of `events.jsonl`.
    Json,
}

/// Prints a run to its end.
///
/// `state` is what was told before. A closed or blocked standard output doesn't hold up the run: the event log has every line.
///
/// # Errors
/// What ended the run early.
pub fn follow(
    session: Session,
    mut state: RunState,
    style: Style,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<RunSummary, TrainError> {
    for event in &session.events {
        state.apply(&event);
        let _ = print(&event, &state, style, out, err);
    }
    let summary = session.join()?;
    if summary.unreadable_images > 0 {
        let _ = writeln!(
            err,
            "warning: {} images could not be read and were skipped; events.jsonl names them",
            summary.unreadable_images
        );
    }
    Ok(summary)
}

/// Prints one event as at most one line. Errors of the terminal are the caller's to ignore.
fn print(
    stamped: &Stamped,
    state: &RunState,
    style: Style,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<()> {
    if style == Style::Json {
        let line = serde_json::to_string(stamped).unwrap_or_default();
        writeln!(out, "{line}")?;
        return out.flush();
    }
    // The program itself reports the error that ended the run, once, at the end.
    if matches!(stamped.event, Event::Log { level: Level::Error, .. }) {
        return Ok(());
    }
    let Some(line) = text(&stamped.event, state) else { return Ok(()) };
    match &stamped.event {
        Event::Log { level: Level::Warning, .. } => writeln!(err, "warning: {line}"),
        Event::Alarm(_) => writeln!(err, "{line}"),
        _ => {
            writeln!(out, "{line}")?;
            out.flush()
        }
    }
}

/// Returns the line of an event that has one.
fn text(event: &Event, state: &RunState) -> Option<String> {
    let total_steps = state.total_steps();
    let style = line::Style { form: Form::Full { total_steps }, plus_minus: plus_minus() };
    let sentence = line(event, style);
    Some(match event {
        Event::Started(started) => {
            let going_on = sentence.map_or(String::new(), |text| format!("  {text}"));
            format!("{}{going_on}", overview(started))
        }
        Event::Phase { phase: Phase::Compiling } => {
            "first step: compiling and tuning kernels where the device needs it".to_owned()
        }
        Event::Phase { phase: Phase::Stopping } if steps_done(state) < total_steps => {
            "stopping: a checkpoint is saved (interrupt again to abort at once)".to_owned()
        }
        Event::Step(report) => {
            let at = style.at(report.step);
            format!("{at}  {}", figures(report, state.last_validation.as_ref()))
        }
        Event::Preview(preview) => format!("{}  preview {}", style.at(preview.step), preview.path),
        Event::Finished(finished) => format!("{}{}", sentence?, results(finished, state)),
        _ => sentence?,
    })
}

/// Returns the two lines that a run begins with.
fn overview(started: &Started) -> String {
    let model = match started.task {
        TaskKind::Pretraining => "model",
        TaskKind::Classification => "classifier",
    };
    format!(
        "device {}  data {}\n{model} {:.2} M parameters  {} epochs of {} steps, {} warm-up steps",
        started.computes_on(),
        started.data,
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

/// Returns what a run has reached, to be put behind the sentence that it ended.
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

fn steps_done(state: &RunState) -> u64 {
    let started = state.started.as_ref().map_or(0, |started| started.step);
    state.last_step.as_ref().map_or(started, |report| report.step.max(started))
}
