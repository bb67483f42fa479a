//! Data sets as they come: what `plan` says of them, that they train, and that every command means the same images.

use crate::common::{self, Ended, TINY};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A configuration of a run that ends soon.
const SHORT: [&str; 3] = ["train.epochs=1", "train.batch_size=4", "train.val_every=1"];

/// Returns the path of a file in `tests/data/cases/data`.
fn given(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cases/data").join(name)
}

/// Puts files of `tests/data/cases/data` into a folder.
fn put(folder: &Path, names: &[&str]) {
    fs::create_dir_all(folder).expect("the folder can be made");
    for name in names {
        fs::copy(given(name), folder.join(name)).expect("the file can be copied");
    }
}

/// Makes a folder with three pictures in each of these sub-folders.
fn tree(root: &Path, folders: &[&str]) {
    for folder in folders {
        common::pictures(&root.join(folder), 3);
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
    fs::write(path, bytes).expect("the file can be written");
}

const TYPES: [&str; 9] =
    ["0.jpg", "1.jpg", "2.jpg", "3.tif", "4.tiff", "5.bmp", "6.gif", "7.jfif", "8.avif"];
const JPEGS: [&str; 3] = ["0.jpg", "1.jpg", "2.jpg"];
const HALVES: [&str; 2] = ["half.jpg", "half-progressive.jpg"];

/// A data set, and what `plan --data data` says of it.
struct PlanCase {
    name: &'static str,
    make: fn(&Path),
    /// Further arguments.
    with: &'static [&'static str],
    says: &'static [&'static str],
    says_not: &'static [&'static str],
}

