//! Where NVIDIA's libraries are found. People have them from a CUDA toolkit, or from Python packages: each PyTorch for
//! CUDA brings them along.
//!
//! The loader's own path comes first. A library that is found elsewhere is loaded by its full path, and whoever asks the
//! loader for it later gets that one.

use super::device::{loader_has, preload};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The library of matrix products.
pub const CUBLASLT: &str = "cublasLt";
/// The run-time compiler of kernels. Only Burn's plain path needs it.
pub const NVRTC: &str = "nvrtc";

/// Which cuBLASLt to take: `none`, or the path of the library.
const CHOICE: &str = "SIMMIM_CUDA_LIBRARY";
/// How long Python may take to tell where its packages are.
const PATIENCE: Duration = Duration::from_secs(3);

/// Sees to it that the loader finds a library. `driver` is the major version of the driver's CUDA, which a library must
/// not exceed. Never panics.
///
/// # Errors
/// Returns why there is none, in one line.
pub fn provide(library: &str, driver: i32) -> Result<(), String> {
    if library == CUBLASLT
        && let Some(choice) = env::var_os(CHOICE).filter(|choice| !choice.is_empty())
    {
        if choice == "none" {
            return Err(format!("{CHOICE} is none"));
        }
        preload(Path::new(&choice)).map_err(|why| format!("{CHOICE}: {why}"))?;
        return found_by_name(library, Path::new(&choice));
    }
    if loader_has(library) {
        return Ok(());
    }
    let places = Places::of_this_process();
    let mut refused = None;
    let searches: [&dyn Fn() -> Vec<PathBuf>; 2] =
        [&|| places.folders(), &|| places.folders_by_python()];
    for search in searches {
        for path in candidates(&search(), library, driver) {
            // NVRTC looks for its second half by a name that the loader doesn't know.
            if library == NVRTC
                && let Some(folder) = path.parent()
            {
                for part in files(folder, "libnvrtc-builtins.so") {
                    let _ = preload(&part);
                }
            }
            let loaded = preload(&path).and_then(|()| found_by_name(library, &path));
            match loaded {
                Ok(()) => return Ok(()),
                Err(why) => {
                    let why = format!("{} can't be used: {why}", path.display());
                    refused.get_or_insert(why);
                }
            }
        }
    }
    Err(refused
        .unwrap_or_else(|| format!("no lib{library}.so for CUDA {driver} or older is found")))
}

fn found_by_name(library: &str, path: &Path) -> Result<(), String> {
    if loader_has(library) {
        return Ok(());
    }
    Err(format!("{} is no lib{library}.so of CUDA 11 to 13 by its own name", path.display()))
}

/// Compiles a kernel with NVRTC, which [`provide`] must have found.
///
/// # Errors
/// Returns why it doesn't compile, in one line.
pub fn try_nvrtc() -> Result<(), String> {
    let compiled = cudarc::nvrtc::compile_ptx("extern \"C\" __global__ void k() {}");
    let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
    compiled.map(|_| ()).map_err(|error| first_line(format!("{error:?}")))
}

/// Returns the path of a library that this process has loaded.
pub fn loaded_path(library: &str) -> Option<PathBuf> {
    path_in_maps(&fs::read_to_string("/proc/self/maps").ok()?, library)
}

/// `maps` is what Linux tells of a process' memory: five words a line, then a path.
fn path_in_maps(maps: &str, library: &str) -> Option<PathBuf> {
    let start = format!("lib{library}.so");
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let mut named =
        paths.filter(|path| path.rsplit('/').next().is_some_and(|n| n.starts_with(&start)));
    named.next().map(PathBuf::from)
}

/// Where to look, as far as it depends on the process.
#[derive(Debug, Default)]
struct Places {
    /// The values of `CUDA_PATH` and `CUDA_HOME`.
    toolkits: Vec<PathBuf>,
    /// The file system; `/` outside of tests.
    root: PathBuf,
    /// The values of `VIRTUAL_ENV` and `CONDA_PREFIX`.
    environments: Vec<PathBuf>,
    /// The folders of programs.
    path: Vec<PathBuf>,
    home: Option<PathBuf>,
}

impl Places {
    fn of_this_process() -> Self {
        let values = |names: [&str; 2]| {
            let set = names.into_iter().filter_map(env::var_os).filter(|value| !value.is_empty());
            set.map(PathBuf::from).collect()
        };
        Self {
            toolkits: values(["CUDA_PATH", "CUDA_HOME"]),
            root: PathBuf::from("/"),
            environments: values(["VIRTUAL_ENV", "CONDA_PREFIX"]),
            path: env::var_os("PATH")
                .map(|path| env::split_paths(&path).collect())
                .unwrap_or_default(),
            home: env::var_os("HOME").map(PathBuf::from),
        }
    }

