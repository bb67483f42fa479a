//! Writes shards: images come in order, a shard ends where its limits say, and a second thread finishes it meanwhile.

use super::folder::{PackFolder, Segment, unwritten};
use super::progress::PackProgress;
use super::settings::PackSettings;
use super::state::{PackFault, PackPart, ShardRecord, checksum_text};
use super::stream::{InOrder, in_order};
use crate::data::member_names::MemberNames;
use crate::data::repack::{Repack, Repacked};
use crate::data::shard_writer::{ShardWriter, WrittenShard};
use crate::data::{DataError, ImageError, Source};
use crate::error::Error;
use crate::run_dir::sync_dir;
use crate::shown;
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a writer that waits for the finisher looks at the clock and at signals.
const TICK: Duration = Duration::from_millis(100);

/// How the images of one part are written.
pub(super) struct PackWork<'a> {
    part: PackPart,
    samples: Samples<'a>,
    settings: &'a PackSettings,
    threads: usize,
    progress: &'a PackProgress,
    stop: &'a AtomicBool,
}

/// The samples of a part, which any thread can make.
struct Samples<'a> {
    images: &'a Source,
    names: MemberNames,
    /// The index of the image at each position, or `None` if they are the same.
    order: Option<Vec<usize>>,
    repack: Repack,
}

/// An image with what a shard says of it.
struct Sample {
    key: String,
    ending: String,
    image: Repacked,
    label: Option<u32>,
}

type Made = Result<Sample, ImageError>;

impl<'a> PackWork<'a> {
    pub fn new(
        part: PackPart,
        images: &'a Source,
        settings: &'a PackSettings,
        threads: usize,
        progress: &'a PackProgress,
        stop: &'a AtomicBool,
    ) -> Self {
        let order = (part == PackPart::Train).then(|| settings.order(images.len())).flatten();
        let names = MemberNames::of(images);
        let samples = Samples { images, names, order, repack: settings.repack() };
        Self { part, samples, settings, threads, progress, stop }
    }

    /// Writes the shards of some images.
    ///
    /// # Errors
    /// Returns an error if a shard can't be written, or if the command is interrupted. Shards that were ended before are
    /// finished all the same.
    pub fn write(&self, segment: &Segment, folder: &mut PackFolder) -> Result<(), Error> {
        let root = folder.root.clone();
        let (closed, to_finish) = bounded(1);
        let (written, finished) = std::thread::scope(|scope| {
            let second = scope.spawn(move || finish_all(segment, &to_finish, folder));
            let mut writer = SegmentWriter {
                work: self,
                root: &root,
                number: segment.number,
                first: segment.positions.start,
                open: None,
                faulty: Vec::new(),
                last: None,
                closed,
            };
            let samples = &self.samples;
            let written = in_order(
                segment.positions.clone(),
                self.threads,
                |position| samples.make(position),
                |made| made.as_ref().map_or(0, |sample| sample.image.bytes.len()),
                &mut writer,
            );
            let written = written.and_then(|()| writer.end(segment.positions.end));
            drop(writer);
            let finished = second.join().unwrap_or_else(|_| {
                Err(Error::Failed("the thread that finishes shards has failed".to_owned()))
            });
            (written, finished)
        });
        // If finishing has failed, writing has failed with less to say.
        finished.and(written)
    }
}

impl Samples<'_> {
    fn make(&self, position: usize) -> Made {
        let index = self.order.as_ref().map_or(position, |order| order[position]);
        let image = self.repack.image(self.images, index)?;
        let (key, ending) = self.names.name(self.images, index, image.format);
        Ok(Sample { key, ending, image, label: self.images.label(index) })
    }
}

/// A shard that has all of its members.
struct ClosedShard {
    number: usize,
    temporary: Temporary,
    written: WrittenShard,
    record: ShardRecord,
}

/// Syncs, checks and renames shards, and records them.
fn finish_all(
    segment: &Segment,
    closed: &Receiver<ClosedShard>,
    folder: &mut PackFolder,
) -> Result<(), Error> {
    for ClosedShard { number, temporary, written, record } in closed {
        let path = folder.root.join(&record.name);
        folder.check_again(segment.part, number, &record)?;
        let finished = written
            .sync_and_check(&temporary.0)
            .and_then(|()| fs::rename(&temporary.0, &path))
            .and_then(|()| sync_dir(&folder.root));
        finished.map_err(|error| unwritten(&path, &error))?;
        folder.add(segment.part, number, record)?;
    }
    Ok(())
}

