//! Checkpoints: one safetensors file each, with everything that an exact resume needs.
//!
//! The tensors are `model.NAME` (timm's names and layouts), `adam.first.NAME`, `adam.second.NAME`, and, in the
//! middle of a gradient accumulation, `accumulated.NAME`. The metadata key `checkpoint` holds a JSON object
//! ([`Meta`]). The key `checksum` holds the XXH3-128 of the whole file, computed with zeros in place of the
//! checksum's own digits, so that a flipped bit anywhere in the file is found.

#[cfg(test)]
mod tests;

use super::best::{Best, Grade};
use crate::config::file;
use crate::data::Fingerprint;
use crate::engine::EngineState;
use crate::event::number;
use crate::files;
use crate::model::ModelShape;
use crate::model::state::{NamedTensors, StateError};
use crate::model::tensors::{self, TensorFileError};
use crate::run_dir::{advice, sync_dir, uninterrupted, write_atomic};
use crate::shown;
use crate::text::shell::for_shell;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};
use thiserror::Error;

/// Version of the file format. Files of a higher version are refused.
const VERSION: u32 = 1;
/// Numbers are written as they lie in memory, and safetensors files are little-endian.
const _: () = assert!(cfg!(target_endian = "little"));
/// Stands in place of the checksum's digits while the checksum is computed.
const BLANK: &str = "00000000000000000000000000000000";
const EXTENSION: &str = "safetensors";

