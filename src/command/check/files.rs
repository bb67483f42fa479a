//! Whether the checkpoints and pictures of a run are whole, and what else lies in its directory.

use super::log::LogSurvey;
use crate::command::findings::{Finding, Verdict};
use crate::data::decode;
use crate::files;
use crate::run_dir::{self, Liveness, liveness};
use crate::shown;
use crate::text::units::bytes;
use crate::weights::checkpoint::{self, CheckpointError};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What was found out about the files of a run.
pub(super) struct CheckedFiles {
    /// Step of the newest whole checkpoint.
    pub newest: Option<u64>,
    pub findings: Vec<Finding>,
}

impl CheckedFiles {
    /// Reads the checkpoints and pictures of a run.
    pub fn of(root: &Path, log: &LogSurvey) -> Self {
        let mut found = Self { newest: None, findings: Vec::new() };
        found.checkpoints(root, log);
        found.pictures(root, log);
        found.left_overs(root);
        found
    }

    fn add(
        &mut self,
        area: &'static str,
        name: &'static str,
        state: Verdict,
        text: &str,
        why: &str,
    ) {
        self.findings.push(Finding::new(area, name, state, shown::line(text), why));
    }

    fn checkpoints(&mut self, root: &Path, log: &LogSurvey) {
        const AREA: &str = "checkpoints";
        let folder = root.join("checkpoints");
        let mut paths = match checkpoint::list(&folder) {
            Ok(paths) => paths,
            Err(error) => {
                return self.add(AREA, "folder", Verdict::Failure, &error.to_string(), "");
            }
        };
        let best = checkpoint::best_path(&folder);
        paths.extend(best.exists().then_some(best));
        let (mut whole, mut size) = (0, 0);
        for path in &paths {
            match checkpoint::load(path) {
                Ok(found) => {
                    whole += 1;
                    size += fs::metadata(path).map_or(0, |metadata| metadata.len());
                    self.newest = self.newest.max(Some(found.meta.step));
                    self.name_of(path, found.meta.step, found.meta.accumulated);
                }
                // A run that goes on has deleted the file meanwhile.
                Err(CheckpointError::Read { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let why = "--resume takes the newest whole one, and sets this one aside";
                    self.add(AREA, "damaged", Verdict::Failure, &error.to_string(), why);
                }
            }
        }
        let text = format!("{whole} with right checksums and shapes, {}", bytes(size));
        self.add(AREA, "whole", Verdict::Good, &text, "");
        self.missing(root, log);
        if self.newest.is_none() && !log.saved.is_empty() {
            let why = "start the run again in another directory";
            self.add(AREA, "none", Verdict::Failure, "there is none to go on from", why);
        }
    }

    /// Compares the name of a checkpoint with what it holds.
    fn name_of(&mut self, path: &Path, step: u64, accumulated: u64) {
        let expected = checkpoint::file_name(step, accumulated);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("step-") && name != expected.as_str() {
            let text = format!("{name} holds step {step}");
            let why = format!("somebody has renamed it; its own name is {expected}");
            self.add("checkpoints", "name", Verdict::Failure, &text, &why);
        }
    }

    /// Looks for the newest checkpoint that the log tells of. Older ones are deleted by the run itself.
    fn missing(&mut self, root: &Path, log: &LogSurvey) {
        let Some((step, path)) = log.saved.last_key_value() else { return };
        let there = inside(root, path).is_some_and(|path| path.exists());
        if !there {
            let text =
                format!("the newest one that the log tells of, of step {step}, is missing: {path}");
            let why = "--resume goes on from the newest that is there, and the steps since then are done again";
            self.add("checkpoints", "missing", Verdict::Failure, &text, why);
        }
    }

    fn pictures(&mut self, root: &Path, log: &LogSurvey) {
        const AREA: &str = "previews";
        let why = "the screen and exports leave it out; nothing else needs it";
        let mut whole = 0;
        for path in log.previews.values().collect::<BTreeSet<_>>() {
            let read = run_dir::read_preview(root, Path::new(path));
            let decoded = read.map_err(|error| error.to_string());
            match decoded.and_then(|bytes| decode::decode(&bytes)) {
                Ok(_) => whole += 1,
                Err(reason) => {
                    let text = format!("{path}: {reason}");
                    self.add(AREA, "picture", Verdict::Failure, &text, why);
                }
            }
        }
        self.add(AREA, "whole", Verdict::Good, &format!("{whole} pictures can be read"), "");
    }

    /// Names what a run no longer needs.
    fn left_overs(&mut self, root: &Path) {
        const AREA: &str = "left over";
        let running = liveness(root) != Liveness::Gone;
        let folders = [root.to_owned(), root.join("checkpoints"), root.join("previews")];
        let mut names: Vec<(PathBuf, u64)> = Vec::new();
        for entry in folders.iter().flat_map(fs::read_dir).flatten().flatten() {
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            names.push((entry.path(), size));
        }
        names.sort();
        for (path, size) in names {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let place = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let text = format!("{place}, {}", bytes(size));
            if [".abandoned", ".damaged"].iter().any(|ending| name.contains(ending)) {
                let why = "a resume has set it aside; nothing reads it, so it may be deleted";
                self.add(AREA, "set aside", Verdict::Note, &text, why);
            } else if files::is_temporary(&name) && !running {
                let why = "a write that was cut short has left it; the next --resume deletes it";
                self.add(AREA, "temporary", Verdict::Note, &text, why);
            } else if name == "control.sock" && !running {
                let why = "the process that served it is gone; the next --resume replaces it";
                self.add(AREA, "socket", Verdict::Note, &place, why);
            }
        }
    }
}

/// Returns the path of a file that the log names, or `None` if it isn't below the run directory.
fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| root.join(path))
}
