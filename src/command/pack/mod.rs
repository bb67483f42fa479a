//! The `pack` command: writes the images of any source into tar shards, as WebDataset reads them.
//!
//! ```text
//! SOURCE ─ images, in order ─▶ threads: read, decode, perhaps shrink ─▶ one writer ─▶ finisher: sync, check, rename
//!                                                                     DIR/.train-000000.tar.tmp      DIR/train-000000.tar
//! ```
//! Where a shard ends depends on its members alone, not on threads and time. `DIR/pack.json` says which shards are
//! finished, and of what they were made: a second start goes on behind them, and ends with the same bytes.

#![expect(clippy::doc_markdown, reason = "the comments are the help texts")]

mod folder;
mod progress;
mod report;
mod settings;
mod source;
mod state;
mod stream;
mod work;

use super::args::ConfigArgs;
use super::{encoder, prepare};
use crate::data::{self, Dataset};
use crate::error::Error;
use crate::process::signals;
use crate::shown;
use crate::text::say::say;
use folder::{Begun, PackFolder};
use progress::PackProgress;
use report::Report;
use settings::{ByteCount, PackSettings};
use source::PackSource;
use state::PackPart;
use std::io::stderr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use work::PackWork;

#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct PackArgs {
    /// Pack these images: whatever --data takes
    #[arg(value_name = "SOURCE")]
    pub source: PathBuf,
    /// Write the shards into this folder: train-000000.tar, …, val-000000.tar, … and classes.txt
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Shrink images whose shorter side has more pixels than this, and store them as JPEG [default: keep their bytes]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub size: Option<u32>,
    /// Store shrunk images with this quality of JPEG [default: 92]
    #[arg(long, value_name = "1-100", requires = "size", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub quality: Option<u8>,
    /// End a shard before it has more bytes than this, such as 500M or 2GiB
    #[arg(long, value_name = "BYTES", default_value = "1G")]
    pub shard_size: ByteCount,
    /// End a shard that has this many images
    #[arg(long, value_name = "IMAGES", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub images_per_shard: u64,
    /// Pack the training images in random order, so that no shard has images of few classes only [default: the order of
    /// the source]
    #[arg(long)]
    pub shuffle: bool,
    /// Draw the order of --shuffle from this number [default: 0]
    #[arg(long, value_name = "SEED", requires = "shuffle")]
    pub seed: Option<u64>,
    /// Read and encode images on this many threads [default: all cores]
    #[arg(long, value_name = "THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Compare every byte of shards that an earlier start has finished with their checksums, not only their sizes
    #[arg(long)]
    pub verify: bool,
    /// Begin anew in a folder that holds other shards, which are removed, or other files, which stay
    #[arg(long)]
    pub force: bool,
    /// Print what was written as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Read the configuration from this TOML file, or take a built-in one; of its settings those of [data] count
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key of the configuration, such as data.val_fraction or data.truncated; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// Packs a data set.
///
/// # Errors
/// Returns an error if the data can't be used, if the folder holds something else or can't be written, or if the command
/// is interrupted. Finished shards stay, and the same command goes on behind them.
pub fn run(args: &PackArgs) -> Result<(), Error> {
    let start = Instant::now();
    let mut config = prepare::config(&ConfigArgs {
        config: args.config.clone(),
        data: Some(args.source.clone()),
        sets: args.sets.clone(),
        ..ConfigArgs::default()
    })?;
    config.data.cache_mib = 0; // each image is read once
    let settings = PackSettings::new(args, config.data.truncated);
    folder::check(&args.output, args.force)?;
    let data = encoder::open_images(&config.data)?;
    for part in PackPart::ALL {
        data::check_readable(part.of(&data))?;
    }
    let source = PackSource::of(&data);
    let mut folder = PackFolder::open(&args.output, args.force, &settings, &source)?;
    let damaged = folder.damaged(args.verify)?;
    let begun = folder.begun();
    if begun != Begun::Finished || !damaged.is_empty() {
        if begun == Begun::Fresh {
            source.warn_of_space(&args.output, &settings);
        } else {
            say(&mut stderr(), &folder.going_on(&damaged));
        }
        // Until now there is nothing to end cleanly, and listing and checking may take long.
        let stop = signals::stop_flag().map_err(Error::system("cannot handle signals"))?;
        pack(args, &data, &settings, &mut folder, &damaged, &stop)?;
        folder.finish()?;
    }
    let report = Report::new(&folder, start.elapsed().as_secs_f64());
    report.warn();
    if args.json {
        return Ok(report.print_json()?);
    }
    let place = shown::path(&args.output);
    say(&mut stderr(), &report.line(begun == Begun::Finished && damaged.is_empty(), &place));
    Ok(())
}

/// Writes the damaged shards again, and then those that are missing at the end of each part.
fn pack(
    args: &PackArgs,
    data: &Dataset,
    settings: &PackSettings,
    folder: &mut PackFolder,
    damaged: &[String],
    stop: &AtomicBool,
) -> Result<(), Error> {
    folder.write_classes(&data.classes)?;
    let segments = folder.segments(damaged);
    let images = segments.iter().map(|segment| segment.positions.len()).sum();
    let progress = PackProgress::new(images);
    let threads = args.threads.map_or_else(cores, usize::from);
    for part in PackPart::ALL {
        let own: Vec<_> = segments.iter().filter(|segment| segment.part == part).collect();
        if own.is_empty() {
            continue;
        }
        let images = part.of(data);
        let work = PackWork::new(part, images, settings, threads, &progress, stop);
        for segment in own {
            work.write(segment, folder)?;
        }
    }
    Ok(())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