#[rustfmt::skip]
const PLANS: [PlanCase; 27] = [
    PlanCase { name: "capitals", make: |at| tree(at, &["Train/glass", "Train/metal", "Val/glass", "Val/metal"]), with: &[], says: &["6 train + 6 val images", ", 2 classes\n"], says_not: &["split off", "warning"] },
    PlanCase { name: "training and testing", make: |at| tree(at, &["Training/glass", "Training/metal", "Testing/glass", "Testing/metal"]), with: &[], says: &["6 train + 6 val images", "2 classes"], says_not: &["split off", "warning"] },
    PlanCase { name: "training and validation", make: |at| tree(at, &["training/a", "training/b", "validation/a", "validation/b"]), with: &[], says: &["6 train + 6 val images", "2 classes"], says_not: &["split off", "warning"] },
    PlanCase { name: "shouted, and dev", make: |at| tree(at, &["TRAIN/a", "TRAIN/b", "DEV/a"]), with: &[], says: &["6 train + 3 val images", "2 classes"], says_not: &["split off", "warning"] },
    PlanCase { name: "with words and years", make: |at| tree(at, &["train_images2017/a", "eval_images2017/a"]), with: &[], says: &["3 train + 3 val images"], says_not: &["split off", "warning"] },
    PlanCase { name: "three parts", make: |at| tree(at, &["train/a", "train/b", "val/a", "test/a"]), with: &[], says: &["6 train + 3 val images", "beside train/ and val/, left out: test/"], says_not: &["split off"] },
    PlanCase { name: "parts in a folder of an archive", make: |at| tree(at, &["set-v1/set/Train/a", "set-v1/set/Train/b", "set-v1/set/Test/a"]), with: &[], says: &["6 train + 3 val images", "2 classes"], says_not: &["split off", "warning"] },
    PlanCase { name: "train alone", make: |at| tree(at, &["train/glass", "train/metal"]), with: &[], says: &["5 train + 1 val images", "2 classes, val split off"], says_not: &["warning"] },
    PlanCase { name: "classes, one of them of trains", make: |at| tree(at, &["car", "plane", "train"]), with: &[], says: &["8 train + 1 val images", "3 classes"], says_not: &["warning"] },
    PlanCase { name: "a part among folders that are none", make: |at| tree(at, &["train/a", "train/b", "more"]), with: &[], says: &["8 train + 1 val images", "2 classes", "train/ and more/ are taken as classes"], says_not: &[] },
    PlanCase { name: "types", make: |at| put(at, &TYPES), with: &[], says: &["7 train + 1 val images", "1 file is left out", ": 1 .avif"], says_not: &["can't be read"] },
    PlanCase { name: "nothing but types that aren't read", make: |at| put(at, &["8.avif"]), with: &["REFUSED"], says: &["no images in data: looked for jpg", "1 .avif"], says_not: &[] },
    PlanCase { name: "a jpeg without ending", make: |at| { put(at, &JPEGS); fs::rename(at.join("2.jpg"), at.join("photo")).expect("renamed"); }, with: &[], says: &["2 train + 1 val images"], says_not: &["warning"] },
    PlanCase { name: "what systems leave", make: |at| { put(at, &JPEGS); for name in ["._0.jpg", ".DS_Store", "Thumbs.db", "__MACOSX/0.jpg"] { write(&at.join(name), b"x"); } }, with: &[], says: &["2 train + 1 val images"], says_not: &["warning", "classes"] },
    PlanCase { name: "truncated", make: |at| { put(at, &JPEGS); put(at, &HALVES); }, with: &[], says: &["2 of 5 images can't be read", "unreadable image left out: data/half.jpg: the file is truncated", "data/half-progressive.jpg: the file is truncated"], says_not: &[] },
    PlanCase { name: "truncated and wanted", make: |at| { put(at, &JPEGS); put(at, &HALVES); }, with: &["--set", "data.truncated=accept"], says: &["incomplete image taken: data/half.jpg: the file is truncated", "data/half-progressive.jpg"], says_not: &["can't be read"] },
    PlanCase { name: "a truncated png", make: |at| { put(at, &JPEGS); let whole = fs::read(given("right-turned.png")).expect("readable"); write(&at.join("half.png"), &whole[..100]); }, with: &[], says: &["1 of 4 images can't be read", "data/half.png: the file is truncated"], says_not: &[] },
    PlanCase { name: "no end mark", make: |at| { put(at, &JPEGS); let whole = fs::read(at.join("0.jpg")).expect("readable"); write(&at.join("0.jpg"), &whole[..whole.len() - 2]); }, with: &[], says: &["2 train + 1 val images"], says_not: &["warning"] },
    PlanCase { name: "a validation class without training images", make: |at| tree(at, &["train/a", "train/b", "val/b", "val/c"]), with: &[], says: &["1 class of the validation images have no training image: c", "3 classes"], says_not: &[] },
    PlanCase { name: "a batch larger than the set", make: |at| put(at, &JPEGS), with: &["--set", "train.batch_size=1000"], says: &["a batch takes 1000 images, and training has 2: each comes 500.0 times"], says_not: &[] },
    PlanCase { name: "an epoch that repeats images", make: |at| common::pictures(at, 3), with: &["--set", "train.batch_size=2", "--set", "train.accumulation=3"], says: &["a step takes 6 images (2 x 3), and training has 2: each comes 3.0 times"], says_not: &[] },
    PlanCase { name: "one image", make: |at| put(at, &["0.jpg"]), with: &[], says: &["1 train + 1 val images", "there is one image alone"], says_not: &[] },
    PlanCase { name: "no image can be read", make: |at| put(at, &HALVES), with: &[], says: &["none of the 2 images can be read: a run would be refused"], says_not: &["skips them"] },
    PlanCase { name: "one image of many can be read", make: |at| { put(at, &["0.jpg"]); for n in 1..12 { write(&at.join(format!("{n}.png")), b"no"); } }, with: &[], says: &["data/0.jpg alone can be read", "11 of 12 images can't be read"], says_not: &[] },
    PlanCase { name: "photos in the program", make: |_| (), with: &["--data", "photos"], says: &["171 train + 44 val CC0 photos (embedded)"], says_not: &["warning"] },
    PlanCase { name: "Fashion-MNIST in the program", make: |_| (), with: &["--data", "fashion-mnist-mini"], says: &["5000 train + 1000 val Fashion-MNIST images (embedded)"], says_not: &["warning"] },
    PlanCase { name: "a folder with the name of built-in images", make: |at| common::pictures(&at.with_file_name("photos"), 4), with: &["--data", "photos"], says: &["3 train + 1 val images from photos"], says_not: &["embedded"] },
];

