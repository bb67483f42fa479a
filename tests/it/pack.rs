//! `pack` writes shards that hold what the source holds, whatever happens meanwhile.

use crate::common::fault::Fault;
use crate::common::{self, Disk, Ended, Reader, Running};
use image::{ImageFormat, RgbImage};
use rustix::io::Errno;
use serde_json::Value;
use simmim_tui::config::DataConfig;
use simmim_tui::data::{self, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

const PHOTOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/photos-cc0");

/// One image of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ShardSample {
    /// The name of the member with the image.
    name: String,
    bytes: Vec<u8>,
    class: Option<u32>,
}

impl ShardSample {
    fn pixels(&self) -> RgbImage {
        image::load_from_memory(&self.bytes).expect("an image").into_rgb8()
    }
}

/// Returns the samples of the shards of a part, in order. Members of one sample must follow one another, and no key may
/// come twice.
fn samples(folder: &Path, part: &str) -> Vec<ShardSample> {
    let (mut found, mut last, mut keys) = (Vec::new(), String::new(), BTreeSet::new());
    for shard in shards(folder).iter().filter(|name| name.starts_with(part)) {
        let file = File::open(folder.join(shard)).expect("there");
        for entry in tar::Archive::new(file).entries().expect("a shard") {
            let mut entry = entry.expect("a member");
            let header = entry.header();
            let fixed = (header.uid().ok(), header.mtime().ok(), header.mode().ok());
            assert_eq!(fixed, (Some(0), Some(0), Some(0o644)));
            let name = entry.path().expect("a name").to_str().expect("UTF-8").to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("whole");
            let base = name.rfind('/').map_or(0, |at| at + 1);
            let dot = base + name[base..].find('.').expect("an ending");
            let (key, ending) = (name[..dot].to_owned(), name[dot + 1..].to_owned());
            if ending == "cls" {
                assert_eq!(key, last, "{name} follows its image");
                let sample: &mut ShardSample = found.last_mut().expect("an image before");
                let text = String::from_utf8(bytes).expect("digits");
                sample.class = Some(text.parse().expect("a number"));
            } else {
                assert!(keys.insert(key.clone()), "{name} comes once");
                found.push(ShardSample { name, bytes, class: None });
                last = key;
            }
        }
    }
    found
}

/// Returns the names of the shards in a folder, in order.
fn shards(folder: &Path) -> Vec<String> {
    let names = common::names(folder).into_iter();
    let names = names.filter(|path| path.extension().is_some_and(|ending| ending == "tar"));
    names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
}

/// Returns what is in a folder, by file names.
fn files(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let relative = |path: PathBuf| path.strip_prefix(folder).expect("below").to_owned();
    common::contents(folder).into_iter().map(|(path, bytes)| (relative(path), bytes)).collect()
}

fn pack(folder: &Path, words: &[&str]) -> Ended {
    common::run(folder, &[&["pack"], words].concat())
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?}: {text}");
    }
}

/// Fails unless the shards of `folder` hold the images of `source`: the same ones in the same order with the same
/// classes and pixels.
fn assert_holds(folder: &Path, part: &str, source: &Source) {
    let found = samples(folder, part);
    assert_eq!(found.len(), source.len(), "{part}");
    for (index, sample) in found.iter().enumerate() {
        assert_eq!(sample.class, source.label(index), "{}", sample.name);
        let pixels = source.read(index).expect("readable");
        assert!(
            sample.pixels() == *pixels,
            "{} has the pixels of {}",
            sample.name,
            source.name(index)
        );
    }
}

/// Fails unless two sources have the same pixels and classes in the same order, so that their batches are the same.
fn assert_same_images(found: &Source, expected: &Source) {
    assert_eq!(found.len(), expected.len());
    for index in 0..found.len() {
        let (name, other) = (found.name(index), expected.name(index));
        assert_eq!(found.label(index), expected.label(index), "{name} and {other}");
        let [a, b] = [found, expected].map(|source| source.read(index).expect("readable"));
        assert!(a == b, "{name} has the pixels of {other}");
    }
}

fn save(path: &Path, number: u32, (width, height): (u32, u32), format: ImageFormat) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    let picture = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 3 + number) as u8, (y * 5) as u8, (number * 40) as u8])
    });
    picture.save_with_format(path, format).expect("written");
}

