//! The program on a disk that fails when a test says so: `tests/fault/fault.cpp` as a library for `LD_PRELOAD`.

use super::{Reader, Running};
use rustix::io::Errno;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use xxhash_rust::xxh3::xxh3_64;

const SOURCE: &str = include_str!("../../fault/fault.cpp");
const OPTIONS: [&str; 5] = ["-std=c++17", "-O1", "-shared", "-fPIC", "-U_FORTIFY_SOURCE"];

/// What fails; `tests/fault/README.md` says what the variables mean.
#[derive(Debug, Clone)]
pub struct Fault {
    library: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Fault {
    /// The `nth` of these operations on paths with `path` in them fails once, with EIO. Where the library can't be
    /// built, prints that `skipped` is skipped and returns `None`.
    pub fn new(path: &str, operations: &str, nth: u64, skipped: &str) -> Option<Self> {
        let Some(library) = library() else {
            eprintln!("skipped, as there is no C++ compiler (set CXX): {skipped}");
            return None;
        };
        let variables = vec![
            ("FAULT_PATH", path.to_owned()),
            ("FAULT_OPS", operations.to_owned()),
            ("FAULT_NTH", nth.to_string()),
        ];
        Some(Self { library: library.to_owned(), variables })
    }

    fn with(mut self, name: &'static str, value: &impl ToString) -> Self {
        self.variables.push((name, value.to_string()));
        self
    }

    pub fn error(self, error: Errno) -> Self {
        self.with("FAULT_ERRNO", &error.raw_os_error())
    }

    /// How many operations in a row fail; -1 for all from there on.
    pub fn times(self, times: i64) -> Self {
        self.with("FAULT_TIMES", &times)
    }

    /// Writes write this many bytes before they fail.
    pub fn short(self, bytes: u64) -> Self {
        self.with("FAULT_SHORT", &bytes)
    }

    /// All from the `nth` on fail as long as `file` exists, which is made now.
    pub fn until_removed(self, file: &Path) -> Self {
        fs::write(file, "").expect("writable");
        self.times(-1).with("FAULT_WHILE", &file.display())
    }

    /// The process is killed before the `nth` operation.
    pub fn kill(self) -> Self {
        self.with("FAULT_KILL", &1)
    }

    /// Records the operations.
    pub fn log(self, file: &Path) -> Self {
        self.with("FAULT_LOG", &file.display())
    }

    /// Starts the program in `folder`, on that disk.
    pub fn start(&self, folder: &Path, arguments: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_simmim-tui"));
        command.args(arguments).current_dir(folder);
        command.env("LD_PRELOAD", &self.library);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Running::of(command, Reader::All)
    }
}

/// Returns the library, which is built once for each state of its source and kept beside the program of the tests.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    LIBRARY.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
    let mut asked = Command::new(&compiler);
    asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    if !asked.status().is_ok_and(|status| status.success()) {
        return None;
    }
    let hash = xxh3_64(format!("{compiler} {OPTIONS:?} {SOURCE}").as_bytes());
    let tests = std::env::current_exe().expect("a program");
    let kept = tests.with_file_name(format!("fault-{hash:016x}.so"));
    if kept.exists() {
        return Some(kept);
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fault/fault.cpp");
    // Others may build the same at once: whoever comes last wins, and every reader finds a whole library.
    let made = kept.with_extension(std::process::id().to_string());
    let mut compile = Command::new(&compiler);
    compile.args(OPTIONS).args([source, "-ldl", "-o"]).arg(&made);
    let built = compile.output().expect("the compiler starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    fs::rename(&made, &kept).expect("renamed");
    Some(kept)
}
