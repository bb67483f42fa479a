//! A resumed run computes what the uninterrupted run computes, bit for bit.

use crate::common::{self, Reader, Running, STEPS_PER_EPOCH, assert_same_state, checkpoint_at};
use simmim_tui::config::{Config, file};
use simmim_tui::data::{self, Fingerprint};
use simmim_tui::engine::device::{self, Device};
use simmim_tui::engine::learner::LearnerConfig;
use simmim_tui::train::{Job, Start, Trainer};
use simmim_tui::weights::checkpoint::{self, FoundCheckpoint};
use std::path::Path;

/// Pictures in the folder: 16 for training, which are 4 micro-batches of 4, and one for validation.
const PICTURES: u32 = 17;

fn config(pictures: &Path, sets: &[&str]) -> Config {
    let mut all: Vec<String> = common::TINY.map(str::to_owned).into();
    all.push(format!("data.path='{}'", pictures.display()));
    all.extend(["train.batch_size=4", "data.val_fraction=0.05"].map(str::to_owned));
    all.extend(["train.epochs=8", "model.depth=2", "model.drop_path=0.5"].map(str::to_owned));
    all.extend(sets.iter().map(|&set| set.to_owned()));
    file::load(None, &all).expect("a valid configuration")
}

/// Returns a trainer that starts in a new folder or resumes from the newest checkpoint there.
fn trainer(config: &Config, root: &Path, resume: bool) -> Trainer {
    let (run, start) = common::begin(root, resume);
    let data = data::open(&config.data).expect("the pictures can be opened");
    let job = common::job(config.clone(), data, run, start);
    let (events, _) = crossbeam_channel::unbounded();
    Trainer::new(job, vec![Box::new(events)], crossbeam_channel::never())
        .expect("the trainer is built")
}

fn advance(trainer: &mut Trainer, micro_steps: u64) {
    for _ in 0..micro_steps {
        trainer.micro_step().expect("the step succeeds");
    }
}

#[test]
fn half_a_run_and_its_continuation_are_the_whole_run_bit_for_bit() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let pictures = temp.path().join("pictures");
    common::pictures(&pictures, PICTURES);
    // Name, gradient accumulation, micro-steps before and after the break, loader threads before and after it.
    let cases = [
        ("at the end of an epoch", 1, [4, 4], [1, 1]),
        ("at the end of an epoch with three threads", 1, [8, 8], [3, 3]),
        ("within an epoch", 1, [6, 6], [1, 1]),
        ("within an epoch with three threads, then one", 1, [7, 7], [3, 1]),
        ("within an epoch with one thread, then three", 1, [9, 9], [1, 3]),
        ("over many epochs", 1, [13, 13], [1, 3]),
        ("between accumulated steps", 3, [9, 9], [1, 1]),
        ("after one of three micro-steps", 3, [7, 8], [1, 1]),
        ("after two of three micro-steps", 3, [8, 7], [3, 3]),
        ("after one of three, ended after two of three", 3, [4, 7], [3, 1]),
        ("before any step is whole", 3, [2, 10], [1, 3]),
    ];
    for (number, (name, accumulation, [before, after], threads)) in cases.into_iter().enumerate() {
        let of = |workers: u64| {
            let workers = format!("data.workers={workers}");
            config(&pictures, &[&workers, &format!("train.accumulation={accumulation}")])
        };
        let mut whole =
            trainer(&of(threads[0]), &temp.path().join(format!("{number}-whole")), false);
        advance(&mut whole, before + after);

        let root = temp.path().join(format!("{number}-halves"));
        let mut first = trainer(&of(threads[0]), &root, false);
        advance(&mut first, before);
        first.save().expect("the checkpoint is written");
        let at_break = first.engine_state();
        drop(first);
        let mut second = trainer(&of(threads[1]), &root, true);
        assert_same_state(&second.engine_state(), &at_break, &format!("{name}, loaded"));
        advance(&mut second, after);
        let (found, expected) = (second.engine_state(), whole.engine_state());
        assert_same_state(&found, &expected, name);
        assert_ne!(found, at_break, "{name}: something was trained after the break");
        assert_eq!(found.gradients.is_empty(), (before + after) % accumulation == 0, "{name}");
    }
}

