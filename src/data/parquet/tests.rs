use super::*;
use crate::config::{DataConfig, DataFormat, Shuffle};
use crate::data::augment::Augment;
use crate::data::loader::{Batch, Loader, LoaderConfig};
use crate::data::{Dataset, Source};
use parquet::basic::Compression::{SNAPPY, UNCOMPRESSED};
use parquet::basic::ZstdLevel;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs;
use tempfile::{TempDir, tempdir};

/// Returns the path of a file in `tests/data/cases/parquet`.
fn given(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cases/parquet").join(name)
}

/// Returns the images of `tree/` in the order of a folder, as bytes.
fn tree() -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = files_below(&given("tree")).collect();
    files.sort();
    assert_eq!(files.len(), 12);
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn images(name: &str) -> (ParquetImages, Vec<String>, Vec<String>) {
    let (path, mut notes) = (given(name), Vec::new());
    let opened = open_files(&path, std::slice::from_ref(&path), &mut notes);
    let (images, classes) = opened.map_err(|error| error.to_string()).unwrap();
    (images, classes, notes)
}

fn labels(images: &ParquetImages) -> Vec<Option<u32>> {
    (0..images.len()).map(|index| images.label(index)).collect()
}

#[test]
fn every_layout_holds_the_same_images_and_labels_however_they_are_read() {
    let tree = tree();
    for name in [
        "datasets",
        "snappy",
        "zstd",
        "gzip",
        "none",
        "dictionary",
        "index",
        "pages",
        "v2",
        "v2-none",
        "binary",
        "choice",
        "labels-none",
    ] {
        let (images, classes, _) = images(&format!("{name}.parquet"));
        assert_eq!(images.len(), 12, "{name}");
        // Backwards, then in order, where single values are read out of pages that are known by then.
        for index in (0..12).rev().chain(0..12) {
            assert!(images.encoded(index).unwrap() == tree[index], "{name} {index}");
        }
        let expected = match name {
            "labels-none" => "",
            "choice" => "5 6 7",
            _ => "cat dog eel",
        };
        assert_eq!(classes.join(" "), expected, "{name}");
        let numbers =
            (0..12).map(|index| (name != "labels-none").then_some(index / 4)).collect::<Vec<_>>();
        assert_eq!(labels(&images), numbers, "{name}");
        assert_eq!(images.key(7), format!("{name}.parquet#7"));
        assert!(images.name(7).ends_with(&format!("tests/data/cases/parquet/{name}.parquet#7")));
    }
    let (images, ..) = images("repeated.parquet");
    for index in (0..36).chain(0..36) {
        assert_eq!(images.encoded(index).unwrap(), tree[index % 12]);
    }
}

#[test]
fn row_groups_begin_where_shards_says_and_pages_are_found_with_and_without_an_index() {
    let (images, ..) = images("snappy.parquet");
    assert_eq!(images.shards(), [0, 5, 10]);
    assert_eq!((images.bytes(0), images.bytes(4)), (images.bytes(1), images.bytes(0)));
    assert_ne!(images.bytes(0), images.bytes(11));
    let pages = |name: &str| {
        let (images, ..) = self::images(name);
        let column = &images.groups[0].image;
        let file = Arc::new(File::open(given(name)).unwrap());
        let pages = column.chunk.pages(&file, &column.column).map_err(|why| why.clone()).unwrap();
        (0..12).map(|row| pages.of(row).unwrap().0).collect::<Vec<_>>()
    };
    assert_eq!(pages("index.parquet"), pages("pages.parquet"));
    assert!(pages("pages.parquet")[11] > 2, "there are several pages");
}

