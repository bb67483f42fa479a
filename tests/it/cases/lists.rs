//! Large folders are listed once: what is kept where, how to drop it, and that nobody sees a difference but in time.

use crate::common::{self, Ended};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::tempdir;

/// Enough images for a list.
const CLASSES: usize = 8;
const EACH: usize = 1300;

/// Makes a tree of hard links to three pictures, old enough for its times to be trusted.
fn large_tree(root: &Path) {
    common::pictures(&root.join("../pictures"), 3);
    let pictures: Vec<PathBuf> = fs::read_dir(root.join("../pictures"))
        .expect("readable")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    for class in 0..CLASSES {
        let folder = root.join(format!("class-{class}"));
        fs::create_dir_all(&folder).expect("the folder can be made");
        for number in 0..EACH {
            fs::hard_link(&pictures[number % 3], folder.join(format!("{number:05}.png")))
                .expect("the file can be linked");
        }
    }
    std::thread::sleep(Duration::from_millis(4200));
}

/// Runs the program with a cache folder of its own.
fn run(folder: &Path, cache: &Path, arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_simmim-tui"))
        .current_dir(folder)
        .env("XDG_CACHE_HOME", cache)
        .args(arguments)
        .output()
        .expect("the program starts");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn lists(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache.join("simmim-tui/lists")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[test]
fn a_large_folder_is_listed_once_and_the_list_is_never_wrong() {
    let temp = tempdir().expect("a temporary folder");
    let (data, cache) = (temp.path().join("data"), temp.path().join("cache"));
    fs::create_dir(&data).expect("the folder can be made");
    large_tree(&data);
    let plan = |with: &[&str]| -> String {
        let arguments = [&["plan", "--device", "cpu", "--data", "data"][..], with].concat();
        let ended = run(temp.path(), &cache, &arguments).expect(0, "plan");
        let data = ended.stdout.lines().next().unwrap_or_default().to_owned();
        data + &ended.stderr
    };
    let said = |images: usize| {
        let val = (images as f64 * 0.1).round() as usize;
        let train = images - val;
        format!("data        {train} train + {val} val images from data, 8 classes, val split off")
    };
    let images = CLASSES * EACH;
    assert_eq!(plan(&[]), said(images));
    let file = lists(&cache).pop().expect("a list is kept");
    let first = fs::read(&file).expect("readable");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(plan(&[]), said(images));
    assert_eq!(fs::read(&file).expect("readable"), first, "nothing is new");

    let report = run(temp.path(), &cache, &["doctor", "--json"]).stdout;
    let report: Value = serde_json::from_str(&report).expect("one JSON object");
    let findings = report["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["name"] == "lists").expect("lists");
    let place = cache.join("simmim-tui/lists").display().to_string();
    assert_eq!(found["found"], place);
    let why = found["why"].as_str().expect("a text");
    assert!(why.contains("1 of") && why.contains("--relist"), "{why}");

    // A list that says something else is believed, which shows that it is read; --relist mends it.
    for change in ["gone", "new", "damaged", "relisted", "removed"] {
        let picture = data.join("class-3/00007.png");
        let expected = match change {
            "gone" => {
                fs::remove_file(&picture).expect("removed");
                images - 1
            }
            "new" => {
                fs::copy(data.join("class-3/00008.png"), &picture).expect("copied");
                images
            }
            "damaged" => {
                fs::write(&file, &first[..first.len() / 2]).expect("written");
                images
            }
            "removed" => {
                fs::remove_dir_all(&cache).expect("removed");
                images
            }
            _ => images,
        };
        let with: &[&str] = if change == "relisted" { &["--relist"] } else { &[] };
        assert_eq!(plan(with), said(expected), "{change}");
        assert_eq!(lists(&cache), std::slice::from_ref(&file), "{change}");
    }
}

#[test]
fn a_cache_that_cannot_be_written_costs_nothing_but_time() {
    let temp = tempdir().expect("a temporary folder");
    let data = temp.path().join("data");
    fs::create_dir(&data).expect("the folder can be made");
    large_tree(&data);
    let file = temp.path().join("file");
    fs::write(&file, "").expect("written");
    let arguments = ["plan", "--device", "cpu", "--data", "data"];
    for cache in [&file, Path::new("/proc/self/nowhere")] {
        let ended = run(temp.path(), cache, &arguments).expect(0, "plan");
        assert!(ended.stdout.contains("8 classes") && ended.stderr.is_empty(), "{ended:?}");
        let doctor = run(temp.path(), cache, &["doctor"]);
        let line = doctor.stdout.lines().find(|line| line.contains(" lists ")).expect("lists");
        assert!(line.contains("can't be written"), "{line}");
    }
}
