//! `simmim-tui bench`: the step alone, the step behind the loader, the loader alone, and the parts beside them.

pub(crate) mod compute;
pub(crate) mod parts;

use super::plan::Plan;
use super::prepare;

use super::args::ConfigArgs;
use crate::config::{Config, Precision};
use crate::data::loader::{Batch, Loader, LoaderConfig};
use crate::data::{self, DataError};
use crate::engine::device::{self, precision::Effective};
use crate::engine::learner::LearnerConfig;
use crate::error::Error;
use crate::model::ModelShape;
use crate::text::say::say;
use crate::train::{RunLength, task};
use serde::Serialize;
use std::io::stdout;
use std::time::Instant;

#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// One JSON object on standard output (there is no other format)
    #[arg(long)]
    pub json: bool,
    /// Side of the images, pixels [model.image_size]
    #[arg(long)]
    pub image: Option<usize>,
    /// Side of a patch, pixels [model.patch_size]; the mask unit follows if it doesn't fit
    #[arg(long)]
    pub patch: Option<usize>,
    /// Width of the embedding [model.embed_dim]
    #[arg(long)]
    pub dim: Option<usize>,
    /// Encoder blocks [model.depth]
    #[arg(long)]
    pub depth: Option<usize>,
    /// Attention heads [model.heads]
    #[arg(long)]
    pub heads: Option<usize>,
    /// Images per step [train.batch_size]
    #[arg(long)]
    pub batch: Option<usize>,
    /// Timed steps
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub steps: u32,
    /// Steps before timing starts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub warmup: u32,
}

/// Times the step and the loader, and prints one JSON object.
///
/// # Errors
/// Configuration, device or data.
pub fn run(args: &BenchArgs) -> Result<(), Error> {
    let report = measure(args)?;
    let text = serde_json::to_string(&report)
        .map_err(|error| Error::System { what: "bench", source: error.into() })?;
    say(&mut stdout(), &text);
    Ok(())
}