/// Returns bytes that can't be compressed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Writes a file with one column of bytes.
fn write(path: &Path, values: &[Vec<u8>], properties: WriterProperties) {
    let schema = parse_message_type("message schema { required binary image; }").unwrap();
    let file = File::create(path).unwrap();
    let mut writer =
        SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let values: Vec<ByteArray> = values.iter().cloned().map(ByteArray::from).collect();
    while let Some(mut column) = group.next_column().unwrap() {
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn values_of_any_size_are_read_out_of_large_pages_by_many_threads() {
    let mut values: Vec<Vec<u8>> =
        (0..60).map(|number| noise(number, number as usize * 997)).collect();
    values.push(vec![7; 300_000]);
    values.push(noise(99, 131_072));
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for codec in [SNAPPY, UNCOMPRESSED, zstd] {
        for (version, dictionary) in [
            (WriterVersion::PARQUET_1_0, true),
            (WriterVersion::PARQUET_2_0, true),
            (WriterVersion::PARQUET_2_0, false),
        ] {
            let properties = WriterProperties::builder()
                .set_compression(codec)
                .set_writer_version(version)
                .set_dictionary_enabled(dictionary)
                .set_dictionary_page_size_limit(1 << 30)
                .set_data_page_size_limit(1 << 20)
                .set_write_batch_size(1);
            write(&path, &values, properties.build());
            let opened = open_files(dir.path(), std::slice::from_ref(&path), &mut Vec::new());
            let (images, _) = opened.map_err(|error| error.to_string()).unwrap();
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (images, values) = (&images, &values);
                    scope.spawn(move || {
                        for step in 0..3 * values.len() {
                            let index = (step * 37 + thread * 11) % values.len();
                            let found = images.encoded(index).unwrap();
                            assert!(found == values[index], "{codec} {dictionary} {index}");
                        }
                    });
                }
            });
        }
    }
}

