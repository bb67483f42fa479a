//! Accuracies with intervals, and their differences with standard errors.

use serde::Serialize;

/// The predictions of one method for the test images.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Predicted class numbers, `[n]`.
    predicted: Vec<u32>,
    /// Whether each prediction is right, `[n]`.
    right: Vec<bool>,
}

/// The quantile of the normal distribution for intervals of 95 %.
const Z: f64 = 1.96;

/// Top-1 accuracy with its errors, all 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the JSON")]
pub struct Accuracy {
    pub accuracy: f64,
    /// Binomial: `sqrt(p (1 - p) / n)`.
    pub stderr: f64,
    /// From where to where the accuracy on all such images lies with a probability of 95 %, by [`wilson`].
    pub interval: [f64; 2],
}

/// Returns Wilson's 95 % interval of a share that was `count` of `n`. Unlike the standard error it is never empty: of 8
/// images that are all right it says 68 to 100 %.
pub fn wilson(count: usize, n: usize) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let n = n as f64;
    let (share, z2) = (count as f64 / n, Z * Z);
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    // Rounding must not move the ends past what can be.
    [(centre - half).clamp(0.0, share), (centre + half).clamp(share, 1.0)]
}

/// Difference of two accuracies on the same images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// -1 to 1.
    pub difference: f64,
    /// Standard error of the paired differences, as in `McNemar`'s test: images on which both are right or both are
    /// wrong say nothing. Half an image is added to each of the four kinds of pairs (Agresti and Min, 2005), so that a
    /// few images that all agree don't make it 0.
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
        let count = self.right.iter().filter(|right| **right).count();
        let n = self.right.len().max(1) as f64;
        let accuracy = count as f64 / n;
        let stderr = (accuracy * (1.0 - accuracy) / n).sqrt();
        Accuracy { accuracy, stderr, interval: wilson(count, self.right.len()) }
    }

    /// Returns this accuracy minus that of another score on the same images.
    pub fn minus(&self, other: &Self) -> Difference {
        let n = self.right.len().max(1) as f64;
        let pairs = || self.right.iter().zip(&other.right);
        let only_this = pairs().filter(|(this, other)| **this && !**other).count() as f64;
        let only_other = pairs().filter(|(this, other)| !**this && **other).count() as f64;
        let difference = (only_this - only_other) / n;
        let (more, lead) = (n + 2.0, only_this - only_other);
        let stderr = (only_this + only_other + 1.0 - lead * lead / more).sqrt() / more;
        Difference { difference, stderr }
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
        // Of the 102 differences 20.5 are 1 and 10.5 are -1.
        let stderr = ((31.0 - 100.0 / 102.0) / (102.0 * 102.0_f64)).sqrt();
        assert!((difference.stderr - stderr).abs() < 1e-12);
        assert!((difference.in_errors() - 0.1 / stderr).abs() < 1e-9);
        let none = first.minus(&first);
        assert_eq!((none.difference, none.in_errors()), (0.0, 0.0));
    }

    /// The values are those of `statsmodels.stats.proportion.proportion_confint(..., method="wilson")`.
    #[test]
    fn intervals_are_wilsons_and_never_empty() {
        let cases = [
            (8, 8, [0.6756, 1.0]),
            (0, 8, [0.0, 0.3244]),
            (1, 1, [0.2065, 1.0]),
            (80, 100, [0.7112, 0.8666]),
            (0, 0, [0.0, 1.0]),
        ];
        for (count, n, expected) in cases {
            let found = wilson(count, n);
            let near =
                found.iter().zip(expected).all(|(found, right)| (found - right).abs() < 1e-4);
            assert!(near, "{count} of {n}: {found:?}");
        }
        let all = Score::new(vec![1; 8], &[1; 8]);
        let lead = all.minus(&Score::new(vec![0; 8], &[1; 8]));
        assert!(lead.stderr > 0.1 && lead.in_errors().is_finite(), "{lead:?}");
    }

    #[test]
    fn the_confusion_counts_rows_by_truth() {
        let score = Score::new(vec![0, 1, 1, 2], &[0, 0, 1, 2]);
        assert_eq!(score.confusion(&[0, 0, 1, 2], 3), [[1, 1, 0], [0, 1, 0], [0, 0, 1]]);
    }
}
