//! The `bench` command: times the step alone, the step behind the loader, the loader alone, and the parts beside them.
//! With `--data` it times the data alone.

pub(super) mod compute;
mod data;
mod frame;
mod on_device;
mod parts;

use super::args::ConfigArgs;
use super::plan::Plan;
use super::prepare;
use crate::config::{Config, Precision};
use crate::data::loader::{Batch, Loader, LoaderConfig, WorkerTuning, cores};
use crate::data::{DataError, Dataset};
use crate::engine::Engine;
use crate::engine::device::{self, Device, precision::Effective};
use crate::engine::learner::LearnerConfig;
use crate::error::Error;
use crate::model::ModelShape;
use crate::shown;
use crate::text::say::tell;
use crate::train::RunLength;
use crate::train::task::{self, Task};
use clap::Arg;
use on_device::{FirstStep, PhaseTimes, Queued, StartTimes};
use serde::Serialize;
use std::time::Instant;

#[expect(clippy::doc_markdown, reason = "the comments are the help texts")]
#[derive(Debug, Clone, clap::Args)]
#[command(mut_arg("data", of_the_data_alone))]
pub struct BenchArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print one JSON object on standard output (without --data there is no other format)
    #[arg(long)]
    pub json: bool,
    /// Use images of this side, in pixels [short for --set model.image_size=IMAGE]
    #[arg(long)]
    pub image: Option<usize>,
    /// Use patches of this side, in pixels; the mask unit follows if it doesn't fit [short for --set
    /// model.patch_size=PATCH]
    #[arg(long)]
    pub patch: Option<usize>,
    /// Use an embedding of this width [short for --set model.embed_dim=DIM]
    #[arg(long)]
    pub dim: Option<usize>,
    /// Use this many encoder blocks [short for --set model.depth=DEPTH]
    #[arg(long)]
    pub depth: Option<usize>,
    /// Use this many attention heads [short for --set model.heads=HEADS]
    #[arg(long)]
    pub heads: Option<usize>,
    /// Use this many images per step [short for --set train.batch_size=BATCH]
    #[arg(long)]
    pub batch: Option<usize>,
    /// Time this many steps
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub steps: u32,
    /// Take this many steps before timing starts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub warmup: u32,
}

/// Makes the argument that names images one that may be given alone.
fn of_the_data_alone(data: Arg) -> Arg {
    data.num_args(0..=1)
        .default_missing_value(data::CONFIGURED)
        .help(
            "Time the data alone, without a training step: the stages of an image, and loaders of 1, 2, 4, … workers. \
             [DIR is as in train; without it, the configured images]",
        )
}

/// Times the step and the loader, and prints one JSON object; or, with `--data`, times the data alone.
///
/// # Errors
/// Returns an error if configuration, device or data can't be used.
pub fn run(args: &BenchArgs) -> Result<(), Error> {
    args.config.lists.apply();
    if args.config.data.is_some() {
        return data::run(args);
    }
    let report = measure(args)?;
    let text = serde_json::to_string(&report)
        .map_err(|error| Error::System { what: "bench", source: error.into() })?;
    Ok(tell(&shown::json(text))?)
}

/// The result, which is printed as one JSON object.
#[derive(Debug, Serialize)]
struct BenchReport {
    version: &'static str,
    device: String,
    /// Precision of matrix products, as the device has it.
    precision: Precision,
    activation_checkpointing: bool,
    model: Model,
    steps: u32,
    /// Upload of a batch that is in the host's memory, forward pass, backward pass and update, with a wait at the end of
    /// each step.
    step: Timing,
    /// The same without waits. `null` on the CPU, which has none.
    queued: Option<on_device::Queued>,
    /// `null` on devices without a clock of their own.
    phases: Option<on_device::PhaseTimes>,
    /// What the step alone makes of the device.
    compute: compute::Compute,
    /// The step with batches from the loader.
    end_to_end: EndToEnd,
    /// The loader while nothing else is at work.
    loader: LoaderRate,
    parts: parts::Parts,
    /// Largest resident memory of the process up to the last step. `null` if the system doesn't say.
    peak_rss_bytes: Option<u64>,
    /// `null` on the CPU, and with `--warmup 0`.
    startup: Option<on_device::StartTimes>,
    /// Memory in use on the GPU after the steps, by all processes. `null` on the CPU and if the driver doesn't say.
    gpu_memory_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Model {
    image: usize,
    patch: usize,
    dim: usize,
    depth: usize,
    heads: usize,
    batch: usize,
    parameters: u64,
}

#[expect(clippy::struct_field_names, reason = "the names in the JSON end in their units")]
#[derive(Debug, Serialize)]
struct Timing {
    images_per_s: f64,
    median_s: f64,
    min_s: f64,
    max_s: f64,
}

#[derive(Debug, Serialize)]
struct EndToEnd {
    images_per_s: f64,
    median_s: f64,
    /// Share of the time for which the step waited for its batch, 0 to 1.
    data_wait: f64,
}

#[derive(Debug, Serialize)]
struct LoaderRate {
    images_per_s: f64,
    workers: usize,
}

/// What makes steps.
struct Stepper<'a> {
    engine: Box<dyn Engine>,
    task: &'a dyn Task,
    lr: f64,
}

