//! Measures how fast images come out of a source: the stages of one image on one thread, and batches by some threads.

use super::augment::{Augment, Scratch};
use super::loader::{Loader, LoaderConfig};
use super::worker::guarded_read;
use super::{DataError, Source, decode};
use crate::config::{Config, TruncatedImages};
use crate::rng::{Purpose, stream};
use image::RgbImage;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Batches that are made ahead for each thread while a rate is measured.
const AHEAD: usize = 4;
/// Images of a batch while a rate is measured: few, so that a short time has many batches.
const BATCH: usize = 16;

/// What the stages of some images took on one thread, in all.
#[derive(Debug, Default)]
pub(crate) struct StageTimes {
    /// Images that went through all stages.
    pub images: usize,
    /// Images that could not be read.
    pub unreadable: usize,
    /// Bytes of these images as they are stored, 0 if they are of no image format.
    pub stored_bytes: u64,
    /// Bytes of the decoded images.
    pub decoded_bytes: u64,
    /// Seconds for reading the stored bytes. `None` if they are of no image format: reading is decoding then.
    pub reading: Option<f64>,
    pub decoding: f64,
    /// Random crop, resize to the size of the model, flip.
    pub cropping: f64,
    /// Bytes that the system fetched from a disk meanwhile, if it says so.
    pub from_disk: Option<u64>,
}

/// Takes up to `most` images of `source` through all stages, spread over the whole of it, for `time` at most.
///
/// # Errors
/// Returns an error if none of them can be read.
pub(crate) fn stages(
    source: &Source,
    config: &Config,
    most: usize,
    time: Duration,
) -> Result<StageTimes, DataError> {
    let start = Instant::now();
    let (disk, mut times, mut last) = (bytes_from_disk(), StageTimes::default(), None);
    let mut cropper = Cropper::new(config);
    for (number, index) in spread(source.len()).take(most).enumerate() {
        if number > 0 && start.elapsed() >= time {
            break;
        }
        let made = read(source, index, config.data.truncated).and_then(|read| {
            let cropping = cropper.crop(&read.image, number as u64)?;
            Ok((read, cropping))
        });
        match made {
            Ok((read, cropping)) => times.add(&read, cropping),
            Err(reason) => {
                times.unreadable += 1;
                last = Some(super::ImageError::new(source.name(index), reason));
            }
        }
    }
    times.from_disk = bytes_from_disk().zip(disk).map(|(now, before)| now - before);
    match last {
        Some(last) if times.images == 0 => {
            let (origin, count) = (source.origin(), times.unreadable);
            Err(DataError::AllUnreadable { origin, count, last })
        }
        _ => Ok(times),
    }
}

impl StageTimes {
    fn add(&mut self, read: &ReadImage, cropping: f64) {
        self.images += 1;
        self.decoded_bytes += read.image.as_raw().len() as u64;
        self.decoding += read.decoding;
        self.cropping += cropping;
        if let Some((bytes, seconds)) = read.stored {
            self.stored_bytes += bytes;
            *self.reading.get_or_insert(0.0) += seconds;
        }
    }

    /// Returns the images per second of one thread that decodes each image.
    pub(crate) fn images_per_s(&self) -> f64 {
        self.images as f64 / (self.reading.unwrap_or(0.0) + self.decoding + self.cropping).max(1e-9)
    }

    /// Returns the share of `images` such images that memory of so many bytes holds, 0 to 1.
    pub(crate) fn share_in(&self, bytes: u64, images: usize) -> f64 {
        let all = self.decoded_bytes as f64 / self.images.max(1) as f64 * images as f64;
        (bytes as f64 / all.max(1.0)).min(1.0)
    }
}

struct ReadImage {
    image: Arc<RgbImage>,
    /// Bytes, and the seconds in which they were read.
    stored: Option<(u64, f64)>,
    decoding: f64,
}

fn read(source: &Source, index: usize, truncated: TruncatedImages) -> Result<ReadImage, String> {
    let start = Instant::now();
    let Some(bytes) = source.encoded(index) else {
        let image = guarded_read(source, index).map_err(|error| error.reason)?;
        return Ok(ReadImage { image, stored: None, decoding: start.elapsed().as_secs_f64() });
    };
    let bytes = bytes.map_err(|error| error.reason)?;
    let stored = Some((bytes.len() as u64, start.elapsed().as_secs_f64()));
    let start = Instant::now();
    let decoded = catch_unwind(AssertUnwindSafe(|| decode::decode_as(&bytes, truncated)))
        .unwrap_or_else(|_| Err("the decoder panicked".to_owned()))?;
    let decoding = start.elapsed().as_secs_f64();
    Ok(ReadImage { image: Arc::new(decoded.image), stored, decoding })
}

/// Crops images as a training loader does.
struct Cropper {
    augment: Augment,
    size: usize,
    seed: u64,
    scratch: Scratch,
    out: Vec<u8>,
}

impl Cropper {
    fn new(config: &Config) -> Self {
        let size = config.model.image_size;
        Self {
            augment: Augment::from_config(&config.data),
            size,
            seed: config.train.seed,
            scratch: Scratch::default(),
            out: vec![0; size * size * 3],
        }
    }

