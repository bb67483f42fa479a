use super::*;
use crate::config::{Config, DataConfig, Shuffle};
use crate::data::loader::{Batch, Loader, LoaderConfig};
use crate::data::split::Subset;
use crate::data::{CacheBudget, Dataset, fixtures};

/// The same 60 images as a folder and as six shards, a few of them damaged.
fn both() -> (TempDir, Dataset, Dataset) {
    let dir = tempdir().unwrap();
    let mut archives: Vec<Archive> = (0..6).map(|_| Archive::default()).collect();
    for number in 0..60_u8 {
        let mut bytes =
            encode(&pattern(20 + u32::from(number), 30, number).into(), image::ImageFormat::Jpeg);
        match number {
            7 => bytes.truncate(100),
            23 => bytes.clear(),
            41 => bytes = fixtures::jpeg_with_orientation(&pattern(24, 40, 41), 6),
            _ => {}
        }
        let (class, shard) = (number / 20, usize::from(number / 10));
        write(&dir.path().join(format!("folder/{class}/{number:02}.jpg")), &bytes);
        let name = format!("{class}/{number:02}");
        archives[shard] = std::mem::take(&mut archives[shard])
            .file(&format!("{name}.jpg"), &bytes)
            .file(&format!("{name}.cls"), class.to_string().as_bytes());
    }
    for (number, archive) in archives.into_iter().enumerate() {
        archive.write(&dir.path().join(format!("shards/{number:03}.tar")));
    }
    let part = |source: &Source, classes: &[String]| Dataset {
        train: Arc::clone(source),
        val: Arc::clone(source),
        classes: classes.to_vec(),
        description: String::new(),
        notes: Vec::new(),
        val_split_off: false,
        cache: CacheBudget::mebibytes(0),
    };
    let indices = KeptIndices::in_folder(&dir.path().join("kept"));
    let pattern = dir.path().join("shards/{000..005}.tar");
    let shards = open_with(&pattern, TruncatedImages::Skip, &indices).unwrap().train;
    let folder =
        crate::data::folder::open(&dir.path().join("folder"), TruncatedImages::Skip).unwrap().train;
    let data = (part(&folder.source, &folder.classes), part(&shards.source, &shards.classes));
    (dir, data.0, data.1)
}

fn config(shuffle: Shuffle, workers: usize) -> LoaderConfig {
    let data = DataConfig { shuffle, buffer: 13, workers, ..DataConfig::default() };
    let mut config = LoaderConfig::from_config(&Config { data, ..Config::default() });
    (config.batch_size, config.image_size) = (7, 16);
    config
}

fn batches(source: &Source, config: LoaderConfig, start: u64, count: usize) -> Vec<Batch> {
    let mut loader = Loader::train(Arc::clone(source), config, 8, start);
    (0..count).map(|_| loader.next().unwrap().unwrap()).collect()
}

/// What a batch holds, without what was said for the first time in it.
fn content(batches: &[Batch]) -> Vec<(&[u8], &[usize], u64)> {
    let content = batches
        .iter()
        .map(|batch| (batch.images.as_slice(), batch.indices.as_slice(), batch.first_sample));
    content.collect()
}

#[test]
fn shards_give_the_batches_of_a_folder_byte_for_byte() {
    let (_dir, folder, shards) = both();
    assert_eq!(folder.classes, shards.classes);
    let labels =
        |data: &Dataset| -> Vec<_> { (0..60).map(|index| data.train.label(index)).collect() };
    assert_eq!(labels(&folder), labels(&shards));
    let of_folder = batches(&folder.train, config(Shuffle::Full, 1), 0, 20);
    for workers in [1, 3] {
        let of_shards = batches(&shards.train, config(Shuffle::Full, workers), 0, 20);
        assert_eq!(content(&of_folder), content(&of_shards));
        let faulty =
            |batches: &[Batch]| batches.iter().map(|batch| batch.faulty.len()).sum::<usize>();
        assert_eq!((faulty(&of_folder), faulty(&of_shards)), (2, 2));
    }
    let mut val =
        [folder.val, shards.val].map(|source| Loader::validation(source, config(Shuffle::Full, 2)));
    for _ in 0..9 {
        let [folder, shards] = val.each_mut().map(|loader| loader.next().unwrap().unwrap());
        assert_eq!(content(&[folder]), content(&[shards]));
    }
}

#[test]
fn a_loader_that_starts_in_the_middle_of_an_epoch_gives_the_same_in_either_order() {
    let (_dir, folder, shards) = both();
    for shuffle in [Shuffle::Full, Shuffle::Shards] {
        let all = batches(&shards.train, config(shuffle, 2), 0, 20);
        for start in [3, 8, 13] {
            let later = batches(&shards.train, config(shuffle, 1), start, 5);
            let start = start as usize;
            assert_eq!(content(&all[start..start + 5]), content(&later), "{shuffle:?} {start}");
        }
        let of_folder = batches(&folder.train, config(shuffle, 1), 5, 2);
        assert_eq!(content(&of_folder) == content(&all[5..7]), shuffle == Shuffle::Full);
    }
}

#[test]
fn images_come_shard_by_shard_and_once_an_epoch() {
    let (_dir, _, shards) = both();
    let mut config = config(Shuffle::Shards, 1);
    (config.buffer, config.batch_size) = (1, 10);
    // Without the damaged images, as those have the next image in their place.
    let all: Vec<usize> = (0..60).filter(|index| ![7, 23].contains(index)).collect();
    let sound: Source = Arc::new(Subset::of(&shards.train, all));
    assert_eq!(sound.shards(), [0, 9, 19, 28, 38, 48]);
    let mut loader = Loader::train(Arc::clone(&sound), config, 6, 0);
    let mut seen: Vec<usize> =
        (0..6).flat_map(|_| loader.next().unwrap().unwrap().indices).take(58).collect();
    let jumps = seen.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert_eq!(jumps, 5, "{seen:?}");
    seen.sort_unstable();
    assert_eq!(seen, (0..58).collect::<Vec<_>>());
    let first_and_last: Source = Arc::new(Subset::of(&shards.train, vec![3, 5, 59]));
    assert_eq!(first_and_last.shards(), [0, 2], "shards without an image are gone");
}
