//! Finds and opens what there is to show: the newest preview of a run, a preview sheet, or any image.

use super::PreviewError;
use crate::config::{TruncatedImages, file};
use crate::data::decode::{self, Decoded};
use crate::picture::sheet::GAP;
use crate::run_dir;
use crate::shown;
use image::{Rgb, RgbImage, imageops};
use std::fs;
use std::path::{Path, PathBuf};

/// A picture and the line above it.
pub(super) struct Picture {
    pub caption: String,
    pub image: RgbImage,
}

/// Opens the preview of a run directory nearest to `step` (or the newest), a preview or an image.
pub(super) fn open(path: &Path, step: Option<u64>) -> Result<Picture, PreviewError> {
    let io = |source| PreviewError::Read { path: path.to_owned(), source };
    // What is shown is what is trained on: there is one decoder.
    let (file, decoded) = if fs::metadata(path).map_err(io)?.is_dir() {
        let file = of_run(path, step)?;
        let name = file.strip_prefix(path).unwrap_or(&file);
        let bytes = run_dir::read_preview(path, name).map_err(|error| error.to_string());
        (file, bytes.and_then(|bytes| decode::decode_as(&bytes, TruncatedImages::Skip)))
    } else {
        (path.to_owned(), decode::read(path, TruncatedImages::Skip))
    };
    let Decoded { image, .. } =
        decoded.map_err(|why| PreviewError::NotAPicture { path: file.clone(), why })?;
    let caption = if step_of(&file).is_some() {
        sheet_caption(&file)
    } else {
        shown::path(&file).to_string()
    };
    Ok(Picture { caption, image })
}

/// Stacks pictures to one image on white.
pub(super) fn stacked(pictures: &[Picture]) -> RgbImage {
    if let [only] = pictures {
        return only.image.clone();
    }
    let width = pictures.iter().map(|picture| picture.image.width()).max().unwrap_or(1);
    let height: u32 = pictures.iter().map(|picture| picture.image.height() + GAP).sum();
    let mut all = RgbImage::from_pixel(width, height.saturating_sub(GAP).max(1), Rgb([255; 3]));
    let mut top = 0;
    for picture in pictures {
        imageops::replace(&mut all, &picture.image, 0, top);
        top += i64::from(picture.image.height() + GAP);
    }
    all
}

/// Returns the line above a sheet.
pub(super) fn sheet_caption(path: &Path) -> String {
    format!("{}  (original, masked, reconstructed, raw)", shown::path(path))
}

/// Returns the path of the sheet nearest to `step`, or of the newest one.
fn of_run(run: &Path, step: Option<u64>) -> Result<PathBuf, PreviewError> {
    let folder = run.join("previews");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(PreviewError::NotARun { path: run.to_owned() });
        }
        Err(source) => return Err(PreviewError::Read { path: folder, source }),
    };
    let files = entries.filter_map(Result::ok).map(|entry| entry.path());
    let sheets = files.filter_map(|path| Some((step_of(&path)?, path)));
    let found = match step {
        None => sheets.max(),
        Some(step) => sheets.min_by_key(|(at, _)| (at.abs_diff(step), *at)),
    };
    found.map(|(_, path)| path).ok_or_else(|| {
        let path = run.to_owned();
        let config = file::saved(&run_dir::config_path(run));
        if config.is_ok_and(|config| config.finetune.is_some()) {
            PreviewError::Classifier { path }
        } else {
            PreviewError::NoPreviews { path }
        }
    })
}

/// Returns the step in a name like `step-NNNNNNNN.png`.
fn step_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("step-")?.strip_suffix(".png")?.parse().ok()
}