    /// Crops an image and returns the seconds that it took.
    fn crop(&mut self, image: &RgbImage, number: u64) -> Result<f64, String> {
        let start = Instant::now();
        let mut rng = stream(self.seed, Purpose::Bench, number, 0);
        self.augment.train_view(image, self.size, &mut rng, &mut self.scratch, &mut self.out)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Returns indices below `count`, spread evenly over all of them however many are taken.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    /// The golden section, as a share of 2^64.
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    (0..count as u64).map(move |number| {
        let place = number.wrapping_mul(STEP);
        ((u128::from(place) * count as u128) >> 64) as usize
    })
}

/// The rate of a loader with some threads.
#[derive(Debug)]
pub(crate) struct LoaderSpeed {
    pub workers: usize,
    pub images_per_s: f64,
    /// As [`StageTimes::from_disk`].
    pub from_disk: Option<u64>,
    /// The first batch that was not made: where the next measurement finds other images.
    pub end: u64,
}

/// Measures a loader with `workers` threads for about `time`, on shuffled batches from number `start` on.
///
/// # Errors
/// Returns an error if no image can be read.
pub(crate) fn loader_speed(
    source: &Source,
    config: &Config,
    workers: usize,
    start: u64,
    time: Duration,
) -> Result<LoaderSpeed, DataError> {
    let disk = bytes_from_disk();
    let prefetch = AHEAD * workers;
    let loader =
        LoaderConfig { workers, prefetch, batch_size: BATCH, ..LoaderConfig::from_config(config) };
    let epoch = (source.len() / BATCH).max(1) as u64;
    let mut loader = Loader::train(Source::clone(source), loader, epoch, start);
    let mut batches = 0;
    // The first batches show how fast threads start, and where they get in one another's way.
    for _ in 0..workers.min(AHEAD) {
        loader.next()?;
    }
    let began = Instant::now();
    while batches == 0 || began.elapsed() < time {
        loader.next()?;
        batches += 1;
    }
    let images_per_s = (batches * BATCH) as f64 / began.elapsed().as_secs_f64();
    drop(loader);
    let end = start + (batches + workers.min(AHEAD) + prefetch + 1) as u64;
    let from_disk = bytes_from_disk().zip(disk).map(|(now, before)| now - before);
    Ok(LoaderSpeed { workers, images_per_s, from_disk, end })
}

/// Returns the bytes that this process has made the system fetch from disks, if it says so. What is in memory already
/// doesn't count.
fn bytes_from_disk() -> Option<u64> {
    let counts = std::fs::read_to_string("/proc/self/io").ok()?;
    counts.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;
    use crate::data::fixtures::Numbered;
    use std::collections::BTreeSet;

    #[test]
    fn images_are_taken_from_all_over_a_source() {
        for count in [1, 2, 7, 1000, 1_281_167] {
            let taken: BTreeSet<usize> = spread(count).take(64).collect();
            assert!(taken.iter().all(|&index| index < count));
            assert!(taken.len() > 63.min(count / 2), "{} of {count} are different", taken.len());
            let quarters: BTreeSet<usize> = taken.iter().map(|index| 4 * index / count).collect();
            assert!(quarters.len() == 4.min(count) || count == 7, "{count}: {taken:?}");
        }
    }

    #[test]
    fn stored_images_are_read_decoded_and_cropped() {
        let config = Config::default();
        let photos = data::open(&config.data).unwrap();
        let times = stages(&photos.train, &config, 10, Duration::from_mins(1)).unwrap();
        assert_eq!((times.images, times.unreadable), (10, 0));
        assert!(times.stored_bytes > 10_000 && times.decoded_bytes > 3 * times.stored_bytes);
        assert!(times.reading.is_some() && times.decoding > 0.0 && times.cropping > 0.0);
        let all = 10.0 * times.images_per_s().recip();
        assert!((all - times.reading.unwrap() - times.decoding - times.cropping).abs() < 1e-6);
        let half = times.decoded_bytes * photos.train.len() as u64 / 20;
        assert!((times.share_in(half, photos.train.len()) - 0.5).abs() < 0.01);
        assert!((times.share_in(u64::MAX, 171) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn unreadable_images_are_counted_and_none_that_can_be_read_is_an_error() {
        let config = Config::default();
        let source = |bad: &[usize]| -> Source { Arc::new(Numbered::new(5, bad)) };
        let times = stages(&source(&[0, 1, 2, 3]), &config, 500, Duration::from_mins(1)).unwrap();
        assert!(times.images > 0 && times.unreadable > 0 && times.reading.is_none());
        let error = stages(&source(&[0, 1, 2, 3, 4]), &config, 5, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("bad on purpose"), "{error}");
    }

    #[test]
    fn the_next_measurement_reads_other_images() {
        let source: Source = Arc::new(Numbered::new(40, &[]));
        let config = Config::default();
        let first = loader_speed(&source, &config, 2, 0, Duration::ZERO).unwrap();
        assert!(first.images_per_s > 0.0 && first.workers == 2);
        assert!(first.end > 2 * AHEAD as u64, "{first:?}");
        assert!(
            loader_speed(&source, &config, 1, first.end, Duration::ZERO).unwrap().end > first.end
        );
    }
}
