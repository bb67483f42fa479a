//! Wrong input and a failing system: each error ends the program with its own exit code and one line that says what
//! went wrong, where, and what to do.

use crate::common::{self, Disk, Ended, Reader, Running, checkpoint_at};
use simmim_tui::weights::checkpoint::{self, Meta};
use std::fs;
use std::path::Path;

/// Returns the one line that an error before the start prints; fails if the program printed anything else.
fn only_line<'a>(ended: &'a Ended, what: &str) -> &'a str {
    // What takes longer than two seconds is told: `reading the checkpoint: 2s`.
    let waits = |line: &&str| {
        let (_, seconds) = line.rsplit_once(": ").unwrap_or_default();
        seconds.strip_suffix('s').is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| !waits(line)).collect();
    let [line] = lines[..] else { panic!("{what}: one line says it all; {ended:?}") };
    assert!(line.starts_with("simmim-tui: "), "{what}: the line is the program's own; {ended:?}");
    line
}

fn assert_says(text: &str, parts: &[&str], what: &str) {
    for part in parts {
        assert!(text.contains(part), "{what}: the message says {part:?}: {text}");
    }
}

/// Runs a command that must fail with `code`, print `parts` in one line, and leave the folder as it was.
fn assert_refused(folder: &Path, arguments: &[&str], code: i32, parts: &[&str]) {
    let what = format!("{arguments:?}");
    let before = common::names(folder);
    let ended = common::run_tiny(folder, arguments).expect(code, &what);
    assert_says(only_line(&ended, &what), parts, &what);
    assert_eq!(common::names(folder), before, "{what}: nothing is left behind");
    assert_eq!(ended.stdout, "", "{what}: nothing is printed");
}

#[test]
fn a_wrong_setting_is_named_with_what_is_allowed() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let form = ["write key=value, for example --set train.epochs=20"];
    let cases: [(&str, &[&str]); 32] = [
        ("train.epoch=3", &["--set train.epoch=3", "`epoch`", "`epochs`", "in `train`"]),
        ("trian.epochs=3", &["--set trian.epochs=3", "`trian`", "`train`"]),
        ("train.epochs=many", &["\"many\"", "train.epochs"]),
        ("train.epochs=1.5", &["`1.5`", "train.epochs"]),
        ("train.epochs=-1", &["`-1`", "train.epochs"]),
        ("train=3", &["--set train=3", "invalid type"]),
        ("train.epochs.x=3", &["--set train.epochs.x=3", "epochs is a value, not a section"]),
        ("loss.kind=l3", &["loss.kind", "`l3`", "`l1`, `mse`, `smooth-l1`"]),
        ("data.format=jpeg", &["data.format", "`jpeg`", "`folder`"]),
        ("data.format=cifar10", &["data.format = cifar10 needs data.path"]),
        ("train.epochs=0", &["train.epochs is 0", "from 1 to 1000000"]),
        ("train.batch_size=70000", &["train.batch_size is 70000", "from 1 to 65536"]),
        ("train.seed=-1", &["train.seed", "`-1`"]),
        ("mask.ratio=1.5", &["mask.ratio is 1.5", "from 0.01 to 0.99"]),
        ("mask.ratio=nan", &["mask.ratio is NaN", "from 0.01 to 0.99"]),
        ("schedule.base_lr=nan", &["schedule.base_lr is NaN", "to 100"]),
        ("schedule.base_lr=inf", &["schedule.base_lr is inf", "to 100"]),
        ("schedule.warmup_epochs=-1", &["schedule.warmup_epochs is -1", "from 0 to 1000000"]),
        ("optimizer.betas=[0.9, 1.0]", &["optimizer.betas[1] is 1", "0.9999999"]),
        ("optimizer.betas=0.9", &["optimizer.betas", "0.9"]),
        (
            "data.crop_scale=[0.9, 0.5]",
            &["data.crop_scale[1] is 0.5", "from data.crop_scale[0] = 0.9 up"],
        ),
        ("data.workers=257", &["data.workers is 257", "from 0 to 256"]),
        ("checkpoint.keep=0", &["checkpoint.keep is 0", "from 1 to 10000"]),
        ("model.image_size=20", &["model.image_size is 20", "multiple of model.patch_size = 8"]),
        ("model.heads=3", &["model.embed_dim is 16", "multiple of model.heads = 3"]),
        ("mask.unit=12", &["mask.unit is 12", "multiple of model.patch_size = 8"]),
        ("mask.unit=16", &["mask.ratio is 0.6", "leave one of the 1 mask units visible"]),
        ("mask.ratio=0.99", &["mask.ratio is 0.99", "leave one of the 4 mask units visible"]),
        ("train.epochs", &form),
        ("=3", &form),
        ("train..epochs=3", &form),
        ("data.val_path=nowhere", &["nowhere", "data.val_path"]),
    ];
    for (set, parts) in cases {
        assert_refused(temp.path(), &["--set", set], 2, parts);
    }
}

