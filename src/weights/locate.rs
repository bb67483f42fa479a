//! What `RUN|CKPT` on a command line stands for: a run directory, or a checkpoint file inside or outside of one.

use super::checkpoint::{self, Checkpoint, CheckpointError, FoundCheckpoint};
use crate::config::{Config, ConfigError, file};
use crate::engine::Engine;
use crate::engine::device::{self, Device};
use crate::engine::learner::LearnerConfig;
use crate::model::state::StateError;
use crate::run_dir;
use crate::shown;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The place that `RUN|CKPT` names. At least one of the two paths is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The run directory. A checkpoint file outside of a run has none.
    pub root: Option<PathBuf>,
    /// The checkpoint file, if the path names one rather than a run.
    pub file: Option<PathBuf>,
}

impl Location {
    /// Returns the place that a path names, or `None` if the path is neither a run nor a checkpoint file.
    pub fn of(path: &Path) -> Option<Self> {
        if run_dir::holds_run(path) {
            return Some(Self { root: Some(path.to_owned()), file: None });
        }
        if path.is_file() && path.extension().is_some_and(|ending| ending == "safetensors") {
            let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let folder = real.parent().filter(|folder| folder.ends_with("checkpoints"));
            let root = folder.and_then(Path::parent).filter(|root| run_dir::holds_run(root));
            return Some(Self { root: root.map(Path::to_owned), file: Some(path.to_owned()) });
        }
        None
    }

    /// Finds the checkpoint from which training continues: the named file, or the newest of the run.
    ///
    /// Inside of a run, the next older checkpoint takes the place of a damaged one. A run without checkpoints has
    /// `None`.
    ///
    /// # Errors
    /// Returns an error if there are checkpoints, but none that is sound and can be read.
    pub fn newest(&self) -> Result<Option<FoundCheckpoint>, CheckpointError> {
        let Some(file) = &self.file else {
            let folder = self.root.as_deref().map(|root| root.join("checkpoints"));
            return folder.map_or(Ok(None), |folder| checkpoint::find(&folder, None));
        };
        let error = match checkpoint::load(file) {
            Ok(checkpoint) => {
                let path = file.clone();
                let (warnings, damaged) = (Vec::new(), Vec::new());
                return Ok(Some(FoundCheckpoint { path, checkpoint, warnings, damaged }));
            }
            Err(error) => error,
        };
        let folder = file.parent().unwrap_or(Path::new("."));
        match checkpoint::find(folder, Some(file)) {
            Ok(Some(mut found)) if self.root.is_some() => {
                if found.warnings.is_empty() {
                    found.warnings.push(error.to_string());
                }
                Ok(Some(found))
            }
            _ => Err(error),
        }
    }
}

/// A checkpoint that was read for its weights.
#[derive(Debug)]
pub struct Weights {
    pub path: PathBuf,
    pub checkpoint: Checkpoint,
    /// The configuration with which the weights were trained.
    pub config: Config,
    /// Errors of damaged checkpoints that would have been preferred to this one. The command prints them.
    pub warnings: Vec<String>,
}

