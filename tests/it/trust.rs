//! Files, folders and sockets that others may have put in the way: nothing is followed, believed or waited for that
//! should not be, and nothing is overwritten.

use crate::common::{self, Ended, Reader, Running, checkpoint_at, contents};
use serde_json::{Value, json};
use simmim_tui::control::client::{Client, ConnectError};
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A run of one epoch, with a checkpoint every ten steps.
const SHORT: [&str; 5] = [
    "--no-ui",
    "--set",
    "train.epochs=1",
    "--set=checkpoint.every_steps=10",
    "--set=checkpoint.keep=100",
];

fn short<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    [&SHORT[..], extra].concat()
}

fn train(folder: &Path, extra: &[&str]) -> Ended {
    common::run_tiny(folder, &short(extra))
}

/// Runs a shell command in `folder`, in which `$B` is the program and `$T` the arguments of a short run.
fn shell(folder: &Path, command: &str) -> (Option<i32>, String) {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .env("B", env!("CARGO_BIN_EXE_simmim-tui"))
        .env("T", common::tiny(&short(&[])).join(" "))
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let [out, err] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), out + &err)
}

fn pipe(path: &Path) {
    let status = Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
    assert!(status.success());
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("there").permissions().mode() & 0o7777
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can act as another user");
    }
    root
}

/// Returns the temporary files below a folder.
fn rubbish(folder: &Path) -> Vec<PathBuf> {
    let names = common::names(folder).into_iter();
    names.filter(|path| path.to_string_lossy().ends_with(".tmp")).collect()
}

#[test]
fn links_in_the_folder_of_a_run_lead_into_no_other_file() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let mine = folder.join("mine");
    fs::write(&mine, "dear to me").expect("writable");
    let unharmed = || fs::read_to_string(&mine).expect("there") == "dear to me";
    let link = |name: &str| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        symlink(&mine, path).expect("writable");
    };
    for name in ["r/.config.toml.tmp", "r/checkpoints/.best.safetensors.tmp", "r/notify.log"] {
        link(name);
    }
    for step in [10, 20, 21] {
        link(&format!("r/checkpoints/.step-{step:08}.safetensors.tmp"));
    }
    train(folder, &["--run-dir", "r", "--notify", "echo hello"]).expect(0, "the run");
    assert!(unharmed(), "neither temporary files nor notify.log follow links");
    link("locked/lock");
    let told = train(folder, &["--run-dir", "locked"]).expect(2, "a lock that is a link");
    assert!(told.stderr.contains("locked/lock: it is a link; take it away"), "{told:?}");
    fs::remove_file(folder.join("r/events.jsonl")).expect("there");
    link("r/events.jsonl");
    let told = common::run(folder, &["--resume", "r", "--no-ui"]);
    assert_ne!(told.code, Some(0), "a log that is a link: {told:?}");
    assert!(told.stderr.contains("events.jsonl: it is a link; take it away"), "{told:?}");
    assert!(unharmed());
    link(".e.safetensors.tmp");
    let export = ["export", "r", "--format", "timm", "-o", "e.safetensors"];
    common::run(folder, &export).expect(0, "the export");
    assert!(unharmed() && folder.join("e.safetensors").is_file());
}

#[test]
fn what_a_killed_writer_left_goes_when_the_run_goes_on() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    train(folder, &["--run-dir", "r"]).expect(0, "the run");
    assert_eq!(rubbish(folder).len(), 0, "a run leaves nothing");
    for name in [".config.toml.0123456789abcdef.tmp", "checkpoints/.best.safetensors.tmp"] {
        fs::write(folder.join("r").join(name), "half").expect("writable");
    }
    // The newest checkpoint is the best one, too.
    for _ in 0..2 {
        common::run(folder, &["--resume", "r", "--no-ui"]).expect(0, "the resume");
        assert_eq!(rubbish(folder).len(), 0, "a resume leaves nothing");
    }
}