/// Copies a file and changes bytes of it.
fn damaged(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let mut bytes = fs::read(given(name)).unwrap();
    change(&mut bytes);
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn part_of(path: &Path) -> Result<Source, String> {
    open(path, TruncatedImages::Skip)
        .map(|opened| opened.train.source)
        .map_err(|error| error.to_string())
}

fn unreadable(source: &Source) -> Vec<usize> {
    (0..source.len()).filter(|index| source.read(*index).is_err()).collect()
}

#[test]
fn a_damaged_page_costs_its_own_images_only() {
    let name = "pages.parquet";
    let (images, ..) = images(name);
    let column = &images.groups[0].image;
    let file = Arc::new(File::open(given(name)).unwrap());
    let pages = column.chunk.pages(&file, &column.column).map_err(|why| why.clone()).unwrap();
    let (third, first, place) = pages.of(5).unwrap();
    let rows: Vec<usize> =
        (0..12).filter(|row| pages.of(*row as u32).unwrap().0 == third).collect();
    assert!(rows.len() < 8 && rows[0] == first as usize);
    let (_dir, path) = damaged(name, |bytes| bytes[place.end as usize - 20] ^= 0x10);
    let source = part_of(&path).unwrap();
    assert_eq!(unreadable(&source), rows);
    for _ in 0..2 {
        let error = source.read(rows[0]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}#{}: its page", path.display(), rows[0])), "{error}");
        assert!(error.contains("damaged") && !error.contains('\n'), "{error}");
    }
    // The places of later pages stand in the headers of those before them, unless the file has an index.
    let (_dir, path) = damaged(name, |bytes| bytes[place.start as usize..][..8].fill(0xff));
    assert_eq!(unreadable(&part_of(&path).unwrap()), (rows[0]..12).collect::<Vec<_>>());
    let (dir, path) = damaged("snappy.parquet", |bytes| bytes[4..12].fill(0xff));
    assert_eq!(unreadable(&part_of(&path).unwrap()), [0, 1, 2, 3, 4], "one row group");
    drop(dir);
}

#[test]
fn no_byte_makes_the_program_panic_or_hang() {
    for name in ["dictionary.parquet", "index.parquet", "v2.parquet"] {
        let length = fs::metadata(given(name)).unwrap().len() as usize;
        for at in (0..length).step_by(23) {
            for flip in [0x80, 0x01] {
                let (_dir, path) = damaged(name, |bytes| bytes[at] ^= flip);
                if let Ok(source) = part_of(&path) {
                    for index in 0..source.len().min(40) {
                        let _ = crate::data::worker::guarded_read(&source, index);
                    }
                }
            }
        }
    }
}

/// What is done to the bytes of a sound file.
type Damage = fn(&mut Vec<u8>);

#[test]
fn a_file_that_cannot_be_used_is_told_in_one_line_with_its_name() {
    let half = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let text = |bytes: &mut Vec<u8>| *bytes = b"I am no Parquet file at all".to_vec();
    let short = |bytes: &mut Vec<u8>| bytes.truncate(7);
    let foot = |bytes: &mut Vec<u8>| {
        let end = bytes.len();
        bytes[end - 100..end - 8].fill(0xff);
    };
    let same = |_: &mut Vec<u8>| ();
    let cases: [(&str, Damage, &str); 10] = [
        ("snappy.parquet", half, "it has no footer, so it is truncated"),
        ("snappy.parquet", text, "it doesn't begin as a Parquet file does"),
        ("snappy.parquet", short, "it is too short for a Parquet file"),
        ("snappy.parquet", foot, "its footer is damaged"),
        ("encrypted.parquet", same, "it is encrypted"),
        (
            "brotli.parquet",
            same,
            "column \"image.bytes\" is compressed by brotli, and this program reads snappy",
        ),
        ("lz4.parquet", same, "is compressed by lz4"),
        (
            "lists.parquet",
            same,
            "there is no column of images (a struct of bytes and path, or a binary column); its columns: image (list), text (text)",
        ),
        ("rows-none.parquet", same, "the Parquet files have none"),
        ("snappy.parquet", |bytes| bytes.clear(), "it is too short"),
    ];
    for (name, change, expected) in cases {
        let (dir, path) = damaged(name, change);
        let error = part_of(&path).map(|_| ()).unwrap_err();
        assert!(error.contains(expected) && error.contains(name), "{error}");
        assert!(!error.contains('\n'), "{error}");
        // Beside a sound file it is left out.
        fs::copy(given("zstd.parquet"), dir.path().join("zstd.parquet")).unwrap();
        let opened =
            open(dir.path(), TruncatedImages::Skip).map_err(|error| error.to_string()).unwrap();
        assert_eq!(opened.train.source.len(), 12, "{name}");
        if name != "rows-none.parquet" {
            assert_eq!(opened.notes.len(), 1, "{:?}", opened.notes);
            assert!(opened.notes[0].starts_with("left out: ") && opened.notes[0].contains(name));
        }
    }
}

#[test]
fn an_encrypted_column_is_no_panic_and_has_no_images() {
    let source = part_of(&given("encrypted-column.parquet")).unwrap();
    assert_eq!(unreadable(&source), (0..12).collect::<Vec<_>>());
    let error = crate::data::check_readable(&source).unwrap_err().to_string();
    assert!(error.contains("damaged or encrypted") && !error.contains('\n'), "{error}");
}

#[test]
fn pages_that_are_slow_in_random_order_are_told() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let values: Vec<Vec<u8>> = (0..5).map(|seed| noise(seed, 1 << 20)).collect();
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for (codec, count, told) in [
        (SNAPPY, 3, ""),
        (
            SNAPPY,
            5,
            "x.parquet has 5 MiB of images in one page, which is read as a whole for the first",
        ),
        (zstd, 5, "x.parquet has 5 MiB of images in one page that zstd compressed"),
    ] {
        let properties = WriterProperties::builder().set_compression(codec);
        write(&path, &values[..count], properties.set_dictionary_page_size_limit(1 << 30).build());
        let mut notes = Vec::new();
        open_files(dir.path(), std::slice::from_ref(&path), &mut notes)
            .map_err(|error| error.to_string())
            .unwrap();
        assert_eq!(notes.len(), usize::from(!told.is_empty()), "{notes:?}");
        assert!(notes.iter().all(|note| note.contains(told)), "{notes:?}");
    }
}