impl Stepper<'_> {
    /// Queues a step.
    fn queue(&mut self, batch: &Batch, micro: u64) {
        self.task.accumulate(self.engine.as_mut(), batch, micro);
        self.engine.step(self.lr);
    }

    /// Makes a step, and waits for its figures. Device sync.
    fn wait(&mut self, batch: &Batch, micro: u64) {
        self.queue(batch, micro);
        self.engine.read_figures(); // device sync: ends the timed span
    }
}

/// Runs the benchmark.
///
/// # Errors
/// Returns an error if configuration, device or data can't be used.
fn measure(args: &BenchArgs) -> Result<BenchReport, Error> {
    let began = Instant::now();
    let mut config = config(args)?;
    let selecting = Instant::now();
    let device = device::select(&config.train.device)?.device;
    let selecting_s = selecting.elapsed().as_secs_f64();
    let data = prepare::open_data(&mut config)?;
    let config = config;
    let plan = Plan::new(&config, data.train.len());
    let task = task::new(&config, &data);
    let engine = device::engine(&device, LearnerConfig::new(&config));
    let mut step = Stepper { engine, task: task.as_ref(), lr: config.schedule.base_lr };
    let images = config.train.batch_size as f64;

    // This loader is gone before the step is timed: its threads would take processors away from it.
    let batch = next(&mut loader(&config, &data, &device))?;
    let first = (args.warmup > 0).then(|| FirstStep::make(&mut step, &batch, began));
    let startup =
        first.and_then(|first| Some(StartTimes::new(&step.engine.startup()?, selecting_s, &first)));
    let alone = time_alone(args, &batch, &mut step);
    let on_gpu = device.gpu().is_some();
    let queued = on_gpu.then(|| Queued::time(&mut step, &batch, args.steps, images));
    let phases = on_gpu.then(|| PhaseTimes::time(&mut step, &batch, args.steps)).flatten();
    let end_to_end =
        time_behind(&mut loader(&config, &data, &device), args.steps, images, &mut step)?;
    // These are read before anything that holds more memory than a run does.
    let peak_rss_bytes = peak_rss();
    let gpu_memory_bytes = gpu_memory(&device);

    let timing = Timing {
        min_s: alone.iter().copied().fold(f64::INFINITY, f64::min),
        max_s: alone.iter().copied().fold(0.0, f64::max),
        median_s: median(alone.clone()),
        images_per_s: images / median(alone),
    };
    Ok(BenchReport {
        version: env!("CARGO_PKG_VERSION"),
        device: device.to_string(),
        precision: Effective::of(config.train.precision, &device).precision,
        activation_checkpointing: config.train.activation_checkpointing,
        model: Model::of(&config, &plan),
        steps: args.steps,
        compute: compute::Compute::new(
            &ModelShape::of(&config),
            plan.head_rows(),
            timing.images_per_s,
            &device,
            config.train.precision,
        ),
        step: timing,
        queued,
        phases,
        startup,
        end_to_end,
        loader: loader_rate(&mut loader(&config, &data, &device), &config)?,
        peak_rss_bytes,
        gpu_memory_bytes,
        parts: parts::time(&config, step.engine.as_ref())?,
    })
}