#[test]
fn a_run_folder_that_others_can_write_takes_a_word_of_the_user() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let open = folder.join("open");
    fs::create_dir(&open).expect("writable");
    fs::set_permissions(&open, Permissions::from_mode(0o777)).expect("settable");
    let told = train(folder, &["--run-dir", "open"]).expect(2, "everybody can write it");
    for part in
        ["open can be written by other users (mode 0777)", "chmod go-w open", "--trust-run-dir"]
    {
        assert!(told.stderr.contains(part) && told.stderr.lines().count() == 1, "{told:?}");
    }
    assert_eq!(fs::read_dir(&open).expect("there").count(), 0, "nothing is written");
    train(folder, &["--run-dir", "open", "--trust-run-dir"]).expect(0, "the user insists");
    common::run(folder, &["--resume", "open", "--no-ui"]).expect(2, "the resume");
    let insisting = ["--resume", "open", "--no-ui", "--trust-run-dir"];
    common::run(folder, &insisting).expect(0, "the resume that insists");
    fs::set_permissions(&open, Permissions::from_mode(0o755)).expect("settable");
    common::run(folder, &["--resume", "open", "--no-ui"]).expect(0, "nobody else can write it");
    fs::set_permissions(open.join("checkpoints"), Permissions::from_mode(0o777)).expect("settable");
    let told = common::run(folder, &["--resume", "open", "--no-ui"]).expect(2, "its checkpoints");
    assert!(told.stderr.contains("open/checkpoints can be written"), "{told:?}");
}

#[test]
fn a_run_folder_of_another_user_takes_a_word_of_the_user() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let theirs = folder.join("theirs");
    fs::create_dir(&theirs).expect("writable");
    chown(&theirs, Some(4711), Some(4711)).expect("permitted");
    let told = train(folder, &["--run-dir", "theirs"]).expect(2, "it is another user's");
    assert!(told.stderr.contains("theirs belongs to another user (uid 4711)"), "{told:?}");
    assert_eq!(fs::read_dir(&theirs).expect("there").count(), 0, "nothing is written");
    train(folder, &["--run-dir", "theirs", "--trust-run-dir"]).expect(0, "the user insists");
    common::run(folder, &["--resume", "theirs", "--no-ui"]).expect(2, "the resume");
    // Elsewhere the run can go on.
    common::run(folder, &["--resume", "theirs", "--run-dir", "own", "--no-ui"]).expect(0, "a copy");
}

#[test]
fn in_a_project_of_a_group_runs_are_made_and_go_on_without_a_word() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let project = temp.path().join("project");
    fs::create_dir(&project).expect("writable");
    if is_root() {
        chown(&project, Some(4711), Some(4712)).expect("permitted");
    }
    fs::set_permissions(&project, Permissions::from_mode(0o2775)).expect("settable");
    for umask in ["000", "002"] {
        let command = format!(
            "umask {umask}; $B $T --run-dir deep{umask}/r && $B --resume deep{umask}/r --no-ui && $B $T"
        );
        let (code, told) = shell(&project, &command);
        assert_eq!(code, Some(0), "{told}");
        let above = project.join(format!("deep{umask}"));
        assert_eq!(mode(&above) & 0o022, 0o020, "the group can make runs of its own beside it");
    }
    let runs = ["deep000/r", "deep002/r", "runs/default-001", "runs/default-002"];
    for run in runs.map(|run| project.join(run)) {
        assert_eq!(mode(&run) & 0o022, 0, "{}", run.display());
        for path in common::names(&run) {
            assert_eq!(mode(&path) & 0o022, 0, "nobody else can write {}", path.display());
        }
    }
}

#[test]
fn the_losers_of_two_branches_are_all_kept() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (folder, run) = (temp.path(), temp.path().join("r"));
    train(folder, &["--run-dir", "r"]).expect(0, "the run");
    let ten = "r/checkpoints/step-00000010.safetensors";
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let best = run.join("checkpoints/best.safetensors");
    for rate in ["1e-3", "5e-4", "2e-4"] {
        for path in [checkpoint_at(&run, 20), checkpoint_at(&run, 21), best.clone()] {
            kept.push(fs::read(path).expect("a checkpoint"));
        }
        kept.push(fs::read(run.join("previews/step-00000021.png")).expect("a preview"));
        let rate = format!("schedule.base_lr={rate}");
        common::run(folder, &["--resume", ten, "--no-ui", "--set", &rate]).expect(0, &rate);
    }
    let all = contents(&run);
    for (number, bytes) in kept.iter().enumerate() {
        assert!(all.values().flatten().any(|found| found == bytes), "file {number} is kept");
    }
    for ending in ["abandoned", "abandoned-2", "abandoned-3"] {
        let name = format!("step-00000020.safetensors.{ending}");
        assert!(run.join("checkpoints").join(&name).exists(), "{name}");
    }
    for text in ["rubbish", "more rubbish"] {
        fs::write(checkpoint_at(&run, 21), text).expect("writable");
        common::run(folder, &["--resume", "r", "--no-ui"]).expect(0, "past a damaged file");
    }
    let damaged = |ending: &str| {
        fs::read_to_string(run.join("checkpoints/step-00000021.safetensors").with_extension(ending))
    };
    assert_eq!(damaged("safetensors.damaged").expect("kept"), "rubbish");
    assert_eq!(damaged("safetensors.damaged-2").expect("kept"), "more rubbish");
}

