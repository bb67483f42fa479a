//! The quality of features: the commands `eval`, `features` and `embed`, and evaluations during training.

use crate::common::{self, Reader, Running, STEPS_PER_EPOCH};
use safetensors::SafeTensors;
use serde_json::Value;
use simmim_tui::config::Config;
use simmim_tui::engine::device::{self, Device};
use simmim_tui::engine::learner::LearnerConfig;
use simmim_tui::model::patch::Pixels;
use std::fs;
use std::path::Path;

/// Trains a tiny model in `run`, with `extra` arguments.
fn trained(folder: &Path, extra: &[&str]) {
    let extra = [&["--run-dir", "run", "--no-ui"][..], extra].concat();
    common::run_tiny(folder, &extra).expect(0, "the run");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

#[test]
fn eval_reports_every_method_beside_what_it_has_to_beat() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    trained(temp.path(), &[]);
    let arguments =
        ["eval", "run", "--device", "cpu", "--limit", "300", "--json", "--output", "report"];
    let ended = common::run(temp.path(), &arguments).expect(0, "eval");
    let report = json(&ended.stdout);
    // The photos are too few to evaluate on, so the command takes the built-in data set.
    assert!(report["data"].as_str().expect("a text").contains("Fashion-MNIST"), "{report}");
    assert_eq!((&report["train_images"], &report["test_images"]), (&300.into(), &300.into()));
    let names: Vec<&str> = report["methods"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|m| m["method"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["k-NN 5", "k-NN 10", "k-NN 20", "linear probe"]);
    for method in report["methods"].as_array().expect("a list") {
        let figure = |kind: &str, key: &str| method[kind][key].as_f64().expect("a number");
        for kind in ["trained", "untrained", "raw_pixels"] {
            let (p, error) = (figure(kind, "accuracy"), figure(kind, "stderr"));
            // There are ten classes, so guessing reaches an accuracy of 0.1.
            assert!((0.2..0.95).contains(&p), "{kind}: {method}");
            assert!((error - (p * (1.0 - p) / 300.0).sqrt()).abs() < 1e-9, "{kind}: {method}");
        }
        let difference = figure("trained", "accuracy") - figure("untrained", "accuracy");
        assert!((figure("trained_over_untrained", "difference") - difference).abs() < 1e-9);
        assert!(figure("trained_over_raw_pixels", "stderr") < 0.06, "{method}");
    }
    let probe = &report["confusion"][1];
    assert_eq!(probe["method"], "linear probe");
    let rows = probe["counts"].as_array().expect("rows");
    let counts = rows.iter().flat_map(|row| row.as_array().expect("columns"));
    assert_eq!(counts.map(|n| n.as_u64().expect("a count")).sum::<u64>(), 300);

    let mut written =
        json(&fs::read_to_string(temp.path().join("report/eval.json")).expect("written"));
    assert_eq!(written, report);
    let text = fs::read_to_string(temp.path().join("report/eval.txt")).expect("written");
    for part in ["over untrained", "raw 16x16", "k-NN 20: the trained encoder", "Ankle boot"] {
        assert!(text.contains(part), "{part:?} is in {text}");
    }
    let again = common::run(temp.path(), &arguments).expect(0, "eval again");
    let mut again = json(&again.stdout);
    for report in [&mut written, &mut again] {
        report["seconds"] = Value::Null;
    }
    assert_eq!(again, written, "the same figures every time");
}

#[test]
fn bad_input_of_eval_is_one_line_that_helps() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    trained(temp.path(), &["--set", "train.epochs=1"]);
    common::pictures(&temp.path().join("flat"), 12);
    let cases: [(&[&str], i32, &str); 8] = [
        (
            &["eval", "nowhere"],
            2,
            "no run at nowhere: RUN|CKPT is a run directory or a checkpoint file",
        ),
        (&["eval", "run", "--data", "flat"], 2, "no labels of two classes or more"),
        (&["eval", "run", "--data", "missing"], 2, "no such file or folder: missing"),
        (&["eval", "run", "--layer", "2"], 2, "--layer 2: the model has blocks 1 to 1"),
        (
            &["eval", "run", "--output", "run/config.toml"],
            2,
            "give a folder, or a file that ends in",
        ),
        (&["features", "run", "-o", "x.parquet"], 2, ".safetensors, .csv or .npy"),
        (&["features", "run", "-o", "no/such/x.csv"], 1, "cannot write no/such/x.csv"),
        (&["embed", "run", "-o", "x.jpg"], 2, "the picture is a .png"),
    ];
    for (arguments, code, part) in cases {
        if arguments[0] == "embed" && !cfg!(feature = "tui") {
            continue;
        }
        let ended = common::run(temp.path(), arguments).expect(code, part);
        assert_eq!(ended.stderr.trim_end().lines().count(), 1, "one line: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{part:?} is in {}", ended.stderr);
    }
}