/// Why a checkpoint can't be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    #[error("cannot write checkpoint {path}: {source}{}; earlier checkpoints are unharmed", advice(.source), path = shown::path(.path))]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read checkpoint {path}: {source}", path = shown::path(.path))]
    Read { path: PathBuf, source: io::Error },
    #[error("checkpoint {path} is damaged: {reason}", path = shown::path(.path))]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{} is no checkpoint of this program: a new run starts from its weights with --init {}, and `simmim-tui import \
         {} -o CKPT` makes a checkpoint of them",
        shown::path(.path), for_shell(.path), for_shell(.path)
    )]
    Foreign { path: PathBuf },
    #[error(
        "checkpoint {path} has format version {found}, this program reads up to {VERSION}: use a newer release",
        path = shown::path(.path)
    )]
    Version { path: PathBuf, found: u32 },
}

impl CheckpointError {
    /// Returns whether the file holds no checkpoint that any release could read, so that an older one may take its place.
    pub(crate) fn is_spoilt(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Foreign { .. })
    }
}

/// Everything in a checkpoint but the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    pub version: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// Micro-batches of the unfinished step whose gradients are in `accumulated.*`.
    pub accumulated: u64,
    /// Micro-batches taken from the data since the start of the run. The order of images, their crops and masks, and
    /// drop path are functions of this number and the seed.
    pub micro: u64,
    /// Number of training images. With another number the images would come in another order.
    pub train_images: u64,
    /// Which images the run had. Files of earlier releases don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Fingerprint>,
    /// Optimizer updates, for Adam's bias correction.
    pub updates: u64,
    /// Losses of the accumulated micro-batches.
    #[serde(deserialize_with = "number::all_or_nan")]
    pub losses: Vec<f32>,
    /// Lowest validation loss so far.
    pub best_val_loss: Option<f64>,
    /// Loss of the validation at exactly this step, if there was one.
    pub val_loss: Option<f64>,
    /// Top-1 accuracy of that validation, if the model is a classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_accuracy: Option<f64>,
    /// The best validation of a classifier so far. Other models have none, because the lowest loss says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Grade>,
    /// How many images the validations of the run have, if these are not all; `val_loss`, `best_val_loss` and `best` are
    /// on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_images: Option<u64>,
    /// Whether the validation at exactly this step was on all images beside these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_all: bool,
    /// Step of the newest evaluation on labelled images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated: Option<u64>,
    /// Seconds of training so far, without pauses.
    pub elapsed_s: f64,
    /// The resolved configuration as TOML.
    pub config: String,
}

/// A checkpoint in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    pub meta: Meta,
    pub engine: EngineState,
}

impl Meta {
    /// The version that this program writes.
    pub const CURRENT: u32 = VERSION;

    /// Returns the data of a run before its first step, without a configuration.
    pub fn start() -> Self {
        Self {
            version: VERSION,
            step: 0,
            accumulated: 0,
            micro: 0,
            train_images: 0,
            images: None,
            updates: 0,
            losses: Vec::new(),
            best_val_loss: None,
            val_loss: None,
            val_accuracy: None,
            best: None,
            val_images: None,
            on_all: false,
            evaluated: None,
            elapsed_s: 0.0,
            config: String::new(),
        }
    }

    /// Returns the result of the validation at exactly this step, if there was one.
    pub fn grade(&self) -> Option<Grade> {
        self.val_loss.map(|loss| Grade { loss, accuracy: self.val_accuracy })
    }

    /// Returns the best validations up to this step.
    pub fn best(&self) -> Best {
        let by_loss = self.best_val_loss.map(|loss| Grade { loss, accuracy: None });
        Best { grade: self.best.or(by_loss), lowest_loss: self.best_val_loss }
    }
}

/// Returns the file name of the checkpoint after `step` steps and `accumulated` micro-batches of the next one.
pub fn file_name(step: u64, accumulated: u64) -> String {
    if accumulated == 0 {
        format!("step-{step:08}.{EXTENSION}")
    } else {
        format!("step-{step:08}+{accumulated}.{EXTENSION}")
    }
}

/// Returns the step and the accumulated micro-batches that a checkpoint's file name states.
fn position(path: &Path) -> Option<(u64, u64)> {
    if path.extension()? != EXTENSION {
        return None;
    }
    let place = path.file_stem()?.to_str()?.strip_prefix("step-")?;
    let (step, accumulated) = place.split_once('+').unwrap_or((place, "0"));
    Some((step.parse().ok()?, accumulated.parse().ok()?))
}

/// Lists the checkpoints in a folder, oldest first, without `best.safetensors`.
///
/// # Errors
/// Returns an error if the folder exists but can't be read.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let read = |source| CheckpointError::Read { path: folder.to_owned(), source };
    let entries = uninterrupted(|| fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>());
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(read(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.path();
        found.extend(position(&path).map(|position| (position, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Writes a checkpoint atomically under the name of its position. Returns its path and its size in bytes.
///
/// # Errors
/// Returns an error if the file can't be written. An existing file of that name is then unchanged.
pub fn save(folder: &Path, checkpoint: &Checkpoint) -> Result<(PathBuf, u64), CheckpointError> {
    let path = folder.join(file_name(checkpoint.meta.step, checkpoint.meta.accumulated));
    let size = write(&path, checkpoint)?;
    Ok((path, size))
}

/// Writes a checkpoint atomically under any name. Returns its size in bytes.
///
/// # Errors
/// Returns an error in the same cases as [`save`].
pub(crate) fn write(path: &Path, checkpoint: &Checkpoint) -> Result<u64, CheckpointError> {
    let error = |source| CheckpointError::Write { path: path.to_owned(), source };
    let bytes = encode(checkpoint).map_err(|text| error(io::Error::other(text)))?;
    write_atomic(path, &bytes).map_err(error)?;
    Ok(bytes.len() as u64)
}

/// Makes `best.safetensors` a hard link to `path`, or a copy where the file system has no hard links.
///
/// # Errors
/// Returns an error if neither the link nor the copy can be made.
pub(crate) fn mark_best(path: &Path) -> Result<(), CheckpointError> {
    let best = best_path(path.parent().unwrap_or(Path::new(".")));
    if is_one_file(path, &best) {
        return Ok(()); // renaming a link onto a link of the same file does nothing, and would leave it behind
    }
    let link = |temporary: &Path| fs::hard_link(path, temporary);
    let linked = files::make_temporary(&best, link)
        .map(|(temporary, ())| temporary)
        .or_else(|_| copy(path, &best))
        .and_then(|temporary| {
            let renamed = fs::rename(&temporary, &best);
            if renamed.is_err() {
                let _ = fs::remove_file(&temporary); // the first error is the one to report
            }
            renamed
        })
        .and_then(|()| sync_dir(path.parent().unwrap_or(Path::new("."))));
    linked.map_err(|source| CheckpointError::Write { path: best, source })
}

/// Copies a file to a temporary one for `to`. Returns its path.
fn copy(from: &Path, to: &Path) -> io::Result<PathBuf> {
    let mut source = files::open(from)?;
    let (temporary, mut file) = files::new_temporary(to, files::OURS)?;
    let copied = io::copy(&mut source, &mut file).and_then(|_| file.sync_all());
    if copied.is_err() {
        let _ = fs::remove_file(&temporary); // the first error is the one to report
    }
    copied.map(|()| temporary)
}

/// Returns whether two paths are links of one file.
fn is_one_file(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino())).ok();
    identity(a).is_some_and(|a| identity(b) == Some(a))
}

/// Deletes all but the `keep` newest checkpoints. `best.safetensors` stays, as it is a link of its own.
pub(crate) fn prune(folder: &Path, keep: usize) {
    let all = list(folder).unwrap_or_default();
    for path in &all[..all.len().saturating_sub(keep)] {
        let _ = fs::remove_file(path); // a file that stays is tried again after the next checkpoint
    }
}

/// Reads and verifies a checkpoint.
///
/// # Errors
/// Returns an error if the file can't be read, is incomplete or altered, has a newer format, or holds other weights than
/// those of the model that it describes.
pub fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
    examine(path)?;
    let mut bytes = Vec::new();
    let read = files::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
    decode(bytes, path)
}

/// A checkpoint to continue from, and what was wrong with newer ones.
#[derive(Debug)]
pub struct FoundCheckpoint {
    pub path: PathBuf,
    pub checkpoint: Checkpoint,
    /// Errors of newer, damaged checkpoints that were passed over.
    pub warnings: Vec<String>,
    /// Paths of those damaged checkpoints.
    pub damaged: Vec<PathBuf>,
}

/// Finds the newest sound checkpoint in a folder, or `best.safetensors` if no other is sound. Changes nothing.
///
/// With a `limit`, only numbered checkpoints that are not newer than that one are tried.
///
/// # Errors
/// Returns an error if a checkpoint can't be read or has a newer format, or, where there are checkpoints but none is
/// sound, the error of the newest.
pub fn find(
    folder: &Path,
    limit: Option<&Path>,
) -> Result<Option<FoundCheckpoint>, CheckpointError> {
    let limit = limit.and_then(position);
    let mut candidates: Vec<PathBuf> = list(folder)?;
    candidates.retain(|path| limit.is_none() || position(path) <= limit);
    candidates.reverse();
    let best = best_path(folder);
    if limit.is_none() && best.exists() {
        candidates.push(best);
    }
    let mut failed: Vec<(PathBuf, CheckpointError)> = Vec::new();
    for path in candidates {
        match load(&path) {
            Ok(checkpoint) => return Ok(Some(FoundCheckpoint::past(&failed, path, checkpoint))),
            Err(error) if error.is_spoilt() => failed.push((path, error)),
            // The checkpoint may be sound, and passing over it would throw work away.
            Err(error) => return Err(error),
        }
    }
    match failed.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(None),
    }
}

/// Returns the newest sound checkpoint that isn't newer than `step`, with its step. `best.safetensors` counts, too.
pub(crate) fn newest_up_to(folder: &Path, step: u64) -> Option<(u64, PathBuf)> {
    let limit = folder.join(file_name(step, 0));
    if let Ok(Some(found)) = find(folder, Some(&limit)) {
        return Some((found.checkpoint.meta.step, found.path));
    }
    let best = best_path(folder);
    let at = load(&best).ok()?.meta.step;
    (at <= step).then_some((at, best))
}

impl FoundCheckpoint {
    fn past(failed: &[(PathBuf, CheckpointError)], path: PathBuf, checkpoint: Checkpoint) -> Self {
        Self {
            path,
            checkpoint,
            warnings: failed.iter().map(|(_, error)| error.to_string()).collect(),
            damaged: failed.iter().map(|(path, _)| path.clone()).collect(),
        }
    }
}

/// Renames the checkpoints that are newer than the position from which the run continues, and the previews of later steps
/// if there are such checkpoints. Returns how many checkpoints there were.
///
/// `best.safetensors` is renamed too if it is newer or damaged, as the next best checkpoint would overwrite it.
///
/// # Errors
/// Returns an error if the folder can't be read.
pub(crate) fn abandon_newer(
    folder: &Path,
    step: u64,
    accumulated: u64,
) -> Result<usize, CheckpointError> {
    let newer = |path: &PathBuf| position(path) > Some((step, accumulated));
    let newer: Vec<_> = list(folder)?.into_iter().filter(newer).collect();
    for path in &newer {
        set_aside(path, "abandoned");
    }
    if !newer.is_empty() {
        // The run takes another way from here on, and its previews would replace those of the old one.
        let previews = folder.with_file_name("previews");
        for path in previews_after(&previews, step) {
            set_aside(&path, "abandoned");
        }
    }
    let best = best_path(folder);
    match load(&best) {
        Ok(best_one) if best_one.meta.step > step => set_aside(&best, "abandoned"),
        Err(error) if error.is_spoilt() => set_aside(&best, "damaged"),
        _ => {}
    }
    Ok(newer.len())
}

/// Lists the previews of later steps.
fn previews_after(folder: &Path, step: u64) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let later = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let at = name.and_then(|name| name.strip_prefix("step-")?.strip_suffix(".png"));
        at.and_then(|at| at.parse::<u64>().ok()).is_some_and(|at| at > step)
    };
    entries.map(|entry| entry.path()).filter(later).collect()
}

/// Returns the path of the best checkpoint in a folder. The file need not exist.
pub(crate) fn best_path(folder: &Path) -> PathBuf {
    folder.join(format!("best.{EXTENSION}"))
}

/// Appends `.ending` or `.ending-2`, … to a file's name, so that the file is neither found nor counted as a checkpoint any
/// more. No file that was set aside before is replaced.
pub(crate) fn set_aside(path: &Path, ending: &str) {
    let _ = files::set_aside(path, ending); // a file that keeps its name is only passed over once more
}

fn encode(checkpoint: &Checkpoint) -> Result<Vec<u8>, String> {
    let state = &checkpoint.engine;
    let groups =
        [("model", &state.weights), ("adam", &state.moments), ("accumulated", &state.gradients)];
    let named = groups.into_iter().flat_map(|(prefix, tensors)| {
        tensors.iter().map(move |(name, tensor)| (format!("{prefix}.{name}"), tensor))
    });
    let views: Result<Vec<_>, safetensors::SafeTensorError> = named
        .map(|(name, tensor)| {
            let bytes = bytemuck::cast_slice(&tensor.data);
            Ok((name, TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?))
        })
        .collect();
    let views = views.map_err(|error| error.to_string())?;
    let meta = serde_json::to_string(&checkpoint.meta).map_err(|error| error.to_string())?;
    let metadata =
        HashMap::from([("checkpoint".to_owned(), meta), ("checksum".to_owned(), BLANK.to_owned())]);
    let mut bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|error| error.to_string())?;
    let at = checksum_at(&bytes).ok_or("the header has no checksum")?;
    let sum = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes));
    bytes[at..at + sum.len()].copy_from_slice(sum.as_bytes());
    Ok(bytes)
}

/// Checks by the header alone whether the file is a whole checkpoint, and whether its tensors are those of the model that
/// it describes: the model is built from the description, which may say anything.
fn examine(path: &Path) -> Result<(), CheckpointError> {
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let header = tensors::header(path).map_err(|error| match error {
        TensorFileError::Read { path, source } => CheckpointError::Read { path, source },
        TensorFileError::Format { reason, .. } => damaged(format!("{reason}; is it a checkpoint?")),
        other => damaged(other.to_string()),
    })?;
    if !["checkpoint", "checksum"].iter().any(|key| header.metadata.contains_key(*key)) {
        return Err(CheckpointError::Foreign { path: path.to_owned() });
    }
    let text = header.metadata.get("checkpoint");
    let text = text.ok_or_else(|| damaged("it has no description".to_owned()))?;
    let version: serde_json::Value =
        serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    if version["version"].as_u64().unwrap_or(0) > u64::from(VERSION) {
        return Ok(()); // its checksum decides whether that is so
    }
    let meta: Meta = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    // Whoever needs the configuration says what is wrong with it.
    let Ok(config) = file::parse(&meta.config, "in the checkpoint") else { return Ok(()) };
    let disagree =
        |error: StateError| damaged(format!("its configuration and its tensors disagree: {error}"));
    let weights = header.shapes_with_prefix("model.");
    ModelShape::of(&config).check(&weights).map_err(disagree)?;
    for prefix in ["adam.first.", "adam.second.", "accumulated."] {
        for (name, found) in header.shapes_with_prefix(prefix) {
            let expected = weights.get(&name).cloned();
            let name = format!("{prefix}{name}");
            let expected = expected.ok_or_else(|| disagree(StateError::Unknown(name.clone())))?;
            if found != expected {
                return Err(disagree(StateError::Shape { name, found, expected }));
            }
        }
    }
    Ok(())
}

fn decode(mut bytes: Vec<u8>, path: &Path) -> Result<Checkpoint, CheckpointError> {
    let damaged = |reason: &str| CheckpointError::Damaged {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    if bytes.is_empty() {
        return Err(damaged("it is empty"));
    }
    let at =
        checksum_at(&bytes).ok_or_else(|| damaged("it has no checksum; is it a checkpoint?"))?;
    let found = bytes[at..at + BLANK.len()].to_vec();
    bytes[at..at + BLANK.len()].copy_from_slice(BLANK.as_bytes());
    let sum = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes));
    if sum.as_bytes() != found {
        return Err(damaged("the checksum doesn't match"));
    }
    let file = tensors::parse(&bytes, path).map_err(|error| damaged(&error.to_string()))?;
    drop(bytes);
    let text = file.metadata.get("checkpoint").ok_or_else(|| damaged("it has no description"))?;
    let version: serde_json::Value =
        serde_json::from_str(text).map_err(|error| damaged(&error.to_string()))?;
    let version = version["version"].as_u64().unwrap_or(0) as u32;
    if version > VERSION {
        return Err(CheckpointError::Version { path: path.to_owned(), found: version });
    }
    let meta: Meta = serde_json::from_str(text).map_err(|error| damaged(&error.to_string()))?;
    let mut engine = EngineState {
        updates: meta.updates,
        losses: meta.losses.clone(),
        ..EngineState::default()
    };
    for (name, tensor) in file.tensors {
        let group: Option<(&mut NamedTensors, &str)> = match name.split_once('.') {
            Some(("model", rest)) => Some((&mut engine.weights, rest)),
            Some(("adam", rest)) => Some((&mut engine.moments, rest)),
            Some(("accumulated", rest)) => Some((&mut engine.gradients, rest)),
            _ => None,
        };
        let (group, rest) = group.ok_or_else(|| damaged(&format!("unknown tensor {name}")))?;
        group.insert(rest.to_owned(), tensor);
    }
    Ok(Checkpoint { meta, engine })
}

/// Returns the offset of the checksum's digits in the file.
fn checksum_at(bytes: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"\"checksum\":\"";
    // The header's length is checked against the file's, so that only a real header is searched.
    let (header, _) = SafeTensors::read_metadata(bytes).ok()?;
    let header = bytes.get(8..8 + header)?;
    let at = header.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    (header.len() >= at + BLANK.len()).then_some(8 + at)
}