#[test]
fn a_wrong_configuration_file_is_named_with_the_line_or_the_key() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let cases: [(&str, &[u8], &[&str]); 6] = [
        ("syntax.toml", b"[train]\n\nepochs = = 3\n", &["config syntax.toml: line 3: "]),
        ("key.toml", b"[train]\nepoch = 3\n", &["config key.toml", "`epoch`", "`epochs`"]),
        ("section.toml", b"[trian]\nepochs = 3\n", &["config section.toml", "`trian`", "`train`"]),
        ("type.toml", b"[train]\nepochs = \"3\"\n", &["config type.toml", "\"3\"", "train.epochs"]),
        ("range.toml", b"[data]\nflip = 2.0\n", &["data.flip is 2", "from 0 to 1"]),
        ("binary.toml", b"\xff\xfe\x00", &["cannot read config binary.toml", "UTF-8"]),
    ];
    for (name, content, parts) in cases {
        fs::write(temp.path().join(name), content).expect("writable");
        assert_refused(temp.path(), &["--config", name], 2, parts);
    }
    let none = ["cannot read config none.toml", "No such file"];
    assert_refused(temp.path(), &["--config", "none.toml"], 2, &none);
    assert_refused(temp.path(), &["--config", "."], 2, &["cannot read config .", "directory"]);
}

#[test]
fn unusable_data_is_named_with_what_was_looked_for() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let write = |path: &str, content: &[u8]| {
        let path = temp.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        fs::write(path, content).expect("writable");
    };
    fs::create_dir(temp.path().join("empty")).expect("writable");
    write("notes.txt", b"no picture\n");
    write("cifar/data_batch_1.bin", &[0; 5000]);
    write("label/data_batch_1.bin", &[200; 3073]);
    write("short/train-images-idx3-ubyte", b"\0\0\x08\x03\0\0\0\x05\0\0\0\x04\0\0\0\x04abc");
    write("text/train-images-idx3-ubyte", b"nonsense");
    write("header/train-images-idx3-ubyte", b"\0\0\x08\x03\0\0");
    write("notes.md", b"no picture\n");
    let cases: [(&str, &[&str]); 9] = [
        ("none", &["no such file or folder: none", "data.path"]),
        ("empty", &["no images in empty", "jpg, jpeg, png and webp", "data_batch_*.bin", "IDX"]),
        ("notes.md", &["notes.md is not a known data file", "png", "data.format"]),
        ("notes.txt", &["notes.txt", "none of the 1 files that it lists is there", "relative"]),
        ("cifar", &["data_batch_1.bin has the wrong size", "multiple of 3073", "found 5000"]),
        ("label", &["data_batch_1.bin", "record 0 has the label 200", "10 classes"]),
        ("short", &["short/train-images-idx3-ubyte", "expected 96", "found 19", "truncated"]),
        ("text", &["text/train-images-idx3-ubyte", "not with [00, 00, 08"]),
        ("header", &["header/train-images-idx3-ubyte", "ends within the header"]),
    ];
    for (path, parts) in cases {
        assert_refused(temp.path(), &["--data", path], 2, parts);
    }
}

#[test]
fn a_folder_of_broken_images_is_refused_with_one_of_them_named() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path().join("broken");
    fs::create_dir(&folder).expect("writable");
    for name in ["a.png", "b.jpg", "c.webp"] {
        fs::write(folder.join(name), b"not an image").expect("writable");
    }
    let parts = ["none of the ", " images of broken can be read", "broken/", "not a jpeg"];
    assert_refused(temp.path(), &["--data", "broken"], 2, &parts);
}