/// Makes a run whose log names as previews what must not be read, and returns the bytes of a file outside.
fn lying_run(folder: &Path) -> Vec<u8> {
    train(folder, &["--run-dir", "r"]).expect(0, "the run");
    let previews = folder.join("r/previews");
    let picture = fs::read(previews.join("step-00000021.png")).expect("a preview");
    // A picture that differs from the run's, so that it is recognised in an export.
    let mut image = image::load_from_memory(&picture).expect("a picture").into_rgb8();
    image.put_pixel(0, 0, image::Rgb([1, 2, 3]));
    image.save(folder.join("outside.png")).expect("writable");
    pipe(&previews.join("pipe.png"));
    symlink("../../outside.png", previews.join("link.png")).expect("writable");
    symlink("/dev/zero", previews.join("zero.png")).expect("writable");
    symlink("../..", previews.join("up")).expect("writable");
    let outside = folder.join("outside.png");
    let named = [
        "../outside.png",
        outside.to_str().expect("a plain path"),
        "previews/../../outside.png",
        "previews/up/outside.png",
        "previews/link.png",
        "previews/pipe.png",
        "previews/zero.png",
        "/dev/zero",
        "lock",
        "previews",
    ];
    let log = folder.join("r/events.jsonl");
    let mut text = fs::read_to_string(&log).expect("a log");
    let honest = common::events_of(&folder.join("r"), "preview");
    for (number, path) in named.iter().enumerate() {
        let mut lie = honest[0].clone();
        lie["path"] = json!(path);
        lie["step"] = json!(100 + number);
        writeln!(text, "{lie}").expect("memory");
    }
    fs::write(&log, text).expect("writable");
    fs::read(outside).expect("there")
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_log_names_no_preview_outside_of_its_run() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    let outside = lying_run(folder);
    let export = ["export", "r", "--format", "tensorboard", "-o", "board"];
    let told = common::run(folder, &export).expect(0, "the export");
    let warnings = told.stderr.lines().filter(|line| line.ends_with("left out")).count();
    assert_eq!(warnings, 10, "{told:?}");
    let file = fs::read_dir(folder.join("board")).expect("a folder").flatten().next();
    let bytes = fs::read(file.expect("a file").path()).expect("readable");
    let own = fs::read(folder.join("r/previews/step-00000021.png")).expect("a preview");
    assert!(holds(&bytes, &own), "the run's own previews are there");
    assert!(!holds(&bytes, &outside), "no other file is");
}