/// Writes a tree of images with everything that makes keys and formats difficult. Returns the files in their order, and
/// what the member of each is called.
fn odd_tree(root: &Path) -> Vec<(&'static str, &'static str)> {
    let long = "a-folder-with-a-name-that-fills-a-good-part-of-a-header/and-one-below-it-that-fills-the-rest-of-it/x.png";
    let files = [
        ("ant/1.JPEG", "ant/1.JPEG", ImageFormat::Jpeg),
        ("ant/2.jpg", "ant/2~00000002.jpg", ImageFormat::Jpeg),
        ("ant/2.png", "ant/2~00000003.png", ImageFormat::Png),
        ("ant/a.b.jpg", "ant/a_b.jpg", ImageFormat::Jpeg),
        ("ant/called.jpg", "ant/called.png", ImageFormat::Png),
        ("bee/bits.bmp", "bee/bits.png", ImageFormat::Bmp),
        ("bee/é ü.webp", "bee/é ü.webp", ImageFormat::WebP),
        (long, long, ImageFormat::Png),
    ];
    let mut places: Vec<_> = files.iter().map(|&(path, name, _)| (path, name)).collect();
    for (number, (path, _, format)) in (0..).zip(files) {
        save(&root.join(path), number, (30 + number, 24), format);
    }
    places.sort_by_key(|&(path, _)| Path::new(path));
    places
}

#[test]
fn shards_hold_the_files_of_a_folder_in_order_with_classes_and_odd_names() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().join("tree");
    let long = "a-folder-with-a-name-that-fills-a-good-part-of-a-header";
    let places = odd_tree(&root.join("train"));
    save(&root.join("val/bee/v.png"), 9, (8, 8), ImageFormat::Png);
    fs::write(root.join("train/ant/3.jpg"), b"no image").expect("written");
    let ended = pack(temp.path(), &["tree", "-o", "packed", "--images-per-shard", "3"]);
    let ended = ended.expect(0, "packed");
    let folder = temp.path().join("packed");
    let names = ["train-000000.tar", "train-000001.tar", "train-000002.tar", "val-000000.tar"];
    assert_eq!(shards(&folder), names);
    let found = samples(&folder, "train");
    let classes = [long, "ant", "bee"];
    assert_eq!(found.len(), places.len());
    for (sample, (path, name)) in found.iter().zip(&places) {
        assert_eq!(sample.name, *name);
        let original = fs::read(root.join("train").join(path)).expect("there");
        let kept = *path != "bee/bits.bmp";
        assert_eq!(sample.bytes == original, kept, "{path}");
        let class = path.split('/').next().expect("a class");
        assert_eq!(classes[sample.class.expect("a class") as usize], class);
    }
    let text = fs::read_to_string(folder.join("classes.txt")).expect("there");
    assert_eq!(text, format!("{long}\nant\nbee\n"));
    assert_eq!(samples(&folder, "val")[0].class, Some(2));
    let report = fs::read_to_string(folder.join("unreadable.txt")).expect("there");
    assert!(report.starts_with("tree/train/ant/3.jpg\tnot a jpeg"), "{report}");
    assert_says(
        &ended.stderr,
        &[
            "warning: unreadable image left out: tree/train/ant/3.jpg",
            "9 images (8 train, 1 val) in 4 shards",
        ],
    );
    let state: Value =
        serde_json::from_slice(&fs::read(folder.join("pack.json")).expect("there")).expect("JSON");
    assert_eq!(state["finished"], true);
}

