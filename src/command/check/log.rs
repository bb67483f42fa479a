//! Whether the event log tells of every step, once.

use crate::command::findings::{Finding, Verdict};
use crate::event::{Event, PreviewFile, StepReport};
use crate::run_dir::LogReader;
use crate::run_dir::log_reader::NextEvent;
use crate::shown;
use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

const AREA: &str = "log";
/// Most ranges of steps that a finding names.
const NAMED: usize = 5;

/// What the log of a run tells.
#[derive(Debug, Default)]
pub(super) struct LogSurvey {
    /// Why there is nothing to read, if so.
    unreadable: Option<String>,
    events: u64,
    /// Lines that are no events.
    skipped: u64,
    /// Bytes behind the last line feed.
    torn: u64,
    /// Steps that no line tells of.
    gaps: Vec<RangeInclusive<u64>>,
    /// Steps that are told of twice, though no process began to do them again.
    repeated: Vec<RangeInclusive<u64>>,
    /// Newest step that the log tells of.
    last_step: u64,
    /// Whether something follows the end of a process that isn't the start of another.
    after_the_end: bool,
    /// Preview pictures that a resume hasn't lost, by step.
    pub previews: BTreeMap<u64, String>,
    /// Checkpoints that a resume hasn't lost, by step.
    pub saved: BTreeMap<u64, String>,
    ended: bool,
}

impl LogSurvey {
    /// Reads a log to its end.
    pub fn of(path: &Path) -> Self {
        let mut survey = Self::default();
        let length = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Self { unreadable: Some("it is no file".to_owned()), ..survey },
            Err(error) => return Self { unreadable: Some(error.to_string()), ..survey },
        };
        let mut reader = LogReader::new(path, 0);
        loop {
            match reader.next_event() {
                NextEvent::Event(stamped) => survey.take(stamped.event),
                NextEvent::More => {}
                NextEvent::End => break,
            }
        }
        survey.skipped = reader.skipped();
        survey.torn = length.saturating_sub(reader.offset());
        survey
    }

    fn take(&mut self, event: Event) {
        self.events += 1;
        let starts = matches!(event, Event::Started(_) | Event::Log { .. });
        self.after_the_end |= self.ended && !starts;
        match event {
            Event::Started(started) => {
                self.ended = false;
                self.follow(started.step + 1);
                self.last_step = started.last_kept_step();
                self.previews.retain(|&step, _| started.keeps(step));
                self.saved.retain(|&step, _| started.keeps(step));
            }
            Event::Step(report) => self.take_step(&report),
            Event::Preview(PreviewFile { step, path, .. }) => {
                self.previews.insert(step, path);
            }
            Event::CheckpointSaved { step, path, .. } => {
                self.saved.insert(step, path);
            }
            Event::Finished(_) => self.ended = true,
            _ => {}
        }
    }

    fn take_step(&mut self, report: &StepReport) {
        let length = (report.losses.len() as u64).clamp(1, report.step.max(1));
        let first = report.step.saturating_sub(length) + 1;
        self.follow(first);
        if first <= self.last_step {
            self.repeated.push(first..=report.step.min(self.last_step));
        }
        self.last_step = self.last_step.max(report.step);
    }

    /// Notes a gap if the next steps begin with `first`.
    fn follow(&mut self, first: u64) {
        if first > self.last_step + 1 {
            self.gaps.push(self.last_step + 1..=first - 1);
        }
    }

    /// Returns what was found. `newest` is the step of the newest whole checkpoint.
    pub fn findings(&self, newest: Option<u64>) -> Vec<Finding> {
        if let Some(why) = &self.unreadable {
            let found = format!("events.jsonl can't be read: {why}");
            let why =
                "charts, exports and --compare have nothing to show; --resume begins a new log";
            return vec![finding("events", Verdict::Failure, shown::line(&found), why)];
        }
        let all = format!("{} events, up to step {}", self.events, self.last_step);
        let mut found = vec![finding("events", Verdict::Good, all, "")];
        found.extend(self.bad_lines());
        found.extend(self.bad_steps(newest));
        if self.after_the_end {
            let text = "something follows the end of a process";
            let why = "releases before 0.2 could write it when they had waited for space";
            found.push(finding("order", Verdict::Note, text, why));
        }
        found
    }

    fn bad_lines(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.skipped > 0 {
            let text = format!("{} lines are no events", self.skipped);
            let why = "they are passed over by every reader, and what they told is lost";
            found.push(finding("lines", Verdict::Failure, text, why));
        }
        if self.torn > 0 {
            let text = format!("the last line is incomplete ({} bytes)", self.torn);
            let why =
                "it was being written when the run or the machine ended; --resume cuts it off";
            found.push(finding("end", Verdict::Note, text, why));
        }
        found
    }

    fn bad_steps(&self, newest: Option<u64>) -> Vec<Finding> {
        let mut found = Vec::new();
        if !self.gaps.is_empty() {
            let text = format!("no line tells of step {}", listed(&self.gaps));
            let why = "the weights have these steps, and the charts have a hole";
            found.push(finding("gaps", Verdict::Failure, text, why));
        }
        if !self.repeated.is_empty() {
            let text = format!("two lines tell of step {}", listed(&self.repeated));
            let why = "two processes have written this run at once";
            found.push(finding("repeats", Verdict::Failure, text, why));
        }
        if let Some(step) = newest.filter(|&step| step > self.last_step) {
            let last = self.last_step;
            let text = format!("it ends at step {last}, and there is a checkpoint of step {step}");
            let why = "the weights have these steps, and the charts will have a hole";
            found.push(finding("length", Verdict::Failure, text, why));
        }
        found
    }
}

