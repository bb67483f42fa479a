//! `bench --data`: how fast the data alone comes, by stage and by the number of loader threads.

use super::BenchArgs;
use crate::command::prepare;
use crate::config::Config;
use crate::data::gauge::{self, LoaderSpeed, StageTimes};
use crate::data::loader::cores;
use crate::error::Error;
use crate::text::say::{json, tell, tell_all};
use crate::text::units::{bytes, percent};
use serde::Serialize;
use std::time::Duration;

/// What `--data` without a value is read as: no file can have this name.
pub(super) const CONFIGURED: &str = "\0";
/// Images that go through the stages one by one, and the time for it.
const STAGED: usize = 256;
const STAGES_TIME: Duration = Duration::from_millis(800);
/// The time for one number of threads.
const WORKERS_TIME: Duration = Duration::from_millis(600);

/// Measures the data, and prints a table or one JSON object.
///
/// # Errors
/// Returns an error if configuration or data can't be used.
pub(super) fn run(args: &BenchArgs) -> Result<(), Error> {
    let mut args = args.clone();
    args.config.data = args.config.data.filter(|path| path.as_os_str() != CONFIGURED);
    let report = DataReport::measure(super::config(&args)?)?;
    if args.json {
        return Ok(tell(&json(&report))?);
    }
    Ok(tell_all(report.lines())?)
}

/// The result, which is printed as one JSON object or as a table.
#[derive(Debug, Serialize)]
struct DataReport {
    version: &'static str,
    data: String,
    image: usize,
    cores: usize,
    stages: Stages,
    /// Loaders without a cache, while nothing else is at work.
    loaders: Vec<LoaderRow>,
    /// How many of the training images `data.cache_mib` would hold, 0 to 1. A cached image is only cropped.
    cache_holds: f64,
}

/// Means over images that go through all stages one by one on one thread.
#[derive(Debug, Serialize)]
struct Stages {
    images: usize,
    unreadable: usize,
    /// Size of an image as it is stored. 0 if it is of no image format.
    stored_bytes: f64,
    /// `null` if images are of no image format: decoding is reading then.
    reading_ms: Option<f64>,
    /// The same for the same images once more. `null` if nothing came from a disk the first time.
    reading_again_ms: Option<f64>,
    decoding_ms: f64,
    cropping_ms: f64,
    images_per_s: f64,
    /// How much the system fetched from disks for all these images; the rest was in memory. `null` if it doesn't say.
    from_disk_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct LoaderRow {
    workers: usize,
    images_per_s: f64,
    /// As [`Stages::from_disk_bytes`].
    from_disk_bytes: Option<u64>,
}

impl DataReport {
    fn measure(mut config: Config) -> Result<Self, Error> {
        let cache = (config.data.cache_mib as u64) << 20;
        config.data.cache_mib = 0;
        let data = prepare::open_data(&mut config)?;
        let first = gauge::stages(&data.train, &config, STAGED, STAGES_TIME)?;
        let again = match first.from_disk {
            Some(0) | None => None,
            Some(_) => Some(gauge::stages(&data.train, &config, first.images, STAGES_TIME)?),
        };
        let (mut loaders, mut next) = (Vec::new(), 0);
        for workers in numbers(cores()) {
            let LoaderSpeed { workers, images_per_s, from_disk, end } =
                gauge::loader_speed(&data.train, &config, workers, next, WORKERS_TIME)?;
            next = end;
            loaders.push(LoaderRow { workers, images_per_s, from_disk_bytes: from_disk });
        }
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            image: config.model.image_size,
            cores: cores(),
            cache_holds: first.share_in(cache, data.train.len()),
            stages: Stages::new(&first, again.as_ref()),
            loaders,
            data: data.description,
        })
    }

    fn lines(&self) -> Vec<String> {
        let stages = &self.stages;
        let whole = 1000.0 / stages.images_per_s;
        let row = |name: &str, ms: f64, note: &str| {
            format!("{name:<10}{ms:>9.3} ms{:>9}   {note}", percent(ms / whole))
                .trim_end()
                .to_owned()
        };
        let mut lines = vec![
            format!("data: {}", self.data),
            format!("{} images one by one on one thread, without a cache:", stages.images),
        ];
        if let Some(ms) = stages.reading_ms {
            lines.push(row("reading", ms, &self.reading_note()));
        }
        lines.push(row("decoding", stages.decoding_ms, ""));
        lines.push(row("cropping", stages.cropping_ms, &format!("to {} px", self.image)));
        if stages.unreadable > 0 {
            lines.push(format!("{} more can't be read", stages.unreadable));
        }
        lines.push(String::new());
        lines.push("workers   images/s   times one".to_owned());
        let one = self.loaders.first().map_or(1.0, |row| row.images_per_s);
        lines.extend(self.loaders.iter().map(|row| self.loader_line(row, one)));
        lines.push(String::new());
        lines.push(format!(
            "data.cache_mib would hold {} of the training images, which then are only cropped",
            percent(self.cache_holds)
        ));
        lines
    }

    fn loader_line(&self, row: &LoaderRow, one: f64) -> String {
        let LoaderRow { workers, images_per_s, from_disk_bytes } = row;
        let cores = if *workers == self.cores { "   as many as cores" } else { "" };
        let disk = from_disk_bytes.filter(|&count| count > 0);
        let disk =
            disk.map_or_else(String::new, |count| format!("   {} from the disk", bytes(count)));
        format!("{workers:>7}{images_per_s:>11.0}{:>11.2}x{cores}{disk}", images_per_s / one)
    }

    /// Says where the bytes came from: a figure for the disk and one for the system's memory are far apart.
    fn reading_note(&self) -> String {
        let stages = &self.stages;
        let all = stages.stored_bytes * stages.images as f64;
        let size = format!("{} each", bytes(stages.stored_bytes as u64));
        match (stages.from_disk_bytes, stages.reading_again_ms) {
            (Some(0), _) => format!("{size}, from memory: nothing came from the disk"),
            (Some(count), Some(again)) => {
                let share = percent((count as f64 / all.max(1.0)).min(1.0));
                format!("{size}, {share} from the disk; {again:.3} ms once they are in memory")
            }
            _ => format!("{size}, from disk or memory: the system doesn't say"),
        }
    }
}

