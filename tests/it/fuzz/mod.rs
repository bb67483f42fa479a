//! The program reads hostile files: whatever is in them, it ends with a code of its own and a line that a terminal may
//! print, within 20 seconds and 2 GiB.
//!
//! Each test changes sound files at random and gives them to the commands that read them. The seed is fixed, so that a
//! failure comes again. `SIMMIM_FUZZ_SECONDS=600` (`just fuzz`) goes on for so long, with seeds of its own.

mod mutate;

use crate::common::{self, Ended};
use mutate::Mutator;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::xxh3_128;

/// Files that a test tries where nothing says for how long it is to go on.
const FEW: usize = 60;
/// Seconds after which a command hangs.
const LONGEST: u64 = 20;
/// Address space of a command, in KiB: 2 GiB, and what threads and their heaps reserve without using it.
const LIMIT_KIB: u64 = 3 << 20;

/// A run with a log, pictures and checkpoints, made once.
fn run() -> &'static Path {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    let temp = RUN.get_or_init(|| {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let often = ["--set", "train.log_every=5", "--no-ui", "--run-dir", "run"];
        common::run_tiny(temp.path(), &often).expect(0, "a run");
        temp
    });
    temp.path()
}

/// Runs the program with bounded time and memory.
fn bounded(folder: &Path, arguments: &[&str]) -> Ended {
    let program = env!("CARGO_BIN_EXE_simmim-tui");
    let script = format!("ulimit -v {LIMIT_KIB}; exec timeout -s KILL {LONGEST} \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", program]).args(arguments).current_dir(folder);
    command.env("MALLOC_ARENA_MAX", "2").stdin(Stdio::null());
    let output = command.output().expect("a shell");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Fails unless a command ended as it should, whatever it was given.
fn assert_sane(ended: &Ended, what: &str) {
    assert!(ended.code.is_some_and(|code| (0..=3).contains(&code)), "{what}: {ended:?}");
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains("panicked"), "{what}: {text}");
        let control = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
        assert!(!text.contains(control), "{what}: {text:?}");
    }
}