#[test]
fn no_command_waits_for_what_is_no_file_in_a_run() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    train(folder, &["--run-dir", "r"]).expect(0, "the run");
    let zero: fn(&Path) = |path| symlink("/dev/zero", path).expect("writable");
    for (kind, put) in [("pipe", pipe as fn(&Path)), ("zero", zero)] {
        for name in [
            "config.toml",
            "events.jsonl",
            "lock",
            "checkpoints/best.safetensors",
            "checkpoints/step-00000021.safetensors",
            "previews/step-00000099.png",
        ] {
            let run = format!("{kind}-{}", name.replace('/', "-"));
            common::copy(&folder.join("r"), &folder.join(&run));
            let path = folder.join(&run).join(name);
            let _ = fs::remove_file(&path); // one of them isn't there
            put(&path);
            let begin = Instant::now();
            for command in [
                format!("$B runs {run}"),
                format!("$B ctl {run} status"),
                format!("$B ctl {run} stop"),
                format!("$B preview {run} | wc -c"),
                format!("$B export {run} --format csv -o -"),
                format!("$B export {run} --format timm -o {run}.safetensors"),
                format!("$B --resume {run} --no-ui --set train.epochs=1"),
            ] {
                let (code, told) =
                    shell(folder, &format!("ulimit -v 4000000; timeout 60 {command}"));
                assert!(!matches!(code, None | Some(124 | 134)), "{command}: {code:?} {told}");
                assert!(!told.contains("panicked"), "{command}: {told}");
            }
            assert!(begin.elapsed() < Duration::from_mins(2), "{run}");
        }
    }
    let (code, told) = shell(folder, "ulimit -v 4000000; timeout 60 $B preview /dev/zero");
    assert_eq!(code, Some(2), "{told}");
    let (code, told) = shell(folder, "ulimit -v 4000000; timeout 60 $B plan --config /dev/zero");
    assert_eq!(code, Some(2), "{told}");
    let (code, told) = shell(
        folder,
        // What follows the first lines are figures of this moment.
        "$B plan --config r/config.toml | head -4 > a; \
         cat r/config.toml | $B plan --config /dev/stdin | head -4 > b; test -s a && cmp a b",
    );
    assert_eq!(code, Some(0), "a pipe that the user names is read: {told}");
}

#[cfg(feature = "tui")]
#[test]
fn the_screen_of_a_viewer_waits_for_no_preview() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    lying_run(temp.path());
    let mut tty = common::pty::Tty::start(temp.path(), &["attach", "r"], (100, 30), &[]);
    tty.until_shown("21");
    let begin = Instant::now();
    tty.press("q");
    tty.end().expect(0);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn an_export_takes_the_place_of_no_device() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    train(folder, &["--run-dir", "r"]).expect(0, "the run");
    pipe(&folder.join("pipe"));
    let _socket = UnixListener::bind(folder.join("socket")).expect("bound");
    symlink("/dev/null", folder.join("null")).expect("writable");
    let mut names = vec!["pipe", "socket", "null", "/dev/null"];
    let made = Command::new("mknod").args(["device", "c", "1", "3"]).current_dir(folder).output();
    if made.is_ok_and(|output| output.status.success()) {
        names.push("device");
    }
    for name in names {
        for format in ["timm", "csv", "hf", "tensorboard"] {
            for force in [&[][..], &["--force"]] {
                let words = [&["export", "r", "--format", format, "-o", name][..], force].concat();
                let told = common::run(folder, &words).expect(2, name);
                let why = "is a device, a pipe or a socket, which no file may replace";
                assert!(told.stderr.contains(why) && told.stderr.lines().count() == 1, "{told:?}");
            }
        }
        let told = common::run(folder, &["features", "r", "-o", name]);
        assert_ne!(told.code, Some(0), "{told:?}");
        let kind = folder.join(name).symlink_metadata().expect("there").file_type();
        assert!(!kind.is_file(), "{name} is what it was");
    }
    assert!(Path::new("/dev/null").metadata().expect("there").file_type().is_char_device());
    for (out, same) in [("/dev/stdout", "-"), ("/dev/fd/1", "-")] {
        let command = format!(
            "$B export r --format csv -o {out} > a && $B export r --format csv -o {same} | cmp a -"
        );
        assert_eq!(shell(folder, &command).0, Some(0), "{out}");
    }
}