#[test]
fn plan_says_what_a_data_set_is_and_what_is_left_out() {
    for PlanCase { name, make, with, says, says_not } in PLANS {
        let temp = tempfile::tempdir().expect("a temporary folder");
        make(&temp.path().join("data"));
        let refused = with.contains(&"REFUSED");
        let with: Vec<&str> = with.iter().copied().filter(|word| *word != "REFUSED").collect();
        let named: &[&str] = if with.contains(&"--data") { &[] } else { &["--data", "data"] };
        let plan = ["plan", "--set", "train.batch_size=1"];
        let ended = common::run(temp.path(), &[&plan[..], named, &with].concat());
        let Ended { stdout, stderr, .. } = ended.expect(if refused { 2 } else { 0 }, name);
        let said = format!("{stdout}{stderr}");
        for part in says {
            assert_eq!(said.matches(part).count(), 1, "{name}: it says {part:?} once: {said}");
        }
        for part in says_not {
            assert!(!said.contains(part), "{name}: it doesn't say {part:?}: {said}");
        }
    }
}

/// Returns a process of the program with a tiny model.
fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simmim-tui"));
    command.current_dir(folder);
    command
}

/// Adds the arguments of a short run with a tiny model.
fn short(command: &mut Command) -> &mut Command {
    command.args(TINY.into_iter().chain(SHORT).flat_map(|set| ["--set", set]))
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Runs a command that must succeed, and returns what it said.
fn succeed(command: &mut Command, what: &str) -> String {
    let output = command.output().expect("the program starts");
    let said = text(&output);
    assert!(output.status.success() && !said.contains("panicked"), "{what}: {said}");
    said
}

#[test]
fn what_plan_warns_of_is_told_when_a_run_starts() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let data = temp.path().join("data");
    tree(&data, &["Train/a", "Train/b", "Test/a", "Test/c"]);
    put(&data.join("Train/a"), &["8.avif", "half.jpg"]);
    let said = succeed(short(&mut program(temp.path())).args(["--data", "data"]), "training");
    for part in ["1 .avif", "no training image: c", "half.jpg: the file is truncated"] {
        assert_eq!(said.matches(part).count(), 1, "it says {part:?} once: {said}");
    }
    let accept = ["--data", "data", "--set", "data.truncated=accept"];
    let said = succeed(short(&mut program(temp.path())).args(accept), "training");
    assert!(said.contains("incomplete image taken (1 so far): data/Train/a/half.jpg"), "{said}");
    let large = ["--data", "data", "--set", "train.batch_size=64"];
    let said = succeed(short(&mut program(temp.path())).args(large), "training");
    assert!(said.contains("a batch takes 64 images, and training has 7: each"), "{said}");
}

#[test]
fn a_part_that_was_split_off_can_be_read_if_two_images_can() {
    for sound in [["a.png", "b.png"], ["c.png", "k.png"], ["h.png", "l.png"]] {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let data = temp.path().join("data");
        common::pictures(&data, 2);
        for (number, name) in sound.iter().enumerate() {
            fs::rename(data.join(format!("{number:02}.png")), data.join(name)).expect("renamed");
        }
        for name in 'a'..='l' {
            let path = data.join(format!("{name}.png"));
            if !path.exists() {
                write(&path, b"no picture");
            }
        }
        let said = succeed(short(&mut program(temp.path())).args(["--data", "data"]), sound[0]);
        assert!(said.contains(" images could not be read"), "{said}");
    }
}

#[test]
fn built_in_names_train_and_resume() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    for name in ["photos", "fashion-mnist-mini"] {
        let sets = ["--set", "train.batch_size=64", "--set", "train.val_every=9"];
        let run = format!("run-{name}");
        let mut command = program(temp.path());
        short(&mut command).args(sets).args(["--data", name, "--run-dir", &run]);
        let said = succeed(&mut command, name);
        assert!(said.contains("(embedded)"), "{said}");
        let mut command = program(temp.path());
        command.args(["--resume", &run, "--set", "train.epochs=2", "--no-ui"]);
        let said = succeed(&mut command, name);
        assert!(said.contains("(embedded)"), "{said}");
    }
}

