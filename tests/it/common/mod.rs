//! Runs the program as a child process: with a tiny model on the CPU, with a deadline for every wait, and with helpers
//! that read the files of a run.

#[cfg(feature = "tui")]
pub mod dashboard;
pub mod fault;
#[cfg(feature = "tui")]
pub mod line;
#[cfg(feature = "tui")]
pub mod memory;
#[cfg(feature = "tui")]
pub mod pty;

use serde_json::Value;
use simmim_tui::config::Config;
use simmim_tui::data::{Dataset, ListedData};
use simmim_tui::engine::EngineState;
use simmim_tui::engine::device::{self, Device};
use simmim_tui::engine::learner::LearnerConfig;
use simmim_tui::run_dir::RunDir;
use simmim_tui::train::{Job, Start};
use simmim_tui::weights::checkpoint;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The time after which a wait has failed. Nothing here takes a hundredth of it on an idle machine.
const DEADLINE: Duration = Duration::from_mins(2);

/// The smallest model that has every part, as `--set` values. A step takes about a millisecond.
pub const TINY: [&str; 10] = [
    "model.image_size=16",
    "model.patch_size=8",
    "mask.unit=8",
    "model.embed_dim=16",
    "model.depth=1",
    "model.heads=2",
    "train.batch_size=8",
    "train.epochs=2",
    "schedule.warmup_epochs=0.5",
    "train.device=cpu",
];

/// Steps per epoch of [`TINY`] on the embedded photos.
pub const STEPS_PER_EPOCH: u64 = 171 / 8;

/// Arguments of a run that goes on until it is stopped.
pub const ENDLESS: [&str; 2] = ["--set", "train.epochs=1000000"];

/// Returns the arguments for a model of [`TINY`], followed by `extra`, which takes precedence.
pub fn tiny<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    let sets = TINY.into_iter().flat_map(|set| ["--set", set]);
    sets.chain(extra.iter().copied()).collect()
}

/// Settings under which the loss soon becomes NaN.
pub const HOT: [&str; 6] = [
    "schedule.base_lr=100",
    "schedule.warmup_epochs=0",
    "train.grad_clip=0",
    "data.std=[0.001, 0.001, 0.001]",
    "loss.kind=mse",
    "train.epochs=60",
];

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code, or `None` if a signal ended the process.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Fails unless the process exited with `code` and no thread panicked.
    pub fn expect(self, code: i32, what: &str) -> Self {
        assert_eq!(self.code, Some(code), "{what}: the exit code is {code}; {self:?}");
        for text in [&self.stdout, &self.stderr] {
            assert!(!text.contains("panicked"), "{what}: nothing panics; {text}");
        }
        self
    }
}

/// How much of the standard output is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    All,
    /// The pipe is closed after the first line, as by `| head -1`.
    OneLine,
}

/// A process of the program. Dropping this kills the process.
pub struct Running {
    child: Child,
    stdout: Stream,
    stderr: Stream,
}

