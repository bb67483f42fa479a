//! The front end for logs and scripts: one line per log period, no escape codes.

use crate::event::state::RunState;
use crate::event::{Event, Level, Phase, Reason, Stamped, TaskKind};
use crate::terminal::unicode::plus_minus;
use crate::text::units::{bytes, percent, span};
use crate::train::{RunSummary, Session, TrainError};
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

/// One event as at most one line. Errors of the terminal are the caller's to ignore.
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
    match &stamped.event {
        Event::Log { level: Level::Warning, message } => {
            return writeln!(err, "warning: {message}");
        }
        Event::Alarm(alarm) => {
            let word = if alarm.active { "ALARM" } else { "over" };
            let (kind, step, message) = (alarm.kind.name(), alarm.step, &alarm.message);
            return writeln!(err, "{word}: {kind} at step {step}: {message}");
        }
        // What ended the run is the program's own error, told once at the end.
        Event::Log { level: Level::Error, .. } => return Ok(()),
        _ => {}
    }
    if let Some(line) = text(&stamped.event, state) {
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    Ok(())
}

fn resumed(state: &RunState) -> bool {
    state.started.as_ref().is_some_and(|started| started.resumed)
}

fn steps_done(state: &RunState) -> u64 {
    let started = state.started.as_ref().map_or(0, |started| started.step);
    state.last_step.as_ref().map_or(started, |report| report.step.max(started))
}

/// The line of an event that has one.
fn text(event: &Event, state: &RunState) -> Option<String> {
    let total = state.started.as_ref().map_or(0, |started| started.total_steps);
    let width = total.to_string().len();
    let at = |step: u64| format!("step {step:>width$}/{total}");
    Some(match event {
        Event::Started(run) => format!(
            "device {}  data {}\n{} {:.2} M parameters  {} epochs of {} steps, {} warm-up steps{}",
            run.computes_on(),
            run.data,
            match run.task {
                TaskKind::Pretraining => "model",
                TaskKind::Classification => "classifier",
            },
            run.parameters as f64 / 1e6,
            run.epochs,
            run.steps_per_epoch,
            run.warmup_steps,
            if run.resumed { format!("  going on after step {}", run.step) } else { String::new() },
        ),
        Event::Phase { phase: Phase::Compiling } => {
            "first step: compiling and tuning kernels where the device needs it".to_owned()
        }
        Event::Phase { phase: Phase::Paused } => "paused".to_owned(),
        Event::Phase { phase: Phase::Stopping } if steps_done(state) < total => {
            "stopping: a checkpoint is saved (interrupt again to abort at once)".to_owned()
        }
        Event::Phase { .. } | Event::Alarm(_) => return None, // alarms go to standard error
        Event::Step(report) => {
            let val = state
                .last_validation
                .as_ref()
                .map_or("-".to_owned(), |validation| format!("{:.4}", validation.val_loss));
            format!(
                "{}  epoch {:.2}  loss {:.4}  val_loss {val}  lr {:.2e}  grad_norm {:.3}  {:.1} images/s  \
                 data_wait {:.1}%  eta {}",
                at(report.step),
                report.epoch,
                report.loss,
                report.lr,
                report.grad_norm,
                report.images_per_s,
                report.data_wait * 100.0,
                span(report.eta_s),
            )
        }
        Event::Validated(validation) => {
            let mut parts = vec![format!("val_loss {:.4}", validation.val_loss)];
            parts.extend(validation.quality());
            parts.extend(validation.best.then(|| "best so far".to_owned()));
            format!(
                "{}  epoch {:.2}  validated on {} images: {}",
                at(validation.step),
                validation.epoch,
                validation.images,
                parts.join("  ")
            )
        }
        Event::Evaluated(evaluated) => {
            let metrics: Vec<String> =
                evaluated.metrics.iter().map(|metric| metric.text(plus_minus())).collect();
            format!(
                "{}  epoch {:.2}  evaluated: {}",
                at(evaluated.step),
                evaluated.epoch,
                metrics.join("  ")
            )
        }
        Event::Preview(preview) => format!("{}  preview {}", at(preview.step), preview.path),
        Event::CheckpointSaved { step, path, bytes: size, .. } => {
            format!("{}  checkpoint {path} ({})", at(*step), bytes(*size))
        }
        Event::Obeyed(order) => format!("{}, ordered by {}", order.command.name(), order.by),
        Event::Log { message, .. } => message.clone(),
        Event::Finished(finished) => {
            let what = match finished.reason {
                Reason::Completed => "finished",
                Reason::Stopped => "stopped and saved",
            };
            let losses = match (state.first_val_loss, finished.best_val_loss) {
                (Some(first), Some(best)) if !resumed(state) => {
                    format!("  val_loss {first:.4} -> best {best:.4}")
                }
                (_, Some(best)) => format!("  best val_loss {best:.4}"),
                _ => String::new(),
            };
            let top1 = finished.best_accuracy.map(percent);
            let top1 = top1.map_or(String::new(), |top1| format!("  best top-1 {top1}"));
            let after = span(finished.elapsed_s);
            format!("{what} at {}{losses}{top1}  after {after}", at(finished.step))
        }
    })
}