#[test]
fn features_are_written_with_labels_and_names() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    trained(temp.path(), &["--set", "train.epochs=1"]);
    let write = |output: &str, more: &[&str]| {
        let arguments = ["features", "run", "--device", "cpu", "--split", "val", "-o", output];
        common::run(temp.path(), &[&arguments[..], more].concat()).expect(0, output);
        fs::read(temp.path().join(output)).expect("written")
    };
    let bytes = write("f.safetensors", &[]);
    let file = SafeTensors::deserialize(&bytes).expect("a tensor file");
    let features = file.tensor("features").expect("there");
    assert_eq!(features.shape(), [44, 16]);
    assert_eq!(file.tensor("labels").expect("there").shape(), [44]);
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
    let metadata = header.metadata().clone().expect("texts");
    let names: Vec<String> = serde_json::from_str(&metadata["names"]).expect("a list");
    assert!(names.len() == 44 && names[0].starts_with("embedded/val/"), "{names:?}");

    let csv = String::from_utf8(write("f.csv", &[])).expect("text");
    let mut lines = csv.lines();
    assert!(lines.next().expect("a header").starts_with("name,label,class,f0,f1,"));
    let rows: Vec<&str> = lines.collect();
    assert_eq!(rows.len(), 44);
    let numbers: Vec<f32> = rows
        .iter()
        .flat_map(|row| row.rsplitn(17, ',').take(16).collect::<Vec<_>>().into_iter().rev())
        .map(|number| number.parse().expect("a number"))
        .collect();
    let values: &[f32] = bytemuck::cast_slice(features.data());
    assert_eq!(numbers, values, "both files have the same bits");
    assert_eq!(write("f.npy", &[])[128..], *features.data());

    assert_ne!(write("layer.safetensors", &["--layer", "1"]), bytes, "without the final norm");
    assert_eq!(write("checkpoint.csv", &[]), csv.as_bytes(), "the run's name is that of its best");
}

#[test]
fn a_layer_is_what_comes_after_that_many_blocks() {
    let mut config = Config::default();
    (config.model.image_size, config.model.patch_size, config.mask.unit) = (16, 8, 8);
    (config.model.embed_dim, config.model.depth, config.model.heads) = (16, 3, 2);
    let mut engine = device::engine(&Device::Cpu, LearnerConfig::new(&config));
    // A block whose branches end in zeros passes its input on unchanged.
    let mut state = engine.state();
    for (name, tensor) in &mut state.weights {
        let branch_end = name.contains(".proj.") || name.contains(".fc2.");
        if name.contains("blocks.1.") && branch_end {
            tensor.data.fill(0.0);
        }
    }
    engine.load(&state).expect("the model's own state");
    let pixels: Vec<u8> = (0..2 * 16 * 16 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let features = |layer| engine.features(Pixels::Bytes(&pixels), 2, layer);
    assert_eq!(features(Some(1)), features(Some(2)), "the second block does nothing");
    assert_ne!(features(Some(2)), features(Some(3)));
    assert_ne!(features(Some(3)), features(None), "the norm does something");
    assert_eq!(features(None).len(), 2 * 16);
}

#[test]
fn evaluations_while_training_leave_no_trace_in_the_weights() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let [plain, evaluated] = ["plain", "evaluated"].map(|name| temp.path().join(name));
    let every = [
        "--set",
        "eval.every=1",
        "--set",
        "eval.path=fashion-mnist-mini",
        "--set",
        "eval.limit=100",
    ];
    for (root, more) in [(&plain, &[][..]), (&evaluated, &every[..])] {
        let root = root.display().to_string();
        let extra = [&["--run-dir", &root, "--no-ui"][..], more].concat();
        let ended = common::run_tiny(temp.path(), &extra).expect(0, "the run");
        assert_eq!(
            ended.stdout.contains("evaluated: k-NN 20 "),
            !more.is_empty(),
            "{}",
            ended.stdout
        );
    }
    common::assert_same_state(
        &common::newest_state(&evaluated),
        &common::newest_state(&plain),
        "a run with evaluations and one without",
    );
    assert_eq!(common::events_of(&plain, "evaluated").len(), 0);
    let events = common::events_of(&evaluated, "evaluated");
    let steps: Vec<u64> =
        events.iter().map(|event| event["step"].as_u64().expect("a step")).collect();
    assert_eq!(steps, [0, STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH], "untrained, and after each epoch");
    for event in &events {
        let names: Vec<_> = event["metrics"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|m| m["name"].clone())
            .collect();
        assert_eq!(names, ["k-NN 20", "linear probe"]);
        assert_eq!(event["baselines"], events[0]["baselines"], "they are the same at every step");
        assert_eq!(event["baselines"][1]["name"], "linear probe, raw pixels");
    }
    let status =
        common::run(temp.path(), &["ctl", "evaluated", "status", "--json"]).expect(0, "status");
    assert_eq!(json(&status.stdout)["metrics"][0]["name"], "k-NN 20", "{}", status.stdout);
}

