//! What comes from outside stays within bounds: text that would steer a terminal, output that nobody can write, bad
//! input of every kind, and more memory or larger files than there are.

use crate::common::{self, Reader, Running};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    /// Texts from files, full of control characters, are shown and don't steer the terminal.
    Hostile,
    /// Standard output that can't be written is an error; a reader that left is none. Both are tried.
    Unwritten,
    /// Bad input has the exit code of the reference.
    Code,
    /// There is a limit to memory, files or paths.
    Limit,
}

use Trial::{Code, Hostile, Limit, Unwritten};

/// What is tried, a command for `sh`, its exit code, and a part of what it prints. `$B` is the program, `$T` a tiny run,
/// `$E` a text that steers terminals, `$L` a name that is no UTF-8; [`inputs`] has the files.
type Case = (Trial, &'static str, i32, &'static str);

const CASES: [Case; 118] = [
    (Hostile, "$B $T --data data --run-dir r1", 0, r"broken\x1b]0;x"),
    (Hostile, "$B $T --data data --json --run-dir r2", 0, r"broken\u001b]0;x"),
    (Hostile, "$B $T --run-dir \"r$E\"", 0, r"run r\x1b]0;x\x07\n\u{9b}31m"),
    (Hostile, "$B $T --data data --run-dir r3 --notify 'echo $SIMMIM_MESSAGE'", 0, ""),
    (Hostile, "$B $T --data data --run-dir r4 \"--set=checkpoint.keep=$E\"", 2, r"\x1b]0;x"),
    (Hostile, "$B $T --set \"train.$E=1\"", 2, r"\x1b]0;x"),
    (Hostile, "$B plan \"--set=train.epochs=$E\"", 2, r"\x1b]0;x"),
    (Hostile, "$B plan --config \"$E\"", 2, r"\x1b]0;x"),
    (Hostile, "$B --no-ui --config device.toml", 2, r"\u{1b}[31m\n"),
    (Hostile, "$B plan --config key.toml", 2, r"\x1b[31m"),
    (Hostile, "$B plan --data data", 0, ""),
    (Hostile, "$B plan --data \"no$E\"", 2, r"no\x1b]0;x"),
    (Hostile, "$B \"--x$E\"", 2, r"--x\x1b]0;x"),
    (Hostile, "$B \"x$E\"", 2, r"x\x1b]0;x"),
    (Hostile, "$B eval $BASE --data data", 0, r"a\x1b]0;x\x07\n\u{9b}31m"),
    (Hostile, "$B eval $BASE --data data --json", 0, r"\u009b31m\u202e\u007f"),
    (Hostile, "$B eval $BASE --data data -o report; cat report/eval.txt", 0, r"\n\u{9b}31m"),
    (Hostile, "$B features $BASE --data data -o \"f$E.csv\"", 0, r"f\x1b]0;x"),
    (Hostile, "$B features $BASE -o \"f$E\"", 2, r"f\x1b]0;x"),
    (
        Hostile,
        "$B finetune $BASE --no-ui --data data --run-dir r5 --set train.epochs=1",
        0,
        r"broken\x1b",
    ),
    (Hostile, "$B runs \"no$E\"", 2, r"no\x1b]0;x"),
    (Hostile, "cp -r $BASE \"b$E\"; $B runs .", 0, r"b\x1b]0;x\x07\n\u{9b}31m"),
    (Hostile, "$B runs --json .", 0, r"\u009b31m\u202e\u007f"),
    (Hostile, "$B ctl \"b$E\" status", 0, r"b\x1b]0;x"),
    (Hostile, "$B ctl \"b$E\" pause", 1, r"b\x1b]0;x"),
    (Hostile, "$B ctl \"no$E\" stop", 2, r"no\x1b]0;x"),
    (Hostile, "$B ctl lied status", 0, r"a\x1b[31m\nb"),
    (Hostile, "$B ctl lied pause", 1, r"node\x1b[31m\n7"),
    (Hostile, "$B export lied --format tensorboard -o board", 0, r"\x1b[31m\n.png"),
    (Hostile, "$B export $BASE --format timm -o \"t$E.safetensors\"", 0, r"t\x1b]0;x"),
    (Hostile, "$B export $BASE --format hf -o \"hf$E\"", 0, r"hf\x1b]0;x"),
    (Hostile, "$B export \"no$E\" --format csv -o x.csv", 2, r"no\x1b]0;x"),
    (Hostile, "$B import names.safetensors", 2, "names.safetensors"),
    (Hostile, "$B $T --init names.safetensors", 2, "names.safetensors"),
    (Hostile, "$B import \"w$E.safetensors\"", 0, r"w\u001b]0;x\u0007\n\u009b31m"),
    (Hostile, "$B parity names.safetensors", 2, ""),
    (Hostile, "$B preview \"no$E\"", 2, r"no\x1b]0;x"),
    (Hostile, "$B preview $CK \"no$E\"", 2, r"no\x1b]0;x"),
    (Hostile, "$B doctor --run-dir \"no$E\"", 0, ""),
    (Hostile, "$B preview \"$L\"", 2, r"caf\xe9"),
    (Hostile, "$B ctl \"$L\" status", 2, r"caf\xe9"),
    (Hostile, "$B $T --run-dir \"$L\"", 0, r"run caf\xe9"),
    (Hostile, "$B runs .", 0, r"caf\xe9"),
    (Hostile, "$B $T --run-dir \"$L\"", 2, r"--resume $'caf\351'"),
    (Unwritten, "$B plan", 1, ""),
    (Unwritten, "$B runs $BASE", 1, ""),
    (Unwritten, "$B runs --json $BASE", 1, ""),
    (Unwritten, "$B runs .", 1, ""),
    (Unwritten, "$B ctl $BASE status", 1, ""),
    (Unwritten, "$B ctl $BASE status --json", 1, ""),
    (Unwritten, "$B doctor", 1, ""),
    (Unwritten, "$B doctor --json", 1, ""),
    (Unwritten, "$B bench --config smoke --device cpu --steps 1 --warmup 0 --json", 1, ""),
    (Unwritten, "$B eval $BASE --data plain", 1, ""),
    (Unwritten, "$B eval $BASE --data plain --json", 1, ""),
    (Unwritten, "$B export $BASE --format csv -o -", 1, ""),
    (Unwritten, "$B export $BASE --format jsonl -o -", 1, ""),
    (Unwritten, "$B import $CK", 1, ""),
    (Unwritten, "$B import --converter", 1, ""),
    (Unwritten, "$B completions fish", 1, ""),
    (Unwritten, "$B man", 1, ""),
    (Unwritten, "$B --help", 1, ""),
    (Unwritten, "$B runs -h", 1, ""),
    (Unwritten, "$B --version", 1, ""),
    (
        Unwritten,
        "$B $T --json --run-dir w$$",
        1,
        "the run goes on, and events.jsonl has every line",
    ),
    (Unwritten, "$B $T --run-dir w$$", 1, "the run goes on, and events.jsonl has every line"),
    (Code, "$B preview txt", 2, "not a picture"),
    (Code, "$B preview $CK txt", 2, "txt"),
    (Code, "$B preview $CK none", 2, "none"),
    (Code, "$B preview $CK dir", 2, "dir"),
    (Code, "$B preview half.safetensors", 1, "half.safetensors"),
    (Code, "$B eval half.safetensors", 1, "half.safetensors"),
    (Code, "$B eval none", 2, "none"),
    (Code, "$B eval $BASE --data none", 2, "none"),
    (Code, "$B eval $BASE --data plain --layer 99", 2, "--layer 99"),
    (Code, "$B eval $BASE --data plain --device tpu", 2, "tpu"),
    (Code, "$B features $BASE -o x.txt", 2, "x.txt"),
    (Code, "$B features $BASE -o dir", 2, "dir"),
    (Code, "$B features $BASE -o none/x.csv", 1, "none/x.csv"),
    (Code, "$B features $BASE --data txt -o x.csv", 2, "txt"),
    (Code, "$B finetune none --no-ui", 2, "none"),
    (Code, "$B finetune $BASE --no-ui --data dir", 2, "dir"),
    (Code, "$B --resume none --no-ui", 2, "none"),
    (Code, "$B --resume half.safetensors --run-dir x --no-ui", 1, "half.safetensors"),
    (Code, "$B export none --format timm -o x.safetensors", 2, "none"),
    (Code, "$B export $BASE --format timm -o none/x.safetensors", 1, "none/x.safetensors"),
    (Code, "$B export $BASE --format timm -o -", 2, "standard output"),
    (Code, "$B import txt", 2, "txt"),
    (Code, "$B import none", 2, "none"),
    (Code, "$B import half.safetensors", 2, "half.safetensors"),
    (Code, "$B parity txt", 2, "txt"),
    (Code, "$B man --dir txt", 1, "manual pages"),
    (Code, "$B runs none", 2, "none"),
    (Code, "$B ctl none status", 2, "none"),
    (Code, "$B ctl $BASE stop", 1, "no process"),
    (Code, "$B doctor --run-dir /proc/none", 1, "FAIL"),
    (Code, "cd /proc && $B $T", 2, "cannot create runs"),
    (Code, "$B $T --run-dir /proc/none", 2, "cannot create /proc/none"),
    (Code, "$B $T --run-dir /dev/null/x", 2, "cannot create /dev/null/x"),
    (Code, "$B $T --run-dir txt", 2, "txt is in use as a file"),
    (Code, "$B $T --run-dir $(printf %0300d 1)", 2, "File name too long"),
    (Code, "ln -s loop loop; $B $T --run-dir loop/x", 2, "symbolic links"),
    (Code, "$B $T --run-dir $BASE", 2, "holds a run already"),
    (Code, "$B $T --detach --run-dir txt", 2, "txt is in use as a file"),
    (Limit, "$B $BIG --no-ui", 2, "of memory, and "),
    (Limit, "$B $BIG --no-ui", 2, "start it all the same with --force"),
    (Limit, "$B $BIG --detach", 2, "start it all the same with --force"),
    (Limit, "ls -d runs", 2, ""),
    (Limit, "$B plan $BIG", 0, "TOO LITTLE: the run is refused here without --force"),
    (Limit, "$B plan --device cpu", 0, "are free"),
    (Limit, "$B plan --device cuda", 0, "memory      about"),
    (Limit, "$B doctor", 0, "the default run on the CPU needs about"),
    (Limit, "ulimit -v 250000; $B $T --run-dir x", 2, "free under ulimit -v"),
    (Limit, "ulimit -f 8; $B features $BASE -o x.csv", 1, "File too large"),
    (
        Limit,
        "ulimit -f 8; $B export $BASE --format safetensors -o x.safetensors",
        1,
        "File too large",
    ),
    (Limit, "ls x.csv x.safetensors", 2, ""),
    (Limit, "$B $T --run-dir v & sleep 0; wait $!", 0, "finished"),
    (Limit, "ulimit -f 8; $B plan | cat", 0, "memory"),
];