/// The bytes that have come through a pipe so far, and the thread that reads it.
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts the program in `folder`.
    pub fn start(folder: &Path, arguments: &[&str], reader: Reader) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_simmim-tui"));
        command.args(arguments).current_dir(folder);
        Self::of(command, reader)
    }

    /// Starts a command of the program.
    pub fn of(mut command: Command, reader: Reader) -> Self {
        let streams = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().expect("the program starts");
        let stdout = Stream::drain(child.stdout.take().expect("piped"), reader);
        let stderr = Stream::drain(child.stderr.take().expect("piped"), Reader::All);
        Self { child, stdout, stderr }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, for example "TERM".
    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status().expect("a shell");
        assert!(status.success(), "the process takes SIG{name}");
    }

    /// Kills the process with SIGKILL, as the kernel does when memory is short.
    pub fn kill(mut self) -> Ended {
        self.child.kill().expect("the process can be killed");
        self.end()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the process can be waited for").is_some()
    }

    /// Waits until the process ends.
    pub fn end(mut self) -> Ended {
        until("the program ends", || self.has_ended());
        let code = self.child.wait().expect("it has ended").code();
        Ended { code, stdout: self.stdout.all(), stderr: self.stderr.all() }
    }

    /// Waits until the process has written `text` to standard error.
    pub fn until_warned(&mut self, text: &str) {
        until(&format!("it says {text:?}"), || {
            let said = self.stderr.so_far();
            assert!(said.contains(text) || !self.has_ended(), "it ended without {text:?}: {said}");
            said.contains(text)
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended already.
        let _ = self.child.wait();
    }
}

impl Stream {
    fn drain(pipe: impl Read + Send + 'static, reader: Reader) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut pipe = BufReader::with_capacity(64, pipe);
            loop {
                let mut line = Vec::new();
                let count = pipe.read_until(b'\n', &mut line).expect("the pipe can be read");
                all.lock().expect("no thread panicked while holding it").extend(line);
                if count == 0 || reader == Reader::OneLine {
                    break;
                }
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        let bytes = self.bytes.lock().expect("no thread panicked while holding it");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the pipe is closed and returns everything that came through it.
    fn all(&mut self) -> String {
        self.reader.take().expect("read once").join().expect("the reader doesn't panic");
        let bytes = self.bytes.lock().expect("no thread panicked while holding it").clone();
        String::from_utf8(bytes).expect("the output is UTF-8")
    }
}

/// Runs the program in `folder` to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Ended {
    Running::start(folder, arguments, Reader::All).end()
}

/// Like [`run`], with a tiny model.
pub fn run_tiny(folder: &Path, extra: &[&str]) -> Ended {
    run(folder, &tiny(extra))
}

/// Runs a script of `tests/python` with the interpreter that `SIMMIM_PYTHON` names, or else with `python3`. Prints that it
/// is skipped if that interpreter lacks `module`.
pub fn python(module: &str, script: &str) {
    let python = std::env::var("SIMMIM_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "SKIPPED: {python} has no {module}; set SIMMIM_PYTHON to an interpreter that has it"
        );
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    let program = env!("CARGO_BIN_EXE_simmim-tui");
    let output = Command::new(&python).arg(script).arg(program).output();
    let output = output.expect("the interpreter starts");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{errors}");
    eprintln!("{told}");
}

/// Waits until a condition holds; fails after [`DEADLINE`].
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the events of a run's log, or none if there is no log. Every whole line must be JSON.
pub fn events(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    let parse = |line: &str| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in event {line:?}"))
    };
    text[..whole].lines().map(parse).collect()
}

/// Returns the events of one kind.
pub fn events_of(run: &Path, kind: &str) -> Vec<Value> {
    events(run).into_iter().filter(|event| event["event"] == kind).collect()
}

/// Waits until the log of a run has an event of this kind at `step` or later.
pub fn until_step(run: &Path, kind: &str, step: u64) {
    until(&format!("the log has a {kind} event at step {step}"), || {
        events_of(run, kind).iter().any(|event| event["step"].as_u64() >= Some(step))
    });
}

/// Fails unless the last event of the log says that the run ended for this reason.
pub fn assert_finished(run: &Path, reason: &str) {
    let events = events(run);
    let last = events.last().expect("the log has events");
    assert_eq!(last["event"], "finished", "the last event ends the run: {last}");
    assert_eq!(last["reason"], reason, "the last event says how it ended: {last}");
}

/// Opens the folder of an earlier run. Waits for its lock, because a child process that another test is starting holds
/// a copy of the lock until it executes its own program.
pub fn reopen(root: &Path) -> RunDir {
    let mut run = None;
    until("the run is free", || {
        run = RunDir::open(root).ok();
        run.is_some()
    });
    run.expect("waited for")
}

/// Returns the path of the checkpoint of a run at `step`.
pub fn checkpoint_at(run: &Path, step: u64) -> PathBuf {
    run.join("checkpoints").join(checkpoint::file_name(step, 0))
}

/// Returns the state in the newest checkpoint of a run.
pub fn newest_state(run: &Path) -> EngineState {
    let path = checkpoint::list(&run.join("checkpoints"))
        .expect("readable")
        .pop()
        .expect("the run has a checkpoint");
    checkpoint::load(&path).expect("the newest checkpoint is sound").engine
}

/// Fails unless the weights, moments, gradients and counters of two states are the same, bit for bit.
pub fn assert_same_state(found: &EngineState, expected: &EngineState, what: &str) {
    assert_eq!(found.updates, expected.updates, "{what}: as many updates were made");
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&found.losses), bits(&expected.losses), "{what}: the open losses are the same");
    let groups = [
        (&found.weights, &expected.weights),
        (&found.moments, &expected.moments),
        (&found.gradients, &expected.gradients),
    ];
    for (found, expected) in groups {
        let names = found.keys().eq(expected.keys());
        assert!(names, "{what}: the tensors are {:?}, not {:?}", found.keys(), expected.keys());
        for (name, tensor) in found {
            assert_eq!(tensor.shape, expected[name].shape, "{what}: {name} has its shape");
            let differing = bits(&tensor.data) != bits(&expected[name].data);
            assert!(!differing, "{what}: {name} is the same bit for bit");
        }
    }
}

