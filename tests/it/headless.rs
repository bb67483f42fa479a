//! The output without a screen, and the parts of it that people and scripts may rely on.

use crate::common::{self, Ended, Reader, Running, STEPS_PER_EPOCH};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;
use std::fs;
use std::path::Path;

const PARITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/simmim_small.safetensors");

fn trained(folder: &Path, style: &[&str]) -> Ended {
    let extra = [&["--run-dir", "run"][..], style].concat();
    common::run_tiny(folder, &extra).expect(0, "the run")
}

#[test]
fn a_run_prints_plain_lines_with_every_documented_field() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let ended = trained(temp.path(), &[]);
    assert!(!ended.stdout.contains('\x1b'), "no escape code goes to a pipe: {}", ended.stdout);
    assert_eq!(
        ended.stderr, "no terminal: headless, as with --no-ui\nrun run\n",
        "it says why there is no screen, and where the run is"
    );
    let fields = [
        "step ",
        "epoch ",
        "loss ",
        "val_loss ",
        "lr ",
        "grad_norm ",
        " images/s",
        "data_wait ",
        "eta ",
    ];
    let steps: Vec<&str> = ended.stdout.lines().filter(|line| line.contains("grad_norm")).collect();
    assert!(steps.len() > 5, "steps are reported: {}", ended.stdout);
    for line in &steps {
        for field in fields {
            assert!(line.contains(field), "{field:?} is in the step line {line:?}");
        }
    }
    for part in [
        "device cpu",
        "data 171 train + 44 val",
        "2 epochs of 21 steps",
        "validated on 44 images",
        "checkpoint checkpoints/step-00000042",
        "preview previews/step-00000042.png",
        "finished at step 42/42",
    ] {
        assert!(ended.stdout.contains(part), "the output says {part:?}: {}", ended.stdout);
    }
    common::assert_finished(&temp.path().join("run"), "completed");
}

#[test]
fn without_the_screen_on_purpose_nothing_is_said_of_the_terminal() {
    for style in ["--no-ui", "--json"] {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let ended = trained(temp.path(), &[style]);
        assert_eq!(ended.stderr, "run run\n", "{style}: only where the run is");
        assert!(!ended.stdout.contains('\x1b'), "{style}: no escape codes: {}", ended.stdout);
    }
}

#[test]
fn json_lines_are_those_of_the_event_log() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let ended = trained(temp.path(), &["--json"]);
    for line in ended.stdout.lines() {
        let event: Value = serde_json::from_str(line).expect("each line is JSON");
        assert!(event.is_object() && event["time"].is_f64(), "each line is a dated object: {line}");
    }
    let log = fs::read_to_string(temp.path().join("run/events.jsonl")).expect("there is a log");
    assert_eq!(ended.stdout, log, "the output is the log");
}

#[test]
fn the_event_log_has_the_documented_events_with_their_fields() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    trained(temp.path(), &["--no-ui", "--set", "train.val_every=1"]);
    let run = temp.path().join("run");
    let cases: [(&str, &[&str]); 6] = [
        (
            "started",
            &[
                "step",
                "total_steps",
                "steps_per_epoch",
                "epochs",
                "warmup_steps",
                "parameters",
                "device",
                "data",
                "resumed",
                "version",
            ],
        ),
        (
            "step",
            &[
                "step",
                "epoch",
                "loss",
                "losses",
                "lr",
                "grad_norm",
                "images_per_s",
                "data_wait",
                "eta_s",
                "elapsed_s",
            ],
        ),
        ("validated", &["step", "epoch", "val_loss", "psnr", "ssim", "images", "best", "seconds"]),
        ("preview", &["step", "path", "psnr"]),
        ("checkpoint_saved", &["step", "path", "bytes", "best"]),
        ("finished", &["step", "reason", "best_val_loss", "elapsed_s"]),
    ];
    for (kind, fields) in cases {
        let events = common::events_of(&run, kind);
        assert!(!events.is_empty(), "there is a {kind} event");
        for event in events {
            for field in fields {
                assert!(!event[field].is_null(), "{kind} has {field}: {event}");
            }
        }
    }
    let losses = common::events_of(&run, "step");
    let losses: usize = losses.iter().map(|e| e["losses"].as_array().expect("losses").len()).sum();
    assert_eq!(losses as u64, 2 * STEPS_PER_EPOCH, "no step's loss is left out or told twice");
    let validated = common::events_of(&run, "validated");
    let at: Vec<_> = validated.iter().map(|event| event["step"].as_u64()).collect();
    assert_eq!(at, [Some(0), Some(21), Some(42)], "it is validated before, between and after");
    assert!(validated.iter().all(|event| event["val_loss"].as_f64() > Some(0.0)), "{validated:?}");
}