/// Every way in which a name of bytes that aren't UTF-8 comes in.
#[test]
fn paths_that_are_not_utf_8_train_resume_and_are_evaluated() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let odd = temp.path().join(OsStr::from_bytes(b"caf\xe9"));
    tree(&odd, &["train/a", "train/b", "val/a", "val/b"]);
    let names: [&[u8]; 2] = [b"train/a/\xff.png", b"val/b/\xfe.png"];
    for name in names {
        fs::copy(odd.join("train/a/00.png"), odd.join(OsStr::from_bytes(name))).expect("copied");
    }
    let other: OsString = OsString::from_vec(b"run\xe9".to_vec());
    let ways: [(&Path, &OsStr, &OsStr); 3] = [
        (temp.path(), odd.as_os_str(), OsStr::new("n1")),
        (&odd, OsStr::new("."), OsStr::new("../n2")),
        (temp.path(), OsStr::from_bytes(b"caf\xe9"), &other),
    ];
    for (folder, data, run) in ways {
        let what = format!("{} {}", data.display(), run.display());
        let mut command = program(folder);
        let said =
            succeed(short(&mut command).arg("--data").arg(data).arg("--run-dir").arg(run), &what);
        assert!(said.contains("7 train + 7 val images"), "{what}: {said}");
        let run = fs::canonicalize(folder.join(run)).expect("the run is there");
        let config =
            fs::read_to_string(run.join("config.toml")).expect("the configuration is text");
        assert!(config.contains("caf%E9"), "{what}: {config}");
        let mut command = program(temp.path());
        command.args(["--set", "train.epochs=2", "--no-ui", "--resume"]).arg(&run);
        let said = succeed(&mut command, &what);
        assert!(said.contains("7 train + 7 val images"), "{what}: {said}");
        let mut command = program(temp.path());
        command.args(["features", "--device", "cpu", "-o", "f.csv"]).arg(&run);
        let said = succeed(&mut command, &what);
        assert!(said.contains("14 images"), "{what}: {said}");
        let mut command = program(temp.path());
        command.args(["eval", "--device", "cpu"]).arg(&run).arg("--data").arg(&odd);
        succeed(&mut command, &what);
    }
}

#[test]
fn a_folder_that_may_not_be_read_is_left_out_with_a_warning() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let disk = temp.path().join("disk");
    tree(&disk, &["photos", "lost+found"]);
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("settable");
    };
    let run = || short(&mut program(temp.path())).args(["--data", "disk"]).output();
    let output = if rustix::process::geteuid().is_root() {
        let copy = temp.path().join("simmim-tui");
        fs::copy(env!("CARGO_BIN_EXE_simmim-tui"), &copy).expect("copied");
        mode(temp.path(), 0o777);
        mode(&disk.join("lost+found"), 0o700);
        let start = || {
            let mut command = Command::new(&copy);
            let command = short(command.current_dir(temp.path())).args(["--data", "disk"]);
            command.env("HOME", temp.path()).uid(65534).gid(65534).output()
        };
        let mut output = start();
        // A child process that another test is starting holds the copy open until it executes its own program.
        common::until("the copy is free", || {
            let busy =
                matches!(&output, Err(error) if error.kind() == ErrorKind::ExecutableFileBusy);
            if busy {
                output = start();
            }
            !busy
        });
        output
    } else {
        mode(&disk.join("lost+found"), 0);
        let output = run();
        mode(&disk.join("lost+found"), 0o755);
        output
    };
    let said = text(output.as_ref().expect("the program starts"));
    assert!(output.expect("started").status.success(), "{said}");
    assert!(said.contains("2 train + 1 val images"), "{said}");
    assert_eq!(
        said.matches("1 folder can't be read and is left out: disk/lost+found (Permission denied")
            .count(),
        1,
        "{said}"
    );
}

#[cfg(feature = "tui")]
#[test]
fn preview_shows_what_is_trained_on() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    for (name, right, tolerance) in
        [("turned.jpg", "right-turned.png", 12), ("clear.png", "right-clear.png", 1)]
    {
        let path = given(name);
        let args = ["preview", path.to_str().expect("plain"), "-o", "out.png"];
        common::run(temp.path(), &args).expect(0, name);
        let open = |path: &Path| image::open(path).expect("a picture").into_rgb8();
        let (found, right) = (open(&temp.path().join("out.png")), open(&given(right)));
        assert_eq!(found.dimensions(), right.dimensions(), "{name}");
        let far = found.as_raw().iter().zip(right.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(far.is_some_and(|far| far <= tolerance), "{name}: {far:?}");
    }
    let half = given("half.jpg");
    let args = ["preview", half.to_str().expect("plain"), "-o", "out.png"];
    let said = common::run(temp.path(), &args).expect(2, "half a picture").stderr;
    assert!(said.contains("half.jpg") && said.contains("truncated"), "{said}");
}