/// Returns everything below `folder`: files with their contents, and folders with `None`.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be listed") {
            let path = entry.expect("the folder can be listed").path();
            if !path.is_dir() && !path.is_file() {
                continue; // This is the socket of a running process.
            }
            let content = if path.is_dir() { None } else { fs::read(&path).ok() };
            if content.is_none() {
                folders.push(path.clone());
            }
            found.insert(path, content);
        }
    }
    found
}

/// Returns the paths of everything below `folder`.
pub fn names(folder: &Path) -> BTreeSet<PathBuf> {
    contents(folder).into_keys().collect()
}

/// Copies a folder with everything in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the copy can be made");
    for (path, content) in contents(from) {
        let path = to.join(path.strip_prefix(from).expect("it is below the folder"));
        match content {
            None => fs::create_dir_all(path),
            Some(bytes) => fs::write(path, bytes),
        }
        .expect("the copy can be written");
    }
}

/// Writes `count` small PNG pictures, each different from the others.
pub fn pictures(folder: &Path, count: u32) {
    fs::create_dir_all(folder).expect("the folder can be made");
    for number in 0..count {
        let picture = image::RgbImage::from_fn(20, 20, |x, y| {
            let wave = |k: u32| (x * (3 + number + k) + y * (7 * k + 1) + 40 * number) % 256;
            image::Rgb([wave(0), wave(1), wave(2)].map(|value| value as u8))
        });
        picture.save(folder.join(format!("{number:02}.png"))).expect("the picture can be written");
    }
}

/// A file system in memory, for tests that need a full or read-only disk. Dropping this unmounts it.
pub struct Disk {
    pub path: PathBuf,
}

impl Disk {
    /// Mounts the file system. Where mounting isn't permitted, prints that `skipped` is skipped and returns `None`.
    pub fn mount(path: PathBuf, size: &str, skipped: &str) -> Option<Self> {
        fs::create_dir_all(&path).expect("the mount point can be made");
        let text = path.to_str().expect("a plain path");
        if mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", text]) {
            return Some(Self { path });
        }
        eprintln!("skipped, as mounting isn't permitted here: {skipped}");
        None
    }

    pub fn remount(&self, options: &str) {
        let text = self.path.to_str().expect("a plain path");
        assert!(mount(&["-o", &format!("remount,{options}"), text]), "{options} can be set");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

fn mount(arguments: &[&str]) -> bool {
    let output = Command::new("mount").args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// Returns a job that trains on the CPU, as the program makes one.
pub fn job(config: Config, data: Dataset, run: RunDir, start: Start) -> Job {
    Job {
        engine: device::engine_maker(&Device::Cpu, LearnerConfig::new(&config)),
        config,
        images: ListedData::of(&data).fingerprint(),
        device: Device::Cpu,
        data,
        eval: None,
        run,
        start,
        notices: Vec::new(),
    }
}

/// Makes a new run directory, or opens an earlier one to resume from its newest checkpoint.
pub fn begin(root: &Path, resume: bool) -> (RunDir, Start) {
    if !resume {
        return (RunDir::create(root).expect("a new run"), Start::Fresh);
    }
    let run = reopen(root);
    let found = checkpoint::find(&run.checkpoints(), None).expect("sound checkpoints");
    (run, Start::Resume(Box::new(found.expect("a checkpoint"))))
}