impl Stages {
    fn new(first: &StageTimes, again: Option<&StageTimes>) -> Self {
        let mean = |seconds: f64, times: &StageTimes| 1000.0 * seconds / times.images.max(1) as f64;
        let reading = |times: &StageTimes| times.reading.map(|seconds| mean(seconds, times));
        Self {
            images: first.images,
            unreadable: first.unreadable,
            stored_bytes: first.stored_bytes as f64 / first.images.max(1) as f64,
            reading_ms: reading(first),
            reading_again_ms: again.and_then(reading),
            decoding_ms: mean(first.decoding, first),
            cropping_ms: mean(first.cropping, first),
            images_per_s: first.images_per_s(),
            from_disk_bytes: first.from_disk,
        }
    }
}

/// Returns the numbers of threads to try: powers of two below the cores, the cores, and twice as many.
fn numbers(cores: usize) -> Vec<usize> {
    let below = std::iter::successors(Some(1_usize), |&number| number.checked_mul(2));
    below.take_while(|&number| number < cores).chain([cores, 2 * cores]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_threads_go_over_the_cores_once() {
        assert_eq!(numbers(1), [1, 2]);
        assert_eq!(numbers(2), [1, 2, 4]);
        assert_eq!(numbers(6), [1, 2, 4, 6, 12]);
        assert_eq!(numbers(16), [1, 2, 4, 8, 16, 32]);
    }

    #[test]
    fn the_table_says_where_the_bytes_came_from() {
        let times = StageTimes {
            images: 10,
            stored_bytes: 1_024_000,
            reading: Some(0.01),
            decoding: 0.06,
            cropping: 0.03,
            from_disk: Some(512_000),
            ..StageTimes::default()
        };
        let report = |from_disk: Option<u64>, again: Option<&StageTimes>| DataReport {
            version: "",
            data: "ten photos".to_owned(),
            image: 64,
            cores: 2,
            stages: Stages { from_disk_bytes: from_disk, ..Stages::new(&times, again) },
            loaders: [(1, 90.0), (2, 170.0)]
                .map(|(workers, images_per_s)| LoaderRow {
                    workers,
                    images_per_s,
                    from_disk_bytes: from_disk,
                })
                .into(),
            cache_holds: 0.031,
        };
        let text = |from_disk, again| report(from_disk, again).lines().join("\n");
        let cold = text(Some(512_000), Some(&times));
        for part in [
            "reading       1.000 ms   10.0 %   100.0 KiB each, 50.0 % from the disk; 1.000 ms once",
            "decoding      6.000 ms   60.0 %",
            "cropping      3.000 ms   30.0 %   to 64 px",
            "      2        170       1.89x   as many as cores   500.0 KiB from the disk",
            "would hold 3.1 % of the training images",
        ] {
            assert!(cold.contains(part), "{part:?} is missing in:\n{cold}");
        }
        assert!(text(Some(0), None).contains("from memory: nothing came from the disk"));
        assert!(text(None, None).contains("the system doesn't say"));
    }
}
