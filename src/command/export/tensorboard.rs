//! Writes metrics and previews as a `TensorBoard` event file.

use super::history::{ByStep, History};
use super::proto::{Content, Image, Summary, TensorboardEvent, Value, What, record};
use super::target::Destination;
use crate::error::Error;
use crate::text::bar::Bar;
use crate::text::say::say;
use std::fs;
use std::io::{self, stderr};
use std::path::Path;

/// Writes `--format tensorboard`. Returns what was written, in words for people.
///
/// A preview whose file is gone is left out, with a warning.
///
/// # Errors
/// Returns an error if the folder can't be written.
pub(super) fn write(root: &Path, history: &History, target: &Destination) -> Result<String, Error> {
    let mut scalars = scalars(history);
    // A writer that runs beside the training would leave the scalars in order of time. Steps that were logged together
    // stay in their own order.
    scalars.sort_by(|a, b| a.time.total_cmp(&b.time).then(a.step.cmp(&b.step)));
    let mut out = Vec::new();
    let version = What::FileVersion("brain.Event:2".to_owned());
    put(&mut out, &TensorboardEvent { wall_time: history.begin, step: 0, what: Some(version) });
    for scalar in &scalars {
        let content = Content::Simple(scalar.value);
        put(&mut out, &summary(scalar.time, scalar.step, &scalar.tag, content));
    }
    let bar = Bar::new("previews", history.previews.len());
    let mut images = 0;
    for (done, (&step, (time, preview))) in history.previews.iter().enumerate() {
        bar.set(done);
        match image(&root.join(&preview.path)) {
            Ok(image) => {
                put(&mut out, &summary(*time, step, "previews", Content::Image(image)));
                images += 1;
            }
            Err(error) => {
                say(&mut stderr(), &format!("warning: {}: {error}; left out", preview.path));
            }
        }
    }
    drop(bar);
    // The same run gives the same name, so that a new export replaces the old one.
    let name = format!("events.out.tfevents.{}.simmim-tui", history.begin as u64);
    target.write_folder(&[(name, out)])?;
    Ok(format!("{} scalars and {images} images", scalars.len()))
}

struct Scalar {
    time: f64,
    step: u64,
    tag: String,
    value: f32,
}

fn scalars(history: &History) -> Vec<Scalar> {
    let mut all = Vec::new();
    let mut put = |time: f64, step: u64, tag: &str, value: f32| {
        all.push(Scalar { time, step, tag: tag.to_owned(), value });
    };
    for (&step, &(time, loss)) in &history.losses {
        put(time, step, "train/loss", loss);
    }
    for (&step, (time, report)) in &history.reports {
        put(*time, step, "train/lr", report.lr as f32);
        put(*time, step, "train/grad_norm", report.grad_norm);
        put(*time, step, "train/images_per_s", report.images_per_s as f32);
        put(*time, step, "train/data_wait", report.data_wait as f32);
        put(*time, step, "train/epoch", report.epoch as f32);
    }
    for (&step, (time, validation)) in &history.validations {
        put(*time, step, "val/loss", validation.comparable_loss() as f32);
        for (tag, value) in [("val/psnr", validation.psnr), ("val/ssim", validation.ssim)] {
            if let Some(value) = value {
                put(*time, step, tag, value as f32);
            }
        }
    }
    let kinds: [(&str, &ByStep); 2] =
        [("eval", &history.evaluations), ("baseline", &history.baselines)];
    for (kind, figures) in kinds {
        for (&step, metrics) in figures {
            for (time, metric) in metrics {
                put(*time, step, &format!("{kind}/{}", metric.name), metric.value as f32);
            }
        }
    }
    all
}

fn summary(wall_time: f64, step: u64, tag: &str, content: Content) -> TensorboardEvent {
    let value = Value { tag: tag.to_owned(), content: Some(content) };
    let what = Some(What::Summary(Summary { value: vec![value] }));
    TensorboardEvent { wall_time, step: step as i64, what }
}

fn put(out: &mut Vec<u8>, event: &TensorboardEvent) {
    out.extend(record(event));
}

/// Reads a preview from the run directory, without decoding it.
fn image(path: &Path) -> io::Result<Image> {
    let bytes = fs::read(path)?;
    let reader = image::ImageReader::new(io::Cursor::new(&bytes)).with_guessed_format()?;
    let (width, height) = reader.into_dimensions().map_err(io::Error::other)?;
    Ok(Image {
        height: height as i32,
        width: width as i32,
        colorspace: 3,
        encoded_image_string: bytes,
    })
}