#[test]
fn a_broken_image_among_good_ones_is_skipped_and_told_of_once() {
    for (name, content) in [("text.png", &b"not an image"[..]), ("empty.png", b"")] {
        let temp = tempfile::tempdir().expect("a temporary folder");
        common::pictures(&temp.path().join("data"), 11);
        fs::write(temp.path().join("data").join(name), content).expect("writable");
        let extra = ["--data", "data", "--run-dir", "run", "--set", "train.epochs=4"];
        let extra = [&extra[..], &["--set", "train.val_every=1"]].concat();
        let ended = common::run_tiny(temp.path(), &extra).expect(0, name);
        let told = ended.stderr.lines().filter(|line| line.contains(&format!("data/{name}")));
        assert_eq!(told.count(), 1, "{name}: it is told once: {ended:?}");
        assert_says(
            &ended.stderr,
            &["1 images could not be read", "events.jsonl names them"],
            name,
        );
        let logged = common::events_of(&temp.path().join("run"), "log");
        let logged: Vec<_> = logged.iter().filter(|event| event["level"] == "warning").collect();
        assert_eq!(logged.len(), 1, "{name}: it is logged once: {logged:?}");
        let message = logged[0]["message"].as_str().expect("a text");
        assert_says(message, &["skipped (1 so far)", &format!("data/{name}: ")], name);
        common::assert_finished(&temp.path().join("run"), "completed");
    }
}

#[test]
fn an_unusable_device_is_refused_with_those_that_work() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let words = "use auto, cpu, cuda or cuda:N";
    assert_refused(temp.path(), &["--device", "gpu"], 2, &["device \"gpu\" is unknown", words]);
    assert_refused(temp.path(), &["--device", "cuda:"], 2, &["\"cuda:\" is unknown", words]);
    let instead = "use --device cpu or --device auto";
    assert_refused(temp.path(), &["--device", "cuda:99"], 2, &["device cuda:99: ", instead]);
    if simmim_tui::engine::device::select("cuda").is_ok() {
        eprintln!("skipped, as this machine has a GPU: --device cuda without one");
    } else {
        assert_refused(temp.path(), &["--device", "cuda"], 2, &["device cuda: ", instead]);
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--config", "smoke", "plan"], &["plan", "cannot be used"]),
        (&["--bogus"], &["--bogus", "Usage"]),
        (&["--data"], &["--data <DIR>", "value is required"]),
        (&["bench", "--steps", "0"], &["--steps", "1..=100000"]),
    ];
    for (arguments, parts) in cases {
        let what = format!("{arguments:?}");
        let ended = common::run(temp.path(), arguments).expect(2, &what);
        assert_says(&ended.stderr, parts, &what);
    }
    assert!(common::names(temp.path()).is_empty(), "nothing is left behind");
}

#[test]
fn a_loss_that_is_not_a_number_stops_the_run_with_its_own_code_and_good_weights() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let extra: Vec<&str> = common::HOT.into_iter().flat_map(|set| ["--set", set]).collect();
    let ended = common::run_tiny(temp.path(), &[&extra[..], &["--run-dir", "run"]].concat());
    let ended = ended.expect(3, "a rate far too high");
    let parts = ["not a number at step ", "lower schedule.base_lr", "--resume"];
    assert_says(&ended.stderr, &parts, "the error");
    for path in checkpoint::list(&temp.path().join("run/checkpoints")).expect("readable") {
        let weights = checkpoint::load(&path).expect("sound").engine.weights;
        let finite =
            weights.values().flat_map(|tensor| &tensor.data).all(|value| value.is_finite());
        assert!(finite, "{} holds numbers", path.display());
    }
}

