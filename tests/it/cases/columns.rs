//! Images in columns: what `plan` says of Parquet files and of lists, and that they train, resume and are evaluated.

use crate::common::{self, Ended, TINY};
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the path of a file in `tests/data/cases/parquet`.
fn given(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cases/parquet").join(name)
}

/// Copies one of the Parquet files.
fn put(at: &Path, name: &str) {
    fs::create_dir_all(at.parent().expect("a folder")).expect("the folder can be made");
    fs::copy(given(name), at).expect("the file can be copied");
}

/// Writes a text below the folder of the data.
fn text(at: &Path, text: &str) {
    fs::create_dir_all(at.parent().expect("a folder")).expect("the folder can be made");
    fs::write(at, text).expect("the file can be written");
}

/// Makes a folder of four pictures, and a list beside them.
fn listed(at: &Path, name: &str, list: &str) {
    common::pictures(&at.join("pictures"), 4);
    text(&at.join(name), list);
}

/// A data set, and what `plan --data DATA` says of it.
struct ColumnCase {
    name: &'static str,
    make: fn(&Path),
    data: &'static str,
    /// Further arguments.
    with: &'static [&'static str],
    says: &'static [&'static str],
    says_not: &'static [&'static str],
}

#[rustfmt::skip]
const CASES: [ColumnCase; 18] = [
    ColumnCase { name: "one file", make: |at| put(&at.join("x.parquet"), "datasets.parquet"), data: "x.parquet", with: &[], says: &["11 train + 1 val images in Parquet files from x.parquet, 3 classes, val split off"], says_not: &["warning"] },
    ColumnCase { name: "a file without its ending", make: |at| put(&at.join("x"), "zstd.parquet"), data: "x", with: &[], says: &["11 train + 1 val images in Parquet files from x, 3 classes"], says_not: &["warning"] },
    ColumnCase { name: "as the hub has it", make: |at| { put(&at.join("d/data/train-00000-of-00002.parquet"), "snappy.parquet"); put(&at.join("d/data/train-00001-of-00002.parquet"), "snappy.parquet"); put(&at.join("d/data/validation-00000-of-00001.parquet"), "snappy.parquet"); text(&at.join("d/README.md"), "A set."); }, data: "d", with: &[], says: &["24 train + 12 val images in Parquet files from d, 3 classes\n"], says_not: &["warning", "split off"] },
    ColumnCase { name: "folders of parts", make: |at| { put(&at.join("d/train/0.parquet"), "index.parquet"); put(&at.join("d/test/0.parquet"), "index.parquet"); put(&at.join("d/val/0.parquet"), "index.parquet"); }, data: "d", with: &[], says: &["12 train + 12 val images", "beside train and val, left out: 1 file of test"], says_not: &["split off"] },
    ColumnCase { name: "a file of its own for validation", make: |at| { put(&at.join("a.parquet"), "v2.parquet"); put(&at.join("b.parquet"), "binary.parquet"); }, data: "a.parquet", with: &["--set", "data.val_path=b.parquet"], says: &["12 train + 12 val images in Parquet files", "3 classes\n"], says_not: &["warning", "split off"] },
    ColumnCase { name: "a choice of columns", make: |at| put(&at.join("x.parquet"), "choice.parquet"), data: "x.parquet", with: &[], says: &["images are taken from the column image and labels from fine_label; also there: mask, coarse_label"], says_not: &[] },
    ColumnCase { name: "one file of several is cut off", make: |at| { put(&at.join("d/a.parquet"), "snappy.parquet"); put(&at.join("d/b.parquet"), "snappy.parquet"); let whole = fs::read(given("snappy.parquet")).expect("readable"); fs::write(at.join("d/b.parquet"), &whole[..3000]).expect("written"); }, data: "d", with: &[], says: &["11 train + 1 val", "left out: d/b.parquet has unexpected content: it has no footer, so it is truncated"], says_not: &[] },
    ColumnCase { name: "no image in it", make: |at| put(&at.join("x.parquet"), "lists.parquet"), data: "x.parquet", with: &["REFUSED"], says: &["x.parquet has unexpected content: there is no column of images", "its columns: image (list), text (text)"], says_not: &[] },
    ColumnCase { name: "encrypted", make: |at| put(&at.join("x.parquet"), "encrypted.parquet"), data: "x.parquet", with: &["REFUSED"], says: &["x.parquet has unexpected content: it is encrypted"], says_not: &[] },
    ColumnCase { name: "an unknown codec", make: |at| put(&at.join("x.parquet"), "brotli.parquet"), data: "x.parquet", with: &["REFUSED"], says: &["x.parquet has unexpected content", "is compressed by brotli"], says_not: &[] },
    ColumnCase { name: "no Parquet file at all", make: |at| text(&at.join("x.parquet"), "I am none, but rather a text."), data: "x.parquet", with: &["REFUSED"], says: &["x.parquet has unexpected content: it doesn't begin as a Parquet file does"], says_not: &[] },
    ColumnCase { name: "rows without bytes", make: |at| put(&at.join("x.parquet"), "paths.parquet"), data: "x.parquet", with: &[], says: &["2 of 8 images can't be read", "x.parquet#0: the row holds no bytes but the path cat/2.webp"], says_not: &[] },
    ColumnCase { name: "a list", make: |at| listed(at, "list.txt", "pictures/00.png 65\npictures/01.png 3\n\n# that's it\npictures/02.png 65\n"), data: "list.txt", with: &[], says: &["2 train + 1 val images of a list from list.txt, 2 classes"], says_not: &["warning"] },
    ColumnCase { name: "a table with parts", make: |at| listed(at, "images.csv", "id,filename,label,split\n1,pictures/00.png,cat,train\n2,pictures/01.png,dog,train\n3,pictures/02.png,dog,test\n"), data: "images.csv", with: &[], says: &["2 train + 1 val images of a list from images.csv, 2 classes\n"], says_not: &["warning", "split off"] },
    ColumnCase { name: "two lists", make: |at| { listed(at, "t.lst", "pictures/00.png a\npictures/01.png b\n"); text(&at.join("v.tsv"), "path\tclass\npictures/02.png\tb\n"); }, data: "t.lst", with: &["--set", "data.val_path=v.tsv"], says: &["2 train + 1 val images of a list", "2 classes\n"], says_not: &["warning", "split off"] },
    ColumnCase { name: "a list of files that are gone", make: |at| listed(at, "list.txt", "00.png\n01.png\n"), data: "list.txt", with: &["REFUSED"], says: &["none of the 2 files that it lists is there, for example 00.png: paths are relative to the folder of the list"], says_not: &[] },
    ColumnCase { name: "a list with one that is gone", make: |at| listed(at, "list.txt", "pictures/00.png\npictures/01.png\ngone.png\n"), data: "list.txt", with: &[], says: &["1 of 3 listed files is not there and counts as unreadable, for example gone.png", "1 of 3 images can't be read"], says_not: &[] },
    ColumnCase { name: "an empty list", make: |at| text(&at.join("list.txt"), "# nothing yet\n"), data: "list.txt", with: &["REFUSED"], says: &["no images in list.txt: looked for paths of images, one a line"], says_not: &[] },
];

