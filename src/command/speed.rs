//! How fast a run would be: the step on the device at hand beside what one loader thread makes of the data.

use super::bench::compute::training_flops;
use super::plan::Plan;
use crate::config::Config;
use crate::data::gauge;
use crate::data::loader::{Loader, LoaderConfig, cores, most_workers};
use crate::data::{DataError, Dataset};
use crate::engine::device::{self, Device};
use crate::engine::learner::LearnerConfig;
use crate::model::ModelShape;
use crate::text::units::{percent, span};
use crate::train::task;
use std::time::{Duration, Instant};

/// The time for reading images, and the most of them.
const DATA_TIME: Duration = Duration::from_millis(100);
const DATA_IMAGES: usize = 64;
/// What a core makes at least in a second, in operations of matrix products. The real step is several times as fast.
const LEAST_FLOPS: f64 = 4e10;
/// Seconds that fresh weights take, for each of them.
const WEIGHT_S: f64 = 1.2e-8;
/// Seconds for measuring unasked, and for measuring when asked to: a bound by the two figures above.
const UNASKED_S: f64 = 0.3;
const ASKED_S: f64 = 2.0;
/// Steps that are timed, behind one that isn't.
const STEPS: u32 = 2;

/// What was measured of a run before its start.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RunSpeed {
    /// Images per second of the step alone. `None` if it wasn't measured.
    step: Option<f64>,
    device: String,
    /// Images per second of one loader thread that decodes each image.
    worker: f64,
    /// The most loader threads here.
    most: usize,
    /// Whether loader and step share their cores.
    shared: bool,
    /// The share of the images that the cache will hold. `None` if they need no decoding.
    cached: Option<f64>,
}

impl RunSpeed {
    /// Measures the data in a tenth of a second, and the step if that is quick too, or if it is `asked` for.
    ///
    /// # Errors
    /// Returns an error if none of the images can be read.
    pub(super) fn measure(
        config: &Config,
        data: &Dataset,
        plan: &Plan,
        asked: bool,
    ) -> Result<Self, DataError> {
        let stages = gauge::stages(&data.train, config, DATA_IMAGES, DATA_TIME)?;
        // A device that is asked for and isn't here is no reason to know less of the rest.
        let device = device::select(&config.train.device).ok().map(|selection| selection.device);
        let shared = device.as_ref().is_none_or(|device| device.gpu().is_none());
        let batch = device.as_ref().and_then(|device| batch(config, plan, device, asked));
        let step = match (&device, batch) {
            (Some(device), Some(batch)) => Some(step_rate(config, data, device, batch)?),
            _ => None,
        };
        let cache = (config.data.cache_mib as u64) << 20;
        let images = data.train.len() + data.val.len();
        Ok(Self {
            step,
            device: device.map_or_else(|| config.train.device.clone(), |device| device.to_string()),
            worker: stages.images_per_s(),
            most: most_workers(cores(), shared),
            shared,
            cached: stages.reading.is_some().then(|| stages.share_in(cache, images)),
        })
    }

    /// Returns the figures as lines for people. `images` is how many a run takes in all.
    pub(super) fn lines(&self, images: u64) -> Vec<String> {
        let Some(step) = self.step else {
            return vec![
                format!("speed       this data gives {:.0} images/s a loader worker", self.worker),
                format!(
                    "            what the step takes on {} is told by plan --measure",
                    self.device
                ),
            ];
        };
        let needed = (step / self.worker).ceil().max(1.0) as usize;
        let verdict = match needed {
            1 => "1 worker suffices".to_owned(),
            _ if needed <= self.most => format!("{needed} workers suffice"),
            _ => format!("it takes {needed} workers, {} can run here", self.most),
        };
        let loaders = self.worker * self.most as f64;
        let rate = if self.shared { 1.0 / (1.0 / step + 1.0 / loaders) } else { step.min(loaders) };
        let [step, at] = [step, rate].map(rate_text);
        let cached = match self.cached {
            None => None,
            Some(0.0) => Some("without a cache".to_owned()),
            Some(share) if share >= 1.0 => {
                Some("the cache holds all images after the first epoch".to_owned())
            }
            Some(share) => Some(format!("the cache holds {} of the images", percent(share))),
        };
        let mut lines = vec![
            format!("speed       the step takes {step} images/s on {}", self.device),
            format!("            this data gives {:.0} a loader worker: {verdict}", self.worker),
            format!(
                "            about {} to the end at {at} images/s, without validations",
                span(images as f64 / rate)
            ),
        ];
        lines.extend(cached.map(|cached| format!("            {cached}")));
        lines
    }
}