/// Makes the folder of somebody who has collected pictures for years.
fn messy() -> TempDir {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let set = temp.path().join("my pictures/collection");
    tree(&set, &["Train/cat", "Train/dog", "Test/cat", "Test/dog", "Test/bird"]);
    put(&set.join("Train/cat"), &TYPES);
    put(&set.join("Train/dog"), &["half.jpg", "7.jfif", "turned.jpg", "clear.png"]);
    put(&set.join("Test/dog"), &["half-progressive.jpg", "5.bmp"]);
    let copy = |name: &[u8]| {
        fs::copy(given("0.jpg"), set.join(OsStr::from_bytes(name))).expect("copied");
    };
    copy(b"Train/cat/caf\xe9, \"best\".JPG");
    copy(b"Train/dog/line\nbreak.jpeg");
    copy(b"Test/cat/without ending");
    for (name, bytes) in [
        ("Train/cat/page.jpg", &b"<html>not found</html>"[..]),
        ("Train/dog/empty.png", b""),
        ("Train/cat/._0.jpg", b"\0\x05\x16\x07"),
        ("Train/.DS_Store", b"x"),
        ("Train/dog/Thumbs.db", b"x"),
        ("Train/notes.txt", b"nice ones"),
        ("Test/labels.csv", b"a,b"),
    ] {
        write(&set.join(name), bytes);
    }
    temp
}

/// Returns the number before `word` in a text.
fn number(text: &str, word: &str) -> usize {
    let (before, _) = text.split_once(word).unwrap_or_else(|| panic!("{word:?} is in {text}"));
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("a number is before {word:?} in {text}"))
}

#[test]
fn a_messy_folder_is_planned_trained_and_evaluated_with_the_same_images() {
    let temp = messy();
    let data = ["--data", "my pictures"];
    let plan = succeed(program(temp.path()).arg("plan").args(data), "plan");
    let (train, val) = (number(&plan, " train + "), number(&plan, " val images"));
    // 6 made ones and 8 of the given types; 4 given ones; two odd names, a page and an empty file.
    assert_eq!((train, val), (6 + 8 + 4 + 2 + 2, 9 + 2 + 1), "{plan}");
    for part in [
        "3 classes",
        "1 class of the validation images have no training image: bird",
        "3 files are left out",
        "1 .avif",
        "1 .csv",
        "1 .txt",
        "4 of 34 images can't be read",
        "page.jpg: not a jpeg",
        "empty.png: the file is empty",
        "half.jpg: the file is truncated",
        "half-progressive.jpg: the file is truncated",
    ] {
        assert_eq!(plan.matches(part).count(), 1, "plan says {part:?} once: {plan}");
    }
    let readable = train + val - number(&plan, " of 34 images can't be read");

    let mut command = program(temp.path());
    let said = succeed(short(&mut command).args(data).args(["--run-dir", "run"]), "training");
    assert!(said.contains(&format!("{train} train + {val} val images")), "{said}");
    for part in ["3 files are left out", "no training image: bird", "page.jpg: not a jpeg"] {
        assert_eq!(said.matches(part).count(), 1, "training says {part:?} once: {said}");
    }
    assert!(said.contains("4 images could not be read and were skipped"), "{said}");

    let features = ["features", "run", "--device", "cpu", "-o", "features.csv"];
    let said = succeed(program(temp.path()).args(features), "features");
    assert_eq!(number(&said, " images, "), readable, "{said}");
    let eval = ["eval", "run", "--device", "cpu", "--json"];
    let output = program(temp.path()).args(eval).args(data).output().expect("the program starts");
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    let images = |key: &str| report[key].as_u64().expect("a number") as usize;
    assert_eq!((images("train_images"), images("test_images")), (train - 3, val - 1), "{report}");
    assert!(
        report["data"].as_str().expect("a text").starts_with(&format!("{train} train + {val} val"))
    );
    let warned = text(&output);
    assert_eq!(warned.matches("no training image: bird").count(), 1, "{warned}");
}
