//! The labelled images of an evaluation, in two parts: those that a method learns from, and those that it is tested on.

use super::caveats;
use super::features::Features;
use crate::config::Config;
use crate::data::split::labelled_sample;
use crate::data::{self, DataError, Dataset, Source};

/// Labelled images to train a probe with and to test it on.
pub struct Labelled {
    pub train: Source,
    pub test: Source,
    /// Names of the classes, by number.
    pub classes: Vec<String>,
    /// What the data set is, for people.
    pub description: String,
    /// As [`Dataset::notes`].
    pub notes: Vec<String>,
}

impl Labelled {
    /// Takes the labelled images of a data set, at most `limit` of each part.
    ///
    /// # Errors
    /// Returns one line for people if there are not two classes to tell apart.
    pub(crate) fn of(data: &Dataset, limit: usize) -> Result<Self, String> {
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
        Ok(Self { train, test, classes, description, notes: data.notes.clone() })
    }

    /// Returns what must be said beside figures on these images, as far as it is known before they are read.
    pub(crate) fn caveats(&self) -> Vec<String> {
        let labels = |part: &Source| -> Vec<u32> {
            (0..part.len()).filter_map(|index| part.label(index)).collect()
        };
        caveats::of_images(&labels(&self.train), &labels(&self.test), &self.classes)
    }

    /// Collects vectors of both parts with `collect`, which gets a part and the number of images in the parts before.
    ///
    /// Returns `None` as soon as `collect` returns `None`.
    ///
    /// # Errors
    /// Returns the error of `collect`.
    pub(crate) fn vectors(
        &self,
        mut collect: impl FnMut(&Source, usize) -> Result<Option<Features>, DataError>,
    ) -> Result<Option<[Features; 2]>, DataError> {
        let Some(train) = collect(&self.train, 0)? else { return Ok(None) };
        let Some(test) = collect(&self.test, self.train.len())? else { return Ok(None) };
        Ok(Some([train, test]))
    }
}

/// Opens the images on which a run evaluates while it trains. `own` is the data of the run.
///
/// Returns `None` if the configuration asks for no evaluations.
///
/// # Errors
/// Returns an error if the images can't be opened or aren't labelled.
pub(crate) fn for_training(
    config: &Config,
    own: &Dataset,
) -> Result<Option<Labelled>, EvalDataError> {
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

/// Why there is nothing to evaluate on while training.
#[derive(Debug, thiserror::Error)]
pub enum EvalDataError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("eval.every = {every} needs labelled images: {reason}; or name some with eval.path")]
    Unlabelled { every: usize, reason: String },
}