#[test]
fn a_run_folder_that_cannot_be_used_is_refused() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    common::run_tiny(folder, &["--run-dir", "run"]).expect(0, "the run");
    fs::write(folder.join("file"), b"text").expect("writable");
    let occupied = ["run holds a run already", "--resume run", "another --run-dir"];
    assert_refused(folder, &["--run-dir", "run"], 2, &occupied);
    assert_refused(folder, &["--run-dir", "file"], 2, &["file is in use as a file", "a directory"]);
    assert_refused(folder, &["--run-dir", "file/run"], 2, &["cannot create file/run"]);

    let live = [&["--run-dir", "live"][..], &common::ENDLESS].concat();
    let process = Running::start(folder, &common::tiny(&live), Reader::All);
    common::until_step(&folder.join("live"), "step", 1);
    let owner = format!("live is written by another process (process {})", process.id());
    for option in ["--run-dir", "--resume"] {
        let ended = common::run(folder, &[option, "live"]).expect(2, option);
        assert_says(only_line(&ended, option), &[&owner, "stop it first"], option);
    }
    process.kill();
    let resumed = Running::start(folder, &["--resume", "live"], Reader::All);
    until_resumed(folder);
    resumed.signal("TERM");
    resumed.end().expect(0, "a run whose process was killed is free again");
}

fn until_resumed(folder: &Path) {
    common::until("the run has started again", || {
        common::events_of(&folder.join("live"), "started").len() == 2
    });
}

#[test]
fn resuming_from_what_is_no_run_is_refused() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    common::run_tiny(folder, &["--run-dir", "run"]).expect(0, "the run");
    fs::write(folder.join("file"), b"text").expect("writable");
    let takes = "--resume takes a run directory or a checkpoint file";
    assert_refused(folder, &["--resume", "none"], 2, &["no run at none", takes]);
    assert_refused(folder, &["--resume", "file"], 2, &["no run at file", takes]);
    for set in ["model.embed_dim=32", "train.batch_size=4", "train.accumulation=2"] {
        let key = set.split('=').next().expect("a key");
        let parts = [key, "can't change on --resume", "start a new run"];
        assert_refused(folder, &["--resume", "run", "--set", set], 2, &parts);
    }
}

#[test]
fn resuming_from_a_folder_or_a_file_of_something_else_touches_nothing() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir_all(temp.path().join("notes/of")).expect("writable");
    fs::write(temp.path().join("notes/of/text.txt"), b"text").expect("writable");
    let before = common::names(temp.path());
    for path in ["notes", "notes/of", "notes/of/text.txt"] {
        let ended = common::run_tiny(temp.path(), &["--resume", path]);
        assert!(matches!(ended.code, Some(1 | 2)), "{path}: it is refused: {ended:?}");
        assert_says(only_line(&ended, path), &[path], path);
        assert_eq!(common::names(temp.path()), before, "{path}: nothing is left behind");
    }
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let often = ["--run-dir", "run", "--set", "checkpoint.every_steps=20"];
    common::run_tiny(folder, &often).expect(0, "the run");
    let expected = common::newest_state(&folder.join("run"));
    let good = fs::read(checkpoint_at(&folder.join("run"), 42)).expect("saved");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x10;
    let cases: [(&str, &[u8], &[&str]); 4] = [
        ("empty", b"", &["is damaged", "empty"]),
        ("text", b"no checkpoint at all", &["is damaged", "is it a checkpoint?"]),
        ("truncated", &good[..good.len() - 100], &["is damaged"]),
        ("flipped", &flipped, &["is damaged", "checksum"]),
    ];
    for (name, content, parts) in cases {
        for by_name in [false, true] {
            let run = folder.join(format!("{name}-{by_name}"));
            common::copy(&folder.join("run"), &run);
            let last = checkpoint_at(&run, 42);
            fs::write(&last, content).expect("writable");
            let place = if by_name { &last } else { &run };
            let place = place.to_str().expect("a plain path");
            let ended = common::run(folder, &["--resume", place]).expect(0, name);
            let warned = ended.stderr.lines().find(|line| line.starts_with("warning: checkpoint "));
            let warned = warned.unwrap_or_else(|| panic!("{name}: it warns: {ended:?}"));
            let from = ["step-00000042.safetensors", "going on from", "step-00000040.safetensors"];
            assert_says(warned, &[parts, &from].concat(), name);
            common::assert_same_state(&common::newest_state(&run), &expected, name);
        }
        let run = folder.join(format!("{name}-alone"));
        common::copy(&folder.join("run"), &run);
        for step in [20, 40] {
            fs::remove_file(checkpoint_at(&run, step)).expect("there");
        }
        fs::write(checkpoint_at(&run, 42), content).expect("writable");
        let best = run.join("checkpoints/best.safetensors");
        let rescued = folder.join(format!("{name}-best"));
        common::copy(&run, &rescued);
        let ended = common::run(folder, &["--resume", rescued.to_str().expect("a plain path")]);
        assert_says(&ended.expect(0, name).stderr, &["going on from", "best.safetensors"], name);
        fs::remove_file(best).expect("there");
        let place = run.to_str().expect("a plain path");
        assert_refused(folder, &["--resume", place], 1, &[parts, &["step-00000042"]].concat());
    }
}

