//! What a power cut can leave of a run, from the recorded order of its file operations.
//!
//! The record is played onto a model of a disk by the rules of POSIX: bytes are safe once their file is synced, names
//! once their folder is, and whatever isn't safe may be there or not. After each operation the possible remains are
//! written to a folder, and the program must find a whole checkpoint there and a log without a gap before it.
//!
//! `SIMMIM_POWER_CUTS=all` tries every state and resumes each of them; otherwise some are, so that it takes seconds.

use crate::common;
use crate::common::fault::Fault;
use serde_json::Value;
use simmim_tui::engine::EngineState;
use simmim_tui::weights::checkpoint;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Of so many states one is tried, and of those tried one is resumed. Both share no divisor with the kinds of remains.
const TRIED: usize = 3;
const RESUMED: usize = 11;

/// What a disk does with bytes that weren't synced.
#[derive(Debug, Clone, Copy)]
enum Unsynced {
    Kept,
    Dropped,
    /// Half of what was appended is there.
    Halved,
    /// The length is there, and zeros for what was appended.
    Zeroed,
}

const FATES: [Unsynced; 4] =
    [Unsynced::Kept, Unsynced::Dropped, Unsynced::Halved, Unsynced::Zeroed];

/// A file: what programs read in it, and what is safe.
#[derive(Debug, Clone, Default)]
struct Inode {
    now: Vec<u8>,
    safe: Vec<u8>,
}

impl Inode {
    fn remains(&self, unsynced: Unsynced) -> Vec<u8> {
        let (now, safe) = (&self.now, &self.safe);
        let appended = now.len().saturating_sub(safe.len());
        match unsynced {
            Unsynced::Kept => now.clone(),
            Unsynced::Dropped => safe.clone(),
            Unsynced::Halved => {
                [&safe[..], &now[now.len() - appended..now.len() - appended / 2]].concat()
            }
            Unsynced::Zeroed => [&safe[..], &vec![0; appended]].concat(),
        }
    }
}

/// An entry of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Folder,
    /// With its number among the files.
    File(usize),
}

type Names = BTreeMap<PathBuf, Entry>;

/// The disk: files by number, the names that programs see, and those that are safe.
#[derive(Debug, Default)]
struct PlayedDisk {
    inodes: Vec<Inode>,
    now: Names,
    safe: Names,
}

impl PlayedDisk {
    fn file(&mut self, path: &str) -> Option<&mut Inode> {
        match self.now.get(Path::new(path))? {
            Entry::File(number) => self.inodes.get_mut(*number),
            Entry::Folder => None,
        }
    }

