//! Weights of other programs are read whatever stands before their names, or refused with a line that says what is there.
//! Files that claim more than they hold are refused before anything is built.

use crate::common::{self, Ended};
use simmim_tui::model::state::{HostTensor, NamedTensors};
use simmim_tui::model::tensors;
use simmim_tui::weights::checkpoint;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Width of the models of this file.
const D: usize = 8;
/// A refusal takes some milliseconds. On a busy machine it may take longer, but never as long as building a large model.
const AT_ONCE: Duration = Duration::from_secs(10);
/// A refusal takes no more memory than this, in KiB.
const LITTLE: u64 = 100 * 1024;

/// Returns numbers that differ from tensor to tensor.
fn tensor(shape: &[usize], seed: usize) -> HostTensor {
    let count: usize = shape.iter().product();
    let value = |index: usize| ((index * 37 + seed * 101) % 97) as f32 / 970.0 - 0.05;
    HostTensor { shape: shape.to_vec(), data: (0..count).map(value).collect() }
}

/// Returns a Vision Transformer under timm's names, with a class token and `rows` positions.
fn vit(depth: usize, rows: usize) -> NamedTensors {
    let mut shapes = vec![
        ("cls_token".to_owned(), vec![1, 1, D]),
        ("pos_embed".to_owned(), vec![1, rows, D]),
        ("patch_embed.proj.weight".to_owned(), vec![D, 3, 4, 4]),
        ("patch_embed.proj.bias".to_owned(), vec![D]),
        ("norm.weight".to_owned(), vec![D]),
        ("norm.bias".to_owned(), vec![D]),
    ];
    for block in 0..depth {
        let parts: [(&str, &[usize]); 14] = [
            ("norm1.weight", &[D]),
            ("norm1.bias", &[D]),
            ("attn.qkv.weight", &[3 * D, D]),
            ("attn.qkv.bias", &[3 * D]),
            ("attn.proj.weight", &[D, D]),
            ("attn.proj.bias", &[D]),
            ("norm2.weight", &[D]),
            ("norm2.bias", &[D]),
            ("mlp.fc1.weight", &[2 * D, D]),
            ("mlp.fc1.bias", &[2 * D]),
            ("mlp.fc2.weight", &[D, 2 * D]),
            ("mlp.fc2.bias", &[D]),
            ("ls1.gamma", &[D]),
            ("ls2.gamma", &[D]),
        ];
        shapes
            .extend(parts.map(|(part, shape)| (format!("blocks.{block}.{part}"), shape.to_vec())));
    }
    let named = shapes.into_iter().enumerate();
    named.map(|(seed, (name, shape))| (name, tensor(&shape, seed))).collect()
}

/// Returns the tensors with `prefix` before each name.
fn under(prefix: &str, tensors: NamedTensors) -> NamedTensors {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

/// Returns the tensors and more of them.
fn and(mut tensors: NamedTensors, more: &[(&str, &[usize])]) -> NamedTensors {
    tensors.extend(more.iter().map(|(name, shape)| ((*name).to_owned(), tensor(shape, 5))));
    tensors
}

fn without(mut tensors: NamedTensors, part: &str) -> NamedTensors {
    tensors.retain(|name, _| !name.contains(part));
    tensors
}

/// Returns the tensors with other numbers.
fn other(mut tensors: NamedTensors) -> NamedTensors {
    for tensor in tensors.values_mut() {
        tensor.data.iter_mut().for_each(|value| *value += 1.0);
    }
    tensors
}

fn chunked(tensors: NamedTensors) -> NamedTensors {
    let renamed = tensors.into_iter().map(|(name, tensor)| {
        (name.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."), tensor)
    });
    renamed.collect()
}

fn write(path: &Path, tensors: &NamedTensors) {
    let bytes = tensors::to_bytes(tensors, &BTreeMap::new()).expect("sound tensors");
    fs::write(path, bytes).expect("writable");
}

fn only_line<'a>(ended: &'a Ended, what: &str) -> &'a str {
    let line = ended.stderr.trim_end();
    assert_eq!(line.lines().count(), 1, "{what}: one line: {line}");
    line
}