/// Text with what terminals obey: an escape, a bell, a line feed, a control character of the upper range, a change of
/// direction, and DEL.
const STEERING: &str = "\x1b]0;x\x07\n\u{9b}31m\u{202e}\x7f";

/// Makes the files of the cases in `folder`, with a run in `folder/base`.
fn inputs(folder: &Path) {
    let at = |name: &str| folder.join(name);
    common::run_tiny(folder, &["--run-dir", "base"]).expect(0, "a run to begin with");
    for (set, name) in [("plain", ""), ("data", STEERING)] {
        for part in ["train", "val"] {
            for class in ["a", "b"] {
                let class = at(set).join(part).join(format!("{class}{name}"));
                common::pictures(&class, 9);
                fs::rename(class.join("00.png"), class.join(format!("{name}0.png")))
                    .expect("moved");
            }
        }
    }
    fs::write(at(&format!("data/train/a{STEERING}/broken{STEERING}.png")), "no").expect("writable");
    fs::create_dir(at("dir")).expect("writable");
    let checkpoint = fs::read(at("base/checkpoints/best.safetensors")).expect("a checkpoint");
    let steering = "\\u001b[31m\\n";
    let texts = [
        ("txt", "no image".to_owned()),
        ("device.toml", format!("train.device = \"a{steering}\"\n")),
        ("key.toml", format!("train.\"a{steering}\" = 1\n")),
    ];
    for (name, text) in texts {
        fs::write(at(name), text).expect("writable");
    }
    fs::write(at("half.safetensors"), &checkpoint[..checkpoint.len() / 2]).expect("writable");
    fs::write(at(&format!("w{STEERING}.safetensors")), &checkpoint).expect("writable");
    let tensor = |name: &str| serde_json::json!({ name: { "dtype": "F32", "shape": [1], "data_offsets": [0, 4] } });
    let header = tensor(&format!("blocks.0{STEERING}")).to_string();
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length[..], header.as_bytes(), &[0; 4]].concat();
    fs::write(at("names.safetensors"), file).expect("writable");
    lie(&at("base"), &at("lied"));
}

