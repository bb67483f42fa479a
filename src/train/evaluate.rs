//! Evaluations on labelled images while training: frozen features of the weights of the moment, judged by k-NN and a
//! linear probe. Nothing of it reaches the training.

use super::meter::Activity;
use super::trainer::{TrainError, Trainer};
use crate::config::Config;
use crate::data::loader::LoaderConfig;
use crate::data::{DataError, ImageError};
use crate::engine::Engine;
use crate::eval::features::{Features, extract};
use crate::eval::pixels::{collect_pixels, drop_grey};
use crate::eval::{Labelled, Method, Vectors, judge};
use crate::event::{Command, Evaluated, Event, Metric, Phase};
use std::ops::ControlFlow;

/// What is judged and how.
pub struct Evaluator {
    data: Labelled,
    methods: Vec<Method>,
    loader: LoaderConfig,
    layer: Option<usize>,
    /// Epochs between evaluations.
    every: u64,
    /// What the methods reach on raw pixels; known after the first evaluation.
    baselines: Vec<Metric>,
}

/// What an evaluation found.
struct EvalResult {
    metrics: Vec<Metric>,
    skipped: Vec<ImageError>,
}

impl Evaluator {
    pub fn new(config: &Config, data: Labelled) -> Self {
        let eval = &config.eval;
        let probe = eval.probe.then_some(Method::Probe);
        Self {
            data,
            methods: [Method::Knn(eval.neighbours)].into_iter().chain(probe).collect(),
            loader: LoaderConfig::from_config(config),
            layer: (eval.layer > 0).then_some(eval.layer),
            every: eval.every as u64,
            baselines: Vec::new(),
        }
    }

    /// `None` when `go_on` said so.
    fn judge(
        &self,
        [train, test]: [Features; 2],
        suffix: &str,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<Vec<Metric>> {
        let classes = self.data.classes.len();
        let (train, test) = (Vectors::labelled(train), Vectors::labelled(test));
        let scores = judge(&train, &test, classes, &self.methods, go_on)?;
        let metric = |(method, score): (&Method, &crate::eval::score::Score)| {
            let accuracy = score.accuracy();
            Metric {
                name: format!("{}{suffix}", method.name()),
                value: accuracy.accuracy,
                stderr: Some(accuracy.stderr),
            }
        };
        Some(self.methods.iter().zip(&scores).map(metric).collect())
    }

    fn raw_pixels(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<(), DataError> {
        let vectors =
            self.data.vectors(|source, _| collect_pixels(source, self.loader, |_| flow(go_on)))?;
        let Some(mut vectors) = vectors else { return Ok(()) };
        let [train, test] = &mut vectors;
        drop_grey([train, test]);
        self.baselines = self.judge(vectors, ", raw pixels", go_on).unwrap_or_default();
        Ok(())
    }

    fn run(
        &self,
        engine: &dyn Engine,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<EvalResult>, DataError> {
        let vectors = self.data.vectors(|source, _| {
            extract(engine, source, self.loader, self.layer, |_| flow(go_on)) // device syncs
        })?;
        let Some(mut vectors) = vectors else { return Ok(None) };
        let skipped =
            vectors.iter_mut().flat_map(|part| std::mem::take(&mut part.skipped)).collect();
        Ok(self.judge(vectors, "", go_on).map(|metrics| EvalResult { metrics, skipped }))
    }
}

fn flow(go_on: &mut dyn FnMut() -> bool) -> ControlFlow<()> {
    if go_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

impl Trainer {
    /// Whether an evaluation belongs behind the step that was done last.
    pub(super) fn evaluation_due(&self) -> bool {
        let Some(evaluator) = &self.evaluator else { return false };
        let step = self.step();
        let period = evaluator.every * self.extent.steps_per_epoch;
        step > 0 && (step.is_multiple_of(period) || step == self.extent.total_steps)
    }

    /// Those still to come after `step`, for the time to the end.
    pub(super) fn evaluations_left(&self, step: u64) -> u64 {
        let Some(evaluator) = &self.evaluator else { return 0 };
        let period = evaluator.every * self.extent.steps_per_epoch;
        self.extent.total_steps.div_ceil(period) - step / period
    }

    /// Judges the weights of this moment; only a Stop cuts it short, other orders wait in the queue.
    pub(super) fn evaluate(&mut self) -> Result<(), TrainError> {
        let Some(mut evaluator) = self.evaluator.take() else { return Ok(()) };
        let result = self.evaluate_with(&mut evaluator);
        self.evaluator = Some(evaluator);
        result
    }

    fn evaluate_with(&mut self, evaluator: &mut Evaluator) -> Result<(), TrainError> {
        self.report()?;
        self.phase(Phase::Evaluating)?;
        let step = self.step();
        let (queue, orders, pulse) = (&mut self.queue, &self.orders, &self.pulse);
        let mut go_on = || {
            pulse.beat(step);
            queue.extend(orders.try_iter());
            !queue.iter().any(|order| order.command == Command::Stop)
        };
        if evaluator.baselines.is_empty() {
            evaluator.raw_pixels(&mut go_on)?;
        }
        // The time of what is done once is no measure of what is to come.
        self.meter.lap(Activity::Other);
        let outcome = evaluator.run(self.engine.as_ref(), &mut go_on)?;
        let seconds = self.meter.lap(Activity::Evaluation).as_secs_f64();
        let Some(EvalResult { metrics, skipped }) = outcome else { return Ok(()) };
        self.note_unreadable(&skipped)?;
        self.evaluated = Some(step);
        let (epoch, baselines) = (self.epoch(), evaluator.baselines.clone());
        self.emit(Event::Evaluated(Evaluated { step, epoch, metrics, baselines, seconds }))?;
        self.phase(Phase::Running)
    }
}