#[test]
fn every_preview_is_a_picture_in_the_run_folder() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    trained(temp.path(), &["--no-ui", "--set", "train.previews=3"]);
    let run = temp.path().join("run");
    let previews = common::events_of(&run, "preview");
    assert_eq!(previews.len(), 2, "one at the start, one at the end: {previews:?}");
    for preview in previews {
        let path = run.join(preview["path"].as_str().expect("a path"));
        let picture = image::open(&path).expect("it decodes").into_rgb8();
        let whole = picture.width() >= 3 * 16 && picture.height() >= 3 * 16;
        assert!(whole, "three rows of three images fit: {:?}", picture.dimensions());
        assert_eq!(preview["psnr"].as_array().map(Vec::len), Some(3), "a figure for each image");
    }
}

#[test]
fn runs_without_a_name_are_numbered() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    for number in ["001", "002"] {
        let ended = common::run_tiny(temp.path(), &["--no-ui"]).expect(0, "the run");
        assert_eq!(ended.stderr, format!("run runs/default-{number}\n"), "the next free number");
        common::assert_finished(&temp.path().join(format!("runs/default-{number}")), "completed");
    }
}

#[test]
fn plan_shows_the_run_and_writes_nothing() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let arguments = [&["plan"][..], &common::tiny(&[])].concat();
    let ended = common::run(temp.path(), &arguments).expect(0, "plan");
    for part in ["171 train", "42 = 2 epochs x 21 steps", "3 of 4 patches", "schedule", "memory"] {
        assert!(ended.stdout.contains(part), "the plan says {part:?}: {}", ended.stdout);
    }
    assert_eq!(ended.stderr, "", "nothing is wrong");
    assert!(common::names(temp.path()).is_empty(), "nothing is written");
}

#[test]
fn bench_prints_one_object_with_its_figures() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let sizes = ["bench", "--json", "--steps", "3", "--warmup", "1", "--batch", "4"];
    let ended = common::run(temp.path(), &[&sizes[..], &common::tiny(&[])].concat());
    let ended = ended.expect(0, "bench");
    assert_eq!(ended.stdout.lines().count(), 1, "one line: {}", ended.stdout);
    let report: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    let screen = if cfg!(feature = "tui") { "/parts/screen_frame_ms" } else { "/step/min_s" };
    for path in [
        "/step/images_per_s",
        "/compute/flops_per_s",
        "/compute/share_of_peak",
        "/end_to_end/images_per_s",
        "/loader/images_per_s",
        "/parts/decode_images_per_s",
        "/parts/crop_images_per_s",
        "/parts/checkpoint/bytes",
        "/parts/checkpoint/median_s",
        "/parts/event_log_events_per_s",
        screen,
        "/peak_rss_bytes",
    ] {
        let figure = report.pointer(path).and_then(Value::as_f64);
        assert!(figure.is_some_and(|figure| figure > 0.0), "{path} is a figure: {report}");
    }
    for key in ["queued", "phases", "startup", "gpu_memory_bytes"] {
        assert_eq!(report.get(key), Some(&Value::Null), "{key} is for GPUs: {report}");
    }
    assert_eq!(report["model"]["batch"], 4, "the options count");
    assert!(common::names(temp.path()).is_empty(), "nothing is written");
}

/// Returns the contents of the parity file with `error` added to one number of one tensor.
fn altered(tensor: &str, error: f32) -> Vec<u8> {
    let bytes = fs::read(PARITY).expect("it belongs to the repository");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("sound");
    let file = SafeTensors::deserialize(&bytes).expect("sound");
    let changed = file.tensors().into_iter().map(|(name, view)| {
        let mut data = view.data().to_vec();
        if name == tensor {
            let first = data.first_chunk_mut::<4>().expect("32-bit floats");
            *first = (f32::from_le_bytes(*first) + error).to_le_bytes();
        }
        (name, view.dtype(), view.shape().to_vec(), data)
    });
    let changed: Vec<_> = changed.collect();
    assert!(changed.iter().any(|(name, ..)| name == tensor), "the file has {tensor}");
    let views = changed.iter().map(|(name, dtype, shape, data)| {
        let view = TensorView::new(*dtype, shape.clone(), data).expect("as before");
        (name.as_str(), view)
    });
    safetensors::serialize(views, header.metadata().clone()).expect("it can be written")
}