#[test]
fn every_kind_of_source_comes_back_with_the_same_split_order_classes_and_pixels() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    common::copy(&Path::new(PHOTOS).join("train"), &folder.join("photos-alone"));
    common::pictures(&folder.join("loose"), 11);
    let mut cifar = Vec::new();
    for record in 0..12_u8 {
        cifar.push(record % 10);
        cifar.extend((0..3072_u32).map(|at| (at * u32::from(record + 3) / 7) as u8));
    }
    fs::create_dir(folder.join("cifar")).expect("made");
    for file in ["data_batch_1.bin", "test_batch.bin"] {
        fs::write(folder.join("cifar").join(file), &cifar).expect("written");
    }
    for source in ["photos-alone", "loose", "cifar", "photos", "fashion-mnist-mini"] {
        let out = format!("packed-{source}");
        pack(folder, &[source, "-o", &out]).expect(0, source);
        let given = if folder.join(source).exists() { folder.join(source) } else { source.into() };
        let opened = data::open(&DataConfig::default().with_images(&given)).expect("data");
        assert_holds(&folder.join(&out), "train", &opened.train);
        assert_holds(&folder.join(&out), "val", &opened.val);
        let classes = fs::read_to_string(folder.join(&out).join("classes.txt")).unwrap_or_default();
        assert_eq!(classes.lines().collect::<Vec<_>>(), opened.classes, "{source}");
        let back = data::open(&DataConfig::default().with_images(&folder.join(&out)));
        let back = back.expect("shards are data, too");
        assert_eq!(back.classes, opened.classes, "{source}");
        assert_same_images(&back.train, &opened.train);
        assert_same_images(&back.val, &opened.val);
    }
    pack(folder, &["packed-photos", "-o", "again"]).expect(0, "shards are packed like any data");
    let bytes = |out: &str| -> Vec<_> {
        let samples = samples(&folder.join(out), "train").into_iter();
        samples.map(|sample| (sample.bytes, sample.class)).collect()
    };
    assert!(bytes("again") == bytes("packed-photos"));
    let first = &samples(&folder.join("packed-cifar"), "train")[0].name;
    assert_eq!(first, "data_batch_1_bin-00000000.png");
}

#[test]
fn the_bytes_of_shards_depend_neither_on_threads_nor_on_the_place() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let limits = ["--shard-size", "1M", "--size", "48"];
    for (out, threads) in [("one", "1"), ("five", "5")] {
        pack(folder, &[&["photos", "-o", out, "--threads", threads][..], &limits].concat())
            .expect(0, out);
    }
    assert_eq!(files(&folder.join("one")), files(&folder.join("five")));
    pack(folder, &["photos", "-o", "large", "--shard-size", "1M"]).expect(0, "large");
    let names = shards(&folder.join("large"));
    assert!(names.len() > 4, "{names:?}");
    for (name, next) in names.iter().zip(&names[1..]) {
        let size = fs::metadata(folder.join("large").join(name)).expect("there").len();
        let full = size > 500_000 || next.starts_with("val-0");
        assert!(size <= 1_000_000 && full, "{name} has {size} bytes");
    }
}

#[test]
fn a_shuffled_packing_has_the_same_images_in_the_order_of_its_seed() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let orders: Vec<Vec<ShardSample>> = [
        ("plain", &[][..]),
        ("zero", &["--shuffle"]),
        ("again", &["--shuffle", "--seed", "0"]),
        ("seven", &["--shuffle", "--seed", "7"]),
    ]
    .into_iter()
    .map(|(out, extra)| {
        pack(folder, &[&["photos", "-o", out], extra].concat()).expect(0, out);
        let [val, plain] = [out, "plain"].map(|out| samples(&folder.join(out), "val"));
        assert_eq!(val, plain, "validation images keep their order");
        samples(&folder.join(out), "train")
    })
    .collect();
    assert_eq!(orders[1], orders[2]);
    assert!(orders[0] != orders[1] && orders[1] != orders[3]);
    let sorted = |order: &[ShardSample]| {
        let mut order = order.to_vec();
        order.sort_by(|a, b| a.name.cmp(&b.name));
        order
    };
    assert_eq!(sorted(&orders[0]), sorted(&orders[3]));
    let classes: BTreeSet<_> = orders[1][..20].iter().map(|sample| sample.class).collect();
    assert!(classes.len() > 2, "classes are mixed");
}

#[test]
fn images_are_shrunk_once_and_small_ones_keep_their_bytes() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    for (name, size) in [("0.png", (90, 60)), ("1.png", (40, 400)), ("2.png", (60, 32))] {
        save(&folder.join("images").join(name), 3, size, ImageFormat::Png);
    }
    let args = ["--size", "32", "--set", "data.val_path=images"];
    pack(folder, &[&["images", "-o", "packed"][..], &args].concat()).expect(0, "packed");
    let found = samples(&folder.join("packed"), "train");
    let names: Vec<&str> = found.iter().map(|sample| sample.name.as_str()).collect();
    assert_eq!(names, ["0.jpg", "1.jpg", "2.png"]);
    let sizes: Vec<_> = found.iter().map(|sample| sample.pixels().dimensions()).collect();
    assert_eq!(sizes, [(48, 32), (32, 320), (60, 32)]);
    assert_eq!(found[2].bytes, fs::read(folder.join("images/2.png")).expect("there"));
    let length = |quality: &str| {
        let out = format!("quality-{quality}");
        let more = [&args[..], &["--quality", quality]].concat();
        pack(folder, &[&["images", "-o", &out][..], &more].concat()).expect(0, quality);
        samples(&folder.join(out), "train")[0].bytes.len()
    };
    assert!(length("20") < found[0].bytes.len() && found[0].bytes.len() < length("100"));
    let lone = pack(folder, &["images", "-o", "x", "--quality", "90"]).expect(2, "no size");
    assert_says(&lone.stderr, &["--size"]);
}

