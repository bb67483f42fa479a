//! Exports are read back by independent readers, and exported weights can be imported again.

use crate::common::{self, Reader, Running, tiny};
use serde_json::Value;
use simmim_tui::model::state::{HostTensor, NamedTensors};
use simmim_tui::model::tensors;
use simmim_tui::weights::checkpoint;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Runs the program in `folder` and waits for it to exit with `code`.
fn program(folder: &Path, words: &[&str], code: i32) -> common::Ended {
    let ended = Running::start(folder, words, Reader::All).end();
    ended.expect(code, &words.join(" "))
}

/// Trains the run `run` in `folder` to its end.
fn train(folder: &Path, extra: &[&str]) {
    let words = ["train", "--no-ui", "--run-dir", "run"];
    let sets = ["--set", "train.log_every=4", "--set", "train.previews=2"];
    let all: Vec<&str> = words.iter().chain(&sets).copied().chain(tiny(extra)).collect();
    program(folder, &all, 0);
}

fn best(folder: &Path) -> checkpoint::Checkpoint {
    checkpoint::load(&folder.join("run/checkpoints/best.safetensors")).expect("sound")
}

#[test]
fn weights_go_out_in_timms_names_and_come_back_bit_for_bit() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let scaled = ["--set", "model.layer_scale=0.1", "--set", "model.position=sincos"];
    train(folder, &scaled);
    let weights = best(folder).engine.weights;

    let told = program(folder, &["export", "run", "--format", "timm", "-o", "timm.safetensors"], 0);
    for part in [
        "VisionTransformer(img_size=16, patch_size=8, embed_dim=16",
        "fc_norm=False",
        "init_values=0.1",
    ] {
        assert!(told.stderr.contains(part), "{part}: {}", told.stderr);
    }
    let timm = tensors::read(&folder.join("timm.safetensors")).expect("readable");
    let expected: BTreeMap<_, _> = weights
        .iter()
        .filter_map(|(name, tensor)| {
            Some((name.strip_prefix("encoder.")?.to_owned(), tensor.clone()))
        })
        .collect();
    assert_eq!(timm.tensors, expected);
    assert!(
        timm.tensors.contains_key("pos_embed") && timm.tensors.contains_key("blocks.0.ls1.gamma")
    );
    let args: Value = serde_json::from_str(&timm.metadata["timm_args"]).expect("JSON");
    assert_eq!(
        (&args["class_token"], &args["global_pool"]),
        (&Value::Bool(false), &Value::from("avg"))
    );

    program(folder, &["export", "run", "--format", "safetensors", "-o", "whole.safetensors"], 0);
    assert_eq!(
        tensors::read(&folder.join("whole.safetensors")).expect("readable").tensors,
        weights
    );

    program(folder, &["export", "run", "--format", "hf", "-o", "hub"], 0);
    let config: Value =
        serde_json::from_slice(&fs::read(folder.join("hub/config.json")).expect("there"))
            .expect("JSON");
    assert_eq!(config["model_args"], args);
    assert_eq!(config["pretrained_cfg"]["input_size"], serde_json::json!([3, 16, 16]));
    assert_eq!(
        tensors::read(&folder.join("hub/model.safetensors")).expect("readable").tensors,
        expected
    );

    // A run can start from each of these files: from the whole model as it was, or from the encoder with a new head.
    for (file, whole) in [
        ("whole.safetensors", true),
        ("timm.safetensors", false),
        ("run/checkpoints/best.safetensors", true),
    ] {
        program(folder, &["import", file, "-o", "back.safetensors", "--force"], 0);
        let back = checkpoint::load(&folder.join("back.safetensors")).expect("sound");
        assert_eq!(back.meta.step, 0);
        for (name, tensor) in &weights {
            let same = back.engine.weights[name] == *tensor;
            assert_eq!(same, whole || name.starts_with("encoder."), "{file}: {name}");
        }
    }
}

