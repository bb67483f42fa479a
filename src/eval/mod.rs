//! What features are worth for telling classes apart: nearest neighbours and a linear probe on frozen vectors.
//!
//! ```text
//! Labelled: training and test images ─ features, pixels ─▶ Vectors ─ judge: knn, linear_probe ─▶ Score
//! ```
//! The test images are used for nothing but the accuracies: the probe chooses its regularisation on a part of the
//! training images.

pub(crate) mod caveats;
pub(crate) mod features;
mod knn;
mod labelled;
mod lbfgs;
mod linear_probe;
pub(crate) mod pixels;
pub(crate) mod score;

pub(crate) use labelled::for_training;
pub use labelled::{EvalDataError, Labelled};

use features::Features;
use score::Score;
use xxhash_rust::xxh3::xxh3_64;

/// Numbers of neighbours that vote in a full evaluation.
pub(crate) const NEIGHBOURS: [usize; 3] = [5, 10, 20];

/// Judges the vectors of one encoder by several methods, and returns their scores in the same order.
///
/// Labels are below `classes`. `go_on` is called many times a second. If it returns `false`, the work ends with `None`.
pub(crate) fn judge(
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
            Method::Probe => linear_probe::fit_and_choose(train, classes, go_on)?.predict(test),
        };
        scores.push(Score::new(predicted, &test.labels));
    }
    go_on().then_some(scores)
}

/// A way to judge vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Majority vote of that many nearest neighbours by cosine.
    Knn(usize),
    /// Multinomial logistic regression on standardised vectors.
    Probe,
}

impl Method {
    /// Returns the methods of a full evaluation with this many training images. A vote of all of them is none of
    /// neighbours; where even five are too many, the nearest image alone decides.
    pub fn all(images: usize) -> Vec<Self> {
        let fitting = NEIGHBOURS.into_iter().filter(|&k| k < images);
        let nearest = (images <= NEIGHBOURS[0]).then_some(1);
        fitting.chain(nearest).map(Self::Knn).chain([Self::Probe]).collect()
    }

    /// Returns the name that reports and events give the method.
    pub fn name(self) -> String {
        match self {
            Self::Knn(k) => format!("k-NN {k}"),
            Self::Probe => "linear probe".to_owned(),
        }
    }

    /// Returns the number of neighbours that vote.
    fn k(self) -> Option<usize> {
        match self {
            Self::Knn(k) => Some(k),
            Self::Probe => None,
        }
    }
}

/// Vectors of images with their classes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Vectors {
    /// Row-major `[n, dim]`.
    pub values: Vec<f32>,
    pub dim: usize,
    /// Class numbers, `[n]`.
    pub labels: Vec<u32>,
}

impl Vectors {
    /// Takes the features that have a label.
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

    /// Returns the number of vectors.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Splits off about one vector in `period`. Returns (the rest, those held out).
    ///
    /// The choice hashes the index, so that the order of classes in the data cannot bias it.
    fn divide(&self, period: u64) -> (Self, Self) {
        let mut parts = [(); 2].map(|()| Self { dim: self.dim, ..Self::default() });
        for index in 0..self.len() {
            let held_out = xxh3_64(&(index as u64).to_le_bytes()).is_multiple_of(period);
            let part = &mut parts[usize::from(held_out)];
            part.values.extend_from_slice(&self.values[index * self.dim..(index + 1) * self.dim]);
            part.labels.push(self.labels[index]);
        }
        let [rest, held_out] = parts;
        (rest, held_out)
    }
}
