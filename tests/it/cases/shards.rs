//! Tar shards as a user has them: patterns on the command line, what is said of damage, and whole runs.

use crate::common::{self, TINY};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Returns a command line in `folder` that keeps the lists of shards in a cache folder of its own.
fn shell(folder: &Path, line: &str) -> Command {
    let mut command = Command::new("bash");
    let program = env!("CARGO_BIN_EXE_simmim-tui");
    command.args(["-c", &line.replace("simmim-tui", program)]).current_dir(folder);
    command.env("XDG_CACHE_HOME", cache(folder));
    command
}

fn cache(folder: &Path) -> std::path::PathBuf {
    folder.ancestors().find(|above| above.join("cache").is_dir()).expect("made").join("cache")
}

/// Runs a command line that must end with an exit code, and returns what it said.
fn said(folder: &Path, line: &str, code: i32) -> String {
    let Output { status, stdout, stderr } = shell(folder, line).output().expect("bash starts");
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert_eq!(status.code(), Some(code), "{line}: {said}");
    assert!(!said.contains("panicked"), "{line}: {said}");
    said
}

fn tiny() -> String {
    let sets = TINY.iter().chain(&["train.batch_size=4", "train.epochs=3", "data.cache_mib=0"]);
    sets.flat_map(|set| [" --set ", set]).collect()
}

/// Makes pictures of two classes in `folder/`, and the same ones in `shards/train-000.tar` to `train-003.tar`.
fn both(temp: &TempDir, shards: usize) {
    let root = temp.path();
    fs::create_dir(root.join("cache")).expect("made");
    fs::create_dir(root.join("shards")).expect("made");
    let names: Vec<String> =
        (0..24).map(|number| format!("{}/{:02}.png", number / 12, number % 12)).collect();
    for class in ["0", "1"] {
        common::pictures(&root.join("folder").join(class), 12);
    }
    for shard in 0..shards {
        let file = root.join(format!("shards/train-{shard:03}.tar"));
        let mut archive = tar::Builder::new(fs::File::create(file).expect("made"));
        let share = |place: usize| place * names.len() / shards;
        for name in &names[share(shard)..share(shard + 1)] {
            archive.append_path_with_name(root.join("folder").join(name), name).expect("written");
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            let class = &name[..1];
            let label = name.replace("png", "cls");
            archive.append_data(&mut header, label, class.as_bytes()).expect("written");
        }
        archive.into_inner().expect("written");
    }
}

#[test]
fn plan_takes_patterns_and_names_what_is_missing_or_damaged() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    both(&temp, 4);
    let root = temp.path();
    let plan = |data: &str, code: i32| {
        said(root, &format!("simmim-tui plan --set train.batch_size=1 --data {data}"), code)
    };
    let text = plan("'shards/train-{000..003}.tar'", 0);
    assert!(
        text.contains("22 train + 2 val images in tar shards") && text.contains("2 classes"),
        "{text}"
    );
    assert!(!text.contains("warning") && root.join("cache/simmim-tui/shards").is_dir(), "{text}");
    let text = plan(
        "'shards/train-{000..001}.tar' --set 'data.val_path=shards/{train-002,train-003}.tar'",
        0,
    );
    assert!(text.contains("12 train + 12 val images") && !text.contains("split off"), "{text}");
    let text = plan("'shards/train-{000..005}.tar'", 2);
    assert!(
        text.contains("2 of the 6 shards of shards/train-{000..005}.tar are missing"),
        "{text}"
    );
    assert!(text.contains("shards/train-004.tar, shards/train-005.tar"), "{text}");
    let text = plan("shards --set 'data.val_path=none-{0..1}.tar'", 2);
    assert!(text.contains("2 of the 2 shards of none-{0..1}.tar"), "{text}");
    let text = plan("shards/train-{000..003}.tar", 2);
    assert!(text.contains("unexpected argument 'shards/train-001.tar'"), "{text}");
    let file = root.join("shards/train-003.tar");
    let bytes = fs::read(&file).expect("there");
    fs::write(&file, &bytes[..bytes.len() - 3000]).expect("written");
    let text = plan("shards", 0);
    assert_eq!(text.matches("train-003.tar at offset").count(), 1, "{text}");
    assert!(text.contains("train + 2 val images in tar shards from shards"), "{text}");
    fs::write(root.join("shards/train-004.tar.gz"), "x").expect("written");
    let text = plan("shards/train-004.tar.gz", 2);
    assert!(text.contains("train-004.tar.gz is compressed") && text.contains("gunzip"), "{text}");
    assert!(plan("folder --set data.format=tar", 2).contains("tar shards (.tar)"));
}

#[test]
fn a_run_on_shards_is_the_run_on_their_images_also_when_it_is_broken_off_and_moved() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    both(&temp, 4);
    let root = temp.path();
    // The split depends on the names of images, which shards are a part of. So validation images are given.
    let train = |data: &str, run: &str, more: &str| {
        said(
            root,
            &format!(
                "simmim-tui --no-ui{} --data {data} --set data.val_path=folder/0 --run-dir {run} {more}",
                tiny()
            ),
            0,
        )
    };
    let pattern = "'shards/train-{000..003}.tar'";
    train("folder --set data.format=folder", "of-folder", "");
    train(pattern, "of-shards", "");
    let of = |run: &str| common::newest_state(&root.join(run));
    common::assert_same_state(&of("of-shards"), &of("of-folder"), "shards and folder");
    for (run, more) in
        [("full", ""), ("by-shards", " --set data.shuffle=shards --set data.buffer=5")]
    {
        train(pattern, run, more);
        let half = format!("{run}-half");
        // Ten of eighteen steps, which is in the middle of the second epoch.
        let steps = "--set checkpoint.every_steps=10 --set checkpoint.every_epochs=0 --set checkpoint.keep=5";
        train(pattern, &half, &format!("{more} {steps}"));
        let elsewhere = root.join(format!("{run}-elsewhere"));
        fs::create_dir(&elsewhere).expect("made");
        let checkpoint = common::checkpoint_at(&root.join(&half), 10);
        let line = format!("simmim-tui --no-ui --resume {} --run-dir again", checkpoint.display());
        said(&elsewhere, &line, 0);
        let again = common::newest_state(&elsewhere.join("again"));
        common::assert_same_state(&again, &of(run), run);
    }
    let order = |run: &str| of(run).weights;
    let same =
        order("full").iter().all(|(name, tensor)| tensor.data == order("by-shards")[name].data);
    assert!(!same, "the order of the images is another one");
}

#[test]
fn hundreds_of_shards_take_few_open_files() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    both(&temp, 24);
    let root = temp.path();
    for copy in 0..15 {
        for shard in 0..24 {
            let from = root.join(format!("shards/train-{shard:03}.tar"));
            fs::copy(from, root.join(format!("shards/copy-{copy:02}-{shard:03}.tar")))
                .expect("copied");
        }
    }
    let text = said(
        root,
        &format!("ulimit -n 64; simmim-tui --no-ui{} --data shards --run-dir run", tiny()),
        0,
    );
    assert!(!text.contains("could not be read"), "{text}");
    common::assert_finished(&root.join("run"), "completed");
}