fn finding(
    name: &'static str,
    state: Verdict,
    found: impl Into<String>,
    why: &'static str,
) -> Finding {
    Finding::new(AREA, name, state, found, why)
}

fn listed(ranges: &[RangeInclusive<u64>]) -> String {
    let text = |range: &RangeInclusive<u64>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first} to {last}"),
    };
    let mut names: Vec<String> = ranges.iter().take(NAMED).map(text).collect();
    if ranges.len() > NAMED {
        names.push(format!("{} more ranges", ranges.len() - NAMED));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Finished, Phase, Reason, Started};

    fn survey(events: impl IntoIterator<Item = Event>) -> LogSurvey {
        let mut survey = LogSurvey::default();
        events.into_iter().for_each(|event| survey.take(event));
        survey
    }

    fn steps(range: RangeInclusive<u64>) -> Event {
        let losses = vec![1.0; range.clone().count()];
        Event::Step(StepReport { losses, ..StepReport::sample(*range.end()) })
    }

    fn start(step: u64) -> Event {
        Event::Started(Started::sample(step))
    }

    fn names(survey: &LogSurvey, newest: Option<u64>) -> Vec<&'static str> {
        let bad = |finding: &&Finding| finding.state != Verdict::Good;
        survey.findings(newest).iter().filter(bad).map(|finding| finding.name).collect()
    }

    #[test]
    fn a_run_with_resumes_that_lose_steps_has_no_gap() {
        let log =
            [start(0), steps(1..=5), steps(6..=10), start(7), steps(8..=9), start(0), steps(1..=3)];
        let survey = survey(log);
        assert_eq!(names(&survey, Some(3)), [""; 0]);
        assert_eq!(survey.last_step, 3);
    }

    #[test]
    fn missing_and_repeated_steps_are_named() {
        let found = survey([
            start(0),
            steps(1..=5),
            steps(8..=10),
            steps(9..=12),
            start(20),
            steps(21..=25),
        ]);
        assert_eq!(found.gaps, [6..=7, 13..=20]);
        assert_eq!(found.repeated, [9..=10]);
        assert_eq!(names(&found, Some(30)), ["gaps", "repeats", "length"]);
        let text = found.findings(None)[1].found.clone();
        assert_eq!(text, "no line tells of step 6 to 7, 13 to 20");
    }

    #[test]
    fn what_follows_an_end_is_noted() {
        let finished = Finished {
            step: 3,
            reason: Reason::Completed,
            best_val_loss: None,
            best_accuracy: None,
            elapsed_s: 1.0,
        };
        let end = || [start(0), steps(1..=3), Event::Finished(finished.clone())];
        assert_eq!(names(&survey(end()), Some(3)), [""; 0]);
        let late = Event::Phase { phase: Phase::Running };
        assert_eq!(names(&survey(end().into_iter().chain([late])), Some(3)), ["order"]);
    }
}
