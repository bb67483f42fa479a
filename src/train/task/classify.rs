//! Finetuning: the model predicts the class of each image.

use super::{Judged, Task};
use crate::data::loader::{Batch, Loader, LoaderConfig};
use crate::data::{DataError, Source};
use crate::engine::{Engine, MicroBatch, Target};
use crate::eval::score::wilson;
use crate::event::Metric;
use crate::model::patch::Pixels;
use crate::weights::best::Grade;

/// Predictions that count for the second accuracy, the most probable ones.
const TOP: usize = 5;

/// Provides the labels of each batch, and measures accuracies. Every image of both sources has a label below `classes`,
/// see [`crate::data::open_labelled`].
pub(super) struct Classify {
    train: Source,
    val: Source,
    classes: usize,
}

impl Classify {
    pub(super) fn new(train: Source, val: Source, classes: usize) -> Self {
        Self { train, val, classes }
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
        loader: LoaderConfig,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Judged>, DataError> {
        let mut loader = Loader::validation(Source::clone(&self.val), loader);
        let (mut loss, mut images, mut faulty) = (0.0, 0, Vec::new());
        let [mut first, mut among_first] = [0_usize; 2];
        while let Some(batch) = loader.next()? {
            if stop() {
                return Ok(None);
            }
            let labels = labels(&self.val, &batch);
            let pixels = Pixels::Bytes(&batch.images);
            let target = Target::Classes(&labels);
            let result = engine.evaluate(MicroBatch { pixels, target }); // device sync
            loss += f64::from(result.loss) * batch.len() as f64;
            for (logits, &label) in result.prediction.chunks_exact(self.classes).zip(&labels) {
                let rank = rank(logits, label);
                first += usize::from(rank == 0);
                among_first += usize::from(rank < TOP);
            }
            images += batch.len();
            faulty.extend(batch.faulty);
        }
        let top1 = share("top-1", first, images);
        let grade = Grade { loss: loss / images.max(1) as f64, accuracy: Some(top1.value) };
        let mut metrics = vec![top1];
        // With five classes or fewer every prediction would count.
        if self.classes > TOP {
            metrics.push(share("top-5", among_first, images));
        }
        Ok(Some(Judged { grade, quality: None, metrics, images, faulty, previews: None }))
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
