//! Builds the emulator once for each state of its sources, and keeps it beside the program of the tests.

use super::super::machine::Fault;
use super::super::signature::parse;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, OnceLock};
use xxhash_rust::xxh3::xxh3_64;

/// The sources of kernels by their names.
pub(crate) const SOURCES: [(&str, &str); 2] =
    [("kernels", include_str!("../kernels.cu")), ("product", include_str!("../product.cu"))];

const FILES: [(&str, &str); 7] = [
    ("emulator.h", include_str!("../emulator/emulator.h")),
    ("emulate.h", include_str!("../emulator/emulate.h")),
    ("product.h", include_str!("../emulator/product.h")),
    ("races.h", include_str!("../emulator/races.h")),
    ("races.cpp", include_str!("../emulator/races.cpp")),
    ("rules.cpp", include_str!("../emulator/rules.cpp")),
    ("main.cpp", include_str!("../emulator/main.cpp")),
];

const OPTIONS: &str = "-std=c++20 -O2 -march=native -U_FORTIFY_SOURCE -Wall -Wextra -Wno-unknown-pragmas \
    -Wno-unused-parameter";

/// Only what is compiled with these calls the functions `__tsan_*`, which `races.cpp` has.
const WATCHED: &str = "-g1 -fsanitize=thread --param tsan-instrument-func-entry-exit=0 \
    -fno-tree-loop-distribute-patterns";

/// What an emulator looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmulatorKind {
    Plain,
    /// Every read and write, slowly.
    Races,
}

/// Returns the compiler, or why there is none.
fn compiler() -> Result<&'static str, Fault> {
    static COMPILER: LazyLock<Result<String, Fault>> = LazyLock::new(|| {
        if !cfg!(target_os = "linux") {
            return Err(Fault("the emulator of GPUs runs on Linux only".to_owned()));
        }
        let name = std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
        let mut asked = Command::new(&name);
        match asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
            Ok(status) if status.success() => Ok(name),
            _ => Err(Fault(format!("there is no C++ compiler: {name} (set CXX) doesn't run"))),
        }
    });
    COMPILER.as_deref().map_err(Clone::clone)
}

/// Returns why no emulator can be built here, if so. Tests then have nothing to run on.
pub(crate) fn without_compiler() -> Option<Fault> {
    compiler().err()
}

/// Returns the program, which is built now if it was not before.
pub(super) fn program(kind: EmulatorKind) -> Result<PathBuf, Fault> {
    static PROGRAMS: [OnceLock<Result<PathBuf, Fault>>; 2] = [const { OnceLock::new() }; 2];
    PROGRAMS[kind as usize].get_or_init(|| find_or_build(kind)).clone()
}

fn find_or_build(kind: EmulatorKind) -> Result<PathBuf, Fault> {
    let compiler = compiler()?;
    let sources = sources(kind);
    let mut all = format!("{compiler} {OPTIONS} {WATCHED} {kind:?} {}", processor());
    all.extend(sources.iter().flat_map(|(name, text)| [name.as_str(), text.as_str()]));
    let hash = xxh3_64(all.as_bytes());
    let tests = std::env::current_exe().map_err(|error| Fault(error.to_string()))?;
    let kept = tests.with_file_name(format!("emulator-{hash:016x}"));
    if kept.exists() {
        return Ok(kept);
    }
    let folder = tempfile::tempdir().map_err(|error| Fault(error.to_string()))?;
    for (name, text) in &sources {
        fs::write(folder.path().join(name), text).map_err(|error| Fault(error.to_string()))?;
    }
    // Others may build the same at once: whoever comes last wins, and every reader finds a whole program.
    let made = kept.with_extension(std::process::id().to_string());
    compile(compiler, kind, folder.path(), &made)?;
    fs::rename(&made, &kept).map_err(|error| Fault(format!("{}: {error}", kept.display())))?;
    Ok(kept)
}

/// Returns what this processor can do: the compiler builds for it alone, and the folder may come from another machine.
fn processor() -> String {
    let all = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let skills = |line: &&str| line.starts_with("flags") || line.starts_with("Features");
    all.lines().find(skills).unwrap_or_default().to_owned()
}

