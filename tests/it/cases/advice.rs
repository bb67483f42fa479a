//! What the program says when a run can't go on as it is, when its data has changed, and when figures mean little.

use crate::common::{self, Ended};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs that train two epochs in `run`: on 24 pictures, on two parts, and with an evaluation on few images.
const FLAT: &str = "train --data flat --run-dir run";
const PARTS: &str = "train --data parts --run-dir run";
const JUDGED: &str = "train --run-dir run --set eval.every=1 --set eval.path=classes";
const HOT: &str = "--set schedule.base_lr=100 --set schedule.warmup_epochs=0 --set train.grad_clip=0 \
                   --set data.std=[0.001,0.001,0.001] --set loss.kind=mse --set train.epochs=60";

/// What is done (a line that begins with `train` trains a tiny model, one with `sim` runs the program, any other is for
/// the shell), the exit code of the last line, and what it says and doesn't say. `HOT` stands for [`HOT`].
type Case<'a> = (&'a [&'a str], i32, &'a [&'a str], &'a [&'a str]);

#[rustfmt::skip]
const CASES: [Case<'_>; 21] = [
    // Nothing left to do.
    (&[FLAT, "sim --resume run"], 0, &["warning: nothing is left to do: 2 epochs", "train.epochs is 2", "simmim-tui --resume run --set train.epochs=4", "finished at step 4/4"], &[]),
    (&[FLAT, "sim --resume run --set train.epochs=1"], 0, &["nothing is left to do: 2 epochs", "train.epochs is 1", "--set train.epochs=4", "finished at step 4/4"], &["4/2"]),
    (&[FLAT, "sim --resume run --set train.epochs=1", "sim --resume run --set train.epochs=4"], 0, &["going on after step 4", "finished at step 8/8"], &["nothing is left"]),
    (&["train --set train.epochs=1000000 --run-dir run & sleep 2; kill -TERM $!; wait", "sim --resume run --set train.epochs=1"], 0, &["nothing is left to do", "train.epochs is 1;"], &["/21"]),
    (&[FLAT, "sim --resume run/checkpoints/best.safetensors --run-dir other --set train.epochs=1"], 0, &["nothing is left to do", "--resume run/checkpoints/best.safetensors --set train.epochs="], &[]),
    // Other images than before.
    (&[PARTS, "sim --resume run --set train.epochs=3"], 0, &["finished"], &["not those of the checkpoint"]),
    (&[PARTS, "mv parts elsewhere", "sim --resume run --data elsewhere --set train.epochs=3"], 0, &["finished"], &["not those of the checkpoint"]),
    (&[PARTS, "cp flat/*.png parts/train", "sim --resume run --set train.epochs=3"], 0, &["warning: the images are not those of the checkpoint: 24 new\n"], &["gone", "crossed"]),
    (&[PARTS, "rm parts/train/00.png parts/val/22.png", "sim --resume run --set train.epochs=3"], 0, &["not those of the checkpoint: 2 gone\n"], &["new"]),
    (&[PARTS, "echo more >> parts/train/03.png", "sim --resume run --set train.epochs=3"], 0, &["not those of the checkpoint: 1 new, 1 gone\n"], &[]),
    (&[PARTS, "mv parts/train/03.png parts/val", "sim --resume run --set train.epochs=3"], 0, &["1 crossed from training into validation; validation losses are too good"], &["new"]),
    (&[PARTS, "mv parts/val/2[01].png parts/train", "sim --resume run --set train.epochs=3"], 2, &["2 crossed from validation into training, for example ", "/parts/train/2", "--accept-data-change"], &["finished"]),
    (&[PARTS, "cp parts/val/20.png parts/train", "sim --resume run --run-dir other --set train.epochs=3"], 2, &["1 crossed from validation into training"], &["finished"]),
    (&[PARTS, "mv parts/val/20.png parts/train", "sim --resume run --set train.epochs=3 --accept-data-change"], 0, &["warning: the images are not those", "1 crossed from validation into training", "finished"], &[]),
    (&[PARTS, "mv parts/val/20.png parts/train", "sim --resume run --set train.epochs=3 --accept-data-change", "sim --resume run --set train.epochs=4"], 0, &["finished"], &["not those of the checkpoint"]),
    (&[PARTS, "sim --resume run --data flat --set train.epochs=3"], 0, &["24 new, 24 gone"], &["crossed"]),
    // Few images.
    (&["train --run-dir run", "sim eval run --device cpu --data classes"], 0, &["k-NN 5", "no k-NN with 10 and 20 neighbours: there are 8 training images", "no training image shows the class c: 4 of the 8 test images", "8 test images are few"], &["k-NN 10 ", "k-NN 20", "± 0.0"]),
    (&[JUDGED], 0, &["eval.neighbours is 20, but all 8 training images would vote then: k-NN 5 is taken", "shows the class c", "k-NN 5 ", "] %"], &["k-NN 20", " 0.0 %"]),
    (&["train --run-dir run", "sim finetune run --run-dir tuned --data classes --device cpu --set train.epochs=1"], 0, &["evaluated: top-1 ", "] %"], &["± 0.0", "+- 0.0"]),
    // Losses that rise.
    (&["train --run-dir run HOT"], 3, &["ALARM: loss spike at step 2:", "the loss had risen from ", "no checkpoint is left from before the rise", "simmim-tui --config run/config.toml --set schedule.base_lr=3.3e1"], &[]),
    (&["train --run-dir run", "sim --resume run HOT"], 3, &["ALARM: loss spike at step 4", "the loss had risen from ", "go on from step 42, the last checkpoint from before the rise: simmim-tui --resume run/checkpoints/step-00000042.safetensors --set schedule.base_lr=3.3e1\n"], &[]),
];

/// Makes the data of the cases in `folder`.
fn prepare(folder: &Path) {
    common::pictures(&folder.join("all"), 24);
    for part in ["train", "val", "train/a", "train/b", "val/b", "val/c"] {
        let kind = if part.contains('/') { "classes" } else { "parts" };
        fs::create_dir_all(folder.join(kind).join(part)).expect("a folder");
    }
    let put = |number: usize, place: &str| {
        let from = folder.join(format!("all/{number:02}.png"));
        fs::copy(from, folder.join(place)).expect("it can be copied");
    };
    for number in 0..24 {
        let part = if number < 16 { "train" } else { "val" };
        put(number, &format!("parts/{part}/{number:02}.png"));
        let part = ["train/a", "train/b", "val/b", "val/c"][number % 4];
        if number < 16 {
            put(number, &format!("classes/{part}/{number:02}.png"));
        }
    }
    fs::rename(folder.join("all"), folder.join("flat")).expect("it can be moved");
    for number in 0..24 {
        let name = |ending| folder.join(format!("flat/{number:02}{ending}.png"));
        fs::rename(name(""), name("-flat")).expect("it can be moved");
    }
}

/// Does what a line says.
fn perform(folder: &Path, line: &str) -> Ended {
    let program = env!("CARGO_BIN_EXE_simmim-tui");
    let tiny: Vec<String> = common::TINY.iter().map(|set| format!("--set {set}")).collect();
    let train = format!("'{program}' --no-ui {}", tiny.join(" "));
    let line = line.replace("HOT", HOT);
    let line = match line.split_once(' ') {
        Some(("train", rest)) => format!("{train} {rest}"),
        Some(("sim", rest)) => format!("'{program}' {rest}"),
        _ => line,
    };
    let mut shell = Command::new("sh");
    let done = shell.args(["-c", &line]).current_dir(folder).output().expect("a shell");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended { code: done.status.code(), stdout: text(done.stdout), stderr: text(done.stderr) }
}

#[test]
fn each_case_gives_its_advice() {
    let mut failed = Vec::new();
    for (lines, code, parts, absent) in CASES {
        let temp = tempfile::tempdir().expect("a temporary folder");
        prepare(temp.path());
        let (last, before) = lines.split_last().expect("a case has a line");
        for line in before {
            perform(temp.path(), line).expect(0, line);
        }
        let ended = perform(temp.path(), last).expect(code, &format!("{lines:?}"));
        let said = format!("{}{}", ended.stdout, ended.stderr);
        let missing = parts.iter().filter(|part| !said.contains(**part));
        let wrong: Vec<_> =
            missing.chain(absent.iter().filter(|part| said.contains(**part))).collect();
        if !wrong.is_empty() {
            failed.push(format!("{lines:?}: {wrong:?} in\n{said}"));
        }
    }
    assert!(failed.is_empty(), "missing, or there and wrong:\n{}", failed.join("\n"));
}

#[test]
fn a_refused_resume_changes_nothing_and_the_command_of_the_advice_works() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    prepare(folder);
    perform(folder, PARTS).expect(0, "the run");
    let before = common::contents(&folder.join("run"));
    perform(folder, "mv parts/val/20.png parts/train").expect(0, "moved");
    perform(folder, "sim --resume run").expect(2, "refused");
    let lock = folder.join("run/lock");
    let mut after = common::contents(&folder.join("run"));
    after.remove(&lock);
    let mut before = before;
    before.remove(&lock);
    assert!(before == after, "the run is as it was");

    perform(folder, "train --run-dir hot").expect(0, "a good run");
    let ended = perform(folder, "sim --resume hot HOT").expect(3, "too high a rate");
    let (_, advice) = ended.stderr.trim_end().rsplit_once("simmim-tui ").expect("a command");
    let line = format!("sim {advice} --set data.std=[0.25,0.25,0.25] --set schedule.base_lr=1e-3");
    let ended = perform(folder, &format!("{line} --set train.epochs=3")).expect(0, "the advice");
    assert!(ended.stdout.contains("resumed from hot/checkpoints/step-00000042"), "{ended:?}");
    common::assert_finished(&folder.join("hot"), "completed");
}

#[test]
fn a_checkpoint_without_a_fingerprint_resumes_and_one_with_it_stays_small() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    prepare(folder);
    perform(folder, FLAT).expect(0, "the run");
    let path = common::checkpoint_at(&folder.join("run"), 4);
    let found = simmim_tui::weights::checkpoint::load(&path).expect("sound");
    let images = serde_json::to_value(found.meta.images.expect("given")).expect("plain data");
    let counts = ["train", "val", "both"].map(|part| images[part]["images"].as_u64());
    assert_eq!(counts, [Some(22), Some(2), Some(0)]);
    assert_eq!(images["train"]["kept"].as_str().map(str::len), Some(22 * 8));
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/run-v1");
    common::copy(&old, &folder.join("old"));
    let line = "sim --no-ui --resume old --set train.epochs=54 --data flat --device cpu";
    let ended = perform(folder, line).expect(0, "a run of release 0.1.0");
    assert!(!ended.stderr.contains("not those of the checkpoint"), "{ended:?}");
}
