//! Writes metrics and previews as a `TensorBoard` event file.

use super::history::{ByStep, History, LoggedStep};
use super::proto::{Content, Image, Summary, TensorboardEvent, Value, What, record};
use super::target::Destination;
use crate::error::Error;
use crate::run_dir;
use crate::text::bar::Bar;
use crate::text::say::say;
use std::io::{self, Write, stderr};
use std::path::Path;

/// Writes `--format tensorboard`. Returns what was written, in words for people.
///
/// A preview whose file is gone, or is none of the run's, is left out with a warning.
///
/// # Errors
/// Returns an error if the log can't be read again, or if the folder can't be written.
pub(super) fn write(root: &Path, history: &History, target: &Destination) -> Result<String, Error> {
    // The same run gives the same name, so that a new export replaces the old one.
    let name = format!("events.out.tfevents.{}.simmim-tui", history.begin as u64);
    let (mut count, mut images) = (0, 0);
    target.write_into_folder(&name, |out| {
        let version = Some(What::FileVersion("brain.Event:2".to_owned()));
        put(out, &TensorboardEvent { wall_time: history.begin, step: 0, what: version })?;
        count = scalars(history, out)?;
        images = previews(root, history, out)?;
        Ok(())
    })?;
    Ok(format!("{count} scalars and {images} images"))
}

struct Scalar {
    time: f64,
    step: u64,
    tag: String,
    value: f32,
}

/// Writes the scalars in the order in which a writer that runs beside the training would leave them. Returns how many
/// there are.
fn scalars(history: &History, out: &mut impl Write) -> io::Result<usize> {
    let mut count = 0;
    let mut write = |scalar: &Scalar| {
        count += 1;
        let content = Content::Simple(scalar.value);
        put(out, &summary(scalar.time, scalar.step, &scalar.tag, content))
    };
    let mut others = evaluations(history).into_iter().peekable();
    for figures in history.steps() {
        for scalar in of_step(&figures?) {
            let at = (scalar.time, scalar.step);
            while let Some(earlier) = others.next_if(|other| (other.time, other.step) < at) {
                write(&earlier)?;
            }
            write(&scalar)?;
        }
    }
    others.try_for_each(|scalar| write(&scalar))?;
    Ok(count)
}

/// Returns the scalars of one step.
fn of_step(figures: &LoggedStep) -> Vec<Scalar> {
    let mut all = Vec::new();
    let mut put = |time: f64, tag: &str, value: f32| {
        all.push(Scalar { time, step: figures.step, tag: tag.to_owned(), value });
    };
    if let Some((time, loss)) = figures.loss {
        put(time, "train/loss", loss);
    }
    if let Some((time, report)) = figures.report.as_deref() {
        put(*time, "train/lr", report.lr as f32);
        put(*time, "train/grad_norm", report.grad_norm);
        put(*time, "train/images_per_s", report.images_per_s as f32);
        put(*time, "train/data_wait", report.data_wait as f32);
        put(*time, "train/epoch", report.epoch as f32);
    }
    all
}

/// Returns the scalars of validations and evaluations in the order of time.
fn evaluations(history: &History) -> Vec<Scalar> {
    let mut all = Vec::new();
    let mut put = |time: f64, step: u64, tag: String, value: f32| {
        all.push(Scalar { time, step, tag, value });
    };
    for (&step, (time, validation)) in &history.validations {
        put(*time, step, "val/loss".to_owned(), validation.comparable_loss() as f32);
        for (tag, value) in [("val/psnr", validation.psnr), ("val/ssim", validation.ssim)] {
            if let Some(value) = value {
                put(*time, step, tag.to_owned(), value as f32);
            }
        }
    }
    let kinds: [(&str, &ByStep); 2] =
        [("eval", &history.evaluations), ("baseline", &history.baselines)];
    for (kind, figures) in kinds {
        for (&step, metrics) in figures {
            for (time, metric) in metrics {
                put(*time, step, format!("{kind}/{}", metric.name), metric.value as f32);
            }
        }
    }
    all.sort_by(|a, b| a.time.total_cmp(&b.time).then(a.step.cmp(&b.step)));
    all
}

/// Writes the previews. Returns how many there are.
fn previews(root: &Path, history: &History, out: &mut impl Write) -> io::Result<usize> {
    let bar = Bar::new("previews", history.previews.len());
    let mut images = 0;
    for (done, (&step, (time, preview))) in history.previews.iter().enumerate() {
        bar.set(done);
        match image(root, &preview.path) {
            Ok(image) => {
                put(out, &summary(*time, step, "previews", Content::Image(image)))?;
                images += 1;
            }
            Err(error) => {
                say(&mut stderr(), &format!("warning: {}: {error}; left out", preview.path));
            }
        }
    }
    Ok(images)
}

fn summary(wall_time: f64, step: u64, tag: &str, content: Content) -> TensorboardEvent {
    let value = Value { tag: tag.to_owned(), content: Some(content) };
    let what = Some(What::Summary(Summary { value: vec![value] }));
    TensorboardEvent { wall_time, step: step as i64, what }
}

fn put(out: &mut impl Write, event: &TensorboardEvent) -> io::Result<()> {
    out.write_all(&record(event))
}

/// Reads a preview of a run, without decoding it.
fn image(root: &Path, path: &str) -> io::Result<Image> {
    let bytes = run_dir::read_preview(root, Path::new(path))?;
    let reader = image::ImageReader::new(io::Cursor::new(&bytes)).with_guessed_format()?;
    let (width, height) = reader.into_dimensions().map_err(io::Error::other)?;
    Ok(Image {
        height: height as i32,
        width: width as i32,
        colorspace: 3,
        encoded_image_string: bytes,
    })
}