#[test]
fn breaks_after_every_micro_step_change_nothing() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let pictures = temp.path().join("pictures");
    common::pictures(&pictures, PICTURES);
    let config = config(&pictures, &["train.accumulation=3", "data.workers=3"]);
    let mut whole = trainer(&config, &temp.path().join("whole"), false);
    advance(&mut whole, 14);
    let root = temp.path().join("broken");
    for micro in 0..14 {
        let mut part = trainer(&config, &root, micro > 0);
        advance(&mut part, 1);
        part.save().expect("the checkpoint is written");
    }
    let last = trainer(&config, &root, true);
    assert_same_state(&last.engine_state(), &whole.engine_state(), "fourteen breaks");
}

#[test]
fn a_checkpoint_of_another_shape_is_refused_with_the_name_of_the_tensor() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let pictures = temp.path().join("pictures");
    common::pictures(&pictures, PICTURES);
    let root = temp.path().join("run");
    let small = config(&pictures, &[]);
    let mut trained = trainer(&small, &root, false);
    advance(&mut trained, 1);
    trained.save().expect("the checkpoint is written");
    drop(trained);
    let path = checkpoint_at(&root, 1);
    let loaded = checkpoint::load(&path).expect("sound");
    let large = config(&pictures, &["model.embed_dim=32"]);
    let job = Job {
        data: data::open(&large.data).expect("the pictures can be opened"),
        images: Fingerprint::default(),
        eval: None,
        engine: device::engine_maker(&Device::Cpu, LearnerConfig::new(&large)),
        config: large,
        device: Device::Cpu,
        run: common::reopen(&root),
        start: Start::Resume(Box::new(FoundCheckpoint {
            path,
            checkpoint: loaded,
            warnings: Vec::new(),
            damaged: Vec::new(),
        })),
        notices: Vec::new(),
    };
    let (events, _) = crossbeam_channel::unbounded();
    let error = Trainer::new(job, vec![Box::new(events)], crossbeam_channel::never())
        .err()
        .expect("refused");
    let error = error.to_string();
    for part in
        ["step-00000001.safetensors doesn't fit the model", "tensor ", "has shape", "16", "32"]
    {
        assert!(error.contains(part), "the message says {part}: {error}");
    }
}

#[test]
fn a_run_stopped_by_sigterm_and_resumed_ends_as_the_unbroken_one() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (folder, run) = (temp.path(), temp.path().join("stopped"));
    // With a constant learning rate the number of epochs affects only the end, so it can be chosen after the stop.
    let constant = ["--set", "schedule.kind=constant"];
    let endless = [&["--run-dir", "stopped"][..], &constant, &common::ENDLESS].concat();
    let process = Running::start(folder, &common::tiny(&endless), Reader::All);
    common::until_step(&run, "step", 10);
    process.signal("TERM");
    let ended = process.end().expect(0, "the stopped run");
    let said = ended.stdout.matches("stopping: a checkpoint is saved").count();
    assert_eq!(said, 1, "it says so once: {ended:?}");
    assert!(ended.stdout.contains("stopped and saved at step "), "it says so: {ended:?}");
    common::assert_finished(&run, "stopped");
    let stopped = common::events(&run).pop().expect("some");
    let stopped = stopped["step"].as_u64().expect("a number");

    let epochs = format!("train.epochs={}", stopped / STEPS_PER_EPOCH + 2);
    let resumed = common::run(folder, &["--resume", "stopped", "--set", &epochs]);
    let resumed = resumed.expect(0, "the resumed run");
    let says = format!("going on after step {stopped}\n");
    assert!(resumed.stdout.contains(&says), "it says where it goes on: {resumed:?}");
    let unbroken = [&["--run-dir", "unbroken", "--set", &epochs][..], &constant].concat();
    common::run_tiny(folder, &unbroken).expect(0, "the unbroken run");
    assert_same_state(
        &common::newest_state(&run),
        &common::newest_state(&folder.join("unbroken")),
        "the resumed run",
    );
    common::assert_finished(&run, "completed");
    let started = common::events_of(&run, "started");
    let resumed: Vec<_> = started.iter().map(|event| event["resumed"].as_bool()).collect();
    assert_eq!(resumed, [Some(false), Some(true)], "the log has both starts");
}

