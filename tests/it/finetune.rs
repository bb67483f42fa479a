//! From pre-training to a classifier with the program. A fine-tuning run can be resumed and inspected like any other.

use crate::common::{self, Ended, assert_same_state, checkpoint_at, events_of};
use image::{Rgb, RgbImage};
use simmim_tui::config::{Config, file};
use simmim_tui::data;
use simmim_tui::event::TaskKind;
use simmim_tui::train::Trainer;
use simmim_tui::weights::checkpoint;
use std::fs;
use std::path::Path;

/// Sizes of the model that differ from [`common::TINY`].
const MODEL: [&str; 4] = ["--set", "model.patch_size=4", "--set", "model.depth=2"];

/// Writes pictures of stripes of random phase, width and colour. Only their direction, `across` or `down`, tells the
/// classes apart.
fn stripes(folder: &Path, class: &str, count: u32) {
    let folder = folder.join(class);
    fs::create_dir_all(&folder).expect("the folder can be made");
    for number in 0..count {
        let picture = RgbImage::from_fn(16, 16, |x, y| {
            let along = if class == "across" { y } else { x };
            let bright = (along + number * 5) / (2 + number % 2) % 2 == 0;
            let noise = (x * 31 + y * 17 + number * 7) % 40;
            let own = [number * 53, number * 29, number * 11].map(|value| value % 90);
            Rgb(own.map(|value| (value + noise + if bright { 120 } else { 0 }) as u8))
        });
        picture.save(folder.join(format!("{number:02}.png"))).expect("the picture can be written");
    }
}

/// Writes a data set of two classes into `data/` and pre-trains on it in the run `pre`.
fn pretrained(folder: &Path) {
    for class in ["across", "down"] {
        stripes(&folder.join("data/train"), class, 40);
        stripes(&folder.join("data/val"), class, 12);
    }
    let arguments = [&MODEL[..], &["--data", "data", "--no-ui", "--run-dir", "pre"]].concat();
    common::run_tiny(folder, &arguments).expect(0, "pre-training");
}

fn finetune(folder: &Path, arguments: &[&str]) -> Ended {
    let all = [&["finetune", "--no-ui", "--device", "cpu"][..], arguments].concat();
    common::run(folder, &all)
}

/// `--set` arguments for a short run with a high learning rate.
const SHORT: [&str; 8] = [
    "--set",
    "train.epochs=12",
    "--set",
    "train.batch_size=16",
    "--set",
    "schedule.base_lr=5e-3",
    "--set",
    "schedule.warmup_epochs=1",
];