#[test]
fn a_run_starts_from_weights_and_says_so() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    train(folder, &["--set", "train.epochs=1"]);
    let init = "run/checkpoints/best.safetensors";
    let start: Vec<&str> = ["train", "--no-ui", "--run-dir", "second", "--init", init]
        .into_iter()
        .chain(tiny(&["--set", "train.epochs=1", "--set", "train.seed=5"]))
        .collect();
    program(folder, &start, 0);
    let events = fs::read_to_string(folder.join("second/events.jsonl")).expect("a log");
    assert!(events.contains("starting from a checkpoint in"), "{events}");
    let val_loss = |run: &str, best: bool| -> Vec<f64> {
        let text = fs::read_to_string(folder.join(run).join("events.jsonl")).expect("a log");
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let validations = events
            .filter(|event| event["event"] == "validated" && (!best || event["best"] == true));
        validations.filter_map(|event| event["val_loss"].as_f64()).collect()
    };
    // Both runs evaluate the same weights on the same images; only the masks come from another seed.
    let (end, begin) = (val_loss("run", true), val_loss("second", false));
    let (end, begin) = (end.last().expect("validated"), begin.first().expect("validated"));
    let fresh = val_loss("run", false)[0];
    assert!(
        (begin - end).abs() < (begin - fresh).abs(),
        "{begin} is nearer to {end} than to {fresh}"
    );
    let config = fs::read_to_string(folder.join("second/config.toml")).expect("there");
    let absolute = folder.canonicalize().expect("there").join(init);
    assert!(config.contains(&format!("init = \"{}\"", absolute.display())), "{config}");
}

#[test]
fn tables_agree_with_the_log() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    train(folder, &[]);
    let out = program(folder, &["export", "run", "--format", "jsonl", "-o", "-"], 0).stdout;
    let rows: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let log = fs::read_to_string(folder.join("run/events.jsonl")).expect("a log");
    let mut losses = BTreeMap::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        if event["event"] == "step" {
            let list = event["losses"].as_array().expect("a list");
            let end = event["step"].as_u64().expect("a number");
            for (back, loss) in list.iter().rev().enumerate() {
                losses.insert(end - back as u64, loss.clone());
            }
            let row = rows.iter().find(|row| row["step"] == event["step"]).expect("a row");
            for key in ["lr", "grad_norm", "images_per_s", "elapsed_s", "epoch", "time"] {
                assert_eq!(row[key], event[key], "{key}");
            }
        }
    }
    assert!(!losses.is_empty());
    let found: BTreeMap<_, _> = rows
        .iter()
        .filter_map(|row| Some((row["step"].as_u64()?, row.get("loss")?.clone())))
        .collect();
    assert_eq!(found, losses);
    program(folder, &["export", "run", "--format", "csv", "-o", "m.csv"], 0);
    let csv = fs::read_to_string(folder.join("m.csv")).expect("there");
    assert_eq!(csv.lines().count(), rows.len() + 1);
    let header: Vec<&str> = csv.lines().next().expect("a header").split(',').collect();
    for (line, row) in csv.lines().skip(1).zip(&rows) {
        for (column, cell) in header.iter().zip(line.split(',')) {
            let expected = row.get(*column).map_or(String::new(), Value::to_string);
            assert_eq!(cell, expected, "{column} of {line}");
        }
    }
}

/// The value of a protocol buffer field: its bytes, or the bits of its fixed or variable-length number.
#[derive(Debug)]
enum Field<'a> {
    Bits(u64),
    Bytes(&'a [u8]),
}

/// Reads the fields of a protocol buffer with their numbers, independently of the crate that writes them.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Bits(varint(&mut bytes)),
            kind => {
                let length = match kind {
                    1 => 8,
                    5 => 4,
                    2 => varint(&mut bytes) as usize,
                    other => panic!("wire type {other}"),
                };
                let (field, rest) = bytes.split_at(length);
                bytes = rest;
                let mut eight = [0; 8];
                if kind == 2 {
                    Field::Bytes(field)
                } else {
                    eight[..length].copy_from_slice(field);
                    Field::Bits(u64::from_le_bytes(eight))
                }
            }
        };
        all.push((key >> 3, field));
    }
    all
}

/// Returns the CRC-32C, computed bit by bit and masked as TensorFlow's records require.
fn masked(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        assert_eq!(number(&bytes[8..12]), masked(&bytes[..8]), "checksum of the length");
        let record = &bytes[12..12 + length];
        assert_eq!(
            number(&bytes[12 + length..16 + length]),
            masked(record),
            "checksum of the record"
        );
        all.push(record);
        bytes = &bytes[16 + length..];
    }
    all
}

