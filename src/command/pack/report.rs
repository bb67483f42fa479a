//! What a finished folder of shards holds, for people and for programs.

use super::folder::PackFolder;
use super::state::PackPart;
use crate::command::encoder;
use crate::data::ImageError;
use crate::text::say::{UnwrittenOutput, json, tell};
use crate::text::units::{bytes, span};
use serde::Serialize;
use std::fmt::Display;

/// The figures of a finished folder.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    folder: String,
    train: PartReport,
    val: PartReport,
    bytes: u64,
    /// Images that were left out.
    unreadable: usize,
    /// Images that were taken though something is wrong with them.
    incomplete: usize,
    /// What this start took.
    seconds: f64,
    #[serde(skip)]
    faulty: Vec<ImageError>,
}

#[derive(Debug, Serialize)]
struct PartReport {
    images: usize,
    shards: usize,
}

impl Report {
    pub fn new(folder: &PackFolder, seconds: f64) -> Self {
        let part = |part| {
            let shards = folder.state.shards(part);
            let images = shards.iter().map(|shard| shard.images).sum();
            PartReport { images, shards: shards.len() }
        };
        let faulty: Vec<ImageError> = folder.faulty().cloned().map(Into::into).collect();
        let taken = faulty.iter().filter(|fault| fault.taken).count();
        Self {
            folder: crate::shown::text(&folder.root),
            train: part(PackPart::Train),
            val: part(PackPart::Val),
            bytes: folder.state.all().map(|shard| shard.bytes).sum(),
            unreadable: faulty.len() - taken,
            incomplete: taken,
            seconds,
            faulty,
        }
    }

    /// Warns of images that were left out, or are incomplete.
    pub fn warn(&self) {
        encoder::note_faulty(&self.faulty);
    }

    /// Returns one line on what there is. `before` says that all of it was there before.
    pub fn line(&self, before: bool, place: &impl Display) -> String {
        let Self { train, val, .. } = self;
        let images = train.images + val.images;
        let shards = train.shards + val.shards;
        let left_out = match self.unreadable {
            0 => String::new(),
            count => format!(", {count} unreadable ones left out (unreadable.txt)"),
        };
        let head = if before { format!("{place} is finished: ") } else { String::new() };
        let tail =
            if before { String::new() } else { format!(" in {place} ({})", span(self.seconds)) };
        format!(
            "{head}{images} images ({} train, {} val) in {shards} shards, {}{left_out}{tail}",
            train.images,
            val.images,
            bytes(self.bytes)
        )
    }

    /// Prints everything as one JSON object.
    pub fn print_json(&self) -> Result<(), UnwrittenOutput> {
        tell(&json(self))
    }
}