#[test]
fn the_same_weights_give_the_same_bytes() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    train(folder, &["--run-dir", "r"]).expect(0, "the run");
    let command = "for i in 1 2 3 4; do
        $B export r --format hf -o hf$i && $B export r --format timm -o t$i.safetensors &&
        $B export r --format safetensors -o s$i.safetensors && $B features r --data photos -o f$i.safetensors || exit 1
        diff -r hf1 hf$i && cmp t1.safetensors t$i.safetensors && cmp s1.safetensors s$i.safetensors &&
        cmp f1.safetensors f$i.safetensors || exit 1
    done";
    let (code, told) = shell(folder, command);
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn a_hugging_face_folder_is_replaced_as_a_whole_or_not_at_all() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    train(folder, &["--run-dir", "r"]).expect(0, "the run");
    let latest = ["export", "r", "--format", "hf", "-o", "hf", "--checkpoint", "latest"];
    common::run(folder, &latest).expect(0, "the first export");
    let hf = folder.join("hf");
    fs::write(hf.join("README.md"), "my model").expect("writable");
    fs::create_dir_all(hf.join(".git/objects")).expect("writable");
    fs::write(hf.join(".git/objects/one"), "object").expect("writable");
    symlink("README.md", hf.join("card")).expect("writable");
    fs::set_permissions(&hf, Permissions::from_mode(0o750)).expect("settable");
    let before = contents(&hf);
    // Another model, so that both files of the folder change.
    let other = ["--run-dir", "other", "--set", "model.heads=1", "--set", "train.epochs=1"];
    train(folder, &other).expect(0, "another run");
    let again = ["export", "other", "--format", "hf", "-o", "hf", "--force"];
    {
        let _in_the_way = UnixListener::bind(hf.join("socket")).expect("bound");
        let told = common::run(folder, &again).expect(1, "a folder that can't be taken along");
        assert!(told.stderr.contains("socket is neither a file nor a folder"), "{told:?}");
        assert_eq!(contents(&hf), before, "the old folder is as it was");
        fs::remove_file(hf.join("socket")).expect("there");
    }
    symlink("hf", folder.join("link")).expect("writable");
    let inode = folder.join("link").symlink_metadata().expect("there").ino();
    let through = ["export", "other", "--format", "hf", "-o", "link", "--force"];
    for words in [again, through] {
        common::run(folder, &words).expect(0, "the export");
        let after = contents(&hf);
        assert!(after.keys().eq(before.keys()), "the files are {:?}", after.keys());
        for name in ["README.md", ".git/objects/one", "card"] {
            assert_eq!(after[&hf.join(name)], before[&hf.join(name)], "{name} stays");
        }
        for name in ["config.json", "model.safetensors"] {
            assert_ne!(after[&hf.join(name)], before[&hf.join(name)], "{name} is new");
        }
        assert_eq!(mode(&hf), 0o750);
    }
    assert_eq!(folder.join("link").symlink_metadata().expect("there").ino(), inode);
    let hidden =
        |name: &Path| name.file_name().is_some_and(|name| name.as_bytes().ends_with(b".tmp"));
    assert!(!common::names(folder).iter().any(|name| hidden(name)), "nothing is left over");
    let (code, told) = shell(&hf, "$B export ../r --format hf -o . --force");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("is the current folder"), "{told}");
}

/// Returns whether a process has this text in its command line.
fn runs(text: &str) -> bool {
    let entries = fs::read_dir("/proc").expect("a Linux system").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.into_iter().any(|line| holds(&line, text.as_bytes()))
}

#[test]
fn what_notify_started_ends_with_the_run() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    // Numbers by which the processes are found again.
    let marks = ["777.0625", "777.125", "777.1875"];
    let commands = [
        format!("echo up; sleep {}; true", marks[0]),
        format!("trap '' TERM; echo up; sleep {}; true", marks[1]),
        format!("sleep {} & echo up", marks[2]),
    ];
    let begin = Instant::now();
    let folder = temp.path();
    std::thread::scope(|scope| {
        for (number, command) in commands.iter().enumerate() {
            let name = format!("r{number}");
            scope.spawn(move || {
                let words = short(&["--run-dir", &name, "--notify", command]);
                let process = Running::start(folder, &common::tiny(&words), Reader::All);
                let log = folder.join(&name).join("notify.log");
                common::until("the command runs", || {
                    fs::read_to_string(&log).is_ok_and(|text| text.contains("up"))
                });
                assert!(runs(marks[number]), "it is found");
                process.end().expect(0, "the run");
                assert!(!runs(marks[number]), "{command}: nothing is left behind");
            });
        }
    });
    assert!(begin.elapsed() < Duration::from_mins(1), "{:?}", begin.elapsed());
}

/// The environment variable that tells a process of another user where to put a socket.
const SOCKET: &str = "SIMMIM_TEST_FALSE_SOCKET";

/// Acts as another user for [`a_socket_of_another_user_is_not_believed`]: says yes to everything. Does nothing otherwise.
#[test]
fn serves_as_another_user() {
    use std::io::{Read as _, Write as _};
    let Some(path) = std::env::var_os(SOCKET) else { return };
    let listener = UnixListener::bind(&path).expect("bound");
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("settable");
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        let _ = stream.write_all(
            b"{\"hello\":{\"version\":1,\"pid\":1}}\n{\"accepted\":{\"command\":\"pause\",\"by\":\"x\"}}\n",
        );
        let _ = stream.read(&mut [0; 100]);
    }
}