/// What is read: the file, flags of `import`, and a part of what is told. The encoder is that of [`plain`].
type Readable = (&'static str, NamedTensors, &'static [&'static str], &'static str);

fn plain() -> NamedTensors {
    vit(2, 17)
}

/// Returns two networks under two prefixes. The second one is plain.
fn two(other_prefix: &str, plain_prefix: &str) -> NamedTensors {
    let mut all = under(other_prefix, other(plain()));
    all.extend(under(plain_prefix, plain()));
    all
}

fn wrapped() -> Vec<Readable> {
    let stack = "module._orig_mod.model.backbone.";
    let (student, teacher) = ("student.backbone.", "teacher.backbone.");
    let (base, momentum) = ("module.base_encoder.", "module.momentum_encoder.");
    vec![
        ("plain", plain(), &[], "without the class token"),
        ("DataParallel", under("module.", plain()), &[], "timm ViT weights"),
        ("torch.compile", under("_orig_mod.", plain()), &[], "timm ViT weights"),
        ("a stack", under(stack, plain()), &[], "timm ViT weights"),
        ("an encoder", under("model.encoder.", plain()), &[], "encoder weights"),
        ("FSDP", under("_fsdp_wrapped_module.visual.trunk.", plain()), &[], "timm ViT weights"),
        ("DINO", two(student, teacher), &[], "student.backbone"),
        ("I-JEPA", two("encoder.module.", "target_encoder.module."), &[], "target_encoder"),
        ("MoCo v3", two(base, momentum), &[], "momentum_encoder"),
        ("the student", two(teacher, student), &["--network", "student"], "teacher"),
        ("one of two", two("target_encoder.", "encoder."), &["--network", "encoder"], "target"),
    ]
}

fn with_other_parts() -> Vec<Readable> {
    let more = |extra: &[(&str, &[usize])]| and(plain(), extra);
    let dino = and(under("backbone.", plain()), &[("head.mlp.0.weight", &[3, D])]);
    let counted = and(under("module.", plain()), &[("n_averaged", &[])]);
    let beside = and(under("encoder.", plain()), &[("head.weight", &[5, D])]);
    let registers = more(&[("mask_token", &[1, D]), ("register_tokens", &[1, 4, D])]);
    let head = more(&[("head.weight", &[5, D]), ("head.bias", &[5])]);
    vec![
        ("a flat mask token", more(&[("mask_token", &[1, D])]), &[], "without the class token"),
        ("iBOT's mask token", more(&[("masked_embed", &[1, D])]), &[], "without the class token"),
        ("a wide mask token", more(&[("mask_token", &[1, 1, 2 * D])]), &[], "another width"),
        ("DINOv2's registers", registers, &[], "register tokens"),
        ("timm's registers", more(&[("reg_token", &[1, 4, D])]), &[], "register tokens"),
        ("chunks of blocks", chunked(plain()), &[], "without the class token"),
        ("a classifier", head, &[], "the classifier"),
        ("a linear head beside", beside, &[], "the classifier"),
        ("a projector", more(&[("projector.0.weight", &[3, D])]), &[], "the projection head"),
        ("a DINO head", dino, &[], "without the class token, head"),
        ("a counter", counted, &[], "n_averaged"),
    ]
}

#[test]
fn weights_of_others_are_read_whatever_stands_before_their_names() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let encoder = |name: &str| {
        let path = temp.path().join(name);
        let mut weights = checkpoint::load(&path).expect("sound").engine.weights;
        weights.retain(|name, _| name.starts_with("encoder."));
        weights
    };
    write(&temp.path().join("plain.safetensors"), &plain());
    let words = ["import", "plain.safetensors", "-o", "right.safetensors"];
    common::run(temp.path(), &words).expect(0, "the plain file");
    for (name, tensors, flags, part) in wrapped().into_iter().chain(with_other_parts()) {
        write(&temp.path().join("in.safetensors"), &tensors);
        let words = ["import", "in.safetensors", "-o", "out.safetensors", "--force"];
        let ended = common::run(temp.path(), &[&words[..], flags].concat()).expect(0, name);
        assert!(ended.stderr.contains(part), "{name}: {part} is told: {}", ended.stderr);
        let same = encoder("out.safetensors") == encoder("right.safetensors");
        assert!(same, "{name}: the encoder is that of the plain file");
        let toml = common::run(temp.path(), &[&["import", "in.safetensors"], flags].concat());
        assert!(toml.expect(0, name).stdout.contains("embed_dim = 8"), "{name}: as configuration");
    }
}