    /// Returns the folders that may hold libraries, the most likely ones first.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        let mut toolkits = self.toolkits.clone();
        toolkits.push(self.root.join("usr/local/cuda"));
        let mut versions = children(&self.root.join("usr/local"), "cuda-");
        versions.reverse(); // the newest first
        toolkits.extend(versions);
        toolkits.push(self.root.join("opt/cuda"));
        for prefix in toolkits.iter().chain(&self.environments) {
            folders
                .extend(["lib64", "lib", "targets/x86_64-linux/lib"].map(|lib| prefix.join(lib)));
        }
        folders.extend(self.packages().iter().flat_map(|packages| inside(packages)));
        folders
    }

    /// The folders of Python's packages: those of the active environment, of the interpreter on the path, of the user.
    fn packages(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> =
            self.environments.iter().flat_map(|prefix| of_prefix(prefix)).collect();
        if let Some(python) =
            self.path.iter().map(|folder| folder.join("python3")).find(|file| file.is_file())
        {
            found.extend(of_interpreter(&python));
        }
        found.extend(self.home.iter().flat_map(|home| of_prefix(&home.join(".local"))));
        found
    }

    /// The same by asking the Python on the path, which may be a script that chooses among several.
    fn folders_by_python(&self) -> Vec<PathBuf> {
        let python =
            self.path.iter().map(|folder| folder.join("python3")).find(|file| file.is_file());
        let told = python.and_then(|python| ask(&python)).unwrap_or_default();
        told.lines().flat_map(|packages| inside(Path::new(packages))).collect()
    }
}

/// Asks a Python for the folders of its packages, one a line.
fn ask(python: &Path) -> Option<String> {
    let question =
        "import sys; print(*[p for p in sys.path if p.endswith('-packages')], sep='\\n')";
    let mut asked = Command::new(python);
    asked
        .args(["-I", "-c", question])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = asked.spawn().ok()?;
    let end = Instant::now() + PATIENCE;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        sleep(Duration::from_millis(5));
    }
    let mut told = String::new();
    child.stdout.take()?.read_to_string(&mut told).ok()?;
    Some(told)
}

/// The packages of an interpreter: of the virtual environment that it stands in, or of where it really is.
fn of_interpreter(python: &Path) -> Vec<PathBuf> {
    let prefix = |file: &Path| file.parent().and_then(Path::parent).map(Path::to_owned);
    let Some(own) = prefix(python) else { return Vec::new() };
    let mut found = of_prefix(&own);
    let settings = fs::read_to_string(own.join("pyvenv.cfg"));
    let alone = settings.is_ok_and(|text| {
        let line = text.lines().find(|line| line.starts_with("include-system-site-packages"));
        line.is_some_and(|line| line.ends_with("false"))
    });
    if !alone && let Some(real) = fs::canonicalize(python).ok().and_then(|file| prefix(&file)) {
        found.extend(of_prefix(&real));
        found.extend(of_prefix(&real.join("local"))); // Debian
    }
    found
}

/// The folders of packages below a prefix.
fn of_prefix(prefix: &Path) -> Vec<PathBuf> {
    let mut versions = children(&prefix.join("lib"), "python3");
    versions.reverse();
    let kinds =
        |version: &PathBuf| ["site-packages", "dist-packages"].map(|kind| version.join(kind));
    let folders = versions.iter().flat_map(kinds);
    folders.filter(|folder| folder.is_dir()).collect()
}

/// The folders of libraries in NVIDIA's packages.
fn inside(packages: &Path) -> Vec<PathBuf> {
    children(&packages.join("nvidia"), "").iter().map(|package| package.join("lib")).collect()
}

/// The entries of a folder whose names begin so, sorted with numbers as numbers.
fn children(folder: &Path, start: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).collect();
    found.retain(|name| name.to_string_lossy().starts_with(start));
    found.sort_by_key(|name| (numbers(name), name.clone()));
    found.into_iter().map(|name| folder.join(name)).collect()
}

