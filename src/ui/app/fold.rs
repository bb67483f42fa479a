//! How an event changes the app: its charts, marks, clock, log and pictures.

use super::{App, Effect, NOTICE_S};
use crate::event::line::{Form, Wording, line};
use crate::event::{Evaluated, Event, Level, PreviewFile, Stamped, Started, StepReport};
use crate::ui::log_pane::LogLine;
use crate::ui::marks::{Mark, MarkKind};
use crate::ui::series::{Point, XAxis};

impl App {
    /// Takes in one event. Returns what is to be done outside the app because of it.
    pub(super) fn event(&mut self, stamped: &Stamped) -> Option<Effect> {
        let stamped = &*stamped.shown();
        self.state.apply(stamped);
        self.clock.apply(stamped, self.paused());
        match &stamped.event {
            Event::Started(started) => self.start(started),
            Event::Step(report) => self.report(report),
            Event::Validated(validation) => self.val.push(Point {
                step: validation.step as f64,
                time: self.worked(),
                value: validation.comparable_loss(),
            }),
            Event::Evaluated(evaluated) => self.evaluated(evaluated),
            Event::Preview(preview) => {
                self.previews.retain(|old| old.step < preview.step);
                self.missing.retain(|&step| step < preview.step);
                self.previews.push(preview.clone());
            }
            _ => {}
        }
        self.log_event(stamped);
        let pictures = matches!(stamped.event, Event::Preview(_));
        if pictures { self.load_nearest() } else { None }
    }

    /// A process begins. What earlier events say about lost steps leaves the charts and the pictures.
    fn start(&mut self, started: &Started) {
        let kept = started.last_kept_step() as f64;
        for series in [&mut self.train, &mut self.val, &mut self.grad_norm, &mut self.rate] {
            series.truncate_after(kept);
        }
        self.metrics.truncate_after(kept);
        self.marks.retain(|mark| mark.step <= kept);
        self.previews.retain(|preview| started.keeps(preview.step));
        self.failure = None;
        self.seen_alarms.clear();
        self.clock.restart(self.worked());
    }

    fn report(&mut self, report: &StepReport) {
        self.train.push_losses(report);
        let point = |value| Point { step: report.step as f64, time: report.elapsed_s, value };
        self.grad_norm.push(point(f64::from(report.grad_norm)));
        self.rate.push(point(report.images_per_s));
    }

    fn evaluated(&mut self, evaluated: &Evaluated) {
        let time = self.worked();
        self.metrics.push(evaluated, time);
    }

    /// Returns the seconds of training up to the newest step.
    fn worked(&self) -> f64 {
        self.train.last().map_or(0.0, |point| point.time)
    }

    /// Adds the line of an event to the log, its mark to the chart and its notice, as far as it has them.
    fn log_event(&mut self, stamped: &Stamped) {
        let plus_minus = if self.ascii { "+-" } else { "±" };
        let Some(text) = line(&stamped.event, Wording { form: Form::Short, plus_minus }) else {
            return;
        };
        let mut level = Level::Info;
        match &stamped.event {
            Event::Started(started) => self.mark(started.step, MarkKind::Resume, &text),
            Event::CheckpointSaved { step, .. } => {
                self.mark(*step, MarkKind::Checkpoint, &text);
                self.notify_if_recent(stamped.time, &text);
            }
            Event::Log { level: logged, .. } => {
                level = *logged;
                if level == Level::Error {
                    self.failure = Some(text.clone());
                }
                if level != Level::Info {
                    self.notify_if_recent(stamped.time, &text);
                }
            }
            // The banner shows an alarm while it holds, so only its end needs a notice.
            Event::Alarm(alarm) if alarm.active => {
                level = Level::Warning;
                self.mark(alarm.step, MarkKind::Alarm, &text);
            }
            Event::Alarm(alarm) => {
                level = Level::Warning;
                self.seen_alarms.retain(|seen| seen.kind != alarm.kind);
                self.notify_if_recent(stamped.time, &text);
            }
            _ => {}
        }
        self.log.push(LogLine { time: stamped.time, level, text });
    }

    fn mark(&mut self, step: u64, kind: MarkKind, text: &str) {
        let time = self.worked();
        self.marks.push(Mark { step: step as f64, time, kind, text: text.to_owned() });
    }

    /// Shows a notice of something that happened just now. Events read from an old log give none.
    fn notify_if_recent(&mut self, time: f64, text: &str) {
        if !self.is_reading() && self.now - time < NOTICE_S {
            self.notify(text.to_owned());
        }
    }

    /// Takes in the events that came while the view was frozen.
    pub(super) fn thaw(&mut self) -> Option<Effect> {
        let mut effect = None;
        for event in self.frozen.take().unwrap_or_default() {
            effect = self.event(&event).or(effect);
        }
        effect
    }

    /// Asks for the preview nearest to the chart's cursor, or without a cursor for the newest one, unless it is shown
    /// or being loaded already. Previews whose file is missing don't count.
    pub(super) fn load_nearest(&mut self) -> Option<Effect> {
        if self.is_reading() {
            return None; // the log may hold thousands of previews, of which only the last would stay
        }
        let mut available = self.previews.iter().filter(|p| !self.missing.contains(&p.step));
        let wanted = match self.chart.cursor() {
            None => available.next_back()?,
            Some(x) => {
                let step = match self.chart.axis {
                    XAxis::Step => x,
                    XAxis::Time => self.train.nearest(x, XAxis::Time).map_or(0.0, |p| p.step),
                };
                let distance = |preview: &&PreviewFile| (preview.step as f64 - step).abs();
                available.min_by(|a, b| distance(a).total_cmp(&distance(b)))?
            }
        };
        let shown = self.loading.or(self.sheet.as_ref().map(|(step, _)| *step));
        if shown == Some(wanted.step) {
            return None;
        }
        self.loading = Some(wanted.step);
        Some(Effect::LoadSheet(wanted.clone()))
    }
}
