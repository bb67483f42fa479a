//! What events change: the charts, the marks, the clock, the log, the pictures.

use super::{App, Effect, NOTICE_S};
use crate::event::{
    Alarm, Evaluated, Event, Level, Phase, PreviewFile, Stamped, Started, StepReport,
};
use crate::ui::log_pane::LogLine;
use crate::ui::marks::{Mark, MarkKind};
use crate::ui::series::{Point, XAxis};

impl App {
    pub(super) fn event(&mut self, stamped: &Stamped) -> Option<Effect> {
        self.state.apply(stamped);
        self.clock.apply(stamped, self.paused());
        match &stamped.event {
            Event::Started(started) => self.start(started),
            Event::Step(report) => self.report(report),
            Event::Validated(validation) => self.val.push(Point {
                step: validation.step as f64,
                time: self.worked(),
                value: validation.val_loss,
            }),
            Event::Evaluated(evaluated) => self.evaluated(evaluated),
            Event::Preview(preview) => {
                self.previews.retain(|old| old.step < preview.step);
                self.missing.retain(|&step| step < preview.step);
                self.previews.push(preview.clone());
            }
            _ => {}
        }
        self.tell(stamped);
        let pictures = matches!(stamped.event, Event::Preview(_));
        if pictures { self.load_nearest() } else { None }
    }

    /// A process begins: what a lost one had done after its last checkpoint goes.
    fn start(&mut self, started: &Started) {
        if started.resumed {
            let step = started.step as f64;
            for series in [&mut self.train, &mut self.val, &mut self.grad_norm, &mut self.rate] {
                series.truncate_after(step);
            }
            self.metrics.truncate_after(step);
            self.marks.retain(|mark| mark.step <= step);
            self.previews.retain(|preview| preview.step <= started.step);
        }
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

    /// Seconds of training up to the newest step.
    fn worked(&self) -> f64 {
        self.train.last().map_or(0.0, |point| point.time)
    }

    /// The line of an event in the log, its mark on the chart and its notice, as far as it has them.
    fn tell(&mut self, stamped: &Stamped) {
        let mut level = Level::Info;
        let text = match &stamped.event {
            Event::Started(started) if started.resumed => {
                let text = format!("going on after step {}", started.step);
                self.mark(started.step, MarkKind::Resume, &text);
                text
            }
            Event::Validated(validation) => {
                let mut parts = vec![format!("val_loss {:.4}", validation.val_loss)];
                parts.extend(validation.quality());
                parts.extend(validation.best.then(|| "best so far".to_owned()));
                format!("step {}: {}", validation.step, parts.join(", "))
            }
            Event::Evaluated(evaluated) => {
                let sign = if self.ascii { "+-" } else { "±" };
                let metrics: Vec<String> =
                    evaluated.metrics.iter().map(|metric| metric.text(sign)).collect();
                format!("step {}: {}", evaluated.step, metrics.join(", "))
            }
            Event::CheckpointSaved { step, path, bytes, best } => {
                let best = if *best { ", best so far" } else { "" };
                let size = crate::text::units::bytes(*bytes);
                let text = format!("step {step}: saved {path} ({size}{best})");
                self.mark(*step, MarkKind::Checkpoint, &text);
                self.announce(stamped.time, &text);
                text
            }
            Event::Log { level: own, message } => {
                level = *own;
                if level == Level::Error {
                    self.failure = Some(message.clone());
                }
                if level != Level::Info {
                    self.announce(stamped.time, message);
                }
                message.clone()
            }
            Event::Obeyed(order) => format!("{}, ordered by {}", order.command.name(), order.by),
            Event::Alarm(alarm) => {
                level = Level::Warning;
                self.alarm(alarm, stamped.time)
            }
            Event::Finished(finished) => format!("{:?} at step {}", finished.reason, finished.step),
            Event::Phase { phase: Phase::Paused } => "paused".to_owned(),
            Event::Started(_) | Event::Step(_) | Event::Preview(_) | Event::Phase { .. } => return,
        };
        self.log.push(LogLine { time: stamped.time, level, text });
    }

    /// The line of an alarm. While it holds, the banner tells it.
    fn alarm(&mut self, alarm: &Alarm, time: f64) -> String {
        let kind = alarm.kind.name();
        if alarm.active {
            let text = format!("step {}: {kind}: {}", alarm.step, alarm.message);
            self.mark(alarm.step, MarkKind::Alarm, &text);
            return text;
        }
        self.seen_alarms.retain(|seen| seen.kind != alarm.kind);
        let text = format!("{kind} is over: {}", alarm.message);
        self.announce(time, &text);
        text
    }

    fn mark(&mut self, step: u64, kind: MarkKind, text: &str) {
        let time = self.worked();
        self.marks.push(Mark { step: step as f64, time, kind, text: text.to_owned() });
    }

    /// A notice of something that happened just now: old news don't flash by.
    fn announce(&mut self, time: f64, text: &str) {
        if !self.is_reading() && self.now - time < NOTICE_S {
            self.notify(text.to_owned());
        }
    }

    /// What came while the view was frozen.
    pub(super) fn thaw(&mut self) -> Option<Effect> {
        let mut effect = None;
        for event in self.frozen.take().unwrap_or_default() {
            effect = self.event(&event).or(effect);
        }
        effect
    }

    /// Asks for the preview nearest to the chart's cursor, or the newest, unless it is there already. Those whose
    /// file is missing don't count.
    pub(super) fn load_nearest(&mut self) -> Option<Effect> {
        if self.is_reading() {
            return None; // thousands may come yet
        }
        let mut there = self.previews.iter().filter(|p| !self.missing.contains(&p.step));
        let wanted = match self.chart.cursor() {
            None => there.next_back()?,
            Some(x) => {
                let step = match self.chart.axis {
                    XAxis::Step => x,
                    XAxis::Time => self.train.nearest(x, XAxis::Time).map_or(0.0, |p| p.step),
                };
                let distance = |preview: &&PreviewFile| (preview.step as f64 - step).abs();
                there.min_by(|a, b| distance(a).total_cmp(&distance(b)))?
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