#[test]
fn settings_of_libraries_that_lie_about_are_not_obeyed() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let victim = temp.path().join("victim");
    let below = temp.path().join("below");
    fs::create_dir(&below).expect("a folder");
    let logger = format!("level = \"full\"\nappend = false\nfile = '{}'\n", victim.display());
    let logs = format!("[autodiff.logger]\n{logger}[fusion.logger]\n{logger}");
    for (name, settings) in
        [("burn.toml", logs.as_str()), ("burn.toml", "[[["), ("cubecl.toml", "[[[")]
    {
        fs::write(&victim, "mine").expect("writable");
        fs::write(temp.path().join(name), settings).expect("writable");
        common::run_tiny(&below, &["--no-ui", "--set", "train.epochs=1"]).expect(0, settings);
        assert_eq!(fs::read_to_string(&victim).expect("readable"), "mine", "{settings}");
    }
}

#[test]
fn a_checkpoint_of_a_newer_format_is_neither_passed_over_nor_touched() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let often = ["--run-dir", "run", "--set", "checkpoint.every_steps=20"];
    common::run_tiny(folder, &often).expect(0, "the run");
    let mut newer = checkpoint::load(&checkpoint_at(&folder.join("run"), 42)).expect("sound");
    newer.meta.version = Meta::CURRENT + 1;
    checkpoint::save(&folder.join("run/checkpoints"), &newer).expect("written");
    let parts = ["step-00000042", "format version 2", "use a newer release"];
    assert_refused(folder, &["--resume", "run"], 1, &parts);
}

#[test]
fn a_closed_standard_output_does_not_end_the_run() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    for style in ["--no-ui", "--json"] {
        let extra = [style, "--run-dir", style.trim_start_matches('-')];
        let arguments = [&extra[..], &["--set", "train.epochs=20"]].concat();
        let process = Running::start(temp.path(), &common::tiny(&arguments), Reader::OneLine);
        let ended = process.end().expect(0, style);
        assert_eq!(ended.stdout.lines().count(), 1, "{style}: one line was read");
        common::assert_finished(&temp.path().join(extra[2]), "completed");
    }
}

#[test]
fn a_standard_error_that_takes_nothing_does_not_change_the_exit_code() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_simmim-tui"))
        .args(["--set", "train.epochs=0"])
        .current_dir(temp.path())
        .stderr(full)
        .status();
    assert_eq!(status.expect("it starts").code(), Some(2), "the error stays a usage error");
}

/// Fails unless every checkpoint can be loaded and no half-written file is left.
fn assert_nothing_broken(run: &Path) {
    let saved = checkpoint::list(&run.join("checkpoints")).expect("readable");
    assert!(saved.len() > 1, "some checkpoints were written: {saved:?}");
    for path in &saved {
        checkpoint::load(path).expect("an earlier checkpoint is unharmed");
    }
    let rubbish =
        common::names(run).into_iter().find(|path| path.to_string_lossy().ends_with(".tmp"));
    assert_eq!(rubbish, None, "no half-written file is left");
}