#[test]
fn a_truncated_image_is_left_out_or_taken_as_the_configuration_says() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    common::pictures(&folder.join("images"), 4);
    save(&folder.join("images/x.jpg"), 1, (64, 64), ImageFormat::Jpeg);
    let whole = fs::read(folder.join("images/x.jpg")).expect("there");
    fs::write(folder.join("images/x.jpg"), &whole[..whole.len() * 2 / 3]).expect("written");
    let json = |out: &str, extra: &[&str]| -> Value {
        let words = [&["images", "-o", out, "--json"][..], extra].concat();
        let ended = pack(folder, &words).expect(0, out);
        serde_json::from_str(&ended.stdout).expect("one JSON object")
    };
    let skipped = json("skip", &[]);
    let count = |report: &Value| {
        let images = |part: &str| report[part]["images"].as_u64().expect("a number");
        (
            images("train") + images("val"),
            report["unreadable"].clone(),
            report["incomplete"].clone(),
        )
    };
    assert_eq!(count(&skipped), (4, 1.into(), 0.into()));
    let taken = json("accept", &["--set", "data.truncated=accept"]);
    assert_eq!(count(&taken), (5, 0.into(), 1.into()));
    let report = fs::read_to_string(folder.join("accept/unreadable.txt")).expect("there");
    assert_says(&report, &["images/x.jpg\t", "truncated", "packed all the same"]);
}

/// Fails unless `pack.json` is whole, and each shard that it calls finished is there with its size.
fn assert_state_is_true(folder: &Path) {
    let Ok(state) = fs::read(folder.join("pack.json")) else { return };
    let state: Value = serde_json::from_slice(&state).expect("whole at any moment");
    for shard in ["train", "val"].iter().filter_map(|part| state[part].as_array()).flatten() {
        let name = shard["name"].as_str().expect("a name");
        let found = fs::metadata(folder.join(name)).expect("there");
        assert_eq!(shard["bytes"], found.len(), "{name} is finished");
    }
}

#[test]
fn a_packing_that_is_killed_again_and_again_ends_with_the_bytes_of_an_unbroken_one() {
    const KILLS: u32 = 12;
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    common::copy(Path::new(PHOTOS), &folder.join("tree"));
    fs::write(folder.join("tree/train/animal/broken.jpg"), b"no image").expect("written");
    for extra in [&["--images-per-shard", "6"][..], &["--shard-size", "400k", "--shuffle"]] {
        let arguments = |out: &'static str| [&["pack", "tree", "-o", out][..], extra].concat();
        let start = Instant::now();
        common::run(folder, &arguments("whole")).expect(0, "unbroken");
        let unbroken = start.elapsed();
        let (mut kills, mut starts) = (0, 0_u32);
        loop {
            starts += 1;
            let mut process = Running::start(folder, &arguments("broken"), Reader::All);
            if kills < KILLS {
                // Moments from the first millisecond to the last.
                std::thread::sleep(unbroken.mul_f64(f64::from(starts * 7919 % 1000) / 2000.0));
                if !process.has_ended() {
                    process.kill();
                    kills += 1;
                    assert_state_is_true(&folder.join("broken"));
                    continue;
                }
            }
            process.end().expect(0, "a start that nobody kills");
            assert_eq!(files(&folder.join("broken")), files(&folder.join("whole")), "{extra:?}");
            fs::remove_dir_all(folder.join("broken")).expect("removed");
            if kills == KILLS {
                break;
            }
        }
        fs::remove_dir_all(folder.join("whole")).expect("removed");
    }
}