/// Returns the training losses and the PNG files of the previews in the records of an event file, by step.
fn losses_and_previews(records: &[&[u8]]) -> (BTreeMap<u64, f32>, BTreeMap<u64, Vec<u8>>) {
    let (mut losses, mut pictures) = (BTreeMap::new(), BTreeMap::new());
    for record in records {
        let (mut step, mut value) = (0, Vec::new());
        for (number, field) in fields(record) {
            match (number, field) {
                (2, Field::Bits(bits)) => step = bits,
                (5, Field::Bytes(summary)) => {
                    let [(1, Field::Bytes(only))] = fields(summary)[..] else {
                        panic!("one value")
                    };
                    value = fields(only);
                }
                _ => {}
            }
        }
        let tag = value.iter().find_map(|(number, field)| match field {
            Field::Bytes(text) if *number == 1 => std::str::from_utf8(text).ok(),
            _ => None,
        });
        for (number, field) in &value {
            match (tag, number, field) {
                (Some("train/loss"), 2, Field::Bits(bits)) => {
                    losses.insert(step, f32::from_bits(*bits as u32));
                }
                (Some("previews"), 4, Field::Bytes(image)) => {
                    let png = fields(image).into_iter().find_map(|(number, field)| match field {
                        Field::Bytes(png) if number == 4 => Some(png.to_vec()),
                        _ => None,
                    });
                    pictures.insert(step, png.expect("a picture"));
                }
                _ => {}
            }
        }
    }
    (losses, pictures)
}

#[test]
fn event_files_hold_scalars_and_previews_in_sound_records() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    train(folder, &[]);
    program(folder, &["export", "run", "--format", "tensorboard", "-o", "tb"], 0);
    let files: Vec<_> = fs::read_dir(folder.join("tb")).expect("a folder").flatten().collect();
    assert_eq!(files.len(), 1);
    assert!(files[0].file_name().to_string_lossy().starts_with("events.out.tfevents."));
    let bytes = fs::read(files[0].path()).expect("readable");
    let records = records(&bytes);
    let version = fields(records[0]);
    assert!(
        version.iter().any(|(n, f)| *n == 3 && matches!(f, Field::Bytes(b"brain.Event:2"))),
        "{version:?}"
    );
    let (losses, mut pictures) = losses_and_previews(&records[1..]);
    let log = fs::read_to_string(folder.join("run/events.jsonl")).expect("a log");
    let mut expected = BTreeMap::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let step = event["step"].as_u64().unwrap_or(0);
        if event["event"] == "step" {
            for (back, loss) in event["losses"].as_array().expect("a list").iter().rev().enumerate()
            {
                expected.insert(step - back as u64, loss.as_f64().expect("a number") as f32);
            }
        }
        if event["event"] == "preview" {
            let path = folder.join("run").join(event["path"].as_str().expect("a path"));
            assert_eq!(pictures.remove(&step), fs::read(path).ok());
        }
    }
    assert!(!expected.is_empty() && pictures.is_empty());
    assert_eq!(losses, expected);
}

/// Command lines that must fail, with the exit code and a part of the message.
const MISTAKES: [(&[&str], i32, &str); 15] = [
    (
        &["export", "run", "--format", "csv", "-o", "taken"],
        2,
        "taken exists: choose another file, or replace it with --force",
    ),
    (&["export", "run", "--format", "csv", "-o", "full"], 2, "full is a folder"),
    (&["export", "run", "--format", "hf", "-o", "taken"], 2, "taken is a file"),
    (&["export", "run", "--format", "hf", "-o", "full"], 2, "full is not empty"),
    (&["export", "run", "--format", "timm", "-o", "-"], 2, "is for csv and jsonl"),
    (
        &["export", "run", "--format", "timm", "-o", "no/where.safetensors"],
        1,
        "cannot write no/where.safetensors",
    ),
    (&["export", "nothing", "--format", "timm", "-o", "x.safetensors"], 2, "no run at nothing"),
    (&["export", "nothing", "--format", "csv", "-o", "x.csv"], 2, "no run at nothing"),
    (
        &["export", "lone.safetensors", "--format", "csv", "-o", "x.csv"],
        2,
        "this checkpoint lies in no run",
    ),
    (
        &["export", "run", "--format", "onnx", "-o", "x"],
        2,
        "timm, hf, safetensors, csv, jsonl, tensorboard",
    ),
    (
        &["import", "weights.pth"],
        2,
        "`simmim-tui import --converter | python3 - weights.pth weights.safetensors`",
    ),
    (&["import", "text.safetensors"], 2, "text.safetensors is no valid safetensors file"),
    (&["import", "lone.safetensors", "-o", "taken"], 2, "ends in .safetensors"),
    (&["import", "lone.safetensors", "-o", "lone.safetensors"], 2, "--force"),
    (
        &[
            "train",
            "--no-ui",
            "--run-dir",
            "other",
            "--device",
            "cpu",
            "--init",
            "lone.safetensors",
        ],
        2,
        "model.embed_dim is 16 (configured 192), model.depth is 1 (configured 6), model.heads is 2 (configured 3); \
         what fits: --set model.embed_dim=16 --set model.depth=1 --set model.heads=2",
    ),
];

