//! Finetuning: the model predicts the class of each image.

use super::{Judged, Task};
use crate::data::loader::{Batch, Loader, LoaderConfig};
use crate::data::{DataError, Source};
use crate::engine::{Engine, MicroBatch, Target};
use crate::eval::score::wilson;
use crate::event::Metric;
use crate::model::patch::Pixels;
use crate::train::validate::ValPart;
use crate::weights::best::Grade;

/// Predictions that count for the second accuracy, the most probable ones.
const TOP: usize = 5;

/// Provides the labels of each batch, and measures accuracies. Every image has a label below `classes`,
/// see [`crate::data::open_labelled`].
pub(super) struct Classify {
    train: Source,
    classes: usize,
}

impl Classify {
    pub(super) fn new(train: Source, classes: usize) -> Self {
        Self { train, classes }
    }
}

/// Returns the labels of the images in the batch. They go by the batch because another image may stand in for one that
/// can't be read.
fn labels(source: &Source, batch: &Batch) -> Vec<u32> {
    let label = |&index: &usize| source.label(index).expect("images without a label are left out");
    batch.indices.iter().map(label).collect()
}

impl Task for Classify {
    fn accumulate(&self, engine: &mut dyn Engine, batch: &Batch, micro: u64) {
        let labels = labels(&self.train, batch);
        let pixels = Pixels::Bytes(&batch.images);
        engine.accumulate(MicroBatch { pixels, target: Target::Classes(&labels) }, micro);
    }

    fn validate(
        &self,
        engine: &dyn Engine,
        parts: &[ValPart],
        loader: LoaderConfig,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Judged>, DataError> {
        let (mut sums, mut usual, mut faulty) = (Sums::default(), None, Vec::new());
        for part in parts {
            if sums.images > 0 {
                usual.get_or_insert(sums);
            }
            let mut loader = Loader::validation(Source::clone(&part.source), loader);
            while let Some(batch) = loader.next()? {
                if !go_on(sums.images) {
                    return Ok(None);
                }
                let labels = labels(&part.source, &batch);
                let pixels = Pixels::Bytes(&batch.images);
                let target = Target::Classes(&labels);
                let result = engine.evaluate(MicroBatch { pixels, target }); // device sync
                sums.loss += f64::from(result.loss) * batch.len() as f64;
                for (logits, &label) in result.prediction.chunks_exact(self.classes).zip(&labels) {
                    let rank = rank(logits, label);
                    sums.first += usize::from(rank == 0);
                    sums.among_first += usize::from(rank < TOP);
                }
                sums.images += batch.len();
                faulty.extend(batch.faulty);
            }
        }
        let Sums { images, .. } = sums;
        // Figures on all images are others than those on the usual ones, so they get a name of their own.
        let metrics = match &usual {
            None => sums.metrics(self.classes, ""),
            Some(usual) => {
                let all = sums.metrics(self.classes, ", all images");
                [usual.metrics(self.classes, ""), all].concat()
            }
        };
        let (grade, usual) = (sums.grade(), usual.map(|usual| (usual.grade(), usual.images)));
        Ok(Some(Judged { grade, usual, quality: None, metrics, images, faulty, previews: None }))
    }
}

/// What a validation has counted.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    images: usize,
    loss: f64,
    /// Images whose class was predicted first.
    first: usize,
    /// Images whose class was among the first predictions.
    among_first: usize,
}

impl Sums {
    fn grade(&self) -> Grade {
        let accuracy = Some(share("", self.first, self.images).value);
        Grade { loss: self.loss / self.images.max(1) as f64, accuracy }
    }

    fn metrics(&self, classes: usize, suffix: &str) -> Vec<Metric> {
        let share = |name: &str, count| share(&format!("{name}{suffix}"), count, self.images);
        let top1 = [share("top-1", self.first)];
        // With five classes or fewer every prediction would count.
        let top5 = (classes > TOP).then(|| share("top-5", self.among_first));
        top1.into_iter().chain(top5).collect()
    }
}

/// Returns how many classes rank before the label: those with a higher logit, with the same logit and a lower number, or
/// with a logit that isn't a number.
fn rank(logits: &[f32], label: u32) -> usize {
    let label = label as usize;
    let own = logits[label];
    let before = |(class, other): (usize, &f32)| match other.partial_cmp(&own) {
        _ if class == label => false,
        Some(order) => order.then(label.cmp(&class)).is_gt(),
        None => true,
    };
    logits.iter().enumerate().filter(|&pair| before(pair)).count()
}

/// Returns an accuracy with its binomial standard error, √(p · (1 − p) / n), and its interval.
fn share(name: &str, count: usize, images: usize) -> Metric {
    let interval = Some(wilson(count, images));
    let images = images.max(1) as f64;
    let value = count as f64 / images;
    let stderr = Some((value * (1.0 - value) / images).sqrt());
    Metric { name: name.to_owned(), value, stderr, interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_what_stands_before_the_label() {
        let logits = [0.1, 0.9, -3.0, 0.9, f32::NEG_INFINITY];
        let ranks: Vec<usize> = (0..5).map(|label| rank(&logits, label)).collect();
        assert_eq!(ranks, [2, 0, 3, 1, 4]);
        assert_eq!(rank(&[0.0; 3], 2), 2, "equal logits give no point by chance");
        assert_eq!(rank(&[f32::NAN; 3], 0), 2);
    }

    #[test]
    fn shares_have_the_binomial_error() {
        let metric = share("top-1", 80, 100);
        assert!((metric.value - 0.8).abs() < 1e-12);
        assert!((metric.stderr.expect("given") - 0.04).abs() < 1e-12);
        assert_eq!(share("top-1", 0, 0).value.to_bits(), 0.0_f64.to_bits());
    }
}
