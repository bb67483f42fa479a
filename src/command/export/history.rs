//! The metrics of a run, folded from its events. Steps that a killed process lost and the next one repeated count once.
//!
//! The log may be larger than the memory. It is read twice: first to learn which lines hold, and where they are, then
//! line by line in the order of steps.

use crate::error::Error;
use crate::event::{Event, Metric, PreviewFile, Stamped, Started, StepReport, Validation};
use crate::files;
use crate::run_dir::LogReader;
use crate::run_dir::log_reader::NextEvent;
use crate::shown;
use std::collections::BTreeMap;
use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::slice;

/// A value with the wall-clock time of its event, in seconds since 1970-01-01 UTC.
pub(super) type Timed<T> = (f64, T);

/// Metrics of evaluations by optimizer step.
pub(super) type ByStep = BTreeMap<u64, Vec<Timed<Metric>>>;

/// The metrics of a run by optimizer step.
#[derive(Debug, Default)]
pub(super) struct History {
    log: PathBuf,
    /// Time of the first event.
    pub begin: f64,
    /// Where the losses of steps are: by step, no step twice.
    losses: Vec<LossLine>,
    /// Where the reports at the end of periods are: by step, no step twice.
    reports: Vec<ReportLine>,
    pub validations: BTreeMap<u64, Timed<Validation>>,
    /// Metrics of evaluations. A later one of the same name and step replaces the earlier.
    pub evaluations: ByStep,
    /// Metrics with which evaluations are compared.
    pub baselines: ByStep,
    pub previews: BTreeMap<u64, Timed<PreviewFile>>,
    /// Number of lines that are no events.
    pub skipped: u64,
}

/// The losses of the steps from `first` to `last`, in the line at `offset` of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LossLine {
    first: u64,
    last: u64,
    offset: u64,
}

/// The report at a step, in the line at `offset` of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReportLine {
    step: u64,
    offset: u64,
}

impl History {
    /// Reads an event log, which may be growing, up to its present end.
    ///
    /// # Errors
    /// Returns an error if the log can't be read.
    pub fn read(log: &Path) -> Result<Self, Error> {
        // The reader would wait for a missing file to appear.
        files::open(log)
            .map_err(|error| Error::Usage(format!("cannot read {}: {error}", shown::path(log))))?;
        let mut reader = LogReader::new(log, 0);
        let mut history = Self { log: log.to_owned(), ..Self::default() };
        loop {
            let offset = reader.offset();
            match reader.next_event() {
                NextEvent::Event(stamped) => history.apply(&stamped, offset),
                NextEvent::More => {}
                NextEvent::End => break,
            }
        }
        history.skipped = reader.skipped();
        history.put_in_order();
        Ok(history)
    }