#[test]
fn mistakes_get_a_line_and_change_nothing() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    train(folder, &["--set", "train.epochs=1"]);
    let lone = folder.join("lone.safetensors");
    fs::copy(folder.join("run/checkpoints/best.safetensors"), lone).expect("a copy");
    fs::write(folder.join("taken"), "mine").expect("writable");
    fs::create_dir_all(folder.join("full/inner")).expect("a folder");
    fs::write(folder.join("weights.pth"), b"PK\x03\x04 and so on, a zip archive")
        .expect("writable");
    fs::write(folder.join("text.safetensors"), "hello").expect("writable");
    for (words, code, part) in MISTAKES {
        let told = program(folder, words, code).stderr;
        assert!(told.contains(part), "{words:?}: {told}");
    }
    assert_eq!(fs::read(folder.join("taken")).expect("there"), b"mine");
    assert!(!folder.join("other").exists() && !folder.join("x.csv").exists());
    program(folder, &["export", "run", "--format", "csv", "-o", "taken", "--force"], 0);
    assert!(fs::read_to_string(folder.join("taken")).expect("there").starts_with("step,epoch,"));
    program(folder, &["export", "run", "--format", "hf", "-o", "full", "--force"], 0);
    assert!(folder.join("full/inner").exists() && folder.join("full/config.json").exists());
    let rubbish: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".tmp"))
        .collect();
    assert!(rubbish.is_empty(), "{rubbish:?}");
}

#[test]
fn the_settings_that_an_error_names_do_fit() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let odd = [
        "--set",
        "model.patch_size=4",
        "--set",
        "model.image_size=20",
        "--set",
        "mask.unit=4",
        "--set",
    ];
    let odd = [&odd[..], &["model.position=relative", "--set", "model.layer_scale=0.5"]].concat();
    train(
        folder,
        &[&odd[..], &["--set", "model.mlp_ratio=2.5", "--set", "train.epochs=1"]].concat(),
    );
    let file = "run/checkpoints/best.safetensors";
    let start = [
        "train",
        "--no-ui",
        "--device",
        "cpu",
        "--set",
        "train.epochs=1",
        "--run-dir",
        "next",
        "--init",
        file,
    ];
    let told = program(folder, &start, 2).stderr;
    let fits = told.split("what fits: ").nth(1).expect("settings").trim();
    let words: Vec<&str> = start.iter().copied().chain(fits.split(' ')).collect();
    program(folder, &words, 0);
    // The configuration that `import` prints fits, too.
    let toml = program(folder, &["import", file], 0).stdout;
    fs::write(folder.join("start.toml"), toml).expect("writable");
    let words = [
        "train",
        "--no-ui",
        "--device",
        "cpu",
        "--set",
        "train.epochs=1",
        "--run-dir",
        "third",
        "--config",
        "start.toml",
    ];
    program(folder, &words, 0);
    let log = fs::read_to_string(folder.join("third/events.jsonl")).expect("a log");
    assert!(log.contains("starting from a checkpoint"), "{log}");
}

/// Writes a file of tensors as another program might have written it.
fn write(path: &Path, tensors: &NamedTensors) {
    let bytes = tensors::to_bytes(tensors, &BTreeMap::new()).expect("sound tensors");
    fs::write(path, bytes).expect("writable");
}

