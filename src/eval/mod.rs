//! What features are worth for telling classes apart: nearest neighbours and a linear probe on frozen vectors.
//!
//! The test images decide nothing but the figures: the probe chooses its regularisation on a part of the training
//! images.

pub mod features;
pub mod knn;
mod labelled;
mod lbfgs;
pub mod pixels;
pub mod probe;
pub mod score;

pub use labelled::{EvalDataError, Labelled, for_training};

use features::Features;
use score::Score;
use xxhash_rust::xxh3::xxh3_64;

/// Neighbours that vote.
pub const NEIGHBOURS: [usize; 3] = [5, 10, 20];

/// Labelled vectors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vectors {
    /// Row-major. `[n, dim]`
    pub values: Vec<f32>,
    pub dim: usize,
    /// Class numbers. `[n]`
    pub labels: Vec<u32>,
}

impl Vectors {
    /// Those of the features that have a label.
    pub fn labelled(features: Features) -> Self {
        let dim = features.dim;
        if features.labels.iter().all(Option::is_some) {
            let labels = features.labels.into_iter().flatten().collect();
            return Self { values: features.values, dim, labels };
        }
        let mut vectors = Self { dim, ..Self::default() };
        let rows = features.values.chunks_exact(dim.max(1));
        for (row, label) in rows.zip(features.labels) {
            if let Some(label) = label {
                vectors.values.extend_from_slice(row);
                vectors.labels.push(label);
            }
        }
        vectors
    }

    /// n
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The vectors in a range of rows. `[range, dim]`
    pub fn rows(&self, range: std::ops::Range<usize>) -> &[f32] {
        &self.values[range.start * self.dim..range.end * self.dim]
    }

    /// (the rest, about one in `period`): by a hash of their numbers, so that no order of classes meets it.
    fn divide(&self, period: u64) -> (Self, Self) {
        let mut parts = [(); 2].map(|()| Self { dim: self.dim, ..Self::default() });
        for index in 0..self.len() {
            let held_out = xxh3_64(&(index as u64).to_le_bytes()).is_multiple_of(period);
            let part = &mut parts[usize::from(held_out)];
            part.values.extend_from_slice(self.rows(index..index + 1));
            part.labels.push(self.labels[index]);
        }
        let [rest, held_out] = parts;
        (rest, held_out)
    }
}

/// A way to judge vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// That many nearest neighbours by cosine, majority vote.
    Knn(usize),
    /// Multinomial logistic regression on standardised vectors.
    Probe,
}

impl Method {
    /// Those of a full evaluation.
    pub fn all() -> Vec<Self> {
        NEIGHBOURS.into_iter().map(Self::Knn).chain([Self::Probe]).collect()
    }

    pub fn name(self) -> String {
        match self {
            Self::Knn(k) => format!("k-NN {k}"),
            Self::Probe => "linear probe".to_owned(),
        }
    }
}

impl Method {
    fn k(self) -> Option<usize> {
        match self {
            Self::Knn(k) => Some(k),
            Self::Probe => None,
        }
    }
}

/// Judges the vectors of one encoder by several methods, in their order. Labels are below `classes`. `go_on` is asked
/// many times a second; `false` ends the work with `None`.
pub fn judge(
    train: &Vectors,
    test: &Vectors,
    classes: usize,
    methods: &[Method],
    go_on: &mut dyn FnMut() -> bool,
) -> Option<Vec<Score>> {
    let ks: Vec<usize> = methods.iter().filter_map(|method| method.k()).collect();
    let mut voted = knn::predict(train, test, classes, &ks, go_on)?.into_iter();
    let mut scores = Vec::new();
    for method in methods {
        let predicted = match method {
            Method::Knn(_) => voted.next().unwrap_or_default(),
            Method::Probe => probe::fit_and_choose(train, classes, go_on)?.predict(test),
        };
        scores.push(Score::new(predicted, &test.labels));
    }
    go_on().then_some(scores)
}
