//! Evaluations on labelled images while training: the current weights give frozen features, which k-NN and a linear probe
//! judge. Nothing of this influences the training.

use super::error::TrainError;
use super::meter::Activity;
use super::trainer::Trainer;
use crate::config::Config;
use crate::data::loader::LoaderConfig;
use crate::data::{DataError, ImageError};
use crate::engine::Engine;
use crate::eval::features::{Features, extract};
use crate::eval::pixels::{collect_pixels, drop_grey};
use crate::eval::{Labelled, Method, Vectors, caveats, judge};
use crate::event::{Evaluated, Event, Metric, Phase, Work};
use std::ops::ControlFlow;

/// The labelled images and the methods of a run's evaluations.
pub(super) struct Evaluator {
    data: Labelled,
    methods: Vec<Method>,
    loader: LoaderConfig,
    layer: Option<usize>,
    /// What the methods reach on raw pixels. They are measured in the first evaluation, then reported with each.
    baselines: Vec<Metric>,
}

/// Takes how many images have been passed through, and returns whether the evaluation shall go on.
type GoOn<'a> = dyn FnMut(usize) -> bool + 'a;

/// What an evaluation has found.
struct EvalResult {
    metrics: Vec<Metric>,
    faulty: Vec<ImageError>,
}

impl Evaluator {
    /// Returns the evaluator, and what must be said beside its figures.
    pub(super) fn new(config: &Config, data: Labelled) -> (Self, Vec<String>) {
        let eval = &config.eval;
        let probe = eval.probe.then_some(Method::Probe);
        let (neighbours, fewer) = caveats::fitting_neighbours(eval.neighbours, data.train.len());
        let notices = fewer.into_iter().chain(data.caveats());
        let notices = notices.map(|text| format!("evaluations while training: {text}")).collect();
        let evaluator = Self {
            data,
            methods: [Method::Knn(neighbours)].into_iter().chain(probe).collect(),
            loader: LoaderConfig::from_config(config),
            layer: (eval.layer > 0).then_some(eval.layer),
            baselines: Vec::new(),
        };
        (evaluator, notices)
    }

    fn images(&self) -> usize {
        self.data.train.len() + self.data.test.len()
    }

    /// Judges vectors by all methods. Returns `None` if `go_on` returned false.
    fn judge(
        &self,
        [train, test]: [Features; 2],
        suffix: &str,
        go_on: &mut GoOn<'_>,
    ) -> Option<Vec<Metric>> {
        let classes = self.data.classes.len();
        let (train, test) = (Vectors::labelled(train), Vectors::labelled(test));
        let all = self.images();
        let scores = judge(&train, &test, classes, &self.methods, &mut || go_on(all))?;
        let metric = |(method, score): (&Method, &crate::eval::score::Score)| {
            let accuracy = score.accuracy();
            Metric {
                name: format!("{}{suffix}", method.name()),
                value: accuracy.accuracy,
                stderr: Some(accuracy.stderr),
                interval: Some(accuracy.interval),
            }
        };
        Some(self.methods.iter().zip(&scores).map(metric).collect())
    }

    /// Judges the raw pixels, whose accuracies are the baselines. They stay empty if `go_on` returned false.
    fn raw_pixels(&mut self, go_on: &mut GoOn<'_>) -> Result<(), DataError> {
        let vectors = self.data.vectors(|source, before| {
            collect_pixels(source, self.loader, |done| flow(go_on(before + done)))
        })?;
        let Some(mut vectors) = vectors else { return Ok(()) };
        let [train, test] = &mut vectors;
        drop_grey([train, test]);
        self.baselines = self.judge(vectors, ", raw pixels", go_on).unwrap_or_default();
        Ok(())
    }

    /// Judges the features of the engine's weights. Returns `None` if `go_on` returned false.
    fn run(
        &self,
        engine: &dyn Engine,
        go_on: &mut GoOn<'_>,
    ) -> Result<Option<EvalResult>, DataError> {
        let vectors = self.data.vectors(|source, before| {
            let go_on = |done| flow(go_on(before + done));
            extract(engine, source, self.loader, self.layer, go_on) // device syncs
        })?;
        let Some(mut vectors) = vectors else { return Ok(None) };
        let faulty = vectors.iter_mut().flat_map(|part| std::mem::take(&mut part.faulty)).collect();
        Ok(self.judge(vectors, "", go_on).map(|metrics| EvalResult { metrics, faulty }))
    }
}

fn flow(goes_on: bool) -> ControlFlow<()> {
    if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

impl Trainer {
    /// Judges the weights of this moment on labelled images, if there are some. A Stop cuts it short; other orders wait.
    pub(super) fn evaluate(&mut self) -> Result<(), TrainError> {
        if self.evaluator.is_none() {
            return Ok(());
        }
        self.report()?;
        let (step, epoch) = (self.progress.step(), self.progress.epoch());
        let Self { evaluator: Some(evaluator), comms, engine, .. } = self else { return Ok(()) };
        comms.enter(Phase::Evaluating)?;
        let all = evaluator.images();
        if evaluator.baselines.is_empty() {
            evaluator.raw_pixels(&mut |done| comms.gets_on(step, Work::Evaluation, done, all))?;
        }
        // The raw pixels are judged only once, so their time would spoil the estimate of the time to the end.
        comms.meter.lap(Activity::Other);
        let mut go_on = |done| comms.gets_on(step, Work::Evaluation, done, all);
        let found = evaluator.run(engine.as_ref(), &mut go_on)?;
        let seconds = comms.meter.lap(Activity::Evaluation).as_secs_f64();
        let Some(EvalResult { metrics, faulty }) = found else { return Ok(()) };
        comms.note_faulty(&faulty)?;
        self.results.note_evaluation(step);
        let baselines = evaluator.baselines.clone();
        comms.emit(Event::Evaluated(Evaluated { step, epoch, metrics, baselines, seconds }))?;
        comms.enter(Phase::Running)
    }
}