#[test]
fn a_disk_that_fills_up_makes_the_run_wait_and_nothing_is_lost() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let Some(disk) = Disk::mount(folder.join("disk"), "1m", "a full disk in mid-run") else {
        return;
    };
    let often = ["--set", "checkpoint.every_steps=2", "--set", "checkpoint.keep=100"];
    common::run_tiny(folder, &[&["--run-dir", "whole"][..], &often].concat()).expect(0, "a run");
    let whole = common::newest_state(&folder.join("whole"));
    let run = disk.path.join("run");
    let arguments = common::tiny(&[&["--run-dir", "disk/run"][..], &often].concat());
    let mut process = Running::start(folder, &arguments, Reader::All);
    process.until_warned("ALARM: disk full");
    assert_nothing_broken(&run);
    let status = common::run(folder, &["ctl", "disk/run", "status"]).expect(0, "the status");
    // Event lines still fit on the disk where a checkpoint doesn't.
    assert_says(&status.stdout, &["ALARM disk full", "paused"], "the status");
    disk.remount("size=64m");
    let ended = process.end().expect(0, "there is room again");
    assert_says(&ended.stderr, &["over: disk full", "there is space again"], "the end of the wait");
    common::assert_finished(&run, "completed");
    common::assert_same_state(&common::newest_state(&run), &whole, "the run that waited");
    let told: Vec<_> = common::events_of(&run, "alarm")
        .into_iter()
        .filter(|alarm| alarm["kind"] == "disk_full")
        .map(|alarm| alarm["active"].clone())
        .collect();
    assert_eq!(told, [true, false], "the log has both, once there is room for them");
}

#[test]
fn a_run_that_waits_for_space_can_be_stopped_and_goes_on_later() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let Some(disk) = Disk::mount(folder.join("disk"), "1m", "a full disk and a signal") else {
        return;
    };
    let often = ["--set", "checkpoint.every_steps=2", "--set", "checkpoint.keep=100"];
    common::run_tiny(folder, &[&["--run-dir", "whole"][..], &often].concat()).expect(0, "a run");
    let run = disk.path.join("run");
    let arguments = common::tiny(&[&["--run-dir", "disk/run"][..], &often].concat());
    let mut process = Running::start(folder, &arguments, Reader::All);
    process.until_warned("ALARM: disk full");
    process.signal("TERM");
    let ended = process.end().expect(1, "it can't save");
    let last = ended.stderr.lines().last().expect("a message");
    let parts = ["simmim-tui: cannot write", "No space left", "free some space", "--resume"];
    assert_says(last, &parts, "the error");
    assert_nothing_broken(&run);
    assert!(!ended.stderr.contains("there is space again"), "that isn't so: {}", ended.stderr);

    disk.remount("size=64m");
    common::run(folder, &["--resume", "disk/run"]).expect(0, "there is room");
    common::assert_finished(&run, "completed");
    let whole = common::newest_state(&folder.join("whole"));
    common::assert_same_state(&common::newest_state(&run), &whole, "the run on the full disk");
}

#[test]
fn a_disk_that_is_full_from_the_start_is_told_before_anything_runs() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = Disk::mount(temp.path().join("disk"), "64k", "a full disk at the start")
    else {
        return;
    };
    let mut filler = fs::File::create(disk.path.join("filler")).expect("a new file");
    while std::io::Write::write(&mut filler, &[0; 512]).is_ok() {}
    let ended = common::run_tiny(temp.path(), &["--run-dir", "disk/run"]).expect(1, "a full disk");
    let line = only_line(&ended, "a full disk");
    assert_says(line, &["disk/run", "No space left", "free some space"], "the error");
    disk.remount("size=64m");
    common::run_tiny(temp.path(), &["--run-dir", "disk/run"]).expect(0, "there is room");
}

#[test]
fn a_disk_that_cannot_be_written_is_told_with_what_to_do() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let Some(disk) = Disk::mount(folder.join("disk"), "64m", "a read-only disk") else {
        return;
    };
    common::run_tiny(folder, &["--run-dir", "disk/run"]).expect(0, "a writable disk");
    disk.remount("ro");
    let parts = ["disk/", "Read-only file system", "choose a --run-dir that you may write"];
    assert_refused(folder, &["--run-dir", "disk/new"], 2, &parts);
    assert_refused(folder, &["--resume", "disk/run"], 2, &parts);
    let fork = ["--resume", "disk/run", "--run-dir", "fork", "--set", "train.epochs=3"];
    common::run(folder, &fork).expect(0, "a fork needs to read only");
}