    /// Takes in one event, whose line is at `offset`.
    fn apply(&mut self, stamped: &Stamped, offset: u64) {
        let time = stamped.time;
        if self.begin == 0.0 {
            self.begin = time;
        }
        match &stamped.event {
            Event::Started(started) => self.forget_lost(started),
            Event::Step(report) => {
                let (step, before) = (report.step, losses(report).len() as u64 - 1);
                let first = step.saturating_sub(before);
                self.losses.push(LossLine { first, last: step, offset });
                self.reports.push(ReportLine { step, offset });
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
        self.losses.retain_mut(|line| {
            line.last = line.last.min(started.last_kept_step());
            line.first <= line.last
        });
        self.reports.retain(|line| started.keeps(line.step));
        self.validations.retain(|&step, _| started.keeps(step));
        self.evaluations.retain(|&step, _| started.keeps(step));
        self.baselines.retain(|&step, _| started.keeps(step));
        self.previews.retain(|&step, _| started.keeps(step));
    }

    /// Puts the lines in the order of steps, as they are in every log that one process at a time has written. Where
    /// several lines tell of one step, the last one holds.
    fn put_in_order(&mut self) {
        if !self.losses.is_sorted_by(|a, b| a.last < b.first) {
            self.losses = without_overlaps(&self.losses);
        }
        if !self.reports.is_sorted_by(|a, b| a.step < b.step) {
            self.reports.sort_by_key(|line| line.step);
            self.reports.reverse();
            self.reports.dedup_by_key(|line| line.step);
            self.reports.reverse();
        }
    }

    /// Returns the figures of the steps, in their order.
    pub fn steps(&self) -> Steps<'_> {
        Steps {
            losses: self.losses.iter(),
            now: None,
            reports: self.reports.iter().peekable(),
            loss_lines: Lines::new(&self.log),
            report_lines: Lines::new(&self.log),
        }
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

/// Returns the losses of a period. A log by another writer may lack the list.
fn losses(report: &StepReport) -> &[f32] {
    if report.losses.is_empty() { slice::from_ref(&report.loss) } else { &report.losses }
}

/// Returns the parts of lines, by step, that no later line tells again.
fn without_overlaps(lines: &[LossLine]) -> Vec<LossLine> {
    let mut parts: BTreeMap<u64, LossLine> = BTreeMap::new();
    for line in lines.iter().rev() {
        let mut next = Some(line.first);
        while let Some(first) = next.filter(|&step| step <= line.last) {
            if let Some((_, known)) = parts.range(..=first).next_back()
                && known.last >= first
            {
                next = known.last.checked_add(1);
                continue;
            }
            let behind = parts.range(first..).next().map(|(&step, _)| step - 1);
            let last = behind.unwrap_or(line.last).min(line.last);
            parts.insert(first, LossLine { first, last, ..*line });
            next = last.checked_add(1);
        }
    }
    parts.into_values().collect()
}

/// What is known of one step.
#[derive(Debug, Clone)]
pub(super) struct LoggedStep {
    pub step: u64,
    pub loss: Option<Timed<f32>>,
    /// The report, if a period ends with this step, and its time.
    pub report: Option<Rc<Timed<StepReport>>>,
}

/// The figures of steps, in their order. Each line is read when it is needed.
pub(super) struct Steps<'a> {
    losses: slice::Iter<'a, LossLine>,
    /// What is left of the line that tells the losses of the next steps.
    now: Option<LossLine>,
    reports: Peekable<slice::Iter<'a, ReportLine>>,
    loss_lines: Lines<'a>,
    report_lines: Lines<'a>,
}

impl Iterator for Steps<'_> {
    type Item = io::Result<LoggedStep>;

    fn next(&mut self) -> Option<Self::Item> {
        self.now = self.now.or_else(|| self.losses.next().copied());
        let report = self.reports.peek().map(|line| line.step);
        let step = match (self.now.map(|line| line.first), report) {
            (Some(loss), Some(report)) => loss.min(report),
            (loss, report) => loss.or(report)?,
        };
        Some(self.figures(step))
    }
}

impl Steps<'_> {
    fn figures(&mut self, step: u64) -> io::Result<LoggedStep> {
        let mut figures = LoggedStep { step, loss: None, report: None };
        if let Some(line) = self.now.filter(|line| line.first == step) {
            let first = line.first.checked_add(1).filter(|&first| first <= line.last);
            self.now = first.map(|first| LossLine { first, ..line });
            let told = self.loss_lines.at(line.offset)?;
            let (time, report) = &*told;
            let back = report.step.checked_sub(step).ok_or_else(changed)? as usize;
            let loss = losses(report).iter().rev().nth(back).ok_or_else(changed)?;
            figures.loss = Some((*time, *loss));
        }
        if let Some(line) = self.reports.next_if(|line| line.step == step) {
            let told = self.report_lines.at(line.offset)?;
            if told.1.step != step {
                return Err(changed());
            }
            figures.report = Some(told);
        }
        Ok(figures)
    }
}

/// Reads lines of the log again that are known to be reports.
struct Lines<'a> {
    log: &'a Path,
    reader: LogReader,
    /// The line that was read last, and its offset.
    last: Option<(u64, Rc<Timed<StepReport>>)>,
}

