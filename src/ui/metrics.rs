//! The accuracies that evaluations measured over a run: a series for each name.

use super::series::{Point, Series};
use crate::event::{Evaluated, Metric};

/// Curves by name, in the order in which the names first came.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    curves: Vec<(String, Series)>,
    baselines: Vec<Metric>,
}

impl Metrics {
    /// Takes in an evaluation. `time` is the training time up to it, in seconds.
    pub fn push(&mut self, evaluated: &Evaluated, time: f64) {
        for Metric { name, value, .. } in &evaluated.metrics {
            let known = self.curves.iter().position(|(known, _)| known == name);
            let index = known.unwrap_or_else(|| {
                self.curves.push((name.clone(), Series::new()));
                self.curves.len() - 1
            });
            self.curves[index].1.push(Point { step: evaluated.step as f64, time, value: *value });
        }
        if !evaluated.baselines.is_empty() {
            self.baselines.clone_from(&evaluated.baselines);
        }
    }

    /// Forgets what lies after `step`, as a resumed run has lost it.
    pub fn truncate_after(&mut self, step: f64) {
        for (_, series) in &mut self.curves {
            series.truncate_after(step);
        }
        self.curves.retain(|(_, series)| !series.is_empty());
    }

    /// Returns the name and the values of each curve.
    pub fn curves(&self) -> &[(String, Series)] {
        &self.curves
    }

    /// Returns the values that are the same at every step, from the newest evaluation that had any.
    pub fn baselines(&self) -> &[Metric] {
        &self.baselines
    }

    pub fn is_empty(&self) -> bool {
        self.curves.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluated(step: u64, metrics: &[(&str, f64)]) -> Evaluated {
        let metrics =
            metrics.iter().map(|&(name, value)| Metric::bare(name, value, None)).collect();
        Evaluated { step, epoch: 0.0, metrics, baselines: Vec::new(), seconds: 0.0 }
    }

    #[test]
    fn every_name_gets_its_curve_and_a_restart_forgets_what_was_lost() {
        let mut metrics = Metrics::default();
        metrics.push(&evaluated(0, &[("top-1", 0.1)]), 0.0);
        metrics.push(&evaluated(10, &[("top-1", 0.5), ("top-5", 0.9)]), 1.0);
        let lengths = |metrics: &Metrics| -> Vec<(String, usize)> {
            let curves = metrics.curves().iter();
            curves.map(|(name, series)| (name.clone(), series.len())).collect()
        };
        assert_eq!(lengths(&metrics), [("top-1".to_owned(), 2), ("top-5".to_owned(), 1)]);
        metrics.truncate_after(5.0);
        assert_eq!(lengths(&metrics), [("top-1".to_owned(), 1)]);
    }
}