fn numbers(name: &OsStr) -> Vec<u32> {
    let name = name.to_string_lossy();
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The files of a folder whose names begin so.
fn files(folder: &Path, start: &str) -> Vec<PathBuf> {
    let mut found = children(folder, start);
    found.retain(|path| path.is_file());
    found
}

/// The files that may be the library, in the order of the folders, newer ones first. A file that names a version after
/// the driver's is left out.
fn candidates(folders: &[PathBuf], library: &str, driver: i32) -> Vec<PathBuf> {
    let name = format!("lib{library}.so");
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let mut here = files(folder, &name);
        here.reverse();
        let fits = |path: &PathBuf| {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let version = file.strip_prefix(&name).unwrap_or_default();
            let major = version.strip_prefix('.').and_then(|text| text.split('.').next());
            version.is_empty()
                || major
                    .and_then(|major| major.parse().ok())
                    .is_some_and(|major: i32| major <= driver)
        };
        found.extend(here.into_iter().filter(fits));
    }
    let mut seen = Vec::new();
    found.retain(|path| {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system with these files, which are empty.
    fn disk(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("temp folder");
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("it has a folder")).expect("writable");
            fs::write(path, "").expect("writable");
        }
        folder
    }

    fn found(places: &Places, library: &str, driver: i32) -> Vec<String> {
        let root = places.root.to_string_lossy().into_owned();
        let paths = candidates(&places.folders(), library, driver);
        paths.iter().map(|path| path.to_string_lossy().replace(&format!("{root}/"), "")).collect()
    }

    #[test]
    fn toolkits_come_before_python_and_newer_ones_before_older_ones() {
        let disk = disk(&[
            "usr/local/cuda-12.4/lib64/libcublasLt.so.12",
            "usr/local/cuda-12.10/targets/x86_64-linux/lib/libcublasLt.so.12",
            "opt/cuda/lib64/libcublasLt.so.11",
            "mine/lib64/libcublasLt.so",
            "venv/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.12",
        ]);
        let root = disk.path().to_owned();
        let places = Places {
            toolkits: vec![root.join("mine")],
            environments: vec![root.join("venv")],
            root,
            ..Places::default()
        };
        let expected = [
            "mine/lib64/libcublasLt.so",
            "usr/local/cuda-12.10/targets/x86_64-linux/lib/libcublasLt.so.12",
            "usr/local/cuda-12.4/lib64/libcublasLt.so.12",
            "opt/cuda/lib64/libcublasLt.so.11",
            "venv/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.12",
        ];
        assert_eq!(found(&places, CUBLASLT, 12), expected);
    }

    #[test]
    fn a_library_that_is_newer_than_the_driver_is_left_out() {
        let disk = disk(&[
            "venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcublasLt.so.13",
            "venv/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.12",
            "venv/lib/python3.12/site-packages/nvidia/cublas/lib/libcublas.so.12",
            "venv/lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "venv/lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.4",
        ]);
        let root = disk.path().to_owned();
        let places = Places { environments: vec![root.join("venv")], root, ..Places::default() };
        assert_eq!(found(&places, CUBLASLT, 12).len(), 1);
        assert_eq!(found(&places, CUBLASLT, 13).len(), 2);
        assert!(found(&places, CUBLASLT, 11).is_empty());
        let nvrtc = found(&places, NVRTC, 12);
        assert!(matches!(&nvrtc[..], [one] if one.ends_with("libnvrtc.so.12")), "{nvrtc:?}");
    }

    #[test]
    fn the_python_on_the_path_leads_to_its_packages_and_to_those_of_the_user() {
        let disk = disk(&[
            "venv/bin/python3",
            "venv/lib/python3.11/site-packages/nvidia/cublas/lib/libcublasLt.so.12",
            "real/bin/python3.12",
            "real/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.12",
            "home/.local/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.12",
        ]);
        let root = disk.path().to_owned();
        fs::write(
            root.join("venv/pyvenv.cfg"),
            "home = /x\ninclude-system-site-packages = false\n",
        )
        .expect("writable");
        fs::create_dir_all(root.join("bin")).expect("writable");
        std::os::unix::fs::symlink(root.join("real/bin/python3.12"), root.join("bin/python3"))
            .expect("writable");
        let home = Some(root.join("home"));
        let by = |folders: &[&str]| Places {
            path: folders.iter().map(|folder| root.join(folder)).collect(),
            root: root.clone(),
            home: home.clone(),
            ..Places::default()
        };
        let users = "home/.local/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.12";
        let in_venv = "venv/lib/python3.11/site-packages/nvidia/cublas/lib/libcublasLt.so.12";
        assert_eq!(found(&by(&["nothing", "venv/bin", "bin"]), CUBLASLT, 12), [in_venv, users]);
        let real = "real/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.12";
        assert_eq!(found(&by(&["bin", "venv/bin"]), CUBLASLT, 12), [real, users]);
    }

    #[test]
    fn a_python_that_is_a_script_is_asked_and_not_for_long() {
        let disk = disk(&["packages/site-packages/nvidia/cublas/lib/libcublasLt.so.12"]);
        let python = disk.path().join("python3");
        let script = format!("#!/bin/sh\necho {}/packages/site-packages\n", disk.path().display());
        fs::write(&python, script).expect("writable");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&python, mode).expect("writable");
        let places = Places { path: vec![disk.path().to_owned()], ..Places::default() };
        let paths = candidates(&places.folders_by_python(), CUBLASLT, 12);
        assert_eq!(
            paths,
            [disk.path().join("packages/site-packages/nvidia/cublas/lib/libcublasLt.so.12")]
        );
    }

    #[test]
    fn the_path_of_a_loaded_library_is_read_from_the_maps() {
        let maps = "7f00-7f01 r-xp 00000000 08:01 12 /usr/lib/libcublas.so.12\n\
            7f02-7f03 rw-p 00000000 00:00 0 \n\
            7f04-7f05 r-xp 00000000 08:01 13 /opt/my packages/lib/libcublasLt.so.12\n";
        let path = path_in_maps(maps, CUBLASLT);
        assert_eq!(path, Some(PathBuf::from("/opt/my packages/lib/libcublasLt.so.12")));
        assert_eq!(path_in_maps(maps, NVRTC), None);
    }
}