fn tensor(shape: &[usize], value: f32) -> HostTensor {
    HostTensor { shape: shape.to_vec(), data: vec![value; shape.iter().product()] }
}

/// Returns `weights` as the official code names and lays them out. What it doesn't keep is set to zero in `weights`.
fn in_official_names(weights: &mut NamedTensors) -> NamedTensors {
    let mut official = NamedTensors::from([
        ("encoder.cls_token".to_owned(), tensor(&[1, 1, 16], 3.0)),
        ("encoder.rel_pos_bias.relative_position_index".to_owned(), tensor(&[5, 5], 1.0)),
    ]);
    for (name, own) in weights {
        let mut theirs = own.clone();
        let renamed = match name.as_str() {
            "mask_token" => "encoder.mask_token".to_owned(),
            "head.weight" => {
                theirs.shape.extend([1, 1]);
                "decoder.0.weight".to_owned()
            }
            "head.bias" => "decoder.0.bias".to_owned(),
            name if name.ends_with("relative_position_bias_table") => {
                theirs.data.extend([9.0; 6]);
                theirs.shape[0] += 3;
                name.to_owned()
            }
            name if name.ends_with("qkv.bias") => {
                own.data[16..32].fill(0.0);
                let block = name.strip_suffix("qkv.bias").expect("so it ends");
                let part = |from: usize| HostTensor {
                    shape: vec![16],
                    data: own.data[from..from + 16].to_vec(),
                };
                official.insert(format!("{block}q_bias"), part(0));
                official.insert(format!("{block}v_bias"), part(32));
                continue;
            }
            name => name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"),
        };
        official.insert(renamed, theirs);
    }
    official
}

/// Official weights with one mistake each, and weights of other models, are refused with a line that says why.
fn assert_others_are_refused(folder: &Path, official: NamedTensors) {
    let one = |name: &str| NamedTensors::from([(name.to_owned(), tensor(&[1], 1.0))]);
    let mut surplus = official.clone();
    surplus.insert("encoder.blocks.0.attn.q_norm.weight".to_owned(), tensor(&[8], 1.0));
    let mut short = official.clone();
    short.remove("encoder.blocks.0.norm2.weight");
    let mut broken = official.clone();
    broken.insert("encoder.norm.weight".to_owned(), tensor(&[16], f32::NAN));
    let mut own_tables = official;
    own_tables.insert(
        "encoder.blocks.0.attn.relative_position_bias_table".to_owned(),
        tensor(&[12, 2], 1.0),
    );
    for (tensors, part) in [
        (one("encoder.layers.0.blocks.0.norm1.weight"), "Swin Transformer"),
        (one("encoder.layer.0.output.dense.weight"), "transformers' ViTModel"),
        (one("conv1.weight"), "no blocks.N.*"),
        (surplus, "nothing in this model corresponds to encoder.blocks.0.attn.q_norm.weight"),
        (short, "encoder.blocks.0.norm2.weight is missing"),
        (broken, "encoder.norm.weight holds figures that are no numbers"),
        (own_tables, "a relative position bias of its own"),
    ] {
        write(&folder.join("odd.safetensors"), &tensors);
        let told =
            program(folder, &["import", "odd.safetensors", "-o", "never.safetensors"], 2).stderr;
        assert!(told.contains(part) && told.contains("odd.safetensors"), "{part}: {told}");
    }
    assert!(!folder.join("never.safetensors").exists());
}

#[test]
fn official_names_are_understood() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    train(folder, &["--set", "model.position=relative", "--set", "model.layer_scale=0.1"]);
    let mut expected = best(folder).engine.weights;
    let official = in_official_names(&mut expected);
    write(&folder.join("official.safetensors"), &official);
    let words = ["import", "official.safetensors", "-o", "back.safetensors"];
    let told = program(folder, &words, 0).stderr;
    assert!(
        told.contains("official SimMIM weights") && told.contains("without the class token"),
        "{told}"
    );
    let back = checkpoint::load(&folder.join("back.safetensors")).expect("sound");
    assert_eq!(back.engine.weights, expected);
    assert_others_are_refused(folder, official);
}

/// PyTorch and timm read what `export` writes; skipped where there is no PyTorch.
#[test]
fn other_programs_read_the_exports() {
    common::python("torch", "check_export.py");
}