impl Weights {
    /// Reads a checkpoint file, or a run's best checkpoint. If that is missing or damaged, reads the run's newest sound
    /// one. Changes nothing, and the run may continue meanwhile.
    ///
    /// # Errors
    /// Returns an error if the path is neither a run nor a checkpoint, if the run has no checkpoints, or if none can be
    /// read.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let Some(location) = Location::of(path) else {
            return Err(WeightsError::NoRun { path: path.to_owned() });
        };
        if let Some(file) = &location.file {
            return Self::read(file, checkpoint::load(file)?, Vec::new());
        }
        let folder = location.root.unwrap_or_default().join("checkpoints");
        let best = checkpoint::best_path(&folder);
        let mut warnings = Vec::new();
        if best.exists() {
            match checkpoint::load(&best) {
                Ok(checkpoint) => return Self::read(&best, checkpoint, warnings),
                Err(error) if error.is_spoilt() => warnings.push(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        let found = checkpoint::find(&folder, None)?;
        let Some(FoundCheckpoint { path, checkpoint, warnings: more, .. }) = found else {
            return Err(WeightsError::NoCheckpoint { folder });
        };
        warnings.extend(more);
        Self::read(&path, checkpoint, warnings)
    }

    /// Makes weights of a checkpoint that was found already.
    ///
    /// # Errors
    /// Returns an error if the checkpoint holds no valid configuration.
    pub fn of(found: FoundCheckpoint) -> Result<Self, WeightsError> {
        Self::read(&found.path, found.checkpoint, found.warnings)
    }

    fn read(
        path: &Path,
        checkpoint: Checkpoint,
        warnings: Vec<String>,
    ) -> Result<Self, WeightsError> {
        let config = file::parse(&checkpoint.meta.config, "in the checkpoint")?;
        Ok(Self { path: path.to_owned(), checkpoint, config, warnings })
    }

    /// Builds a model with these weights.
    ///
    /// # Errors
    /// Returns an error if the weights don't fit the configuration beside them.
    pub fn engine(&self, device: &Device) -> Result<Box<dyn Engine>, WeightsError> {
        let mut engine = device::engine(device, LearnerConfig::new(&self.config));
        engine
            .load(&self.checkpoint.engine)
            .map_err(|source| WeightsError::State { path: self.path.clone(), source })?;
        Ok(engine)
    }
}

/// Why the weights that `RUN|CKPT` names can't be used.
#[derive(Debug, Error)]
pub enum WeightsError {
    #[error("no run at {}: RUN|CKPT is a run directory or a checkpoint file (.safetensors)", shown::path(.path))]
    NoRun { path: PathBuf },
    #[error(
        "no checkpoint in {} yet: wait for the first, or ask for one with `simmim-tui ctl RUN checkpoint`",
        shown::path(.folder)
    )]
    NoCheckpoint { folder: PathBuf },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("checkpoint {path} doesn't fit the model: {source}", path = shown::path(.path))]
    State { path: PathBuf, source: StateError },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineState;
    use crate::weights::checkpoint::Meta;

    fn checkpoint(step: u64) -> Checkpoint {
        let small = ["model.embed_dim=4", "model.heads=1", "model.depth=1"].map(str::to_owned);
        let config = file::load(None, &small).expect("valid");
        let weights = device::engine(&Device::Cpu, LearnerConfig::new(&config)).state().weights;
        let config = file::to_toml(&config);
        let meta = Meta { step, micro: step, updates: step, config, ..Meta::start() };
        Checkpoint { meta, engine: EngineState { weights, ..EngineState::default() } }
    }

    #[test]
    fn a_run_stands_for_its_best_checkpoint_or_the_newest_sound_one() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let root = temp.path().join("run");
        let error = Weights::open(&root).expect_err("nothing there").to_string();
        assert!(error.contains("no run at") && error.contains("RUN|CKPT"), "{error}");
        let folder = root.join("checkpoints");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(root.join("events.jsonl"), "").expect("writable");
        let error = Weights::open(&root).expect_err("no checkpoint").to_string();
        assert!(error.contains("no checkpoint in"), "{error}");
        let paths =
            [1, 2].map(|step| checkpoint::save(&folder, &checkpoint(step)).expect("written").0);
        let step = |path: &Path| Weights::open(path).expect("sound").checkpoint.meta.step;
        assert_eq!(step(&root), 2, "the newest");
        checkpoint::mark_best(&paths[0]).expect("a link");
        assert_eq!(step(&root), 1, "the best");
        assert_eq!(step(&paths[1]), 2, "the file that was asked for");
        let best = checkpoint::best_path(&folder);
        std::fs::remove_file(&best).expect("there");
        std::fs::write(&best, "rubbish").expect("writable");
        let weights = Weights::open(&root).expect("another is sound");
        assert_eq!((weights.checkpoint.meta.step, weights.warnings.len()), (2, 1));
        assert_eq!(Location::of(&paths[0]).expect("a checkpoint").root, root.canonicalize().ok());
    }
}
