//! Accuracies and their differences, with standard errors.

use serde::Serialize;

/// The predictions of one method for the test images.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Predicted class numbers, `[n]`.
    predicted: Vec<u32>,
    /// Whether each prediction is right, `[n]`.
    right: Vec<bool>,
}

/// Top-1 accuracy with its standard error, both 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    pub accuracy: f64,
    /// Binomial: `sqrt(p (1 - p) / n)`.
    pub stderr: f64,
}

/// Difference of two accuracies on the same images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// -1 to 1.
    pub difference: f64,
    /// Standard error of the paired differences, as in `McNemar`'s test: images on which both are right or both are
    /// wrong say nothing.
    pub stderr: f64,
}

impl Score {
    /// Compares predictions with the labels.
    ///
    /// # Panics
    /// Panics if the lengths differ.
    pub fn new(predicted: Vec<u32>, labels: &[u32]) -> Self {
        assert_eq!(predicted.len(), labels.len(), "there must be a prediction for each label");
        let right = predicted.iter().zip(labels).map(|(a, b)| a == b).collect();
        Self { predicted, right }
    }

    /// Returns the share of predictions that are right.
    pub fn accuracy(&self) -> Accuracy {
        let n = self.right.len().max(1) as f64;
        let accuracy = self.right.iter().filter(|right| **right).count() as f64 / n;
        Accuracy { accuracy, stderr: (accuracy * (1.0 - accuracy) / n).sqrt() }
    }

    /// Returns this accuracy minus that of another score on the same images.
    pub fn minus(&self, other: &Self) -> Difference {
        let n = self.right.len().max(1) as f64;
        let pairs = || self.right.iter().zip(&other.right);
        let only_this = pairs().filter(|(this, other)| **this && !**other).count() as f64;
        let only_other = pairs().filter(|(this, other)| !**this && **other).count() as f64;
        let difference = (only_this - only_other) / n;
        let variance = (only_this + only_other) / n - difference * difference;
        Difference { difference, stderr: (variance.max(0.0) / n).sqrt() }
    }

    /// Counts how often images of each class (row) were predicted as each class (column). `[classes, classes]`
    pub fn confusion(&self, labels: &[u32], classes: usize) -> Vec<Vec<u32>> {
        let mut counts = vec![vec![0; classes]; classes];
        for (&predicted, &label) in self.predicted.iter().zip(labels) {
            counts[label as usize][predicted as usize] += 1;
        }
        counts
    }
}

impl Difference {
    /// Returns the difference in standard errors, which is infinite if the standard error is 0.
    pub fn in_errors(&self) -> f64 {
        if self.difference == 0.0 { 0.0 } else { self.difference / self.stderr }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_the_formulas() {
        // Of 100 images both get 60 right, the first alone 20, the second alone 10, and neither 10.
        let labels = vec![1; 100];
        let said = |right: &dyn Fn(usize) -> bool| (0..100).map(|i| u32::from(right(i))).collect();
        let first = Score::new(said(&|i| i < 80), &labels);
        let second = Score::new(said(&|i| i < 60 || (80..90).contains(&i)), &labels);
        let accuracy = first.accuracy();
        assert!((accuracy.accuracy - 0.8).abs() < 1e-12 && (accuracy.stderr - 0.04).abs() < 1e-12);
        let difference = first.minus(&second);
        assert!((difference.difference - 0.1).abs() < 1e-12);
        // Of the 100 differences 20 are 1 and 10 are -1, so the variance is 0.3 - 0.01.
        assert!((difference.stderr - (0.29_f64 / 100.0).sqrt()).abs() < 1e-12);
        assert!((difference.in_errors() - 0.1 / 0.0029_f64.sqrt()).abs() < 1e-9);
        let none = first.minus(&first);
        assert_eq!((none.difference, none.in_errors()), (0.0, 0.0));
    }

    #[test]
    fn the_confusion_counts_rows_by_truth() {
        let score = Score::new(vec![0, 1, 1, 2], &[0, 0, 1, 2]);
        assert_eq!(score.confusion(&[0, 0, 1, 2], 3), [[1, 1, 0], [0, 1, 0], [0, 0, 1]]);
    }
}