#[test]
fn what_was_chosen_is_said_and_files_without_the_same_columns_are_left_out() {
    let (_, _, notes) = images("choice.parquet");
    let expected = "images are taken from the column image and labels from fine_label; also there: mask, coarse_label";
    assert_eq!(notes, [expected]);
    for name in ["datasets.parquet", "binary.parquet", "labels-none.parquet"] {
        assert!(images(name).2.is_empty(), "{name}");
    }
    let dir = tempdir().unwrap();
    for (name, other) in [
        ("a.parquet", "snappy.parquet"),
        ("b.parquet", "binary.parquet"),
        ("c.parquet", "labels-none.parquet"),
    ] {
        fs::copy(given(other), dir.path().join(name)).unwrap();
    }
    let opened =
        open(dir.path(), TruncatedImages::Skip).map_err(|error| error.to_string()).unwrap();
    assert_eq!((opened.train.source.len(), opened.notes.len()), (12, 2));
    assert!(
        opened.notes[0]
            .contains("b.parquet has unexpected content: there is no column image of images")
    );
    assert!(
        opened.notes[1]
            .contains("c.parquet has unexpected content: there is no column label of labels")
    );
}

#[test]
fn a_row_without_bytes_is_read_from_its_path_if_it_is_there() {
    let (dir, path) = damaged("paths.parquet", |_| ());
    let source = part_of(&path).unwrap();
    // Rows 2 to 9 of the tree; those of the class 0 hold no bytes.
    assert_eq!(unreadable(&source), [0, 1]);
    let error = source.read(0).unwrap_err().to_string();
    assert!(
        error.contains("#0: the row holds no bytes but the path cat/2.webp: No such file"),
        "{error}"
    );
    fs::create_dir(dir.path().join("cat")).unwrap();
    for file in ["cat/2.webp", "cat/3.png"] {
        fs::copy(given("tree").join(file), dir.path().join(file)).unwrap();
    }
    assert_eq!(unreadable(&source), [] as [usize; 0]);
    let (images, classes, _) = images("paths.parquet");
    assert_eq!(classes, ["7", "12"]);
    let expected = [None, None, None, None, Some(0), Some(0), None, Some(1)];
    assert_eq!(labels(&images), expected);
}

#[test]
fn files_belong_to_the_part_that_their_names_or_folders_say() {
    let root = Path::new("set");
    let word = |file: &str| role(root, &root.join(file)).map_or("", Role::word);
    for (file, expected) in [
        ("train-00000-of-00005.parquet", "train"),
        ("data/train-00000-of-00005-ab12cd34ef567890.parquet", "train"),
        ("data/validation-00000-of-00001.parquet", "validation"),
        ("data/test-00000-of-00001.parquet", "test"),
        ("default/train/0000.parquet", "train"),
        ("test/part.0.parquet", "test"),
        ("cifar10-train.parquet", "train"),
        ("Training_01.parquet", "train"),
        ("train_test.parquet", ""),
        ("0000.parquet", ""),
        ("images-00000-of-00001.parquet", ""),
    ] {
        assert_eq!(word(file), expected, "{file}");
    }
}

fn opened(config: &DataConfig) -> Dataset {
    crate::data::open(config).map_err(|error| error.to_string()).unwrap()
}

#[test]
fn the_hub_s_layouts_are_found_by_themselves() {
    let dir = tempdir().unwrap();
    let put = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(given("snappy.parquet"), path).unwrap();
    };
    let config = DataConfig { path: Some(dir.path().to_owned()), ..DataConfig::default() };
    put("data/train-00000-of-00002.parquet");
    put("data/train-00001-of-00002.parquet");
    fs::write(dir.path().join("README.md"), "A set.").unwrap();
    let data = opened(&config);
    assert_eq!((data.train.len(), data.val.len(), data.val_split_off), (22, 2, true));
    put("data/validation-00000-of-00001.parquet");
    put("data/test-00000-of-00001.parquet");
    put(".cache/train-00000-of-00001.parquet");
    fs::copy(given("tree/cat/0.png"), dir.path().join("banner.png")).unwrap();
    let data = opened(&config);
    assert_eq!((data.train.len(), data.val.len(), data.val_split_off), (24, 12, false));
    assert_eq!(data.notes, ["beside train and validation, left out: 1 file of test"]);
    assert_eq!(data.train.key(13), "data/train-00001-of-00002.parquet#1");
    assert!(data.description.starts_with("24 train + 12 val images in Parquet files from "));
    let one = DataConfig {
        path: Some(dir.path().join("data/train-00000-of-00002.parquet")),
        val_path: Some(dir.path().join("data/test-00000-of-00001.parquet")),
        format: DataFormat::Parquet,
        ..DataConfig::default()
    };
    let data = opened(&one);
    assert_eq!((data.train.len(), data.val.len(), data.classes.len()), (12, 12, 3));
}

