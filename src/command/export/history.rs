//! The metrics of a run, folded from its events. Steps that a killed process lost and the next one repeated count once.

use crate::error::Error;
use crate::event::{Event, Metric, PreviewFile, Stamped, Started, StepReport, Validation};
use crate::run_dir::LogReader;
use crate::run_dir::log_reader::NextEvent;
use crate::shown;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// A value with the wall-clock time of its event, in seconds since 1970-01-01 UTC.
pub(super) type Timed<T> = (f64, T);

/// Metrics of evaluations by optimizer step.
pub(super) type ByStep = BTreeMap<u64, Vec<Timed<Metric>>>;

/// The metrics of a run by optimizer step.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct History {
    /// Time of the first event.
    pub begin: f64,
    /// Loss of each step that is logged.
    pub losses: BTreeMap<u64, Timed<f32>>,
    /// The report at the end of each period.
    pub reports: BTreeMap<u64, Timed<StepReport>>,
    pub validations: BTreeMap<u64, Timed<Validation>>,
    /// Metrics of evaluations. A later one of the same name and step replaces the earlier.
    pub evaluations: ByStep,
    /// Metrics with which evaluations are compared.
    pub baselines: ByStep,
    pub previews: BTreeMap<u64, Timed<PreviewFile>>,
    /// Number of lines that are no events.
    pub skipped: u64,
}

impl History {
    /// Reads an event log, which may be growing, up to its present end.
    ///
    /// # Errors
    /// Returns an error if the log can't be read.
    pub fn read(log: &Path) -> Result<Self, Error> {
        // The reader would wait for a missing file to appear.
        File::open(log)
            .map_err(|error| Error::Usage(format!("cannot read {}: {error}", shown::path(log))))?;
        let mut reader = LogReader::new(log, 0);
        let mut history = Self::default();
        loop {
            match reader.next_event() {
                NextEvent::Event(stamped) => history.apply(&stamped),
                NextEvent::More => {}
                NextEvent::End => break,
            }
        }
        history.skipped = reader.skipped();
        Ok(history)
    }

    /// Takes in one event.
    fn apply(&mut self, stamped: &Stamped) {
        let time = stamped.time;
        if self.begin == 0.0 {
            self.begin = time;
        }
        match &stamped.event {
            Event::Started(started) => self.forget_lost(started),
            Event::Step(report) => {
                // A log by another writer may lack the list.
                let losses = if report.losses.is_empty() {
                    std::slice::from_ref(&report.loss)
                } else {
                    &report.losses
                };
                for (back, &loss) in losses.iter().rev().enumerate() {
                    if let Some(step) = report.step.checked_sub(back as u64) {
                        self.losses.insert(step, (time, loss));
                    }
                }
                self.reports.insert(report.step, (time, report.clone()));
            }
            Event::Validated(validation) => {
                self.validations.insert(validation.step, (time, validation.clone()));
            }
            Event::Evaluated(evaluated) => {
                for (known, new) in [
                    (&mut self.evaluations, &evaluated.metrics),
                    (&mut self.baselines, &evaluated.baselines),
                ] {
                    if !new.is_empty() {
                        merge(known.entry(evaluated.step).or_default(), time, new);
                    }
                }
            }
            Event::Preview(preview) => {
                self.previews.insert(preview.step, (time, preview.clone()));
            }
            Event::Phase { .. }
            | Event::Progress(_)
            | Event::CheckpointSaved { .. }
            | Event::Obeyed(_)
            | Event::Alarm(_)
            | Event::Log { .. }
            | Event::Finished(_) => {}
        }
    }

    /// Forgets the steps that were lost: the process that `started` does them again.
    fn forget_lost(&mut self, started: &Started) {
        self.losses.retain(|&step, _| started.keeps(step));
        self.reports.retain(|&step, _| started.keeps(step));
        self.validations.retain(|&step, _| started.keeps(step));
        self.evaluations.retain(|&step, _| started.keeps(step));
        self.baselines.retain(|&step, _| started.keeps(step));
        self.previews.retain(|&step, _| started.keeps(step));
    }

    /// Returns the names of the metrics of one kind, in the order in which they first came.
    pub fn names(figures: &ByStep) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (_, metric) in figures.values().flatten() {
            if !names.contains(&metric.name.as_str()) {
                names.push(&metric.name);
            }
        }
        names
    }
}

fn merge(known: &mut Vec<Timed<Metric>>, time: f64, new: &[Metric]) {
    for metric in new {
        match known.iter_mut().find(|(_, old)| old.name == metric.name) {
            Some(old) => *old = (time, metric.clone()),
            None => known.push((time, metric.clone())),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::event::{Evaluated, TimeSplit};

    pub fn started(step: u64) -> Event {
        Event::Started(Started::sample(step))
    }

    pub fn report(step: u64, losses: &[f32]) -> Event {
        Event::Step(StepReport {
            step,
            epoch: step as f64 / 3.0,
            loss: losses.iter().sum::<f32>() / losses.len() as f32,
            losses: losses.to_vec(),
            lr: 1e-3,
            grad_norm: 0.5,
            images_per_s: 70.0,
            data_wait: 0.0,
            spent: TimeSplit::default(),
            eta_s: 1.0,
            elapsed_s: 2.0,
        })
    }

    pub fn evaluated(step: u64, name: &str, value: f64) -> Event {
        let metric = |name: &str, stderr| Metric::bare(name, value, stderr);
        Event::Evaluated(Evaluated {
            step,
            epoch: 1.0,
            metrics: vec![metric(name, Some(0.25))],
            baselines: vec![metric("raw, pixels", None)],
            seconds: 1.0,
        })
    }

    pub fn history(events: impl IntoIterator<Item = Event>) -> History {
        let mut history = History::default();
        for (number, event) in events.into_iter().enumerate() {
            history.apply(&Stamped { time: 100.0 + number as f64, event });
        }
        history
    }

    #[test]
    fn steps_that_a_resume_does_again_count_once() {
        let history = history([
            started(0),
            report(3, &[1.0, 2.0, 3.0]),
            report(6, &[4.0, 5.0, 6.0]),
            evaluated(6, "k-NN", 0.5),
            started(4),
            report(6, &[50.0, 60.0]),
            evaluated(6, "k-NN", 0.75),
            evaluated(6, "k-NN", 0.25),
            evaluated(6, "probe", 0.5),
        ]);
        let losses: Vec<_> =
            history.losses.iter().map(|(step, (_, loss))| (*step, *loss)).collect();
        assert_eq!(losses, [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 50.0), (6, 60.0)]);
        assert_eq!(history.reports.keys().copied().collect::<Vec<_>>(), [3, 6]);
        assert_eq!(history.reports[&6].0.to_bits(), 105.0_f64.to_bits());
        let figures: Vec<_> =
            history.evaluations[&6].iter().map(|(_, m)| (m.name.as_str(), m.value)).collect();
        assert_eq!(figures, [("k-NN", 0.25), ("probe", 0.5)]);
        assert_eq!(History::names(&history.baselines), ["raw, pixels"]);
    }

    #[test]
    fn a_run_without_checkpoint_that_starts_again_forgets_its_first_try() {
        let history = history([started(0), report(2, &[1.0, 2.0]), started(0), report(1, &[9.0])]);
        assert_eq!(history.losses.len(), 1);
        assert_eq!(history.reports.len(), 1);
    }
}