/// The result, one JSON object.
#[derive(Debug, Serialize)]
pub struct BenchReport {
    pub version: &'static str,
    pub device: String,
    /// Of matrix products, as the device has it.
    pub precision: Precision,
    pub activation_checkpointing: bool,
    pub model: Model,
    pub steps: u32,
    /// Forward, backward and update on a batch that is in memory.
    pub step: Timing,
    /// What the step alone makes of the device.
    pub compute: compute::Compute,
    /// The same with batches from the loader.
    pub end_to_end: EndToEnd,
    /// The loader with nobody else at work.
    pub loader: LoaderRate,
    pub parts: parts::Parts,
    /// Largest resident memory of the process so far; null where the system doesn't say.
    pub peak_rss_bytes: Option<u64>,
    /// Memory in use on the GPU after the steps, by whatever process; null on the CPU and where the driver doesn't say.
    pub gpu_memory_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct Model {
    pub image: usize,
    pub patch: usize,
    pub dim: usize,
    pub depth: usize,
    pub heads: usize,
    pub batch: usize,
    pub parameters: u64,
}

#[expect(clippy::struct_field_names, reason = "the names of a JSON object")]
#[derive(Debug, Serialize)]
pub struct Timing {
    pub images_per_s: f64,
    pub median_s: f64,
    pub min_s: f64,
    pub max_s: f64,
}

#[derive(Debug, Serialize)]
pub struct EndToEnd {
    pub images_per_s: f64,
    pub median_s: f64,
    /// Share of the time in which the step waited for its batch, 0 to 1.
    pub data_wait: f64,
}

#[derive(Debug, Serialize)]
pub struct LoaderRate {
    pub images_per_s: f64,
    pub workers: usize,
}

/// Runs the benchmark.
///
/// # Errors
/// Configuration, device or data.
pub fn measure(args: &BenchArgs) -> Result<BenchReport, Error> {
    let mut config = config(args)?;
    let selection = device::select(&config.train.device)?;
    let (data, _) = prepare::open_data(&mut config)?;
    let config = config;
    let batches = |start| loader(&config, &data, start);
    let shape = ModelShape::of(&config);
    let task = task::new(&config, &data);
    let mut engine = device::engine(&selection.device, LearnerConfig::new(&config));
    let mut step = |batch: &Batch, micro: u64| {
        task.accumulate(engine.as_mut(), batch, micro);
        engine.step(config.schedule.base_lr);
        engine.read_figures(); // device sync: ends the timed span
    };
    let (warmup, steps) = (u64::from(args.warmup), u64::from(args.steps));

    let fixed = next(&mut batches(0))?;
    (0..warmup).for_each(|micro| step(&fixed, micro));
    let alone: Vec<f64> = (0..steps)
        .map(|micro| {
            let start = Instant::now();
            step(&fixed, warmup + micro);
            start.elapsed().as_secs_f64()
        })
        .collect();

    let mut source = batches(0);
    step(&next(&mut source)?, 0);
    let (mut whole, mut waited) = (Vec::new(), 0.0);
    for micro in 0..steps {
        let start = Instant::now();
        let batch = next(&mut source)?;
        waited += start.elapsed().as_secs_f64();
        step(&batch, micro);
        whole.push(start.elapsed().as_secs_f64());
    }
    drop(source);

    let images = config.train.batch_size as f64;
    let data_wait = waited / whole.iter().sum::<f64>();
    let (whole_median, alone_median) = (median(whole), median(alone.clone()));
    // Before all that holds more memory than a run does.
    let peak_rss_bytes = peak_rss();
    let gpu_memory_bytes = gpu_memory(&selection.device);
    Ok(BenchReport {
        version: env!("CARGO_PKG_VERSION"),
        device: selection.device.to_string(),
        precision: Effective::of(config.train.precision, &selection.device).precision,
        activation_checkpointing: config.train.activation_checkpointing,
        model: Model {
            image: config.model.image_size,
            patch: config.model.patch_size,
            dim: config.model.embed_dim,
            depth: config.model.depth,
            heads: config.model.heads,
            batch: config.train.batch_size,
            parameters: Plan::new(&config, data.train.len()).parameters,
        },
        steps: args.steps,
        step: Timing {
            images_per_s: images / alone_median,
            median_s: alone_median,
            min_s: alone.iter().copied().fold(f64::INFINITY, f64::min),
            max_s: alone.iter().copied().fold(0.0, f64::max),
        },
        compute: compute::Compute::new(
            &shape,
            Plan::new(&config, data.train.len()).head_rows(),
            images / alone_median,
            &selection.device,
            config.train.precision,
        ),
        end_to_end: EndToEnd {
            images_per_s: images / whole_median,
            median_s: whole_median,
            data_wait,
        },
        loader: loader_rate(&mut batches(0), &config)?,
        peak_rss_bytes,
        gpu_memory_bytes,
        parts: parts::time(&config, engine.as_ref())?,
    })
}

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
    // One micro-batch is one step here.
    all.sets.push("train.accumulation=1".to_owned());
    match prepare::config(&all) {
        Err(_) if args.image.is_some() || args.patch.is_some() => {
            // The mask unit of the file may not fit other sizes: a unit of one patch always does.
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

fn loader(config: &Config, data: &data::Dataset, start: u64) -> Loader {
    let epoch = RunLength::new(config, data.train.len()).steps_per_epoch;
    Loader::train(data.train.clone(), LoaderConfig::from_config(config), epoch, start)
}

fn next(loader: &mut Loader) -> Result<Batch, DataError> {
    let batch = loader.next()?;
    Ok(batch.unwrap_or_else(|| unreachable!("training batches never end")))
}

/// Images per second once the cache is warm: what a long run sees.
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
        workers: config.data.workers,
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

/// Bytes in use. Burn's allocator gives nothing back between steps, so this is near the most that a step took.
fn gpu_memory(device: &device::Device) -> Option<u64> {
    crate::gpu::Gpus::open().read(device.gpu()?).map(|gpu| gpu.memory_used)
}

/// The kernel's high-water mark of resident memory, bytes.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