#[test]
fn a_table_beside_images_makes_no_set_of_parquet_files() {
    let dir = tempdir().unwrap();
    fs::copy(given("rows-none.parquet"), dir.path().join("metadata.parquet")).unwrap();
    for number in 0..20 {
        fs::copy(given("tree/cat/1.jpg"), dir.path().join(format!("{number}.jpg"))).unwrap();
    }
    assert!(!is_folder_of(dir.path()));
    fs::copy(given("none.parquet"), dir.path().join("data.parquet")).unwrap();
    fs::copy(given("v2-none.parquet"), dir.path().join("more.pq")).unwrap();
    assert!(is_folder_of(dir.path()));
}

/// Returns what the batches hold from the one with number `first` on.
fn batches(source: &Source, first: u64) -> Vec<(Vec<u8>, Vec<usize>)> {
    let augment = Augment { crop_scale: [0.3, 1.0], crop_ratio: [0.75, 1.34], flip: 0.5 };
    let config = LoaderConfig {
        batch_size: 5,
        image_size: 16,
        seed: 3,
        workers: 2,
        prefetch: 2,
        augment,
        shuffle: Shuffle::Full,
        buffer: 1,
    };
    let mut loader = Loader::train(Arc::clone(source), config, 2, first);
    (first..7)
        .map(|_| loader.next().unwrap().unwrap())
        .map(|Batch { images, indices, .. }| (images, indices))
        .collect()
}

#[test]
fn a_folder_a_list_and_parquet_files_of_the_same_images_give_the_same_batches() {
    let dir = tempdir().unwrap();
    let list = given("list.txt");
    let table = dir.path().join("list.csv");
    let names: Vec<String> = ["cat", "dog", "eel"]
        .iter()
        .flat_map(|class| {
            ["0.png", "1.jpg", "2.webp", "3.png"].map(|name| format!("{class}/{name}"))
        })
        .collect();
    let rows: Vec<String> = names
        .iter()
        .map(|name| format!("{},{}", given("tree").join(name).display(), &name[..3]))
        .collect();
    fs::write(&table, format!("path,label\n{}\n", rows.join("\n"))).unwrap();
    let whole = |path: PathBuf| {
        // The validation images are a set of their own, so that all of `path` is trained on.
        let val_path = Some(given("tree/cat/0.png"));
        let data = opened(&DataConfig {
            path: Some(path),
            val_path,
            cache_mib: 0,
            ..DataConfig::default()
        });
        let labels: Vec<_> = (0..12)
            .map(|index| data.train.label(index).map(|label| data.classes[label as usize].clone()))
            .collect();
        (data.train, labels)
    };
    let (folder, labels) = whole(given("tree"));
    let expected = batches(&folder, 0);
    assert!(expected.iter().any(|(images, _)| images.iter().any(|byte| *byte != images[0])));
    let mut others = vec![table, list];
    others.extend(
        ["datasets", "dictionary", "zstd", "v2"].map(|name| given(&format!("{name}.parquet"))),
    );
    for path in others {
        let (source, found) = whole(path.clone());
        assert_eq!(found, labels, "{}", path.display());
        for first in [0, 1, 3, 6] {
            assert!(
                batches(&source, first) == expected[first as usize..],
                "{} {first}",
                path.display()
            );
        }
    }
}

#[test]
fn an_image_takes_less_than_60_bytes() {
    let group = size_of::<RowGroup>() + size_of::<StoredColumn>();
    let pages = 2 * size_of::<(u32, std::ops::Range<u64>)>() + 2 * size_of::<direct::Direct>();
    // Pieces of 64 KiB of an image of 110 kB, and row groups of 100.
    let image = size_of::<u32>() + size_of::<Option<direct::ValuePlace>>() + 3 * size_of::<u32>();
    assert!(image + (group + pages) / 100 < 40, "{image} {group} {pages}");
}