impl<'a> Lines<'a> {
    fn new(log: &'a Path) -> Self {
        Self { log, reader: LogReader::new(log, 0), last: None }
    }

    fn at(&mut self, offset: u64) -> io::Result<Rc<Timed<StepReport>>> {
        if let Some((_, line)) = self.last.as_ref().filter(|(at, _)| *at == offset) {
            return Ok(Rc::clone(line));
        }
        if offset < self.reader.offset() {
            self.reader = LogReader::new(self.log, offset);
        } else {
            self.reader.skip_to(offset);
        }
        loop {
            match self.reader.next_event() {
                NextEvent::Event(stamped) => {
                    let Stamped { time, event: Event::Step(report) } = *stamped else {
                        return Err(changed());
                    };
                    let line = Rc::new((time, report));
                    self.last = Some((offset, Rc::clone(&line)));
                    return Ok(line);
                }
                NextEvent::More => {}
                NextEvent::End => return Err(changed()),
            }
        }
    }
}

fn changed() -> io::Error {
    io::Error::other("events.jsonl has changed while it was read; try it again")
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
    use crate::run_dir::EventLog;

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

    /// Returns the history of a run with these events, and the folder that has its log.
    pub fn history(events: impl IntoIterator<Item = Event>) -> (tempfile::TempDir, History) {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("events.jsonl");
        let mut log = EventLog::open(&path).expect("writable");
        for (number, event) in events.into_iter().enumerate() {
            log.append(&Stamped { time: 100.0 + number as f64, event }).expect("written");
        }
        let history = History::read(&path).expect("readable");
        (temp, history)
    }

    /// Returns the losses by step, and the steps with a report.
    fn told(history: &History) -> (Vec<(u64, f32)>, Vec<u64>) {
        let all: Vec<_> = history.steps().map(|figures| figures.expect("readable")).collect();
        let loss = |figures: &LoggedStep| Some((figures.step, figures.loss?.1));
        let report = |figures: &LoggedStep| figures.report.as_ref().map(|_| figures.step);
        (all.iter().filter_map(loss).collect(), all.iter().filter_map(report).collect())
    }

    #[test]
    fn steps_that_a_resume_does_again_count_once() {
        let (_temp, history) = history([
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
        let (losses, reports) = told(&history);
        assert_eq!(losses, [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 50.0), (6, 60.0)]);
        assert_eq!(reports, [3, 6]);
        let last = history.steps().last().expect("steps").expect("readable");
        assert_eq!(last.report.expect("a report").0.to_bits(), 105.0_f64.to_bits());
        let figures: Vec<_> =
            history.evaluations[&6].iter().map(|(_, m)| (m.name.as_str(), m.value)).collect();
        assert_eq!(figures, [("k-NN", 0.25), ("probe", 0.5)]);
        assert_eq!(History::names(&history.baselines), ["raw, pixels"]);
    }

    #[test]
    fn a_run_without_checkpoint_that_starts_again_forgets_its_first_try() {
        let (_temp, history) =
            history([started(0), report(2, &[1.0, 2.0]), started(0), report(1, &[9.0])]);
        assert_eq!(told(&history), (vec![(1, 9.0)], vec![1]));
    }

    #[test]
    fn of_steps_that_two_processes_tell_in_disorder_the_last_word_holds() {
        let (_temp, history) = history([
            started(0),
            report(9, &[7.0, 8.0, 9.0]),
            report(3, &[1.0, 2.0, 3.0]),
            report(8, &[80.0]),
            report(u64::MAX, &[1.0]),
            report(4, &[30.0, 40.0]),
            report(4, &[41.0]),
            report(1, &[0.5, 10.0]),
        ]);
        let (losses, reports) = told(&history);
        let end = [(7, 7.0), (8, 80.0), (9, 9.0), (u64::MAX, 1.0)];
        let begin = [(0, 0.5), (1, 10.0), (2, 2.0), (3, 30.0), (4, 41.0)];
        assert_eq!(losses, [&begin[..], &end].concat());
        assert_eq!(reports, [1, 3, 4, 8, 9, u64::MAX]);
    }
}