#[test]
fn a_network_that_is_asked_for_is_the_one_that_a_run_starts_from() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let mut tensors = under("student.", vit(1, 17));
    tensors.extend(under("teacher.", other(vit(1, 17))));
    write(&folder.join("two.safetensors"), &tensors);
    let toml = common::run(folder, &["import", "two.safetensors", "--network", "student"]);
    fs::write(folder.join("start.toml"), toml.expect(0, "import").stdout).expect("writable");
    let sets = ["train.epochs=1", "train.batch_size=64"].map(|set| ["--set", set]).concat();
    let words = ["--config", "start.toml", "--device", "cpu", "--no-ui", "--run-dir", "run"];
    common::run(folder, &[&words[..], &sets].concat()).expect(0, "the run");
    let log = fs::read_to_string(folder.join("run/events.jsonl")).expect("a log");
    assert!(log.contains("its network student is taken"), "{log}");
}

/// What is refused: the file, and parts of what is told.
type Unreadable = (&'static str, NamedTensors, &'static [&'static str]);

/// Returns a model with the relative positions of 8 x 8 patches, whose index has so many rows.
fn relative(rows: usize) -> NamedTensors {
    let extra: [(&str, &[usize]); 2] = [
        ("shared_rel_pos.relative_position_bias_table", &[225, 2]),
        ("shared_rel_pos.relative_position_index", &[rows, rows]),
    ];
    and(without(vit(1, 17), "pos_embed"), &extra)
}

fn no_squares() -> Vec<Unreadable> {
    let tokenless = without(vit(1, 12), "cls_token");
    vec![
        ("4 x 3", vit(1, 13), &["13 rows", "no square grid", "12 are for patches"]),
        ("24 x 12", vit(1, 289), &["289 rows", "288 patches", "17x17", "cls_token"]),
        ("4 x 3, no class token", tokenless, &["12 rows", "no class token"]),
        ("13 x 5, relative", relative(66), &["225 rows", "no square grid"]),
    ]
}

fn no_models() -> Vec<Unreadable> {
    let plain = || vit(1, 17);
    let more = |extra: &[(&str, &[usize])]| and(plain(), extra);
    let alone = |extra: &[(&str, &[usize])]| and(NamedTensors::new(), extra);
    let mut broken = plain();
    broken.get_mut("blocks.0.attn.qkv.weight").expect("there").data[0] = f32::NAN;
    let before = more(&[("norm_pre.weight", &[D]), ("norm_pre.bias", &[D])]);
    let endless = more(&[("blocks.18446744073709551615.x", &[1])]);
    let gated = and(without(plain(), "fc1"), &[("blocks.0.mlp.w12.weight", &[9, D])]);
    let wide = more(&[("blocks.0.attn.proj.weight", &[D, 9])]);
    let convolutions = alone(&[("conv1.weight", &[2]), ("fc.bias", &[1])]);
    vec![
        ("norm before blocks", before, &["norm_pre.weight", "nothing in this model", "width 8"]),
        ("block missing", without(vit(3, 17), "blocks.1."), &["blocks.1 is missing", "0, 2"]),
        ("blocks without end", endless, &["blocks.1 is missing"]),
        ("part missing", without(plain(), "norm2.weight"), &["blocks.0.norm2.weight is missing"]),
        ("another MLP", gated, &["fc1", "w12.weight"]),
        ("wrong shape", wide, &["[8, 9]", "[8, 8]"]),
        ("not a number", broken, &["attn.qkv.weight", "no numbers"]),
        ("two networks", two("first.", "second."), &["first, second", "--network"]),
        ("no positions", without(plain(), "pos_embed"), &["neither pos_embed"]),
        ("no patches", without(plain(), "patch_embed"), &["patch_embed.proj.weight is missing"]),
        ("Swin", alone(&[("layers.0.blocks.0.x", &[1])]), &["Swin"]),
        ("ResNet", convolutions, &["conv1.weight, fc.bias"]),
    ]
}

#[test]
fn what_cannot_be_read_is_refused_by_import_and_init_with_the_same_words() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let init = "--config smoke --device cpu --no-ui --run-dir run --init in.safetensors";
    let commands = ["import in.safetensors", "import in.safetensors -o out.safetensors", init];
    for (name, tensors, parts) in no_squares().into_iter().chain(no_models()) {
        write(&folder.join("in.safetensors"), &tensors);
        let told = commands.map(|command| {
            let words: Vec<_> = command.split(' ').collect();
            let ended = common::run(folder, &words).expect(2, name);
            // A run keeps the whole path.
            let line = only_line(&ended, name).split_once("in.safetensors: ");
            line.unwrap_or_else(|| panic!("{name}: the file is named: {ended:?}")).1.to_owned()
        });
        for part in parts {
            assert!(told[0].contains(part), "{name}: {part} is told: {}", told[0]);
        }
        assert!(told.iter().all(|line| *line == told[0]), "{name}: the same words: {told:?}");
        assert!(!folder.join("out.safetensors").exists() && !folder.join("run").exists(), "{name}");
    }
    write(&folder.join("in.safetensors"), &relative(65));
    common::run(folder, &["import", "in.safetensors"]).expect(0, "the relative table is square");
    let asked = ["import", "in.safetensors", "--network", "student"];
    let ended = common::run(folder, &asked).expect(2, "no such network");
    assert!(ended.stderr.contains("student names none of its networks"), "{}", ended.stderr);
}

#[test]
fn weights_that_are_no_checkpoint_are_refused_with_the_way_to_use_them() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    write(&folder.join("theirs.safetensors"), &vit(1, 13));
    fs::write(folder.join("theirs.pth"), b"PK\x03\x04 and so on").expect("writable");
    let cases: [(&[&str], &str); 7] = [
        (&["--resume", "theirs.safetensors", "--run-dir", "run", "--no-ui"], "--init"),
        (&["--resume", "theirs.pth", "--run-dir", "run", "--no-ui"], "--init"),
        (&["finetune", "theirs.safetensors", "--run-dir", "run"], "simmim-tui import"),
        (&["eval", "theirs.safetensors"], "simmim-tui import"),
        (&["features", "theirs.safetensors", "-o", "x.npy"], "simmim-tui import"),
        (&["export", "theirs.safetensors", "--format", "timm", "-o", "x.safetensors"], "import"),
        (&["import", "theirs.pth"], "import --converter"),
    ];
    for (words, part) in cases {
        let ended = common::run(folder, words).expect(2, part);
        assert!(only_line(&ended, part).contains(part), "{words:?}: {}", ended.stderr);
    }
    assert!(!folder.join("run").exists(), "nothing is left behind");
}