/// Returns the files of the program: those of this repository, and for each source of kernels one that lists them.
fn sources(kind: EmulatorKind) -> Vec<(String, String)> {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    let mut files: Vec<(String, String)> = FILES.iter().map(owned).collect();
    let mut barriers = Vec::new();
    for (name, source) in &SOURCES {
        let header = if *name == "product" { "product.h" } else { "emulate.h" };
        let mut list = format!("#include \"{header}\"\n");
        let mut text = (*source).to_owned();
        if kind == EmulatorKind::Races {
            list += "extern int missing;\n";
            text = barriers_as_switches(source, &mut barriers);
        }
        let _ = writeln!(list, "#include \"{name}.cu\"");
        let _ = writeln!(list, "const emulate::Kernel emulate::kernels_of_{name}[] = {{");
        for kernel in parse(source) {
            let (kernel, call) = (&kernel.name, "[](const emulate::Launch& how)");
            let _ =
                writeln!(list, "{{\"{kernel}\", {call} {{ emulate::launch({kernel}, how); }}}},");
        }
        list += "{nullptr, nullptr}};\n";
        files.push((format!("{name}.cpp"), list));
        files.push((format!("{name}.cu"), text));
    }
    files
}

/// Returns the source with each barrier left out if `missing` is its number, which is the length of `barriers` once the place
/// of this barrier is there.
fn barriers_as_switches(source: &str, barriers: &mut Vec<(usize, String)>) -> String {
    let barrier = "__syncthreads()";
    let mut text = String::new();
    let mut function = "";
    for (number, line) in source.lines().enumerate() {
        if ["DEVICE", "VARIANT", "extern"].iter().any(|begin| line.starts_with(begin)) {
            function = name_of_function(line).unwrap_or(function);
        }
        let mut parts = line.split(barrier);
        text += parts.next().unwrap_or_default();
        for part in parts {
            barriers.push((number + 1, function.to_owned()));
            let _ = write!(text, "(missing == {} ? (void)0 : {barrier}){part}", barriers.len());
        }
        text += "\n";
    }
    text
}

/// Returns the name before the first parenthesis that doesn't hold a number.
fn name_of_function(line: &str) -> Option<&str> {
    let opens = |(at, _): &(usize, &str)| !line[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    let (at, _) = line.match_indices('(').find(opens)?;
    line[..at].split(' ').next_back()
}

/// Returns the lines and functions of the barriers of both sources, in the order of their numbers.
pub(crate) fn barriers() -> Vec<(usize, String)> {
    let mut barriers = Vec::new();
    for (_, source) in SOURCES {
        barriers_as_switches(source, &mut barriers);
    }
    barriers
}

/// Compiles the files side by side, and links them to the program `made`.
fn compile(compiler: &str, kind: EmulatorKind, folder: &Path, made: &Path) -> Result<(), Fault> {
    let mut units = vec![("kernels", true), ("product", true), ("main", false)];
    if kind == EmulatorKind::Races {
        units.extend([("rules", true), ("races", false)]);
    }
    let command = || {
        let mut command = Command::new(compiler);
        command.current_dir(folder).stdin(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let mut running = Vec::new();
    for (unit, watched) in &units {
        let mut command = command();
        command.args(OPTIONS.split_whitespace());
        if kind == EmulatorKind::Races {
            command.arg("-DRACES").args(WATCHED.split_whitespace().filter(|_| *watched));
        }
        command.args(["-c", "-o", &format!("{unit}.o"), &format!("{unit}.cpp")]);
        running.push(command.spawn().map_err(|error| Fault(error.to_string()))?);
    }
    let mut link = command();
    link.args(["-pthread", "-o"]).arg(made).args(units.iter().map(|(unit, _)| format!("{unit}.o")));
    for child in running {
        finish(child)?;
    }
    finish(link.spawn().map_err(|error| Fault(error.to_string()))?)
}

fn finish(child: std::process::Child) -> Result<(), Fault> {
    let output = child.wait_with_output().map_err(|error| Fault(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Fault(format!("the compiler said: {}", String::from_utf8_lossy(&output.stderr))))
}