    /// Plays one line of the record.
    fn play(&mut self, line: &str) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [_, name, result, _, path, more @ ..] = &fields[..] else {
            panic!("a line of the record: {line}")
        };
        if result.starts_with('-') {
            return;
        }
        let at = PathBuf::from(path);
        match (*name, more) {
            ("mkdir", _) => drop(self.now.insert(at, Entry::Folder)),
            ("open", [flags, _]) => {
                if !self.now.contains_key(&at) && flags.contains('c') {
                    self.now.insert(at, Entry::File(self.inodes.len()));
                    self.inodes.push(Inode::default());
                } else if flags.contains('t') {
                    self.file(path).expect("an open file").now.clear();
                }
            }
            ("write", [offset, bytes]) => {
                let offset: usize = offset.parse().expect("a number");
                let bytes = from_hex(bytes);
                // A file without a name is gone after a power cut, whatever is in it.
                let Some(file) = self.file(path) else { return };
                file.now.resize(file.now.len().max(offset + bytes.len()), 0);
                file.now[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
            ("truncate", [length]) => {
                let length = length.parse().expect("a number");
                self.file(path).expect("an open file").now.resize(length, 0);
            }
            ("sync", _) if self.now.get(&at) == Some(&Entry::Folder) => self.sync_folder(&at),
            ("sync", _) => {
                if let Some(file) = self.file(path) {
                    file.safe = file.now.clone();
                }
            }
            ("rename", [to]) => {
                // Sockets are made by calls that aren't recorded.
                if let Some(entry) = self.now.remove(&at) {
                    self.now.insert(PathBuf::from(to), entry);
                }
            }
            ("link", [to]) => {
                let entry = self.now[&at];
                self.now.insert(PathBuf::from(to), entry);
            }
            ("unlink", _) => drop(self.now.remove(&at)),
            other => panic!("an operation that the model doesn't know: {other:?}"),
        }
    }

    fn sync_folder(&mut self, folder: &Path) {
        let inside = |path: &PathBuf| path.parent() == Some(folder);
        self.safe.retain(|path, _| !inside(path));
        let names = self.now.iter().filter(|(path, _)| inside(path));
        self.safe.extend(names.map(|(path, entry)| (path.clone(), *entry)));
    }

    /// Returns every set of names that may remain: those that are safe, all of them, and each that isn't safe alone
    /// there, or alone missing.
    fn possible_names(&self) -> Vec<Names> {
        let all: BTreeSet<&PathBuf> = self.now.keys().chain(self.safe.keys()).collect();
        let open: Vec<&PathBuf> =
            all.into_iter().filter(|path| self.now.get(*path) != self.safe.get(*path)).collect();
        let with = |base: &Names, path: &PathBuf, from: &Names| {
            let mut names = base.clone();
            match from.get(path) {
                Some(entry) => names.insert(path.clone(), *entry),
                None => names.remove(path),
            };
            names
        };
        let mut found = vec![self.safe.clone()];
        if !open.is_empty() {
            found.push(self.now.clone());
        }
        if open.len() > 1 {
            found.extend(open.iter().map(|path| with(&self.safe, path, &self.now)));
            found.extend(open.iter().map(|path| with(&self.now, path, &self.safe)));
        }
        found
    }

    /// Writes what remains below `root` to `folder`.
    fn write(&self, names: &Names, unsynced: Unsynced, root: &Path, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        // A file in a folder that has no name is not to be found. Names are in the order of their paths.
        for (path, entry) in names {
            let Ok(inner) = path.strip_prefix(root) else { continue };
            let target = folder.join(inner);
            if !target.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match entry {
                Entry::Folder => fs::create_dir_all(target).expect("a folder"),
                Entry::File(number) => {
                    fs::write(target, self.inodes[*number].remains(unsynced)).expect("writable");
                }
            }
        }
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len() / 2).map(|byte| digit(2 * byte)).collect()
}

/// What the tests of all states found.
#[derive(Debug, Default)]
struct Tally {
    states: usize,
    tried: usize,
    resumed: usize,
    with_checkpoint: usize,
}

/// Looks at what remains of a run. Returns whether there is a checkpoint.
fn examine(folder: &Path, what: &str) -> bool {
    let run = folder.join("run");
    if !run.join("config.toml").exists() && !run.join("events.jsonl").exists() {
        return false;
    }
    let ended = common::run(folder, &["check", "run", "--json"]);
    let report: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    for finding in report["findings"].as_array().expect("a list") {
        let name = finding["name"].as_str().expect("a text");
        // A log or a configuration of which nothing is left yet is no gap: there is no checkpoint then.
        let early = report["resumes_at"].is_null() && ["config", "events", "lines"].contains(&name);
        let torn = ["lines", "end"].contains(&name);
        let fine = finding["state"] != "failure" || early || torn;
        assert!(fine, "{what}: {finding:#}");
    }
    !report["resumes_at"].is_null()
}

fn resume(folder: &Path, expected: &EngineState, what: &str) {
    common::run(folder, &["--resume", "run", "--no-ui"]).expect(0, what);
    common::assert_same_state(&common::newest_state(&folder.join("run")), expected, what);
    common::run(folder, &["check", "run"]).expect(0, what);
}

#[test]
fn a_power_cut_after_any_operation_leaves_a_whole_checkpoint_and_a_log_without_a_gap() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().canonicalize().expect("there");
    let operations = "open,write,sync,rename,link,unlink,mkdir,truncate";
    let here = root.display().to_string();
    let Some(fault) = Fault::new(&here, operations, 0, "power cuts") else { return };
    let record = root.join("record");
    let often = ["--set", "train.log_every=7", "--set", "checkpoint.every_steps=14", "--no-ui"];
    let arguments = common::tiny(&[&often[..], &["--run-dir", "run"]].concat());
    fault.log(&record).start(&root, &arguments).end().expect(0, "the recorded run");
    let expected = common::newest_state(&root.join("run"));
    let record = fs::read_to_string(record).expect("a record");

    let all = std::env::var("SIMMIM_POWER_CUTS").is_ok_and(|value| value == "all");
    let (tried, resumed) = if all { (1, 1) } else { (TRIED, RESUMED) };
    let mut disk = PlayedDisk::default();
    disk.now.insert(root.clone(), Entry::Folder);
    disk.safe.insert(root.clone(), Entry::Folder);
    let mut tally = Tally::default();
    for (number, line) in record.lines().enumerate() {
        disk.play(line);
        for names in disk.possible_names() {
            for unsynced in FATES {
                tally.states += 1;
                if tally.states % tried != 0 {
                    continue;
                }
                let what = format!("operation {number}, {unsynced:?}");
                let state = tempfile::tempdir().expect("a temporary folder");
                disk.write(&names, unsynced, &root, state.path());
                tally.tried += 1;
                let there = examine(state.path(), &what);
                tally.with_checkpoint += usize::from(there);
                if there && tally.tried % resumed == 0 {
                    tally.resumed += 1;
                    resume(state.path(), &expected, &what);
                }
            }
        }
    }
    println!("{tally:?} of {} operations", record.lines().count());
    assert!(tally.tried > 50 && tally.resumed > 2, "{tally:?}");
    assert!(tally.with_checkpoint * 4 > tally.tried, "{tally:?}");
    let kept = checkpoint::list(&root.join("run/checkpoints")).expect("readable").len();
    assert_eq!(kept, 3);
}
