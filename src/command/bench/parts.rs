//! What a run does beside the step, each timed alone: decoding, cropping, saving, logging, drawing.

use super::median;
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
const CHECKPOINTS: usize = 3;
const EVENTS: u64 = 2000;

/// Rates and times of one thread.
#[derive(Debug, Serialize)]
pub struct Parts {
    /// Reading and decoding without a cache.
    pub decode_images_per_s: f64,
    /// Random crop, resize to the model's size, flip.
    pub crop_images_per_s: f64,
    pub checkpoint: Saving,
    /// Lines of `events.jsonl`.
    pub event_log_events_per_s: f64,
    /// One whole frame of 120x40 cells from state to buffer; null without the screen.
    pub screen_frame_ms: Option<f64>,
}

/// A checkpoint from the device to the disk, synced.
#[derive(Debug, Serialize)]
pub struct Saving {
    pub bytes: u64,
    pub median_s: f64,
}

/// Times all of them.
///
/// # Errors
/// Data, or a temporary folder that can't be written.
pub fn time(config: &Config, engine: &dyn Engine) -> Result<Parts, Error> {
    let (decode_images_per_s, crop_images_per_s) = images(config)?;
    let folder = Temporary::new()?;
    Ok(Parts {
        decode_images_per_s,
        crop_images_per_s,
        checkpoint: saving(config, engine, &folder.0)?,
        event_log_events_per_s: logging(&folder.0)?,
        screen_frame_ms: screen(),
    })
}

/// A folder that is gone afterwards.
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
        let _ = std::fs::remove_dir_all(&self.0); // the system's cleaner does it otherwise
    }
}

/// Images per second, decoded and cropped.
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
        let _ = std::fs::remove_file(path); // the folder goes anyway
    }
    Ok(Saving { bytes: size, median_s: median(times) })
}

/// A report as a run writes it every few steps.
fn report(step: u64) -> Event {
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

#[cfg(feature = "tui")]
fn screen() -> Option<f64> {
    use crate::terminal::colors::{ColorDepth, Detected};
    use crate::ui::app::{App, Msg};
    use crate::ui::view::{self, PreviewCache};
    use ratatui::{Terminal, backend::TestBackend};
    const FRAMES: usize = 50;
    let colors = Detected { depth: ColorDepth::True, reason: String::new() };
    let mut app = App::new("bench".to_owned(), Box::new(|step| step as f64), colors, false);
    for step in 0..EVENTS {
        app.update(Msg::Event(Box::new(Stamped::now(report(5 * step + 5)))));
    }
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).ok()?;
    let mut cache = PreviewCache::default();
    let mut times = Vec::new();
    for frame in 0..FRAMES as u64 {
        app.update(Msg::Event(Box::new(Stamped::now(report(5 * (EVENTS + frame) + 5)))));
        let start = Instant::now();
        view::draw(&mut terminal, &app, &mut cache).ok()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Some(median(times))
}

#[cfg(not(feature = "tui"))]
fn screen() -> Option<f64> {
    None
}