#[test]
fn parity_passes_on_the_reference_and_fails_on_a_change_or_on_rubbish() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let ended = common::run(temp.path(), &["parity", PARITY]).expect(0, "the reference");
    let good = ended.stdout.lines().all(|line| line.starts_with("ok "));
    assert!(good && ended.stdout.lines().count() >= 8, "all groups agree: {}", ended.stdout);

    let cases: [(&str, Vec<u8>, i32, &str); 4] = [
        ("weight", altered("param.head.weight", 0.01), 1, "groups exceed their tolerance"),
        ("gradient", altered("grad.head.weight", 0.01), 1, "parity: 1 of "),
        (
            "garbage",
            b"garbage that is no tensor file".to_vec(),
            2,
            "garbage is no valid safetensors",
        ),
        ("cut", altered("pred", 0.0)[..5000].to_vec(), 2, "cut is no valid safetensors"),
    ];
    for (name, content, code, says) in cases {
        fs::write(temp.path().join(name), content).expect("writable");
        let ended = common::run(temp.path(), &["parity", name]).expect(code, name);
        assert!(ended.stderr.contains(says), "{name}: it says {says:?}: {ended:?}");
        assert_eq!(ended.stdout.contains("FAIL"), code == 1, "{name}: {ended:?}");
    }
    let missing = common::run(temp.path(), &["parity", "none"]).expect(2, "no file");
    assert!(missing.stderr.contains("cannot read none"), "it names the file: {missing:?}");
}

#[test]
fn parity_fails_on_a_single_entry_that_is_not_a_number() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    for tensor in ["pred", "features", "step_losses", "grad.head.weight", "after10.head.weight"] {
        fs::write(temp.path().join("nan"), altered(tensor, f32::NAN)).expect("writable");
        let ended = common::run(temp.path(), &["parity", "nan"]).expect(1, tensor);
        assert!(ended.stderr.contains("parity: 1 of "), "{tensor}: its group fails: {ended:?}");
        assert!(ended.stdout.contains("NaN"), "{tensor}: the error is no number: {ended:?}");
    }
}

#[test]
fn an_interrupt_saves_and_ends_and_a_second_one_never_hangs() {
    for interrupts in [1, 2] {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = temp.path().join("run");
        let extra = [&["--run-dir", "run", "--no-ui"][..], &common::ENDLESS].concat();
        let mut process = Running::start(temp.path(), &common::tiny(&extra), Reader::All);
        common::until_step(&run, "step", 3);
        for _ in 0..interrupts {
            if !process.has_ended() {
                process.signal("INT");
            }
        }
        let ended = process.end();
        match ended.code {
            Some(0) => common::assert_finished(&run, "stopped"),
            Some(130) if interrupts == 2 => {}
            _ => panic!("{interrupts} interrupts end it with 0, or twice with 130: {ended:?}"),
        }
        let resumed = ["--resume", "run", "--set", "train.epochs=1"];
        common::run(temp.path(), &resumed).expect(0, "the run is sound whatever ended it");
    }
}

#[test]
fn previews_come_from_a_run_from_a_checkpoint_and_from_a_checkpoint_with_an_image() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    common::run_tiny(folder, &["--run-dir", "run"]).expect(0, "the run");
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/photos-cc0/val/animal/cow.jpg");
    let photo = photo.to_str().expect("a plain path");
    let checkpoint = "run/checkpoints/best.safetensors";
    let rows = |image: &image::DynamicImage| (image.height() + 20) / 180;
    for (what, expected) in [
        (&["run"][..], 6),
        (&[checkpoint], 6),
        (&[checkpoint, photo], 1),
        (&[checkpoint, photo, photo], 2),
    ] {
        let arguments = [&["preview", "-o", "out.png"][..], what].concat();
        common::run(folder, &arguments).expect(0, "preview");
        let image = image::open(folder.join("out.png")).expect("a PNG");
        assert_eq!(
            image.width(),
            (4 * 16 + 3 * 2) * 10,
            "{what:?}: four pictures of 16 px, ten times"
        );
        assert_eq!(rows(&image), expected, "{what:?}");
    }
    for what in ["run/config.toml", "none", "run/checkpoints"] {
        let ended = common::run(folder, &["preview", what]).expect(2, what);
        assert!(ended.stderr.contains(what), "it is named: {ended:?}");
    }
}