#[test]
fn a_classifier_learns_and_a_broken_run_ends_as_the_whole_one() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    pretrained(folder);
    let every = ["--set", "checkpoint.every_steps=7", "--set", "checkpoint.keep=99"];
    let arguments = [&["pre", "--run-dir", "run"][..], &SHORT, &every].concat();
    let ended = finetune(folder, &arguments).expect(0, "the run");
    for part in [
        "classifier 0.01 M parameters",
        "the encoder comes from pre/checkpoints/best.safetensors, step ",
        "top-1",
    ] {
        assert!(ended.stdout.contains(part), "{part:?} is said: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("psnr"), "nothing is reconstructed: {}", ended.stdout);

    let run = folder.join("run");
    common::assert_finished(&run, "completed");
    assert_eq!(events_of(&run, "started")[0]["task"], "classification");
    assert!(events_of(&run, "preview").is_empty());
    let validated = events_of(&run, "validated");
    assert_eq!(validated.len(), 13, "before the first epoch and after each");
    assert!(validated.iter().all(|event| event.get("psnr").is_none() && event["images"] == 24));
    let first = validated[0]["val_loss"].as_f64().expect("a number");
    assert!((first - 2.0_f64.ln()).abs() < 1e-3, "at the start all classes are alike: {first}");
    let accuracy: Vec<f64> =
        validated.iter().filter_map(|event| event["accuracy"].as_f64()).collect();
    let highest = accuracy.iter().copied().fold(0.0, f64::max);
    assert!(accuracy.len() == 13 && highest > 0.9, "half would be chance: {accuracy:?}");
    for (evaluated, &accuracy) in events_of(&run, "evaluated").iter().zip(&accuracy) {
        let metrics = evaluated["metrics"].as_array().expect("a list");
        assert_eq!(metrics.len(), 1, "with two classes every answer is among the first five");
        assert_eq!(
            (&metrics[0]["name"], metrics[0]["value"].as_f64()),
            (&"top-1".into(), Some(accuracy))
        );
        assert!(metrics[0]["stderr"].as_f64() <= Some(0.11), "{evaluated}");
    }
    let best = checkpoint::load(&run.join("checkpoints/best.safetensors")).expect("sound");
    assert_eq!(
        best.meta.val_accuracy,
        Some(highest),
        "the best checkpoint has the highest accuracy"
    );
    let names: Vec<&String> = best.engine.weights.keys().collect();
    assert!(names.iter().all(|name| name.starts_with("encoder.") || name.starts_with("head.")));
    let config = file::load(Some(&run.join("config.toml")), &[]).expect("valid").finetune;
    let config = config.expect("the section says what the run is");
    assert_eq!(config.classes, ["across", "down"]);
    assert!(config.from.is_some_and(|from| from.is_absolute() && from.is_file()));

    // Resume from the middle of the third epoch, and from the end of an epoch.
    for step in [14, 35] {
        assert_resumes_from(folder, &run, step);
    }
}

/// Resuming a copy of a finished run from `step` must end as the run did.
fn assert_resumes_from(folder: &Path, run: &Path, step: u64) {
    let (whole, last) = (common::newest_state(run), 60);
    let copy = folder.join(format!("from-{step}"));
    common::copy(run, &copy);
    for path in checkpoint::list(&copy.join("checkpoints")).expect("readable") {
        if path != checkpoint_at(&copy, step) {
            fs::remove_file(path).expect("removable");
        }
    }
    fs::remove_file(copy.join("checkpoints/best.safetensors")).expect("removable");
    let name = copy.to_str().expect("a plain path");
    let arguments: &[&str] = if step == 14 { &[] } else { &["finetune"] };
    let ended = common::run(folder, &[arguments, &["--resume", name, "--no-ui"]].concat());
    let ended = ended.expect(0, "the continuation");
    assert!(ended.stdout.contains(&format!("going on after step {step}")), "{}", ended.stdout);
    assert_eq!(events_of(&copy, "finished").last().expect("one")["step"], last);
    assert_same_state(&common::newest_state(&copy), &whole, &format!("from step {step}"));
}

#[test]
fn other_commands_know_a_classifier() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    pretrained(folder);
    let short = ["--set", "train.epochs=1"];
    let job = [&["pre", "--run-dir", "run", "--resume", "run"][..], &short].concat();
    finetune(folder, &job).expect(0, "the same line starts the run");
    let again = finetune(folder, &[&job[..], &["--set", "train.epochs=2"]].concat());
    assert!(again.expect(0, "and goes on with it").stdout.contains("resumed from"));

    finetune(folder, &[&["pre", "--from-scratch"][..], &short].concat()).expect(0, "the baseline");
    let config = file::load(Some(&folder.join("runs/scratch-001/config.toml")), &[]);
    let config = config.expect("the baseline has a name of its own");
    assert_eq!((config.model.embed_dim, config.model.depth), (16, 2), "as pre-trained");
    let section = config.finetune.expect("a classifier");
    assert_eq!((section.from, section.layer_decay.to_bits()), (None, 1.0_f64.to_bits()));

    let run = |arguments: &[&str], code| common::run(folder, arguments).expect(code, arguments[0]);
    let plan = run(&["plan", "--config", "run/config.toml"], 0).stdout;
    assert!(
        plan.contains("classifier  2 classes, encoder from ") && !plan.contains("mask"),
        "{plan}"
    );
    let bench = run(&["bench", "--config", "run/config.toml", "--steps", "1", "--warmup", "0"], 0);
    let bench: serde_json::Value = serde_json::from_str(&bench.stdout).expect("JSON");
    let state = common::newest_state(&folder.join("run"));
    let weights: usize = state.weights.values().map(|tensor| tensor.data.len()).sum();
    assert_eq!(bench["model"]["parameters"].as_u64(), Some(weights as u64));
    let accuracy = events_of(&folder.join("run"), "finished")[1]["best_accuracy"].as_f64();
    let percent = format!("{:.1} %", 100.0 * accuracy.expect("told at the end"));
    assert!(run(&["runs", "."], 0).stdout.contains(&format!("({percent})")));
    assert!(run(&["ctl", "run", "status"], 0).stdout.contains(&format!("best top-1 {percent}")));
    let json = run(&["runs", "run", "--json"], 0).stdout;
    let row: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(row["accuracy"].as_f64(), accuracy);
    #[cfg(feature = "tui")]
    for what in ["run", "run/checkpoints/best.safetensors"] {
        let refused = common::run(folder, &["preview", what]);
        assert!(refused.stderr.contains("classifier"), "{refused:?}");
        assert!(matches!(refused.code, Some(1 | 2)), "{refused:?}");
    }
}