#[test]
fn going_on_repeats_no_evaluation_and_misses_none() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let every = [
        "--set",
        "eval.every=1",
        "--set",
        "eval.path=fashion-mnist-mini",
        "--set",
        "eval.limit=50",
    ];
    trained(temp.path(), &[&every[..], &["--set", "train.epochs=1"]].concat());
    let arguments =
        ["--resume", "run", "--no-ui", "--set", "train.epochs=2", "--set", "train.device=cpu"];
    common::run(temp.path(), &arguments).expect(0, "the continuation");
    let events = common::events_of(&temp.path().join("run"), "evaluated");
    let steps: Vec<u64> =
        events.iter().map(|event| event["step"].as_u64().expect("a step")).collect();
    assert_eq!(steps, [0, STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH]);
}

#[test]
fn a_stop_cuts_an_evaluation_short_and_saves() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    // With so many images the first evaluation is still running when the order comes.
    let extra = [
        "--run-dir",
        "run",
        "--no-ui",
        "--set",
        "eval.every=1",
        "--set",
        "eval.path=fashion-mnist-mini",
        "--set",
        "eval.limit=100000",
        "--set",
        "model.image_size=32",
        "--set",
        "model.embed_dim=64",
    ];
    let running = Running::start(temp.path(), &common::tiny(&extra), Reader::All);
    let run = temp.path().join("run");
    common::until("the first validation", || {
        run.join("events.jsonl").exists() && !common::events_of(&run, "validated").is_empty()
    });
    running.signal("TERM");
    running.end().expect(0, "the stopped run");
    let finished = common::events_of(&run, "finished");
    assert_eq!(finished.last().expect("the end")["reason"], "stopped");
    common::newest_state(&run);
}

#[test]
fn images_without_labels_are_an_error_before_the_start() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    common::pictures(&temp.path().join("flat"), 12);
    let extra = ["--run-dir", "run", "--data", "flat", "--set", "eval.every=1"];
    let ended = common::run_tiny(temp.path(), &extra).expect(2, "no labels");
    assert!(ended.stderr.contains("eval.every = 1 needs labelled images"), "{}", ended.stderr);
    assert!(!temp.path().join("run").exists(), "nothing was begun");
    let ended =
        common::run_tiny(temp.path(), &["--set", "eval.layer=2"]).expect(2, "no such block");
    assert!(ended.stderr.contains("eval.layer is 2: allowed is from 0 to 1"), "{}", ended.stderr);
}

#[test]
#[cfg(feature = "tui")]
fn embed_draws_on_a_pipe_and_writes_a_picture() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    trained(temp.path(), &["--set", "train.epochs=1"]);
    for method in ["pca", "tsne"] {
        let arguments = ["embed", "run", "--device", "cpu", "--method", method, "--limit", "90"];
        let ended = common::run(temp.path(), &arguments).expect(0, method);
        assert!(!ended.stdout.contains('\x1b'), "no escape code goes to a pipe: {}", ended.stdout);
        assert!(
            ended.stdout.lines().count() > 15 && ended.stdout.contains(", 90 images, "),
            "{}",
            ended.stdout
        );
        let again = common::run(temp.path(), &arguments).expect(0, method);
        assert_eq!(again.stdout, ended.stdout, "the same points every time");
        let picture = [&arguments[..], &["-o", "points.png"]].concat();
        common::run(temp.path(), &picture).expect(0, method);
        let image = image::open(temp.path().join("points.png")).expect("a picture").into_rgb8();
        let coloured = image.pixels().filter(|p| p.0[0].abs_diff(p.0[2]) > 40).count();
        assert!(coloured > 500, "{method}: {coloured} coloured pixels");
    }
}

#[test]
fn the_built_in_configuration_names_images_and_evaluations() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let ended = common::run(temp.path(), &["plan", "--config", "fashion_mnist"]).expect(0, "plan");
    assert!(
        ended.stdout.contains("5000 train + 1000 val Fashion-MNIST images (embedded), 10 classes")
    );
    let both = ["plan", "--config", "fashion_mnist", "--data", "elsewhere"];
    let ended = common::run(temp.path(), &both).expect(2, "two data sets");
    assert!(ended.stderr.contains("add --set data.format=auto"), "{}", ended.stderr);
}