/// Copies a run, and changes its log and its lock to what somebody else might write.
fn lie(run: &Path, lied: &Path) {
    common::copy(run, lied);
    let events = common::events(run);
    let last = events.last().expect("the run has events");
    let time = last["time"].as_f64().expect("a time") + 1.0;
    let text = "a\\u001b[31m\\nb";
    let alarm = format!(
        r#"{{"time":{time},"event":"alarm","kind":"stalled","active":true,"step":1,"message":"{text}"}}"#
    );
    let preview = format!(
        r#"{{"time":{time},"event":"preview","step":1,"path":"previews/{text}.png","image":16,"scale":1,"psnr":[1]}}"#
    )
    .replace("\\nb.png", "\\n.png");
    let error = format!(r#"{{"time":{time},"event":"log","level":"error","message":"{text}"}}"#);
    let log = fs::read_to_string(lied.join("events.jsonl")).expect("a log");
    let unfinished = |line: &&str| !line.contains("\"finished\"");
    let log: String = log.split_inclusive('\n').filter(unfinished).collect();
    fs::write(lied.join("events.jsonl"), format!("{log}{alarm}\n{preview}\n{error}\n"))
        .expect("writable");
    let lock = fs::read_to_string(lied.join("lock")).expect("a lock");
    let mut owner: serde_json::Value = serde_json::from_str(&lock).expect("an owner");
    owner["host"] = "node\u{1b}[31m\n7".into();
    fs::write(lied.join("lock"), owner.to_string()).expect("writable");
}

/// The folder of the cases of one kind.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        inputs(folder.path());
        Self { folder }
    }

    fn shell(&self, command: &str) -> Output {
        let program = env!("CARGO_BIN_EXE_simmim-tui");
        let tiny = common::tiny(&["--no-ui", "--set", "train.epochs=1"]).join(" ");
        let base = self.folder.path().join("base");
        Command::new("sh")
            .args(["-c", command])
            .current_dir(self.folder.path())
            .env("B", program)
            .env("T", tiny)
            .env("BIG", "--config vit_base_224 --device cpu --set train.batch_size=10000")
            .env("BASE", &base)
            .env("CK", base.join("checkpoints/best.safetensors"))
            .env("E", STEERING)
            .env("L", OsString::from_vec(b"caf\xe9".to_vec()))
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .expect("a shell")
    }
}