/// Returns the seconds that each timed step takes on one batch.
fn time_alone(args: &BenchArgs, batch: &Batch, step: &mut Stepper<'_>) -> Vec<f64> {
    let (warmup, steps) = (u64::from(args.warmup), u64::from(args.steps));
    (1..warmup).for_each(|micro| step.wait(batch, micro)); // the first one is over
    (0..steps)
        .map(|micro| {
            let start = Instant::now();
            step.wait(batch, warmup + micro);
            start.elapsed().as_secs_f64()
        })
        .collect()
}

/// Times steps that wait for their batches, after one that isn't timed. A batch has that many `images`.
fn time_behind(
    loader: &mut Loader,
    steps: u32,
    images: f64,
    step: &mut Stepper<'_>,
) -> Result<EndToEnd, Error> {
    step.wait(&next(loader)?, 0);
    let (mut whole, mut waited) = (Vec::new(), 0.0);
    for micro in 0..u64::from(steps) {
        let start = Instant::now();
        let batch = next(loader)?;
        waited += start.elapsed().as_secs_f64();
        step.wait(&batch, micro);
        whole.push(start.elapsed().as_secs_f64());
    }
    let data_wait = waited / whole.iter().sum::<f64>();
    let median_s = median(whole);
    Ok(EndToEnd { images_per_s: images / median_s, median_s, data_wait })
}

impl Model {
    fn of(config: &Config, plan: &Plan) -> Self {
        Self {
            image: config.model.image_size,
            patch: config.model.patch_size,
            dim: config.model.embed_dim,
            depth: config.model.depth,
            heads: config.model.heads,
            batch: config.train.batch_size,
            parameters: plan.parameters,
        }
    }
}

/// Returns the configuration with the sizes of the command line.
fn config(args: &BenchArgs) -> Result<Config, Error> {
    let mut all = args.config.clone();
    let sizes = [
        ("model.image_size", args.image),
        ("model.patch_size", args.patch),
        ("model.embed_dim", args.dim),
        ("model.depth", args.depth),
        ("model.heads", args.heads),
        ("train.batch_size", args.batch),
    ];
    let given = sizes.iter().filter_map(|(key, size)| Some(format!("{key}={}", (*size)?)));
    all.sets.extend(given);
    // A step here is one micro-batch.
    all.sets.push("train.accumulation=1".to_owned());
    match prepare::config(&all) {
        Err(_) if args.image.is_some() || args.patch.is_some() => {
            // The mask unit of the file may not fit other sizes, but a unit of one patch always does.
            let patch = args.patch.or_else(|| patch_of(args)).unwrap_or(8);
            all.sets.push(format!("mask.unit={patch}"));
            prepare::config(&all)
        }
        config => config,
    }
}

fn patch_of(args: &BenchArgs) -> Option<usize> {
    prepare::config(&args.config).ok().map(|config| config.model.patch_size)
}

/// Returns a loader of training batches, from the first one on, with as many threads as a run starts with.
fn loader(config: &Config, data: &Dataset, device: &Device) -> Loader {
    let epoch = RunLength::new(config, data.train.len()).steps_per_epoch;
    let tuning = WorkerTuning::new(config, cores(), device.gpu().is_none());
    let fixed = LoaderConfig::from_config(config);
    let workers = tuning.map_or(fixed.workers, |tuning| tuning.workers());
    Loader::train(data.train.clone(), LoaderConfig { workers, ..fixed }, epoch, 0)
}

fn next(loader: &mut Loader) -> Result<Batch, DataError> {
    let batch = loader.next()?;
    Ok(batch.unwrap_or_else(|| unreachable!("training batches never end")))
}

/// Measures the images per second with a warm cache, as in most of a long run.
fn loader_rate(loader: &mut Loader, config: &Config) -> Result<LoaderRate, DataError> {
    let batches = 512_usize.div_ceil(config.train.batch_size);
    for _ in 0..batches {
        next(loader)?;
    }
    let start = Instant::now();
    for _ in 0..batches {
        next(loader)?;
    }
    let images = (batches * config.train.batch_size) as f64;
    Ok(LoaderRate {
        images_per_s: images / start.elapsed().as_secs_f64(),
        workers: loader.workers(),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

/// Returns the bytes in use on the GPU. Burn's allocator frees nothing between steps, so this is near the peak of a
/// step.
fn gpu_memory(device: &Device) -> Option<u64> {
    crate::gpu::Gpus::open().read(device.gpu()?).map(|gpu| gpu.memory_used)
}

/// Returns the kernel's high-water mark of resident memory, in bytes.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