/// Changes files until it is enough. `each` gets the source of randomness and the number of the turn; what it returns
/// says what it tried.
fn fuzz(name: &str, mut each: impl FnMut(&mut Mutator, usize) -> Vec<(Ended, String)>) {
    let seconds = std::env::var("SIMMIM_FUZZ_SECONDS").ok().and_then(|value| value.parse().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let seed = if seconds.is_some() { now } else { 1 };
    let (begin, mut executions) = (Instant::now(), 0);
    for turn in 0.. {
        let over = match seconds {
            Some(seconds) => begin.elapsed() > Duration::from_secs(seconds),
            None => turn == FEW,
        };
        if over {
            break;
        }
        let mut mutator =
            Mutator::new(seed.wrapping_add(turn as u64).wrapping_mul(0x1000_0000_01B3));
        for (ended, what) in each(&mut mutator, turn) {
            executions += 1;
            assert_sane(&ended, &format!("{name}, seed {seed}, turn {turn}: {what}"));
        }
    }
    let took = begin.elapsed().as_secs_f64();
    println!("{name}: {executions} executions in {took:.0} s, seed {seed}");
    assert!(executions >= FEW.min(20));
}

/// Tries commands on a file, which stands for `FILE` in their arguments.
fn on_file(folder: &Path, file: &Path, commands: &[&[&str]]) -> Vec<(Ended, String)> {
    let path = file.to_str().expect("UTF-8");
    let tried = commands.iter().map(|command| {
        let arguments: Vec<&str> =
            command.iter().map(|word| if *word == "FILE" { path } else { word }).collect();
        (bounded(folder, &arguments), format!("{arguments:?}"))
    });
    tried.collect()
}

/// A command that builds the model of a checkpoint and runs it. The path is one of a copy of the run.
#[cfg(feature = "tui")]
const RECONSTRUCT: &[&str] = &[
    "preview",
    "run/checkpoints/step-00000042.safetensors",
    "run/previews/step-00000042.png",
    "-o",
    "out.png",
];
#[cfg(not(feature = "tui"))]
const RECONSTRUCT: &[&str] = &["export", "FILE", "--format", "hf", "-o", "out"];

/// Copies the run and replaces one of its files. Then tries commands on the copy.
fn on_run(file: &str, bytes: &[u8], commands: &[&[&str]]) -> Vec<(Ended, String)> {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let copy = temp.path().join("run");
    common::copy(&run().join("run"), &copy);
    fs::write(copy.join(file), bytes).expect("writable");
    on_file(temp.path(), &copy, commands)
}

/// Computes the checksum of a checkpoint anew, so that what is behind the checksum is reached.
fn with_checksum(mut file: Vec<u8>) -> Vec<u8> {
    let key = b"\"checksum\":\"";
    let Some(at) = file.windows(key.len()).position(|window| window == key) else { return file };
    let digits = at + key.len()..at + key.len() + 32;
    if digits.end > file.len() {
        return file;
    }
    file[digits.clone()].fill(b'0');
    let sum = format!("{:032x}", xxh3_128(&file));
    file[digits].copy_from_slice(sum.as_bytes());
    file
}

fn newest_checkpoint() -> PathBuf {
    common::checkpoint_at(&run().join("run"), 42)
}

#[test]
fn weights_of_others() {
    let folder = run();
    let export = ["export", "run", "--format", "timm", "-o", "timm.safetensors", "--force"];
    common::run(folder, &export).expect(0, "an export");
    let sound = fs::read(folder.join("timm.safetensors")).expect("there");
    let temp = tempfile::tempdir().expect("a temporary folder");
    let file = temp.path().join("w.safetensors");
    fuzz("weights", |mutator, _| {
        fs::write(&file, mutator.mutated(&sound)).expect("writable");
        on_file(temp.path(), &file, &[&["import", "FILE"]])
    });
}

#[test]
fn checkpoints_with_right_checksums() {
    let sound = fs::read(newest_checkpoint()).expect("there");
    assert_eq!(with_checksum(sound.clone()), sound, "the checksum is that of the program");
    fuzz("checkpoints", |mutator, turn| {
        let bytes = with_checksum(mutator.mutated(&sound));
        let commands: [&[&str]; 3] = [
            &["check", "FILE"],
            &["export", "FILE", "--format", "timm", "-o", "x.safetensors"],
            RECONSTRUCT,
        ];
        on_run("checkpoints/step-00000042.safetensors", &bytes, &[commands[turn % 3]])
    });
}

#[test]
fn event_logs() {
    let sound = fs::read(run().join("run/events.jsonl")).expect("there");
    fuzz("logs", |mutator, turn| {
        let commands: [&[&str]; 5] = [
            &["runs", "FILE"],
            &["ctl", "FILE", "status"],
            &["check", "FILE"],
            &["export", "FILE", "--format", "csv", "-o", "x.csv"],
            &["export", "FILE", "--format", "tensorboard", "-o", "x"],
        ];
        on_run("events.jsonl", &mutator.mutated(&sound), &[commands[turn % 5]])
    });
}

#[test]
fn lock_files() {
    let sound = fs::read(run().join("run/lock")).expect("there");
    fuzz("locks", |mutator, turn| {
        let commands: [&[&str]; 3] =
            [&["runs", "FILE"], &["ctl", "FILE", "status"], &["check", "FILE"]];
        on_run("lock", &mutator.mutated(&sound), &[commands[turn % 3]])
    });
}

#[test]
fn configurations() {
    let sound = fs::read(run().join("run/config.toml")).expect("there");
    let temp = tempfile::tempdir().expect("a temporary folder");
    let file = temp.path().join("c.toml");
    fuzz("configurations", |mutator, _| {
        fs::write(&file, mutator.mutated(&sound)).expect("writable");
        let set = String::from_utf8_lossy(&mutator.mutated(b"train.epochs=3")).replace('\0', "");
        let of_set = ["plan", "--device", "cpu", "--set", &set];
        on_file(temp.path(), &file, &[&["plan", "--device", "cpu", "--config", "FILE"], &of_set])
    });
}

#[test]
fn pictures() {
    let sound = fs::read(run().join("run/previews/step-00000042.png")).expect("there");
    let temp = tempfile::tempdir().expect("a temporary folder");
    let file = temp.path().join("p.png");
    fuzz("pictures", |mutator, turn| {
        fs::write(&file, mutator.mutated(&sound)).expect("writable");
        let plan: &[&str] = &["plan", "--device", "cpu", "--data", "FILE"];
        #[cfg(feature = "tui")]
        let plan = if turn % 2 == 0 { plan } else { &["preview", "FILE", "-o", "out.png"] };
        #[cfg(not(feature = "tui"))]
        let _ = turn;
        on_file(temp.path(), &file, &[plan])
    });
}

/// Returns the small data files that the tests have: one of each format.
fn data_files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut found = Vec::new();
    let mut folders = vec![root.join("cases"), root.join("shards"), root.join("parquet")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let small = entry.metadata().is_ok_and(|metadata| metadata.len() < 1 << 20);
            let code = path
                .extension()
                .is_some_and(|ending| ["py", "md"].iter().any(|known| ending == *known));
            if path.is_dir() {
                folders.push(path);
            } else if small && !code {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn data_sets() {
    let files = data_files();
    assert!(files.len() > 5, "{files:?}");
    let temp = tempfile::tempdir().expect("a temporary folder");
    fuzz("data", |mutator, turn| {
        let sound = mutator.one_of(&files).clone();
        let bytes = fs::read(&sound).expect("there");
        let folder = temp.path().join(format!("data-{turn}"));
        fs::create_dir(&folder).expect("a folder");
        let file = folder.join(sound.file_name().expect("a name"));
        fs::write(&file, mutator.mutated(&bytes)).expect("writable");
        let data = if turn % 2 == 0 { &file } else { &folder };
        let tried = on_file(temp.path(), data, &[&["plan", "--device", "cpu", "--data", "FILE"]]);
        fs::remove_dir_all(&folder).expect("removable");
        tried
    });
}

/// A false server that answers whatever comes with hostile lines.
#[test]
fn lines_of_a_server() {
    let hello = b"{\"hello\":{\"version\":1,\"pid\":1,\"log_end\":0}}\n{\"accepted\":{\"command\":\"pause\",\"by\":\"x\"}}\n\
        {\"refused\":{\"reason\":\"no\"}}\n{\"event\":{\"end\":9,\"stamped\":{\"time\":1,\"event\":\"phase\",\"phase\":\"running\"}}}\n";
    let temp = tempfile::tempdir().expect("a temporary folder");
    let copy = temp.path().join("run");
    common::copy(&run().join("run"), &copy);
    // The program looks only at sockets of runs whose process is running: this one.
    let owner = format!("{}\n", std::process::id());
    fs::write(copy.join("lock"), owner).expect("writable");
    let listener = UnixListener::bind(copy.join("control.sock")).expect("bound");
    listener.set_nonblocking(true).expect("settable");
    let served = AtomicUsize::new(0);
    let answer = |bytes: &[u8]| {
        std::thread::scope(|scope| {
            let client = scope.spawn(|| on_file(temp.path(), &copy, &[&["ctl", "FILE", "pause"]]));
            while !client.is_finished() {
                if let Ok((mut stream, _)) = listener.accept() {
                    served.fetch_add(1, Ordering::Relaxed);
                    let _ = stream.write_all(bytes); // The client may have left.
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            client.join().expect("the client is looked after")
        })
    };
    fuzz("lines of a server", |mutator, _| answer(&mutator.mutated(hello)));
    assert!(served.into_inner() >= FEW, "clients did come");
}

#[test]
fn lines_of_clients() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let endless = [&common::ENDLESS[..], &["--no-ui", "--run-dir", "run"]].concat();
    let process = common::Running::start(temp.path(), &common::tiny(&endless), common::Reader::All);
    let path = temp.path().join("run");
    common::until_step(&path, "step", 1);
    let sound = b"{\"introduce\":{\"name\":\"my script\"}}\n{\"command\":\"checkpoint\"}\n{\"command\":\"resume\"}\n";
    fuzz("lines of clients", |mutator, _| {
        let mut stream = UnixStream::connect(path.join("control.sock")).expect("it is served");
        let _ = stream.write_all(&mutator.mutated(sound)); // It may have hung up.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("settable");
        let _ = stream.read(&mut [0; 256]);
        // A mutated line may be an order to pause, which is none to stop.
        on_file(temp.path(), &path, &[&["ctl", "FILE", "status"]])
    });
    process.signal("TERM");
    process.end().expect(0, "it trains to its end");
}
