//! Labelled images in two parts.

use super::features::Features;
use crate::config::Config;
use crate::data::split::labelled_sample;
use crate::data::{self, DataError, Dataset, Source};

/// Why there is nothing to evaluate on.
#[derive(Debug, thiserror::Error)]
pub enum EvalDataError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("eval.every = {every} needs labelled images: {reason}; or name some with eval.path")]
    Unlabelled { every: usize, reason: String },
}

/// Labelled images to train a probe with and to test on.
pub struct Labelled {
    pub train: Source,
    pub test: Source,
    pub classes: Vec<String>,
    pub description: String,
}

impl Labelled {
    /// The labelled images of a data set, `limit` of each part at most.
    ///
    /// # Errors
    /// There are not two classes to tell apart, in one line.
    pub fn of(data: &Dataset, limit: usize) -> Result<Self, String> {
        let [train, test] = [&data.train, &data.val].map(|part| labelled_sample(part, limit));
        let mut seen = vec![false; data.classes.len()];
        for index in 0..train.len() {
            if let Some(seen) = train.label(index).and_then(|label| seen.get_mut(label as usize)) {
                *seen = true;
            }
        }
        if seen.iter().filter(|seen| **seen).count() < 2 || test.is_empty() {
            return Err(format!(
                "{}: there are no labels of two classes or more to evaluate with; use a folder with a sub-folder per \
                 class, CIFAR, STL-10 or IDX files with labels, or fashion-mnist-mini",
                data.description
            ));
        }
        let (classes, description) = (data.classes.clone(), data.description.clone());
        Ok(Self { train, test, classes, description })
    }

    /// Vectors of both parts: made by `collect`, which gets the source and how many images were done before.
    ///
    /// # Errors
    /// As `collect`. `None` as soon as that gives it.
    pub fn vectors(
        &self,
        mut collect: impl FnMut(&Source, usize) -> Result<Option<Features>, DataError>,
    ) -> Result<Option<[Features; 2]>, DataError> {
        let Some(train) = collect(&self.train, 0)? else { return Ok(None) };
        let Some(test) = collect(&self.test, self.train.len())? else { return Ok(None) };
        Ok(Some([train, test]))
    }
}

/// What a run evaluates on while it trains; `None` if it doesn't. `own` is its data.
///
/// # Errors
/// The images can't be opened or aren't labelled.
pub fn for_training(config: &Config, own: &Dataset) -> Result<Option<Labelled>, EvalDataError> {
    let eval = &config.eval;
    if eval.every == 0 {
        return Ok(None);
    }
    let labelled = match &eval.path {
        Some(path) => Labelled::of(&data::open(&config.data.with_images(path))?, eval.limit),
        None => Labelled::of(own, eval.limit),
    };
    let unlabelled = |reason| EvalDataError::Unlabelled { every: eval.every, reason };
    labelled.map(Some).map_err(unlabelled)
}
