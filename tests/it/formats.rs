//! Holds the promise of docs/formats.md: files that earlier releases wrote can still be read and mean the same.

use crate::common;
use serde_json::Value;
use simmim_tui::config::file;
use simmim_tui::data::loader::LoaderConfig;
use simmim_tui::engine::device::{self, Device};
use simmim_tui::engine::learner::LearnerConfig;
use simmim_tui::event::state::RunState;
use simmim_tui::event::{Event, Stamped};
use simmim_tui::model::mask::MaskGenerator;
use simmim_tui::train::validate::{ValPart, validate};
use simmim_tui::weights::checkpoint;
use simmim_tui::{data, run_dir};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

const STEP: u64 = 255;
/// The loss of the run's last validation, as its log has it.
const VAL_LOSS: f64 = 0.836_252_548_477_866_5;

/// Copies the run that release 0.1.0 wrote into a temporary folder.
fn old_run() -> (TempDir, PathBuf) {
    let temp = tempdir().expect("a temporary folder");
    let run = temp.path().join("run");
    common::copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/run-v1")), &run);
    (temp, run)
}

fn checkpoint_path(run: &Path) -> PathBuf {
    run.join(format!("checkpoints/step-{STEP:08}.safetensors"))
}

#[test]
fn every_line_of_an_old_log_is_an_event_that_says_the_same() {
    let (_temp, run) = old_run();
    let text = fs::read_to_string(run.join("events.jsonl")).expect("readable");
    let mut kinds = std::collections::BTreeSet::new();
    let mut state = RunState::default();
    for line in text.lines() {
        let stamped: Stamped = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let value: Value = serde_json::from_str(line).expect("JSON");
        kinds.insert(value["event"].as_str().expect("a kind").to_owned());
        // Parsing and writing the line again loses and alters nothing; keys may have been added since.
        let again = serde_json::to_string(&stamped).expect("plain data");
        let again: Value = serde_json::from_str(&again).expect("JSON");
        for (key, old) in value.as_object().expect("an object") {
            assert_eq!(&again[key], old, "{key} of {line}");
        }
        state.apply(&stamped);
    }
    let all = [
        "alarm",
        "checkpoint_saved",
        "finished",
        "log",
        "obeyed",
        "phase",
        "preview",
        "started",
        "step",
        "validated",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), all);
    assert_eq!((state.step(), state.total_steps()), (STEP, STEP));
    assert_eq!(state.best_val_loss, Some(VAL_LOSS));
    assert!(state.alarms.is_empty() && state.finished.is_some(), "{state:?}");
}

#[test]
fn events_and_keys_of_later_releases_are_passed_over() {
    let (temp, run) = old_run();
    let path = run.join("events.jsonl");
    let mut text = fs::read_to_string(&path).expect("readable");
    text.push_str("{\"time\":1795461697.0,\"event\":\"moon_phase\",\"moons\":[1,2]}\n");
    text.push_str("{\"time\":1795461698.0,\"event\":\"log\",\"level\":\"info\",\"message\":\"m\",\"tide\":3}\n");
    fs::write(&path, text).expect("writable");
    let mut log = run_dir::LogReader::new(&path, 0);
    let mut last = None;
    loop {
        match log.next_event() {
            run_dir::log_reader::NextEvent::Event(stamped) => last = Some(stamped.event),
            run_dir::log_reader::NextEvent::More => {}
            run_dir::log_reader::NextEvent::End => break,
        }
    }
    assert_eq!(log.skipped(), 1);
    assert!(matches!(last, Some(Event::Log { .. })), "{last:?}");
    let status = common::run(temp.path(), &["ctl", "run", "status", "--json"]).expect(0, "status");
    let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(status["step"], STEP);
}

#[test]
fn an_old_checkpoint_has_the_same_weights_and_they_mean_the_same() {
    let (_temp, run) = old_run();
    let found = checkpoint::load(&checkpoint_path(&run)).expect("a sound checkpoint");
    assert_eq!((found.meta.version, found.meta.step, found.meta.micro), (1, STEP, 2 * STEP));
    assert_eq!(found.meta.val_loss, Some(VAL_LOSS));
    let config =
        file::parse(&found.meta.config, "in the checkpoint").expect("an old configuration");
    // Repeat the run's own validation, which depends on the data, the split, preprocessing, masks, tensor names,
    // layouts and arithmetic.
    let images = data::open(&config.data).expect("the photos in the binary").val;
    let learner = LearnerConfig::new(&config);
    let painter = learner.painter();
    let masks = MaskGenerator::new(&config.mask, &painter.shape, config.train.seed);
    let mut engine = device::engine(&Device::Cpu, learner);
    engine.load(&found.engine).expect("its tensors fit");
    let loader = LoaderConfig::from_config(&config);
    let parts = [ValPart::whole(&images)];
    let outcome = validate(engine.as_ref(), &parts, loader, &masks, &painter, 0, |_| true);
    let loss = outcome.expect("readable images").expect("not stopped").loss;
    assert!((loss - VAL_LOSS).abs() < 1e-4, "{loss} was {VAL_LOSS}");
}

#[test]
fn an_old_run_goes_on_and_its_log_is_only_added_to() {
    let (temp, run) = old_run();
    let before = fs::read(run.join("events.jsonl")).expect("readable");
    let more = ["--no-ui", "--resume", "run", "--set", "train.epochs=53"];
    common::run(temp.path(), &more).expect(0, "it goes on");
    let after = fs::read(run.join("events.jsonl")).expect("readable");
    assert!(after.starts_with(&before));
    let events = common::events(&run);
    let last = events.last().expect("events");
    assert_eq!((&last["event"], &last["step"]), (&"finished".into(), &(STEP + 10).into()));
    // The run went on from its own weights, not from new ones.
    let loss = events.iter().rev().find_map(|event| event["val_loss"].as_f64()).expect("validated");
    assert!((loss - VAL_LOSS).abs() < 0.1, "{loss} was {VAL_LOSS}");
}

#[test]
fn an_old_run_is_listed_and_replayed() {
    let (temp, _run) = old_run();
    let rows = common::run(temp.path(), &["runs", "--json", "run"]).expect(0, "runs").stdout;
    let row: Value = serde_json::from_str(&rows).expect("one row");
    assert_eq!((&row["state"], &row["step"]), (&"finished".into(), &STEP.into()));
    if cfg!(feature = "tui") {
        let drawn = common::run(temp.path(), &["preview", "run", "-o", "sheet.png"]);
        drawn.expect(0, "its previews");
        assert!(temp.path().join("sheet.png").metadata().is_ok_and(|sheet| sheet.len() > 1000));
    }
}
