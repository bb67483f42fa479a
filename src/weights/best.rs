//! Decides which checkpoint of a run is its best one.

use serde::{Deserialize, Serialize};

/// How good a validation found the weights to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grade {
    pub loss: f64,
    /// Top-1 accuracy, 0 to 1. Only a classifier has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

impl Grade {
    /// Returns whether these weights are better than others.
    ///
    /// Classifiers are compared by accuracy, and by loss where the accuracies are equal: late in training the loss
    /// often rises while the accuracy still rises too. All other models are compared by loss.
    pub fn beats(&self, other: &Self) -> bool {
        match (self.accuracy, other.accuracy) {
            (Some(own), Some(its)) if own.total_cmp(&its).is_ne() => own > its,
            _ => self.loss < other.loss,
        }
    }
}

/// The best validations of a run so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Best {
    /// The grade of the best checkpoint.
    pub grade: Option<Grade>,
    /// The lowest loss so far. The best checkpoint of a classifier may have a higher one.
    pub lowest_loss: Option<f64>,
}

impl Best {
    /// Takes in a validation with a finite loss. Returns whether it is the best so far.
    pub fn take(&mut self, grade: Grade) -> bool {
        let loss = self.lowest_loss.map_or(grade.loss, |lowest| lowest.min(grade.loss));
        self.lowest_loss = Some(loss);
        let best = self.grade.is_none_or(|known| grade.beats(&known));
        if best {
            self.grade = Some(grade);
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grades(values: &[(f64, Option<f64>)]) -> (Vec<bool>, Best) {
        let mut best = Best::default();
        let taken = values.iter().map(|&(loss, accuracy)| best.take(Grade { loss, accuracy }));
        (taken.collect(), best)
    }

    #[test]
    fn without_accuracy_the_lowest_loss_is_best() {
        let (taken, best) = grades(&[(0.5, None), (0.6, None), (0.4, None), (0.4, None)]);
        assert_eq!(taken, [true, false, true, false]);
        assert_eq!(best.lowest_loss, best.grade.map(|grade| grade.loss));
    }

    #[test]
    fn a_classifier_goes_by_accuracy_and_then_by_loss() {
        let (taken, best) =
            grades(&[(0.5, Some(0.8)), (0.4, Some(0.7)), (0.9, Some(0.9)), (0.8, Some(0.9))]);
        assert_eq!(taken, [true, false, true, true]);
        assert_eq!(best.lowest_loss, Some(0.4));
        assert_eq!(best.grade, Some(Grade { loss: 0.8, accuracy: Some(0.9) }));
    }
}