/// Runs the program, and fails if it takes long or much memory.
fn run_small(folder: &Path, words: &[&str], what: &str) -> Ended {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_simmim-tui"))
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().expect("it can be waited for").is_none() {
        // The high water mark of its memory. A process that has ended has none any more.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let mark = mark.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(mark.unwrap_or(0));
        if most > LITTLE || start.elapsed() > AT_ONCE {
            let _ = child.kill(); // It may have ended just now.
            panic!("{what}: {words:?} took {most} KiB, {:?}", start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().expect("it has ended");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Every command that takes a checkpoint or weights, with FILE in their place.
const COMMANDS: [&[&str]; 13] = [
    &["--resume", "FILE", "--run-dir", "new", "--no-ui", "--device", "cpu"],
    &["finetune", "FILE", "--run-dir", "new", "--no-ui", "--device", "cpu"],
    &["--config", "smoke", "--init", "FILE", "--run-dir", "new", "--no-ui", "--device", "cpu"],
    &["import", "FILE"],
    &["import", "FILE", "-o", "new.safetensors"],
    &["eval", "FILE", "--device", "cpu"],
    &["features", "FILE", "-o", "new.npy", "--device", "cpu"],
    &["embed", "FILE", "-o", "new.png", "--device", "cpu"],
    &["preview", "FILE", "-o", "new.png"],
    &["export", "FILE", "--format", "timm", "-o", "new.safetensors"],
    &["export", "FILE", "--format", "hf", "-o", "new"],
    &["export", "FILE", "--format", "safetensors", "-o", "new.safetensors"],
    &["parity", "FILE"],
];

/// Fails unless each command refuses the file at once, with one line, and leaves nothing behind.
fn assert_refused_at_once(folder: &Path, file: &str, what: &str) {
    let names = || {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("readable").file_name()).collect::<BTreeSet<_>>()
    };
    let before = names();
    for words in COMMANDS {
        if ["embed", "preview"].contains(&words[0]) && !cfg!(feature = "tui") {
            continue;
        }
        let words: Vec<_> =
            words.iter().map(|&word| if word == "FILE" { file } else { word }).collect();
        let ended = run_small(folder, &words, what);
        assert!(matches!(ended.code, Some(1 | 2)), "{what}: {words:?} is refused: {ended:?}");
        let line = only_line(&ended, what);
        assert!(line.contains(file) || words[0] == "parity", "{what}: {words:?} names it: {line}");
        assert!(!line.contains("panicked"), "{what}: {line}");
    }
    assert_eq!(names(), before, "{what}: nothing is left behind");
}

#[test]
fn checkpoints_that_disagree_with_their_configuration_are_refused_at_once() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    common::run_tiny(folder, &["--run-dir", "run", "--no-ui", "--set", "train.epochs=1"])
        .expect(0, "the run");
    let good = checkpoint::load(&folder.join("run/checkpoints/best.safetensors")).expect("sound");
    fs::remove_dir_all(folder.join("run")).expect("removable");
    let claims: [&[(&str, &str)]; 9] = [
        &[("embed_dim = 16", "embed_dim = 8192")],
        &[("embed_dim = 16", "embed_dim = 8192"), ("depth = 1", "depth = 128")],
        &[("depth = 1", "depth = 128")],
        &[("image_size = 16", "image_size = 2048")],
        &[
            ("position = \"learned\"", "position = \"relative\""),
            ("image_size = 16", "image_size = 512"),
        ],
        &[
            ("position = \"learned\"", "position = \"sincos\""),
            ("image_size = 16", "image_size = 2048"),
        ],
        &[("mlp_ratio = 4.0", "mlp_ratio = 16.0")],
        &[("layer_scale = 0.0", "layer_scale = 0.1")],
        &[("[model]", "[finetune]\nclasses = [\"a\", \"b\"]\n\n[model]")],
    ];
    for claim in claims {
        let mut wrong = good.clone();
        for (from, to) in claim {
            assert!(wrong.meta.config.contains(from), "{from} is in {}", wrong.meta.config);
            wrong.meta.config = wrong.meta.config.replacen(from, to, 1);
        }
        let (path, _) = checkpoint::save(folder, &wrong).expect("written");
        let file = path.file_name().expect("a name").to_str().expect("plain").to_owned();
        assert_refused_at_once(folder, &file, &format!("{claim:?}"));
    }
}

#[test]
fn files_that_claim_more_than_they_hold_are_refused_at_once() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let raw = |length: u64, header: &str, rest: usize| {
        [&length.to_le_bytes()[..], header.as_bytes(), &vec![0; rest]].concat()
    };
    let whole = |header: &str, rest: usize| raw(header.len() as u64, header, rest);
    let entry = |shape: &str, end: &str| {
        format!(r#"{{"blocks.0.x":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    let many = format!(r#"{{"__metadata__":{{"x":"{}"}}}}"#, "x".repeat(20 << 20));
    let wide: NamedTensors = [
        ("patch_embed.proj.weight", tensor(&[8192, 3, 1, 1], 1)),
        ("pos_embed", tensor(&[1, 4, 8192], 1)),
        ("blocks.0.mlp.fc1.weight", tensor(&[131_072, 1], 1)),
    ]
    .map(|(name, tensor)| (name.to_owned(), tensor))
    .into_iter()
    .chain((1..128).map(|block| (format!("blocks.{block}.x"), tensor(&[1], 1))))
    .collect();
    let wide = tensors::to_bytes(&wide, &BTreeMap::new()).expect("sound tensors");
    let files = [
        ("a header of 2^60 bytes", raw(1 << 60, "{}", 0)),
        ("a header of 2^64 - 1 bytes", raw(u64::MAX, "{}", 100)),
        ("a long header", whole(&many, 0)),
        ("data that aren't there", whole(&entry("[1073741824]", "4294967296"), 4)),
        ("a shape that overflows", whole(&entry("[4294967296, 4294967296, 4]", "16"), 16)),
        ("a shape that is none", whole(&entry("[9223372036854775807, 0]", "0"), 0)),
        ("nothing", Vec::new()),
        ("no tensors", whole("{}", 0)),
        ("three bytes", b"abc".to_vec()),
        ("a model of 128 blocks, 8192 wide", wide),
    ];
    for (what, bytes) in files {
        fs::write(folder.join("claims.safetensors"), bytes).expect("writable");
        assert_refused_at_once(folder, "claims.safetensors", what);
    }
    // 64 GiB of zeros that take no space.
    let texts = r#"{"__metadata__":{"checkpoint":"{}","checksum":"0"},"#;
    let weights = entry("[17179869184]", "68719476736");
    for header in [weights.clone(), weights.replacen('{', texts, 1)] {
        let length = 8 + header.len() as u64 + (1 << 36);
        let path = folder.join("claims.safetensors");
        fs::write(&path, raw(header.len() as u64, &header, 0)).expect("writable");
        let file = fs::File::options().write(true).open(&path).expect("writable");
        if file.set_len(length).is_ok() {
            assert_refused_at_once(folder, "claims.safetensors", "64 GiB of zeros");
        }
    }
}

/// Runs Python in a folder, with a stand-in for PyTorch where there is none. Returns `None` if there is no Python, or else
/// whether it went well, and what it printed.
fn python(folder: &Path, arguments: &[&str]) -> Option<(bool, String)> {
    let interpreter = std::env::var("SIMMIM_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&interpreter).args(["-c", "import torch, safetensors.torch"]).output();
    let has_torch = probe.ok()?.status.success();
    let mut command = Command::new(&interpreter);
    command.args(arguments).current_dir(folder).env("PYTHONDONTWRITEBYTECODE", "1");
    if !has_torch {
        let stub = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/stub_torch");
        command.env("PYTHONPATH", stub);
    }
    let output = command.output().ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((output.status.success(), text(&output.stdout) + &text(&output.stderr)))
}

#[test]
fn the_converter_finds_the_weights_wherever_they_are() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let maker = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/make_checkpoints.py");
    let Some((made, told)) = python(folder, &[maker, "."]) else {
        eprintln!("SKIPPED: there is no Python; set SIMMIM_PYTHON to an interpreter");
        return;
    };
    assert!(made, "{told}");
    let script = common::run(folder, &["import", "--converter"]).expect(0, "the script").stdout;
    fs::write(folder.join("convert.py"), script).expect("writable");
    let run = |arguments: &[&str]| python(folder, arguments).expect("it has run before");
    let cases: [(&str, &[&str], f32, &[&str]); 14] = [
        ("plain", &[], 0.25, &["18 tensors"]),
        ("model", &[], 0.25, &["18 tensors of model"]),
        ("dino", &[], 0.5, &["of teacher", "student"]),
        ("dino", &["--key", "student"], 0.25, &["of student", "teacher"]),
        ("dinov2", &[], 0.5, &["36 tensors of model"]),
        ("ijepa", &[], 0.5, &["of target_encoder", "encoder"]),
        ("ijepa", &["--key", "encoder"], 0.25, &["of encoder", "target_encoder"]),
        ("timm_ema", &[], 0.5, &["of state_dict_ema", "state_dict"]),
        ("timm_ema", &["--key", "state_dict"], 0.25, &["of state_dict "]),
        ("only_ema", &[], 0.5, &["18 tensors of ema"]),
        ("nested", &[], 0.5, &["of checkpoint.0.networks.teacher.backbone"]),
        ("whole_module", &[], 0.25, &["18 tensors of model"]),
        ("two", &["--key", "second"], 0.5, &["of second"]),
        ("two", &["--key", "first"], 0.25, &["of first"]),
    ];
    for (name, flags, value, parts) in cases {
        let from = format!("{name}.pth");
        let (done, told) = run(&[&["convert.py", &from, "w.safetensors"], flags].concat());
        assert!(done, "{name}: {told}");
        for part in parts {
            assert!(told.contains(part), "{name}: {part} is told: {told}");
        }
        let words = ["import", "w.safetensors", "-o", "out.safetensors", "--force"];
        common::run(folder, &words).expect(0, name);
        let weights = checkpoint::load(&folder.join("out.safetensors")).expect("sound").engine;
        assert_eq!(weights.weights["encoder.norm.bias"].data, [value; D], "{name} {flags:?}");
    }
    let refused: [(&str, &[&str], &str); 3] = [
        ("two", &[], "take one with --key: first, second"),
        ("two", &["--key", "third"], "third names none"),
        ("none", &[], "which holds epoch, note"),
    ];
    for (name, flags, part) in refused {
        let from = format!("{name}.pth");
        let (done, told) = run(&[&["convert.py", &from, "never.safetensors"], flags].concat());
        assert!(!done && told.contains(part), "{name}: {part} is told: {told}");
        assert_eq!(told.trim_end().lines().count(), 1, "{name}: one line: {told}");
    }
    assert!(!folder.join("never.safetensors").exists());
}