/// Returns a rate with two digits at least.
fn rate_text(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// Returns the images to measure a step with, or `None` if that took too long or too much memory.
fn batch(config: &Config, plan: &Plan, device: &Device, asked: bool) -> Option<usize> {
    let whole = config.train.batch_size;
    if device.gpu().is_some() {
        // Opening a GPU takes memory of it, which others may be using.
        return asked.then_some(whole);
    }
    if plan.lacks_memory() {
        return None;
    }
    let flops = training_flops(&ModelShape::of(config), plan.head_rows()) as f64;
    let image_s = f64::from(1 + STEPS) * flops / (LEAST_FLOPS * cores() as f64);
    let weights_s = WEIGHT_S * plan.parameters as f64;
    let seconds = if asked { ASKED_S } else { UNASKED_S } - weights_s;
    let fits = (seconds / image_s) as usize;
    if asked { Some(fits.clamp(1, whole)) } else { (fits > 0).then_some(fits.min(whole)) }
}

/// Returns the images per second of whole steps, measured with `batch` images at a time.
fn step_rate(
    config: &Config,
    data: &Dataset,
    device: &Device,
    batch: usize,
) -> Result<f64, DataError> {
    let mut small = config.clone();
    (small.train.batch_size, small.train.accumulation) = (batch, 1);
    let one = LoaderConfig { workers: 1, prefetch: 1, ..LoaderConfig::from_config(&small) };
    let images = Loader::train(data.train.clone(), one, 1, 0).next()?;
    let images = images.unwrap_or_else(|| unreachable!("training batches never end"));
    let task = task::new(&small, data);
    let mut engine = device::engine(device, LearnerConfig::new(&small));
    let (mut passes, mut updates) = (0.0, 0.0);
    for micro in 0..=u64::from(STEPS) {
        let start = Instant::now();
        task.accumulate(engine.as_mut(), &images, micro);
        engine.sync(); // device sync: ends the timed pass
        let pass = start.elapsed().as_secs_f64();
        engine.step(config.schedule.warmup_lr);
        engine.read_figures(); // device sync: ends the timed update
        if micro > 0 {
            passes += pass;
            updates += start.elapsed().as_secs_f64() - pass;
        }
    }
    let (pass, update) = (passes / f64::from(STEPS), updates / f64::from(STEPS));
    let per_step = config.images_per_step() as f64;
    Ok(per_step / (pass / batch as f64 * per_step + update))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: RunSpeed = RunSpeed {
        step: Some(258.0),
        device: String::new(),
        worker: 1060.0,
        most: 2,
        shared: true,
        cached: Some(0.031),
    };

    fn said(speed: &RunSpeed) -> String {
        let lines = speed.lines(1_000_000);
        assert!(lines.iter().all(|line| line.len() <= 100), "{lines:?}");
        lines.join("\n")
    }

    #[test]
    fn the_text_says_how_many_workers_suffice_and_how_long_it_takes() {
        let text = said(&FAST);
        for part in [
            "the step takes 258 images/s",
            "this data gives 1060 a loader worker: 1 worker suffices",
            "about 1h12m to the end at 230 images/s, without validations",
            "the cache holds 3.1 % of the images",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        let gpu = RunSpeed { step: Some(3400.0), most: 14, shared: false, ..FAST };
        let text = said(&gpu);
        assert!(text.contains("4 workers suffice") && text.contains("at 3400 images/s"), "{text}");
        let starving = RunSpeed { most: 3, cached: Some(1.0), ..gpu };
        let text = said(&starving);
        assert!(text.contains("it takes 4 workers, 3 can run here"), "{text}");
        assert!(text.contains("at 3180 images/s") && text.contains("holds all images after"));
        let unknown = said(&RunSpeed { step: None, ..starving });
        assert!(unknown.contains("1060 images/s") && unknown.contains("plan --measure"));
    }

    #[test]
    fn only_quick_steps_are_measured_unasked() {
        let batch_of =
            |config: &Config, asked| batch(config, &Plan::new(config, 1000), &Device::Cpu, asked);
        let small = Config::default();
        assert!(batch_of(&small, false).is_some_and(|batch| (1..=32).contains(&batch)));
        let mut large = Config::default();
        large.model.embed_dim = 768;
        large.model.depth = 12;
        large.model.heads = 12;
        assert_eq!(batch_of(&large, false), None);
    }

    #[test]
    fn the_step_is_measured_on_the_processor() {
        let mut config = Config::default();
        (config.model.depth, config.model.embed_dim, config.train.accumulation) = (1, 48, 2);
        let data = crate::data::open(&config.data).expect("the photos are there");
        let rate = step_rate(&config, &data, &Device::Cpu, 4).expect("it works");
        assert!(rate.is_finite() && rate > 0.0, "{rate}");
    }
}