#[test]
fn a_socket_of_another_user_is_not_believed() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    train(folder, &["--run-dir", "r"]).expect(0, "the run");
    let root = folder.join("r");
    fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("settable");
    fs::set_permissions(&root, Permissions::from_mode(0o777)).expect("settable");
    let program = folder.join("test");
    fs::copy(std::env::current_exe().expect("known"), &program).expect("copied");
    let mut server = None;
    common::until("the other user serves", || {
        // A child process that another test is starting may hold the copy open for a moment.
        server = Command::new(&program)
            .args(["--exact", "trust::serves_as_another_user", "--nocapture"])
            .env(SOCKET, root.join("control.sock"))
            .current_dir("/")
            .uid(4711)
            .gid(4711)
            .stdout(Stdio::null())
            .spawn()
            .ok();
        server.is_some()
    });
    let mut server = server.expect("waited for");
    common::until("the socket is there", || {
        matches!(Client::connect(&root, "t"), Err(ConnectError::Stranger(4711)))
    });
    let told = common::run(folder, &["ctl", "r", "pause"]).expect(1, "the order");
    assert!(told.stderr.contains("served by another user (uid 4711)"), "{told:?}");
    // The run of another user is served by that user, and root may look after it.
    chown(&root, Some(4711), Some(4711)).expect("permitted");
    assert!(Client::connect(&root, "t").is_ok(), "root reaches the runs of others");
    server.kill().expect("it runs");
    server.wait().expect("it ends");
}

#[test]
fn an_order_that_changes_nothing_is_answered_and_not_logged() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (folder, run) = (temp.path(), temp.path().join("r"));
    let words = common::tiny(&[&["--no-ui", "--run-dir", "r"][..], &common::ENDLESS].concat());
    let process = Running::start(folder, &words, Reader::All);
    common::until_step(&run, "step", 1);
    for _ in 0..3 {
        let told = common::run(folder, &["ctl", "r", "resume"]).expect(0, "it runs already");
        assert!(told.stdout.contains("resumed at step"), "{told:?}");
    }
    common::run(folder, &["ctl", "r", "pause"]).expect(0, "the pause");
    common::run(folder, &["ctl", "r", "pause"]).expect(0, "it is paused already");
    common::run(folder, &["ctl", "r", "resume"]).expect(0, "the resume");
    common::run(folder, &["ctl", "r", "stop"]).expect(0, "the stop");
    process.end().expect(0, "the run");
    let obeyed: Vec<Value> = common::events_of(&run, "obeyed");
    let commands: Vec<_> = obeyed.iter().map(|event| event["command"].as_str()).collect();
    assert_eq!(commands, [Some("pause"), Some("resume"), Some("stop")]);
}

#[test]
fn the_log_of_a_long_run_is_exported_with_little_memory() {
    const STEPS: u64 = 300_000;
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    train(folder, &["--run-dir", "r"]).expect(0, "the run");
    let report = common::events_of(&folder.join("r"), "step").remove(0);
    let mut log = String::new();
    for step in 1..=STEPS {
        let mut report = report.clone();
        (report["step"], report["losses"]) = (json!(step), json!([1.0 / step as f64]));
        report["time"] = json!(1_000_000.0 + step as f64);
        writeln!(log, "{report}").expect("memory");
    }
    fs::write(folder.join("r/events.jsonl"), log).expect("writable");
    // As a whole it would take 600 MB.
    for (format, out) in [("csv", "m.csv"), ("jsonl", "m.jsonl"), ("tensorboard", "board")] {
        let command = format!("ulimit -v 250000; $B export r --format {format} -o {out}");
        let (code, told) = shell(folder, &command);
        assert_eq!(code, Some(0), "{format}: {told}");
    }
    let csv = fs::read_to_string(folder.join("m.csv")).expect("there");
    assert_eq!(csv.lines().count() as u64, STEPS + 1);
    assert!(csv.lines().last().is_some_and(|line| line.starts_with("300000,")));
}
