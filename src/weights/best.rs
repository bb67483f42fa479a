//! Which checkpoint of a run is its best one.

use serde::{Deserialize, Serialize};

/// What a validation found of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grade {
    pub loss: f64,
    /// Share of images whose class is told right, 0 to 1; only a classifier has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

impl Grade {
    /// A classifier is the better the more it tells right, and with as many right by its loss: late in training the loss
    /// rises while the accuracy does too. Everything else goes by the loss.
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
    /// That of the best checkpoint.
    pub grade: Option<Grade>,
    /// Of a classifier not always that of the best checkpoint.
    pub lowest_loss: Option<f64>,
}

impl Best {
    /// Takes in a validation with a finite loss; says whether it is the best so far.
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