#[test]
fn each_operation_on_files_may_be_the_last_or_fail_and_the_next_start_ends_with_the_same_bytes() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    common::pictures(&folder.join("images"), 12);
    fs::write(folder.join("images/05.png"), b"no image").expect("written");
    let words = |out: &'static str| ["pack", "images", "-o", out, "--images-per-shard", "4"];
    common::run(folder, &words("whole")).expect(0, "unbroken");
    let whole = files(&folder.join("whole"));
    let operations = "open,write,sync,rename,unlink,mkdir";
    let fault = |nth| Fault::new("/broken", operations, nth, "packing on a disk that fails");
    let Some(recording) = fault(0) else { return };
    let log = folder.join("log");
    recording.log(&log).start(folder, &words("broken")).end().expect(0, "recorded");
    let count = fs::read_to_string(&log).expect("a record").lines().count() as u64;
    assert!(count > 50, "{count} operations");
    for nth in 1..=count {
        for kind in ["kill", "full", "failing"] {
            fs::remove_dir_all(folder.join("broken")).unwrap_or_default();
            let fault = fault(nth).expect("built before");
            let ended = match kind {
                "kill" => fault.kill(),
                "full" => fault.error(Errno::NOSPC).times(-1),
                _ => fault,
            };
            let ended = ended.start(folder, &words("broken")).end();
            let what = format!("{kind} at operation {nth}: {ended:?}");
            assert_state_is_true(&folder.join("broken"));
            let begun = folder.join("broken").exists().then(|| files(&folder.join("broken")));
            for (name, bytes) in begun.into_iter().flatten() {
                let shard = name.extension().is_some_and(|ending| ending == "tar");
                assert!(
                    !shard || whole.get(&name) == Some(&bytes),
                    "{} is whole; {what}",
                    name.display()
                );
            }
            match (kind, ended.code) {
                ("kill", None) | ("failing", Some(0)) => {}
                (_, Some(1)) => {
                    let line = ended.stderr.lines().last().expect("a message");
                    let full = kind != "full" || line.contains("free some space and give the same");
                    assert!(line.contains("cannot write broken") && full, "{what}");
                }
                _ => panic!("{what}"),
            }
            common::run(folder, &words("broken")).expect(0, &what);
            assert_eq!(files(&folder.join("broken")), whole, "{what}");
        }
    }
}

#[test]
fn an_interrupted_packing_says_how_to_go_on_and_nobody_else_packs_there_meanwhile() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let words =
        ["fashion-mnist-mini", "-o", "packed", "--images-per-shard", "100", "--threads", "1"];
    for signal in ["TERM", "INT"] {
        let process = Running::start(folder, &[&["pack"], &words[..]].concat(), Reader::All);
        let first = if signal == "TERM" { "train-000000.tar" } else { "train-000004.tar" };
        common::until("a shard is there", || folder.join("packed").join(first).exists());
        process.signal("STOP"); // so that it doesn't end meanwhile
        let other = pack(folder, &words).expect(2, "a second one");
        assert_says(&other.stderr, &["another process packs into packed"]);
        process.signal(signal);
        process.signal("CONT");
        let ended = process.end().expect(1, signal);
        assert_says(&ended.stderr, &["interrupted: give the same command again", "packed"]);
        let hidden = common::names(folder).into_iter().find(|path| path.ends_with(".tmp"));
        assert_eq!(hidden, None);
    }
    let ended = pack(folder, &words).expect(0, "the rest");
    assert_says(
        &ended.stderr,
        &["going on in packed: ", "6000 images (5000 train, 1000 val) in 60"],
    );
    pack(folder, &["fashion-mnist-mini", "-o", "whole", "--images-per-shard", "100"])
        .expect(0, "unbroken");
    assert_eq!(files(&folder.join("packed")), files(&folder.join("whole")));
}

#[test]
fn a_full_disk_is_told_in_one_line_and_the_same_command_goes_on_later() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let Some(disk) = Disk::mount(folder.join("disk"), "2m", "packing onto a full disk") else {
        return;
    };
    let limit = ["--shard-size", "600k"];
    pack(folder, &[&["photos", "-o", "whole"][..], &limit].concat()).expect(0, "whole");
    let words = [&["photos", "-o", "disk/packed"][..], &limit].concat();
    let ended = pack(folder, &words).expect(1, "a full disk");
    let last = ended.stderr.lines().last().expect("a message");
    let parts =
        ["cannot write disk/packed/train-0000", "No space left", "free some space and give"];
    assert_says(last, &parts);
    let whole = files(&folder.join("whole"));
    let left = files(&disk.path.join("packed"));
    assert!(left.len() > 2, "some shards are finished");
    for (name, bytes) in left.iter().filter(|(name, _)| !name.ends_with("pack.json")) {
        assert_eq!(whole.get(name), Some(bytes), "{} is whole", name.display());
    }
    disk.remount("size=64m");
    pack(folder, &words).expect(0, "there is room");
    assert_eq!(files(&disk.path.join("packed")), whole);
}