#[test]
fn plan_says_what_parquet_files_and_lists_hold_and_what_is_left_out() {
    for ColumnCase { name, make, data, with, says, says_not } in CASES {
        let temp = tempfile::tempdir().expect("a temporary folder");
        make(temp.path());
        let refused = with.contains(&"REFUSED");
        let with: Vec<&str> = with.iter().copied().filter(|word| *word != "REFUSED").collect();
        let plan = ["plan", "--set", "train.batch_size=1", "--data", data];
        let ended = common::run(temp.path(), &[&plan[..], &with].concat());
        let Ended { stdout, stderr, .. } = ended.expect(if refused { 2 } else { 0 }, name);
        let said = format!("{stdout}{stderr}");
        for part in says {
            assert_eq!(said.matches(part).count(), 1, "{name}: it says {part:?} once: {said}");
        }
        for part in says_not {
            assert!(!said.contains(part), "{name}: it doesn't say {part:?}: {said}");
        }
        assert!(!said.contains("panicked"), "{name}: {said}");
    }
}

/// Returns the losses of all steps and validations of a run's log.
fn losses(run: &Path) -> Vec<String> {
    let log = fs::read_to_string(run.join("events.jsonl")).expect("there is a log");
    let events =
        log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    events
        .flat_map(|event| match event["event"].as_str() {
            Some("step") => event["losses"].as_array().cloned().unwrap_or_default(),
            Some("validated") => vec![event["val_loss"].clone()],
            _ => Vec::new(),
        })
        .map(|loss| loss.to_string())
        .collect()
}

#[test]
fn the_same_images_in_a_folder_a_list_and_parquet_train_and_resume_with_the_same_losses() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let val = format!("data.val_path={}", given("tree/eel").display());
    let sets = ["train.batch_size=4", "train.val_every=2", "data.crop_scale=[0.3, 1.0]", &val];
    let sets: Vec<&str> = TINY.into_iter().chain(sets).flat_map(|set| ["--set", set]).collect();
    let train = |data: &str, run: &str| {
        let whole = given(data).display().to_string();
        let fixed = ["--no-ui", "--data", &whole, "--run-dir", run, "--set", "train.epochs=1"];
        common::run(temp.path(), &[&fixed[..], &sets].concat()).expect(0, data);
        let more = ["--resume", run, "--set", "train.epochs=2", "--no-ui"];
        common::run(temp.path(), &more).expect(0, data);
        losses(&temp.path().join(run))
    };
    let folder = train("tree", "folder");
    assert!(folder.len() > 6, "{folder:?}");
    assert_eq!(train("list.txt", "list"), folder);
    assert_eq!(train("datasets.parquet", "datasets"), folder);
    assert_eq!(train("dictionary.parquet", "dictionary"), folder);
}