#[test]
fn a_run_goes_on_from_an_older_checkpoint_in_its_own_folder_or_in_a_new_one() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (folder, run) = (temp.path(), temp.path().join("run"));
    let often = ["--set", "checkpoint.every_steps=10", "--set", "checkpoint.keep=100"];
    common::run_tiny(folder, &[&["--run-dir", "run"][..], &often].concat()).expect(0, "the run");
    let expected = common::newest_state(&run);
    let before = common::contents(&run);
    let older = "run/checkpoints/step-00000020.safetensors";

    common::run(folder, &["--resume", older, "--run-dir", "fork"]).expect(0, "the fork");
    assert_same_state(&common::newest_state(&folder.join("fork")), &expected, "the fork");
    assert_eq!(common::contents(&run), before, "the fork leaves the old run as it is");
    let steps = |run: &Path| -> Vec<_> {
        common::events_of(run, "checkpoint_saved").iter().map(|e| e["step"].as_u64()).collect()
    };
    let forked = [Some(20), Some(30), Some(40), Some(42)];
    assert_eq!(steps(&folder.join("fork")), forked, "it has its first state from the start");

    let ended = common::run(folder, &["--resume", older]).expect(0, "the run from step 20");
    assert!(ended.stderr.contains("newer checkpoints got the ending .abandoned"), "{ended:?}");
    for step in [30, 40, 42] {
        let again = checkpoint_at(&run, step);
        let aside = again.with_extension("safetensors.abandoned");
        let first = std::fs::read(&aside).expect("the first one was set aside");
        assert_eq!(Some(first), before[&again], "step {step} is set aside as it was");
        assert!(again.exists(), "step {step} is reached again");
    }
    for step in [10, 20] {
        let path = checkpoint_at(&run, step);
        assert_eq!(std::fs::read(&path).ok(), before[&path], "step {step} stays as it is");
    }
    assert_same_state(&common::newest_state(&run), &expected, "the run from step 20");
}

#[test]
fn a_finished_run_resumes_to_its_end_at_once_and_can_be_prolonged() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (folder, run) = (temp.path(), temp.path().join("run"));
    common::run_tiny(folder, &["--run-dir", "run"]).expect(0, "the run");
    let saved = std::fs::read(checkpoint_at(&run, 42)).expect("saved");
    for arguments in [&["--resume", "run"][..], &["--resume", "run", "--set", "train.epochs=1"]] {
        common::run(folder, arguments).expect(0, "the finished run");
        common::assert_finished(&run, "completed");
        assert_eq!(std::fs::read(checkpoint_at(&run, 42)).expect("there"), saved, "{arguments:?}");
    }
    let best = "run/checkpoints/best.safetensors";
    for arguments in [
        ["--resume", "run", "--set", "train.epochs=3"],
        ["--resume", best, "--set", "train.epochs=4"],
    ] {
        common::run(folder, &arguments).expect(0, "the prolonged run");
        common::assert_finished(&run, "completed");
    }
    assert!(checkpoint_at(&run, 84).exists(), "the run has four epochs now");
}

#[test]
fn a_fork_past_a_damaged_checkpoint_leaves_the_old_run_as_it_is() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (folder, run) = (temp.path(), temp.path().join("run"));
    let often = ["--run-dir", "run", "--set", "checkpoint.every_steps=20"];
    common::run_tiny(folder, &often).expect(0, "the run");
    let expected = common::newest_state(&run);
    std::fs::write(checkpoint_at(&run, 42), b"").expect("writable");
    let before = common::contents(&run);
    let ended =
        common::run(folder, &["--resume", "run", "--run-dir", "fork"]).expect(0, "the fork");
    assert!(ended.stderr.contains("is damaged"), "it warns: {ended:?}");
    assert_same_state(&common::newest_state(&folder.join("fork")), &expected, "the fork");
    assert_eq!(common::contents(&run), before, "the fork leaves the old run as it is");
}

#[test]
fn a_checkpoint_that_was_copied_elsewhere_starts_a_new_run() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (folder, run) = (temp.path(), temp.path().join("run"));
    let often = ["--run-dir", "run", "--set", "checkpoint.every_steps=20"];
    common::run_tiny(folder, &often).expect(0, "the run");
    std::fs::create_dir(folder.join("far")).expect("writable");
    for (number, copy) in ["copy.safetensors", "far/copy.safetensors"].into_iter().enumerate() {
        std::fs::copy(checkpoint_at(&run, 20), folder.join(copy)).expect("writable");
        let root = format!("new-{number}");
        common::run(folder, &["--resume", copy, "--run-dir", &root]).expect(0, copy);
        let state = common::newest_state(&folder.join(root));
        assert_same_state(&state, &common::newest_state(&run), copy);
    }
    let mut left: Vec<_> = std::fs::read_dir(folder)
        .expect("it can be listed")
        .map(|entry| entry.expect("it can be listed").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["copy.safetensors", "far", "new-0", "new-1", "run"], "and nothing else");
}
