//! Runs whose length is given in steps, and the images on which they are validated.

use crate::common::{self, assert_same_state, checkpoint_at};
use serde_json::Value;
use std::path::Path;

/// An epoch of the tiny run has 21 steps.
const IN_STEPS: [&str; 4] =
    ["train.steps=30", "train.val_every_steps=10", "train.log_every=10", "schedule.warmup_steps=7"];

/// Returns the arguments for a tiny run whose length is in steps.
fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let small = common::TINY.into_iter().filter(|set| !set.contains("epochs="));
    let sets = small.chain(IN_STEPS).flat_map(|set| ["--set", set]);
    sets.chain(more.iter().copied()).collect()
}

fn run(folder: &Path, more: &[&str]) -> common::Ended {
    common::run(folder, &arguments(more)).expect(0, "the run")
}

fn steps_of(run: &Path, kind: &str) -> Vec<u64> {
    let events = common::events_of(run, kind);
    events.iter().map(|event| event["step"].as_u64().expect("a number")).collect()
}

#[test]
fn a_run_of_steps_ends_within_an_epoch_and_says_so_everywhere() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let ended = run(folder, &["--run-dir", "run"]);
    for part in
        ["30 steps, 1.43 epochs of 21 steps, 7 warm-up steps", "step 30/30", "finished at step 30"]
    {
        assert!(ended.stdout.contains(part), "{part} is missing in {ended:?}");
    }
    let root = folder.join("run");
    common::assert_finished(&root, "completed");
    assert!(checkpoint_at(&root, 30).exists());
    assert_eq!(steps_of(&root, "validated"), [0, 10, 20, 30]);
    let started = &common::events_of(&root, "started")[0];
    let lengths = ["total_steps", "steps_per_epoch", "epochs", "warmup_steps"];
    let lengths = lengths.map(|key| started[key].as_u64().expect("a number"));
    assert_eq!(lengths, [30, 21, 2, 7]);
    let saved = std::fs::read_to_string(root.join("config.toml")).expect("readable");
    for line in ["steps = 30", "val_every_steps = 10", "warmup_steps = 7"] {
        assert!(saved.lines().any(|saved| saved == line), "{line} is missing in\n{saved}");
    }
    let epochs = ["epochs", "val_every", "warmup_epochs"];
    let key = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    assert!(saved.lines().all(|line| !epochs.contains(&key(line).as_str())), "{saved}");
    let status = common::run(folder, &["ctl", "run", "status"]).expect(0, "status").stdout;
    assert!(status.contains("step 30/30  epoch 1.43/1.43"), "{status}");
    let row = common::run(folder, &["runs", "run"]).expect(0, "runs").stdout;
    assert!(row.contains("30/30"), "{row}");
    let plan = common::run(folder, &[&["plan"], &arguments(&[])[..]].concat()).expect(0, "plan");
    assert!(plan.stdout.contains("30 = 1.43 epochs of 21 steps"), "{plan:?}");
}

#[test]
fn a_run_of_steps_goes_on_from_within_an_epoch_with_the_bits_of_an_unbroken_one() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    // The schedule depends on the length, so both halves have that of the whole run.
    let often = ["--set", "checkpoint.every_steps=25", "--run-dir"];
    run(folder, &[&often[..], &["whole"]].concat());
    let from = "whole/checkpoints/step-00000025.safetensors";
    common::run(folder, &["--no-ui", "--resume", from, "--run-dir", "half"]).expect(0, "resumed");
    let expected = common::newest_state(&folder.join("whole"));
    assert_same_state(&common::newest_state(&folder.join("half")), &expected, "the second half");
    assert_eq!(steps_of(&folder.join("half"), "finished"), [30]);
}