#[test]
fn other_settings_other_images_and_foreign_folders_are_refused() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    common::pictures(&folder.join("images"), 12);
    let words = ["images", "-o", "packed", "--images-per-shard", "4"];
    pack(folder, &words).expect(0, "packed");
    let before = files(&folder.join("packed"));
    let refused = |words: &[&str], parts: &[&str]| {
        let ended = pack(folder, words).expect(2, &format!("{words:?}"));
        let line = ended.stderr.lines().last().expect("a message");
        assert_says(line, parts);
        assert_eq!(files(&folder.join("packed")), before, "{words:?}");
    };
    let with = |extra: &[&'static str]| [&words[..], extra].concat();
    refused(&with(&["--size", "8"]), &["size is none there and 8 here", "quality", "--force"]);
    refused(&with(&["--shuffle"]), &["shuffle is none there and 0 here"]);
    refused(&words[..3], &["images_per_shard is 4 there and 10000 here"]);
    refused(&with(&["--set", "data.truncated=accept"]), &["truncated is \"skip\" there"]);
    refused(&with(&["--set", "data.val_fraction=0.5"]), &["11 + 1", "there and 6 + 6 here"]);
    refused(&["photos", "-o", "packed"], &["171 + 44 here"]);
    refused(&["images", "-o", "images"], &["images is not empty and holds no pack.json"]);
    refused(&["images", "-o", "images/00.png"], &["is a file"]);
    refused(&["images", "-o", "y", "--shard-size", "big"], &["For more information"]);
    refused(&["nowhere", "-o", "y"], &["no such file or folder: nowhere"]);
    assert!(!folder.join("y").exists(), "nothing is begun");
    let again = pack(folder, &words).expect(0, "again");
    assert_says(&again.stderr, &["packed is finished: 12 images"]);
    assert_eq!(files(&folder.join("packed")), before);

    common::pictures(&folder.join("images"), 13);
    refused(&words, &["11 + 1 training and validation images there and 12 + 1 here"]);
    fs::remove_file(folder.join("images/12.png")).expect("there");
    fs::write(folder.join("images/03.png"), b"another image").expect("written");
    refused(&words, &["images of other names, sizes, classes or another order"]);
    pack(folder, &["images", "-o", "packed", "--force", "--images-per-shard", "9"])
        .expect(0, "begun anew");
    assert_eq!(
        shards(&folder.join("packed")),
        ["train-000000.tar", "train-000001.tar", "val-000000.tar"]
    );
    fs::write(folder.join("packed/pack.json"), b"{\"format\": 99}").expect("written");
    let ended = pack(folder, &["images", "-o", "packed"]).expect(2, "a newer release");
    assert_says(&ended.stderr, &["pack.json is of a newer release"]);
    fs::write(folder.join("packed/pack.json"), b"{}").expect("written");
    let ended = pack(folder, &["images", "-o", "packed"]).expect(2, "another file");
    assert_says(&ended.stderr, &["pack.json is none of this command, or is damaged"]);
}

#[test]
fn damaged_shards_of_a_finished_folder_are_found_and_written_again() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let words = ["photos", "-o", "packed", "--images-per-shard", "40"];
    pack(folder, &words).expect(0, "packed");
    let packed = folder.join("packed");
    let whole = files(&packed);
    fs::remove_file(packed.join("train-000001.tar")).expect("there");
    fs::write(packed.join("val-000000.tar"), b"short").expect("written");
    let ended = pack(folder, &words).expect(0, "mended");
    assert_says(&ended.stderr, &["5 shards are finished, 2 are missing or damaged"]);
    assert_eq!(files(&packed), whole);
    let mut bytes = fs::read(packed.join("train-000002.tar")).expect("there");
    bytes[5000] ^= 1;
    fs::write(packed.join("train-000002.tar"), &bytes).expect("written");
    pack(folder, &words).expect(0, "sizes alone");
    assert_ne!(files(&packed), whole);
    let ended = pack(folder, &[&words[..], &["--verify"]].concat()).expect(0, "all bytes");
    assert_says(&ended.stderr, &["train-000002.tar is missing or damaged and is written again"]);
    assert_eq!(files(&packed), whole);
}

/// The package `webdataset` reads what `pack` writes; skipped where there is none.
#[test]
fn webdataset_reads_the_shards() {
    common::python("webdataset", "check_pack.py");
}
