//! Times what a run does beside the step, each alone: decoding, cropping, saving, logging, drawing.

use super::{frame, median};
use crate::config::{Config, file};
use crate::data::augment::{Augment, Scratch};
use crate::data::{self, DataError};
use crate::engine::Engine;
use crate::error::Error;
use crate::event::{Event, Stamped, StepReport, TimeSplit};
use crate::rng;
use crate::run_dir::EventLog;
use crate::weights::checkpoint::{self, Checkpoint, Meta};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Images that are decoded and cropped.
const IMAGES: usize = 256;
/// Checkpoints that are saved.
const CHECKPOINTS: usize = 3;
/// Events that are logged.
pub(super) const EVENTS: u64 = 2000;

/// Rates and times of one thread.
#[derive(Debug, Serialize)]
pub(super) struct Parts {
    /// Reading and decoding, without a cache.
    decode_images_per_s: f64,
    /// Random crop, resize to the model's size, and flip.
    crop_images_per_s: f64,
    checkpoint: Saving,
    /// Lines of `events.jsonl`.
    event_log_events_per_s: f64,
    /// Drawing one whole frame of 120x40 cells from the state to the buffer. `null` without the screen.
    screen_frame_ms: Option<f64>,
}

/// Copying a checkpoint from the device to the disk, synced.
#[derive(Debug, Serialize)]
struct Saving {
    bytes: u64,
    median_s: f64,
}

/// Times all parts.
///
/// # Errors
/// Returns an error if the data can't be read, or if a temporary folder can't be written.
pub(super) fn time(config: &Config, engine: &dyn Engine) -> Result<Parts, Error> {
    let (decode_images_per_s, crop_images_per_s) = images(config)?;
    let folder = Temporary::new()?;
    Ok(Parts {
        decode_images_per_s,
        crop_images_per_s,
        checkpoint: saving(config, engine, &folder.0)?,
        event_log_events_per_s: logging(&folder.0)?,
        screen_frame_ms: frame::median_ms(),
    })
}

/// A temporary folder that is removed on drop.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("simmim-tui-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .map_err(|source| Error::System { what: "a temporary folder", source })?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // what stays is in the system's folder for temporary files
    }
}

/// Returns the images per second that are decoded, and those that are cropped.
fn images(config: &Config) -> Result<(f64, f64), Error> {
    let mut data = config.data.clone();
    data.cache_mib = 0;
    let data = data::open(&data)?;
    let source = &data.train;
    let failed = |reason| DataError::Worker { message: reason };
    let start = Instant::now();
    let decoded: Result<Vec<_>, _> =
        (0..IMAGES).map(|number| source.read(number % source.len())).collect();
    let decode = IMAGES as f64 / start.elapsed().as_secs_f64();
    let decoded = decoded.map_err(|error| failed(error.to_string()))?;
    let augment = Augment::from_config(&config.data);
    let size = config.model.image_size;
    let (mut scratch, mut out) = (Scratch::default(), vec![0; size * size * 3]);
    let start = Instant::now();
    for (number, image) in decoded.iter().enumerate() {
        let mut rng = rng::stream(config.train.seed, rng::Purpose::Bench, number as u64, 0);
        augment.train_view(image, size, &mut rng, &mut scratch, &mut out).map_err(failed)?;
    }
    Ok((decode, IMAGES as f64 / start.elapsed().as_secs_f64()))
}

fn saving(config: &Config, engine: &dyn Engine, folder: &Path) -> Result<Saving, Error> {
    let mut times = Vec::new();
    let mut size = 0;
    for number in 0..CHECKPOINTS {
        let start = Instant::now();
        let engine = engine.state(); // device sync
        let meta = Meta {
            step: number as u64,
            micro: number as u64,
            updates: engine.updates,
            config: file::to_toml(config),
            ..Meta::start()
        };
        let (path, bytes) = checkpoint::save(folder, &Checkpoint { meta, engine })?;
        times.push(start.elapsed().as_secs_f64());
        size = bytes;
        let _ = std::fs::remove_file(path); // the whole folder is removed in the end
    }
    Ok(Saving { bytes: size, median_s: median(times) })
}

/// Returns a report as a run writes it every few steps.
pub(super) fn report(step: u64) -> Event {
    let x = step as f32;
    Event::Step(StepReport {
        step,
        epoch: f64::from(x) / 100.0,
        loss: 0.6 + 0.1 * (x * 0.7).sin(),
        losses: (0..5).map(|i| 0.6 + 0.1 * ((x + i as f32) * 0.7).sin()).collect(),
        lr: 1e-3,
        grad_norm: 1.0 + 0.5 * (x * 0.3).cos(),
        images_per_s: 75.5,
        data_wait: 0.01,
        spent: TimeSplit { data_wait: 0.1, compute: 10.0, validation: 1.0, saving: 0.5 },
        eta_s: 1234.5,
        elapsed_s: f64::from(x),
    })
}

fn logging(folder: &Path) -> Result<f64, Error> {
    let mut log = EventLog::open(&folder.join("events.jsonl"))?;
    let start = Instant::now();
    for step in 0..EVENTS {
        log.append(&Stamped::now(report(step)))?;
    }
    Ok(EVENTS as f64 / start.elapsed().as_secs_f64())
}