/// A file that is removed unless it has got another name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // after the renaming there is none
    }
}

/// A shard that takes members.
struct OpenShard {
    writer: ShardWriter,
    temporary: Temporary,
    images: usize,
}

struct SegmentWriter<'a> {
    work: &'a PackWork<'a>,
    root: &'a Path,
    /// The number of the open shard, and the position of its first image.
    number: usize,
    first: usize,
    open: Option<OpenShard>,
    /// What is wrong with images of the open shard.
    faulty: Vec<PackFault>,
    /// The last image that was left out.
    last: Option<ImageError>,
    closed: Sender<ClosedShard>,
}

impl InOrder<Made> for SegmentWriter<'_> {
    fn take(&mut self, position: usize, made: Made) -> Result<(), Error> {
        let Sample { key, ending, image, label } = match made {
            Ok(sample) => sample,
            Err(error) => {
                self.last = Some(error.clone());
                self.faulty.push(error.into());
                self.work.progress.add(0);
                return Ok(());
            }
        };
        let class = label.map(|label| (format!("{key}.cls"), label.to_string()));
        let name = format!("{key}.{ending}");
        let mut members = vec![(name.as_str(), image.bytes.as_slice())];
        members.extend(class.iter().map(|(name, text)| (name.as_str(), text.as_bytes())));
        let lengths: Vec<_> = members.iter().map(|(name, bytes)| (*name, bytes.len())).collect();
        if self.open.as_ref().is_some_and(|open| self.is_full(open, &lengths)) {
            self.close(position)?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        for (name, bytes) in members {
            let appended = open.writer.append(name, bytes);
            appended.map_err(|error| unwritten(&self.path(), &error))?;
        }
        open.images += 1;
        self.open = Some(open);
        self.faulty.extend(image.flaw.map(Into::into));
        self.work.progress.add(image.bytes.len() as u64);
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Error> {
        self.work.progress.tick();
        if self.work.stop.load(Ordering::Relaxed) {
            return Err(Error::Failed(format!(
                "interrupted: give the same command again to go on behind the finished shards of {}",
                shown::path(self.root)
            )));
        }
        Ok(())
    }
}

impl SegmentWriter<'_> {
    fn path(&self) -> PathBuf {
        self.root.join(self.work.part.shard(self.number))
    }

    fn is_full(&self, open: &OpenShard, members: &[(&str, usize)]) -> bool {
        open.images as u64 >= self.work.settings.images_per_shard
            || open.writer.bytes_with(members) > self.work.settings.shard_size
    }

    fn begin(&self) -> Result<OpenShard, Error> {
        let name = format!(".{}.tmp", self.work.part.shard(self.number));
        let temporary = Temporary(self.root.join(name));
        let writer = ShardWriter::create(&temporary.0);
        let writer = writer.map_err(|error| unwritten(&self.path(), &error))?;
        Ok(OpenShard { writer, temporary, images: 0 })
    }

    /// Ends the open shard: `next` is the position of the first image behind it.
    fn close(&mut self, next: usize) -> Result<(), Error> {
        let Some(OpenShard { writer, temporary, images }) = self.open.take() else {
            return Ok(());
        };
        let written = writer.finish().map_err(|error| unwritten(&self.path(), &error))?;
        let record = ShardRecord {
            name: self.work.part.shard(self.number),
            first: self.first,
            next,
            images,
            bytes: written.sum.bytes,
            xxh3: checksum_text(written.sum),
            faulty: std::mem::take(&mut self.faulty),
        };
        let mut shard = ClosedShard { number: self.number, temporary, written, record };
        (self.number, self.first) = (self.number + 1, next);
        loop {
            match self.closed.send_timeout(shard, TICK) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) => {
                    shard = back;
                    self.tick()?;
                }
                Err(SendTimeoutError::Disconnected(_)) => {
                    // The finisher has an error of its own, which is the one that is reported.
                    return Err(Error::Failed("shards can't be finished".to_owned()));
                }
            }
        }
    }

    /// Ends the last shard. Images without any shard could all not be read.
    fn end(&mut self, next: usize) -> Result<(), Error> {
        if self.open.is_some() {
            return self.close(next);
        }
        let Some(last) = self.last.take() else { return Ok(()) };
        let origin = self.work.samples.images.origin();
        Err(DataError::AllUnreadable { origin, count: next - self.first, last }.into())
    }
}
