use super::fixtures::{pattern, write_image};
use super::*;
use image::ImageFormat::Png;
use std::path::PathBuf;
use tempfile::{TempDir, tempdir};

fn at(path: impl Into<PathBuf>) -> DataConfig {
    DataConfig { path: Some(path.into()), ..DataConfig::default() }
}

fn message(config: &DataConfig) -> String {
    open(config).map(|_| ()).unwrap_err().to_string()
}

fn tree(names: &[&str]) -> TempDir {
    let dir = tempdir().unwrap();
    for (number, name) in names.iter().enumerate() {
        write_image(&dir.path().join(name), &pattern(8, 8, number as u8), Png);
    }
    dir
}

#[test]
fn without_a_path_the_embedded_photos_are_opened() {
    let data = open(&DataConfig::default()).unwrap();
    assert_eq!(data.description, "171 train + 44 val CC0 photos (embedded), 6 classes");
    assert_eq!(data.classes.len(), 6);
    let forced = DataConfig { format: DataFormat::Photos, ..at("/nowhere") };
    assert_eq!(open(&forced).unwrap().train.len(), 171);
}

#[test]
fn auto_tells_the_formats_apart() {
    let record = vec![1_u8; 3073];
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("data_batch_1.bin", record.repeat(4), "CIFAR-10 images"),
        ("train.bin", vec![1; 3074 * 4], "CIFAR-100 images"),
        ("train_X.bin", vec![1; 27648 * 4], "STL-10 images"),
        (
            "train-images",
            [&[0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 1][..], &[9; 4]].concat(),
            "IDX images",
        ),
    ];
    for (name, bytes, kind) in cases {
        let dir = tempdir().unwrap();
        std::fs::write(dir.path().join(name), bytes).unwrap();
        for path in [dir.path().to_owned(), dir.path().join(name)] {
            let data = open(&at(&path)).unwrap();
            assert_eq!((data.train.len(), data.val.len()), (3, 1), "{name}");
            let start = format!("3 train + 1 val {kind} from {}", path.display());
            assert!(data.description.starts_with(&start), "{}", data.description);
        }
    }
}

#[test]
fn a_folder_is_split_without_overlap_and_stays_so() {
    let names: Vec<String> = (0..20).map(|n| format!("{}/{n}.png", ["a", "b"][n % 2])).collect();
    let dir = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let config = DataConfig { val_fraction: 0.25, ..at(dir.path()) };
    let (data, again) = (open(&config).unwrap(), open(&config).unwrap());
    let keys = |source: &Source| (0..source.len()).map(|i| source.key(i)).collect::<Vec<_>>();
    assert_eq!((data.train.len(), data.val.len()), (15, 5));
    assert!(keys(&data.val).iter().all(|key| !keys(&data.train).contains(key)));
    assert_eq!(keys(&data.val), keys(&again.val));
    assert!(data.description.ends_with("2 classes, val split off"), "{}", data.description);
}

#[test]
fn a_validation_path_is_used_whole_with_common_classes() {
    let train = tree(&["cat/1.png", "dog/2.png"]);
    let val = tree(&["ant/3.png", "dog/4.png", "dog/5.png"]);
    let config = DataConfig { val_path: Some(val.path().to_owned()), ..at(train.path()) };
    let data = open(&config).unwrap();
    assert_eq!(data.classes, ["ant", "cat", "dog"]);
    let labels = |source: &Source| (0..source.len()).map(|i| source.label(i).unwrap()).collect();
    let (train, val): (Vec<u32>, Vec<u32>) = (labels(&data.train), labels(&data.val));
    assert_eq!((train, val), (vec![1, 2], vec![0, 2, 2]));
    assert_eq!(data.val.read(2).unwrap().get_pixel(0, 0).0[2], 2);
}

#[test]
fn one_image_trains_and_validates() {
    let dir = tree(&["only.png"]);
    let data = open(&at(dir.path().join("only.png"))).unwrap();
    assert_eq!((data.train.len(), data.val.len()), (1, 1));
    assert!(data.val.read(0).is_ok());
}

#[test]
fn the_cache_can_be_left_out() {
    let dir = tree(&["a.png", "b.png", "c.png"]);
    for cache_mib in [0, 1] {
        let data = open(&DataConfig { cache_mib, ..at(dir.path()) }).unwrap();
        let (first, second) = (data.train.read(0).unwrap(), data.train.read(0).unwrap());
        assert_eq!(Arc::ptr_eq(&first, &second), cache_mib > 0);
        assert_eq!(first, second);
    }
}

#[test]
fn errors_name_the_path_and_what_was_looked_for() {
    let dir = tempdir().unwrap();
    let path = dir.path().display().to_string();
    let empty = message(&at(dir.path()));
    assert!(empty.contains(&path) && empty.contains("train-images*"), "{empty}");
    let folder = message(&DataConfig { format: DataFormat::Folder, ..at(dir.path()) });
    assert!(
        folder.ends_with("looked for jpg, jpeg, png and webp files, tif, bmp and gif"),
        "{folder}"
    );
    let gone = message(&at(dir.path().join("gone")));
    assert!(gone.starts_with("no such file or folder") && gone.contains("gone"), "{gone}");
    std::fs::write(dir.path().join("a.zip"), "stuff").unwrap();
    let unknown = message(&at(dir.path().join("a.zip")));
    assert!(unknown.contains("a.zip") && unknown.contains("unpack archives"), "{unknown}");
    let config = DataConfig { format: DataFormat::Stl10, ..DataConfig::default() };
    assert!(message(&config).starts_with("data.format = stl10 needs data.path"));
    let config = DataConfig { format: DataFormat::Stl10, ..at(dir.path()) };
    assert!(message(&config).contains("train_X.bin"));
    let config = DataConfig { val_path: Some(dir.path().join("no-val")), ..DataConfig::default() };
    assert!(message(&config).contains("no-val"));
}

#[test]
fn empty_validation_folders_are_named() {
    let dir = tree(&["train/a.png"]);
    std::fs::create_dir(dir.path().join("val")).unwrap();
    let message = message(&at(dir.path()));
    assert!(message.contains(&dir.path().join("val").display().to_string()), "{message}");
}