#[test]
fn what_cannot_be_a_classifier_is_told_in_one_line_and_nothing_is_written() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    pretrained(folder);
    common::pictures(&folder.join("loose"), 3);
    common::pictures(&folder.join("one/cat"), 3);
    let before = common::names(folder);
    let cases: [(&[&str], &str); 9] = [
        (&["pre", "--data", "loose"], "no labels in loose"),
        (&["pre", "--data", "one"], "of the class \"cat\""),
        (&["nowhere"], "no run at nowhere"),
        (&["pre", "--set", "model.embed_dim=32"], "model.embed_dim differs"),
        (&["pre", "--set", "finetune.layer_decay=2"], "finetune.layer_decay is 2"),
        (&["pre", "--set", "finetune.classes=['x', 'y']"], "the classes across, down"),
        (&["--resume", "pre"], "simmim-tui finetune pre"),
        (&["pre", "--config", "nowhere.toml"], "nowhere.toml"),
        (&[], "RUN|CKPT"),
    ];
    for (arguments, expected) in cases {
        let ended = finetune(folder, arguments).expect(2, expected);
        assert!(ended.stderr.contains(expected), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.lines().count() == 1 || arguments.is_empty(), "{}", ended.stderr);
    }
    let arguments = ["--resume", "pre", "--no-ui", "--set", "finetune.label_smoothing=0.2"];
    let ended = common::run(folder, &arguments).expect(2, "pre-training goes on as such");
    assert!(ended.stderr.contains("simmim-tui finetune RUN"), "{}", ended.stderr);
    assert_eq!(common::names(folder), before, "no run was begun");
}

/// Returns a trainer of a classifier that starts in a new folder or resumes from the newest checkpoint there.
fn trainer(config: &Config, root: &Path, resume: bool) -> Trainer {
    let (run, start) = common::begin(root, resume);
    let data = data::open_labelled(&config.data).expect("labelled");
    let job = common::job(config.clone(), data, run, start);
    Trainer::new(job, Vec::new(), crossbeam_channel::never()).expect("the trainer is built")
}

#[test]
fn breaks_after_every_micro_step_change_nothing() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    for class in ["across", "down"] {
        stripes(&temp.path().join("data"), class, 9);
    }
    let mut sets: Vec<String> = common::TINY.map(str::to_owned).into();
    sets.push(format!("data.path='{}'", temp.path().join("data").display()));
    let own = ["train.batch_size=4", "train.accumulation=3", "data.workers=3", "model.depth=2"];
    sets.extend(own.map(str::to_owned));
    sets.push("model.drop_path=0.5".to_owned());
    sets.push("finetune.classes=['across', 'down']".to_owned());
    let config = file::load(None, &sets).expect("a valid configuration");
    let mut whole = trainer(&config, &temp.path().join("whole"), false);
    let start = whole.engine_state();
    (0..11).for_each(|_| whole.micro_step().expect("the step succeeds"));
    let root = temp.path().join("broken");
    for micro in 0..11 {
        let mut part = trainer(&config, &root, micro > 0);
        part.micro_step().expect("the step succeeds");
        part.save().expect("the checkpoint is written");
    }
    let (found, expected) = (trainer(&config, &root, true).engine_state(), whole.engine_state());
    assert_same_state(&found, &expected, "eleven breaks");
    assert!(!found.gradients.is_empty(), "the last one in the middle of an accumulation");
    assert_ne!(found.weights, start.weights, "something was trained");
}

#[test]
fn the_log_of_old_runs_is_one_of_pretraining() {
    let text = include_str!("../data/events.jsonl");
    let line = text.lines().next().expect("lines");
    let event: simmim_tui::event::Stamped = serde_json::from_str(line).expect("an event");
    let simmim_tui::event::Event::Started(started) = event.event else { panic!("{line}") };
    assert_eq!(started.task, TaskKind::Pretraining);
}
