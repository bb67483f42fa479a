//! Options that change how a step is computed: precision and activation checkpointing.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn program(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_simmim-tui"))
        .args(arguments)
        .output()
        .expect("the program starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    output
}

/// Runs `bench` with a deep and narrow model, whose activations take more memory than everything else.
fn bench(set: &str) -> Value {
    let shape = "bench --json --device cpu --image 64 --patch 4 --dim 64 --depth 20 --heads 2 --batch 16 --warmup 1 --steps 1";
    let mut arguments: Vec<&str> = shape.split(' ').collect();
    arguments.extend(["--set", set]);
    serde_json::from_slice(&program(&arguments).stdout).expect("one JSON object")
}

#[test]
fn activation_checkpointing_takes_less_memory() {
    let [kept, again] = [false, true].map(|on| {
        let report = bench(&format!("train.activation_checkpointing={on}"));
        assert_eq!(report["activation_checkpointing"], on);
        assert_eq!(report["precision"], "fp32");
        report["peak_rss_bytes"].as_f64().expect("Linux reports it")
    });
    // For each of 4096 rows, 20 blocks keep 10·64 numbers without checkpointing and 64 with it: 200 MiB or 20 MiB,
    // in addition to the data set, the program and the weights.
    assert!(kept - again > 120e6, "{kept} bytes and {again}");
}

fn lines(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("events.jsonl")).expect("a run writes its log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_configuration_for_a_gpu_runs_on_the_cpu_and_says_in_what() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = folder.path().join("run");
    let root = run.to_str().expect("UTF-8");
    let start = ["--no-ui", "--config", "smoke", "--device", "cpu", "--run-dir", root];
    program(&[&start[..], &["--set", "train.precision=bf16"]].concat());
    let events = lines(&run);
    let started = events.iter().find(|event| event["event"] == "started").expect("started");
    assert_eq!(started["precision"], "fp32");
    let told = |events: &[Value]| {
        let messages = events.iter().filter_map(|event| event["message"].as_str());
        messages.filter(|message| message.contains("train.precision = \"bf16\"")).count()
    };
    assert_eq!(told(&events), 1, "the log says that it isn't bf16");

    // A run can be resumed with another precision.
    program(&[
        "--no-ui",
        "--resume",
        root,
        "--set",
        "train.precision=fp32",
        "--set",
        "train.epochs=8",
    ]);
    let events = lines(&run);
    let again = events.iter().filter(|event| event["event"] == "started").count();
    assert_eq!((again, told(&events)), (2, 1));
}

#[test]
fn an_unknown_precision_is_refused_by_name() {
    let output = Command::new(env!("CARGO_BIN_EXE_simmim-tui"))
        .args(["plan", "--set", "train.precision=fp16"])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("precision") && told.contains("bf16"), "{told}");
}