#[test]
fn a_resume_changes_the_length_between_steps_and_epochs() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    run(folder, &["--run-dir", "run"]);
    let root = folder.join("run");
    let resume = |set: &str| {
        let ended = common::run(folder, &["--no-ui", "--resume", "run", "--set", set]);
        ended.expect(0, set)
    };
    let last = || *steps_of(&root, "finished").last().expect("an end");
    resume("train.steps=33");
    assert_eq!(last(), 33);
    resume("train.epochs=2");
    assert_eq!(last(), 42);
    resume("train.steps=50");
    assert_eq!(last(), 50);
    let over = resume("train.steps=40");
    for part in ["nothing is left to do: step 50 is done, and train.steps is 40", "train.steps=100"]
    {
        assert!(over.stderr.contains(part), "{part} is missing in {over:?}");
    }
    let over = resume("train.epochs=1");
    for part in ["2 epochs (step 50) are done, and train.epochs is 1", "train.epochs=4"] {
        assert!(over.stderr.contains(part), "{part} is missing in {over:?}");
    }
    resume("train.steps=52");
    assert_eq!(last(), 52);
    let both = ["--resume", "run", "--set", "train.steps=60", "--set", "train.epochs=4"];
    let refused = common::run(folder, &both).expect(2, "both lengths");
    assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    for part in ["train.epochs", "train.steps", "give one of them"] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
}

/// Returns the images, all images, and those of the usual ones of each validation.
fn images(run: &Path) -> Vec<[Option<u64>; 3]> {
    let validated = common::events_of(run, "validated");
    let numbers = |event: &Value| {
        let usual = &event["usual"]["images"];
        [event["images"].as_u64(), event["of"].as_u64(), usual.as_u64()]
    };
    validated.iter().map(numbers).collect()
}

#[test]
fn validations_take_the_same_images_and_the_last_one_takes_all() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let few = ["--set", "val.images=9", "--run-dir", "few"];
    let ended = run(folder, &few);
    let root = folder.join("few");
    let some = [Some(9), Some(44), None];
    assert_eq!(images(&root), [some, some, some, [Some(44), None, Some(9)]]);
    for part in [
        "validations are on 9 of 44 images",
        "validated on 9 of 44 images: ",
        "validated on all 44 images: ",
        "val_loss of the usual 9 images",
    ] {
        assert!(ended.stdout.contains(part), "{part} is missing in {ended:?}");
    }
    // The weights are the same whatever they are validated on, and so is the loss of the same weights on all images.
    run(folder, &["--run-dir", "all"]);
    let all = folder.join("all");
    assert_eq!(images(&all), [[Some(44), None, None]; 4]);
    assert_same_state(
        &common::newest_state(&root),
        &common::newest_state(&all),
        "what validates doesn't train",
    );
    let loss = |run: &Path, at: usize| {
        common::events_of(run, "validated")[at]["val_loss"].as_f64().expect("a number")
    };
    assert!((loss(&root, 3) - loss(&all, 3)).abs() < 1e-6, "masks go with the images");
    assert!((loss(&root, 0) - loss(&all, 0)).abs() > 1e-6, "these are of other images");
    // The best checkpoint goes by the usual images alone.
    let finished = &common::events_of(&root, "finished")[0];
    let usual = |event: &Value| {
        event["usual"]["val_loss"].as_f64().or(event["val_loss"].as_f64()).expect("a number")
    };
    let trained = &common::events_of(&root, "validated")[1..];
    let best = trained.iter().map(usual).fold(f64::INFINITY, f64::min);
    assert_eq!(finished["best_val_loss"].as_f64(), Some(best));
}

#[test]
fn a_resume_with_other_validation_images_compares_nothing_across() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    run(folder, &["--set", "val.images=9", "--run-dir", "run"]);
    let root = folder.join("run");
    let resume = |sets: &[&str]| {
        let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
        let ended = common::run(folder, &[&["--no-ui", "--resume", "run"][..], &sets].concat());
        ended.expect(0, "resumed")
    };
    // At its end nothing is validated again: the checkpoint knows that it was on all images.
    resume(&[]);
    assert_eq!(images(&root).len(), 4);
    let same = resume(&["train.steps=40"]);
    assert!(!same.stderr.contains("can't be compared"), "{same:?}");
    assert_eq!(images(&root)[4..], [[Some(44), None, Some(9)]]);
    let other = resume(&["train.steps=60", "val.images=0"]);
    assert!(other.stderr.contains("validations were on 9 images and are on all"), "{other:?}");
    let all = [Some(44), None, None];
    assert_eq!(images(&root)[5..], [all; 3], "step 40 again, 50 and 60");
    let finished = common::events_of(&root, "finished");
    let best = finished.last().expect("an end")["best_val_loss"].as_f64();
    let validated = common::events_of(&root, "validated");
    let losses = validated[5..].iter().map(|event| event["val_loss"].as_f64().expect("a number"));
    assert_eq!(best, Some(losses.fold(f64::INFINITY, f64::min)));
}
