//! Whether the data keeps up: `bench --data`, the figures of `plan`, and a number of workers that a run finds by itself.

use crate::common;
use serde_json::Value;

#[test]
fn bench_of_the_data_alone_has_stages_and_a_row_for_each_number_of_workers() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    common::pictures(&temp.path().join("pictures"), 12);
    let before = common::names(temp.path());
    let bench = ["bench", "--data", "pictures", "--set", "model.image_size=16"];
    let sizes = ["--set", "mask.unit=8", "--set", "model.patch_size=8"];
    let table = common::run(temp.path(), &[&bench[..], &sizes].concat()).expect(0, "bench");
    for part in [
        "images from pictures",
        "reading",
        "decoding",
        "cropping",
        "to 16 px",
        "workers   images/s",
    ] {
        assert!(table.stdout.contains(part), "{part:?} is missing: {}", table.stdout);
    }
    let json = common::run(temp.path(), &[&bench[..], &sizes, &["--json"]].concat());
    let json = json.expect(0, "bench --json").stdout;
    let report: Value = serde_json::from_str(&json).expect("one JSON object");
    for path in ["/stages/images_per_s", "/stages/decoding_ms", "/stages/reading_ms"] {
        let figure = report.pointer(path).and_then(Value::as_f64);
        assert!(figure.is_some_and(|figure| figure > 0.0), "{path}: {json}");
    }
    let rows = report["loaders"].as_array().expect("rows");
    let workers: Vec<_> = rows.iter().filter_map(|row| row["workers"].as_u64()).collect();
    let cores = report["cores"].as_u64().expect("a number");
    assert!(workers.starts_with(&[1]) && workers.ends_with(&[cores, 2 * cores]), "{workers:?}");
    assert!(rows.iter().all(|row| row["images_per_s"].as_f64() > Some(0.0)), "{json}");
    assert_eq!(common::names(temp.path()), before, "nothing is written");
}

#[test]
fn bench_of_the_data_alone_takes_the_configured_images_and_refuses_what_is_none() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    common::pictures(&temp.path().join("pictures"), 3);
    let configured = ["bench", "--data", "--json", "--set", "data.path=pictures"];
    let ended = common::run(temp.path(), &configured).expect(0, "bench");
    assert!(ended.stdout.contains("images from pictures"), "{}", ended.stdout);
    let photos = common::run(temp.path(), &["bench", "--json", "--data"]).expect(0, "bench");
    assert!(photos.stdout.contains("CC0 photos"), "{}", photos.stdout);
    let missing = common::run(temp.path(), &["bench", "--data", "nowhere"]).expect(2, "bench");
    assert!(missing.stderr.contains("nowhere"), "{}", missing.stderr);
}

#[test]
fn plan_says_what_the_step_takes_and_what_the_data_gives() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let small = [&["plan"][..], &common::tiny(&[])].concat();
    let plan = common::run(temp.path(), &small).expect(0, "plan").stdout;
    for part in
        ["speed       the step takes ", " images/s on cpu", " a loader worker: ", " to the end at "]
    {
        assert!(plan.contains(part), "{part:?} is missing: {plan}");
    }
    let large = ["plan", "--device", "cpu", "--config", "vit_base_224"];
    let plan = common::run(temp.path(), &large).expect(0, "plan").stdout;
    assert!(plan.contains("images/s a loader worker") && plan.contains("plan --measure"), "{plan}");
}

#[test]
fn a_run_by_itself_has_the_weights_of_one_with_any_number_of_workers() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let weights = |name: &str, workers: &str| {
        let set = format!("data.workers={workers}");
        common::run_tiny(temp.path(), &["--no-ui", "--run-dir", name, "--set", &set])
            .expect(0, "the run");
        let from = format!("{name}/checkpoints/best.safetensors");
        let to = format!("{name}.safetensors");
        let export = ["export", &from, "--format", "safetensors", "-o", &to];
        common::run(temp.path(), &export).expect(0, "export");
        let file = std::fs::read(temp.path().join(to)).expect("the weights");
        // The header names the run, and behind it are the numbers.
        let header = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
        file[8 + header..].to_vec()
    };
    let by_itself = weights("open", "0");
    assert!(by_itself.len() > 1000, "there are weights");
    assert!(by_itself == weights("one", "1") && by_itself == weights("three", "3"));
    let saved = std::fs::read_to_string(temp.path().join("open/config.toml")).expect("saved");
    assert!(saved.contains("workers = 0"), "{saved}");
}