/// Whether a terminal would do something else than draw this text. Our own lines end in line feeds.
fn steers(text: &str) -> bool {
    text.chars().any(|c| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    }) || text.lines().any(|line| line.starts_with("31m") || line.starts_with("\u{9b}"))
}

/// Returns what is wrong with the outcome of a case.
fn wrong((trial, command, code, says): Case, output: &Output) -> Option<String> {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let told = format!("{out}{err}");
    let mut faults = Vec::new();
    if output.status.code() != Some(code) {
        faults.push(format!("the exit code is {:?}", output.status.code()));
    }
    if !told.contains(says) {
        faults.push(format!("it doesn't say {says:?}"));
    }
    if told.contains("panicked") {
        faults.push("it panics".to_owned());
    }
    if steers(&told) || told.contains('\u{fffd}') {
        faults.push("it steers the terminal".to_owned());
    }
    if code == 2 && trial == Code && err.lines().count() != 1 {
        faults.push("it isn't told in one line".to_owned());
    }
    (!faults.is_empty()).then(|| format!("{command}: {}\n{out}\n{err}", faults.join(", ")))
}

fn try_all(trial: Trial) {
    let bench = Bench::new();
    let cases = CASES.into_iter().filter(|case| case.0 == trial);
    let faults: Vec<String> = cases.filter_map(|case| wrong(case, &bench.shell(case.1))).collect();
    assert!(faults.is_empty(), "{} cases:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn nothing_hostile_reaches_the_terminal() {
    try_all(Hostile);
}

#[test]
fn bad_input_has_the_exit_code_of_the_reference() {
    try_all(Code);
}

#[test]
fn what_is_not_there_is_not_taken() {
    try_all(Limit);
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_a_reader_that_left_is_none() {
    let bench = Bench::new();
    let mut faults = Vec::new();
    for case in CASES.into_iter().filter(|case| case.0 == Unwritten) {
        let (trial, command, code, says) = case;
        let output = bench.shell(&format!("{command} > /dev/full"));
        faults.extend(wrong(case, &output));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = told.lines().last().unwrap_or_default();
        let named = last.starts_with("simmim-tui: cannot write standard output: No space left");
        if !named || (says.is_empty() && told.lines().count() != 1) {
            faults.push(format!("{command}: the last line is {last:?} of {told}"));
        }
        // The shell's own name for the folder of a run is another one here.
        let piped = command.replace("w$$", "p$$");
        let left = bench.shell(&format!("{{ {piped}; echo \"code $?\" >&2; }} | true"));
        let quiet: Case = (trial, command, 0, "code 0");
        faults.extend(wrong(quiet, &left));
        assert_eq!(code, 1, "{command}: a lost output is a failure");
    }
    assert!(faults.is_empty(), "{} cases:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_file_that_may_not_grow_makes_the_run_wait_like_a_full_disk() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let run = temp.path().join("run");
    let sets = ["--no-ui", "--set", "train.epochs=1", "--run-dir", "run"];
    let tiny = common::tiny(&sets).join(" ");
    let command = format!("ulimit -f 24; exec {} {tiny}", env!("CARGO_BIN_EXE_simmim-tui"));
    let child = Command::new("sh")
        .args(["-c", &command])
        .current_dir(temp.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    let log = || fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
    common::until("the run waits", || log().contains("ulimit -f"));
    let status = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert!(status.success());
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("ALARM: disk full") && told.contains("File too large"), "{told}");
    common::run(temp.path(), &["--resume", "run", "--no-ui"])
        .expect(0, "without the limit it goes on");
    common::assert_finished(&run, "completed");
}

#[test]
fn the_first_process_says_by_which_signal_the_second_ended_and_how_to_go_on() {
    for (signal, name) in [("KILL", "SIGKILL, perhaps by the system"), ("ABRT", "SIGABRT")] {
        let temp = tempfile::tempdir().expect("a temporary folder");
        // A large model takes so long to begin that the first process still waits.
        let large = ["--set", "model.embed_dim=768", "--set", "model.depth=12"];
        let large = [&large[..], &["--set", "model.heads=12", "--detach"]].concat();
        let arguments = common::tiny(&[&large[..], &["--run-dir", "my run"]].concat());
        let mut first = Running::start(temp.path(), &arguments, Reader::All);
        first.until_warned("run my run");
        let second = child_of(first.id());
        let status = Command::new("kill").args([&format!("-{signal}"), &second]).status();
        assert!(status.expect("kill runs").success());
        common::until("the first process ends", || first.has_ended());
        let ended = first.end();
        let code = if signal == "KILL" { 137 } else { 134 };
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.stderr.contains(name), "{ended:?}");
        let way_on = "go on with: simmim-tui --resume 'my run'";
        assert!(ended.stderr.contains(way_on), "{ended:?}");
    }
}

/// Waits for a child of a process, and returns its number.
fn child_of(parent: u32) -> String {
    let list = PathBuf::from(format!("/proc/{parent}/task/{parent}/children"));
    let mut child = String::new();
    common::until("there is a second process", || {
        fs::read_to_string(&list).unwrap_or_default().trim().clone_into(&mut child);
        !child.is_empty()
    });
    child
}

#[cfg(feature = "tui")]
mod screen {
    use super::*;
    use crate::common::pty::Tty;

    const SIZE: (u16, u16) = (100, 30);

    #[test]
    fn a_terminal_that_claims_to_be_huge_ends_nothing() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = common::tiny(&["--run-dir", "run"]).join(" ");
        let program = env!("CARGO_BIN_EXE_simmim-tui");
        let command = format!("stty rows 65535 cols 65535; exec {program} {run}");
        let mut tty =
            Tty::start_program(Path::new("sh"), temp.path(), &["-c", &command], SIZE, &[]);
        let log = temp.path().join("run/events.jsonl");
        tty.until("the run has ended", |_| {
            fs::read_to_string(&log).unwrap_or_default().contains("\"finished\"")
        });
        std::thread::sleep(std::time::Duration::from_millis(500));
        tty.press("q");
        let left = tty.end().expect(0);
        assert!(!left.bytes.is_empty());
        let embed = format!("stty rows 65535 cols 65535; exec {program} embed run");
        let tty = Tty::start_program(Path::new("sh"), temp.path(), &["-c", &embed], SIZE, &[]);
        tty.end().expect(0);
    }

    #[test]
    fn the_screen_shows_foreign_text_as_escapes() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        inputs(temp.path());
        let mut tty = Tty::start(temp.path(), &["attach", "lied"], SIZE, &[]);
        tty.until_shown(r"a\x1b[31m\nb");
        tty.press("5");
        tty.press("q");
        let left = tty.end().expect(0);
        assert!(!left.has(b"\x1b[31m\nb"), "the terminal gets no such bytes");
    }
}
