//! The report of an evaluation, for people and for programs.

use crate::eval::Method;
use crate::eval::score::{Accuracy, Difference, Score};
use serde::Serialize;

/// Most classes for which the whole confusion matrix is printed. For more, only the commonest confusions are.
const MOST_CLASSES: usize = 16;
/// Confusions that are printed of many classes.
const COMMONEST: usize = 10;
/// Standard errors from which on a difference counts as more than chance.
const CLEAR: f64 = 2.0;

/// A whole evaluation. `--json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct EvalReport {
    /// Path of the checkpoint.
    pub checkpoint: String,
    /// Optimizer steps of the checkpoint.
    pub step: u64,
    /// Blocks before the features. `null` = all blocks and the final norm.
    pub layer: Option<usize>,
    pub data: String,
    pub classes: Vec<String>,
    pub train_images: usize,
    pub test_images: usize,
    /// What must be said beside the figures, for example that there are few images.
    pub notes: Vec<String>,
    /// Side of the images whose raw pixels are compared with, in pixels.
    pub raw_pixels_side: usize,
    pub device: String,
    pub methods: Vec<MethodRow>,
    /// Accuracy of the linear probe of the trained encoder minus that of the best k-NN on raw pixels.
    pub probe_over_best_raw_knn: Option<Difference>,
    pub confusion: Vec<Confusion>,
    /// What the figures mean, in sentences.
    pub verdict: Vec<String>,
    pub seconds: f64,
}

/// The accuracies of one method on the three kinds of vectors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct MethodRow {
    method: String,
    trained: Accuracy,
    untrained: Accuracy,
    raw_pixels: Accuracy,
    trained_over_untrained: Difference,
    trained_over_raw_pixels: Difference,
}

/// How often images of each class (row) were predicted as each class (column) with the trained encoder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Confusion {
    method: String,
    counts: Vec<Vec<u32>>,
}

/// Scores of each method, for the three kinds of vectors.
#[derive(Debug)]
pub(super) struct Scores {
    pub methods: Vec<Method>,
    pub trained: Vec<Score>,
    pub untrained: Vec<Score>,
    pub raw_pixels: Vec<Score>,
}

impl Scores {
    /// Returns the accuracies of each method.
    pub fn rows(&self) -> Vec<MethodRow> {
        let row = |index: usize| {
            let [trained, untrained, raw] =
                [&self.trained, &self.untrained, &self.raw_pixels].map(|scores| &scores[index]);
            MethodRow {
                method: self.methods[index].name(),
                trained: trained.accuracy(),
                untrained: untrained.accuracy(),
                raw_pixels: raw.accuracy(),
                trained_over_untrained: trained.minus(untrained),
                trained_over_raw_pixels: trained.minus(raw),
            }
        };
        (0..self.methods.len()).map(row).collect()
    }

    /// Returns the confusion matrices of the [main methods](Self::main_methods).
    pub fn confusion(&self, labels: &[u32], classes: usize) -> Vec<Confusion> {
        self.main_methods()
            .map(|index| Confusion {
                method: self.methods[index].name(),
                counts: self.trained[index].confusion(labels, classes),
            })
            .collect()
    }

    /// Returns the lead of the linear probe of the trained encoder over the best k-NN on raw pixels.
    pub fn probe_over_best_raw_knn(&self) -> Option<Difference> {
        let (_, raw) = self.best_raw_knn()?;
        let probe = self.methods.iter().position(|method| *method == Method::Probe)?;
        Some(self.trained[probe].minus(raw))
    }

    fn best_raw_knn(&self) -> Option<(Method, &Score)> {
        let neighbours = self.methods.iter().zip(&self.raw_pixels);
        let neighbours = neighbours.filter(|(method, _)| matches!(method, Method::Knn(_)));
        let better = |a: &(&Method, &Score), b: &(&Method, &Score)| {
            a.1.accuracy().accuracy.total_cmp(&b.1.accuracy().accuracy)
        };
        neighbours.max_by(better).map(|(method, score)| (*method, score))
    }

    /// Returns the indices of the methods that people look at first: the last k-NN and the linear probe.
    fn main_methods(&self) -> impl Iterator<Item = usize> {
        let is_knn = |method: &Method| matches!(method, Method::Knn(_));
        let knn = self.methods.iter().rposition(is_knn);
        let probe = self.methods.iter().position(|method| *method == Method::Probe);
        knn.into_iter().chain(probe)
    }

    /// Returns sentences that say whether the trained encoder is better than an untrained one and than raw pixels.
    pub fn verdict(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for index in self.main_methods() {
            let name = self.methods[index].name();
            let pairs = [
                ("the untrained encoder", &self.untrained[index]),
                ("raw pixels", &self.raw_pixels[index]),
            ];
            for (other, score) in pairs {
                let difference = self.trained[index].minus(score);
                lines.push(sentence(&format!("{name}: the trained encoder"), difference, other));
            }
        }
        if let (Some(difference), Some((method, score))) =
            (self.probe_over_best_raw_knn(), self.best_raw_knn())
        {
            let other = format!(
                "the best nearest neighbours on raw pixels ({}, {:.1} %)",
                method.name(),
                100.0 * score.accuracy().accuracy
            );
            lines.push(sentence("the linear probe of the trained encoder", difference, &other));
        }
        lines
    }
}

/// Returns a sentence that says which of two is better, by how much, and whether that is more than chance.
fn sentence(this: &str, difference: Difference, other: &str) -> String {
    let points = 100.0 * difference.difference.abs();
    let errors = difference.in_errors().abs();
    let times = if errors.is_finite() { format!("{errors:.1}") } else { "many".to_owned() };
    let by = format!("by {points:.1} points ({times} standard errors)");
    if difference.difference == 0.0 {
        format!("{this} does as well as {other}")
    } else if errors < CLEAR {
        let word = if difference.difference > 0.0 { "above" } else { "below" };
        format!("{this} is {word} {other} {by}, which may be chance")
    } else if difference.difference > 0.0 {
        format!("{this} beats {other} {by}")
    } else {
        format!("{this} falls short of {other} {by}")
    }
}

impl EvalReport {
    /// Returns the report as lines for people. `sign` stands between a difference and its standard error.
    pub fn text(&self, sign: &str) -> Vec<String> {
        let layer = match self.layer {
            None => "all blocks and the final norm".to_owned(),
            Some(1) => "the first block".to_owned(),
            Some(layer) => format!("the first {layer} blocks"),
        };
        let mut lines = vec![
            format!("{} (step {}), mean of the tokens after {layer}", self.checkpoint, self.step),
            format!(
                "{}: {} training and {} test images in {} classes, on {}",
                self.data,
                self.train_images,
                self.test_images,
                self.classes.len(),
                self.device
            ),
        ];
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines.push(String::new());
        lines.extend(self.table(sign));
        lines.push(format!("in brackets: 95 % intervals by Wilson; after {sign}: standard errors"));
        lines.push(String::new());
        lines.extend(self.verdict.iter().cloned());
        for confusion in self.confusion.iter().rev().take(1) {
            lines.push(String::new());
            lines.extend(confusion.text(&self.classes));
        }
        lines
    }

    fn table(&self, sign: &str) -> Vec<String> {
        let accuracy = |a: Accuracy| {
            let [low, high] = a.interval.map(|end| 100.0 * end);
            format!("{:5.1} [{low:.1}, {high:.1}]", 100.0 * a.accuracy)
        };
        let difference =
            |d: Difference| format!("{:+5.1} {sign} {:.1}", 100.0 * d.difference, 100.0 * d.stderr);
        let raw = format!("raw {0}x{0}", self.raw_pixels_side);
        let head = ["accuracy, %", "trained", "untrained", &raw, "over untrained", "over raw"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.methods.iter().map(|row| {
            [
                row.method.clone(),
                accuracy(row.trained),
                accuracy(row.untrained),
                accuracy(row.raw_pixels),
                difference(row.trained_over_untrained),
                difference(row.trained_over_raw_pixels),
            ]
        }));
        aligned(&rows)
    }
}

/// Pads cells to columns, the first aligned to the left and the others to the right.
fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

impl Confusion {
    fn text(&self, classes: &[String]) -> Vec<String> {
        if classes.len() > MOST_CLASSES {
            return self.commonest(classes);
        }
        let mut lines = vec![format!(
            "{} of the trained encoder: rows are true, columns predicted",
            self.method
        )];
        let cell = |count: u32| if count == 0 { ".".to_owned() } else { count.to_string() };
        let counts = self.counts.iter().flatten().map(|count| count.to_string().len());
        let digits = classes.len().saturating_sub(1).to_string().len();
        let width = counts.chain([digits]).max().unwrap_or(1);
        let name_width = classes.iter().map(|class| class.chars().count()).max().unwrap_or(0);
        let number = |index: usize| format!("{index:>digits$}");
        let head: Vec<_> = (0..classes.len()).map(|index| format!("  {index:>width$}")).collect();
        let head = head.concat();
        lines.push(format!("{}{head}  right", " ".repeat(digits + 1 + name_width)));
        for (index, (class, row)) in classes.iter().zip(&self.counts).enumerate() {
            let cells: Vec<_> =
                row.iter().map(|&count| format!("  {:>width$}", cell(count))).collect();
            let cells = cells.concat();
            let right = percent(row[index], row.iter().sum());
            lines.push(format!("{} {class:<name_width$}{cells}  {right:>5}", number(index)));
        }
        lines
    }

    fn commonest(&self, classes: &[String]) -> Vec<String> {
        let mut wrong: Vec<(u32, usize, usize)> = Vec::new();
        for (class, row) in self.counts.iter().enumerate() {
            let others =
                row.iter().enumerate().filter(|&(other, &count)| other != class && count > 0);
            wrong.extend(others.map(|(other, &count)| (count, class, other)));
        }
        wrong.sort_by_key(|&(count, class, other)| (std::cmp::Reverse(count), class, other));
        let mut lines =
            vec![format!("commonest confusions, {} of the trained encoder", self.method)];
        lines.extend(wrong.iter().take(COMMONEST).map(|&(count, class, other)| {
            let all: u32 = self.counts[class].iter().sum();
            format!("{count} of {all} {} taken for {}", classes[class], classes[other])
        }));
        lines
    }
}

fn percent(part: u32, whole: u32) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.0} %", 100.0 * f64::from(part) / f64::from(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(right: usize, of: usize) -> Score {
        Score::new((0..of).map(|index| u32::from(index < right)).collect(), &vec![1; of])
    }

    fn scores(trained: [usize; 2], untrained: [usize; 2], raw: [usize; 2]) -> Scores {
        let all = |right: [usize; 2]| right.map(|right| score(right, 1000)).to_vec();
        Scores {
            methods: vec![Method::Knn(20), Method::Probe],
            trained: all(trained),
            untrained: all(untrained),
            raw_pixels: all(raw),
        }
    }

    #[test]
    fn the_verdict_says_better_worse_and_perhaps() {
        let lines = scores([800, 850], [700, 849], [810, 850]).verdict();
        // The images that the worse one gets right are among those of the better one. With a lead of 100 images the
        // standard error is therefore sqrt(101 - 100²/1002)/1002.
        let expected = [
            "k-NN 20: the trained encoder beats the untrained encoder by 10.0 points (10.5 standard errors)",
            "k-NN 20: the trained encoder falls short of raw pixels by 1.0 points (3.0 standard errors)",
            "linear probe: the trained encoder is above the untrained encoder by 0.1 points (0.7 standard errors), \
             which may be chance",
            "linear probe: the trained encoder does as well as raw pixels",
            "the linear probe of the trained encoder beats the best nearest neighbours on raw pixels (k-NN 20, \
             81.0 %) by 4.0 points (6.4 standard errors)",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn small_matrices_are_printed_large_ones_summed_up() {
        let counts = vec![vec![9, 1, 0], vec![0, 10, 0], vec![0, 0, 0]];
        let confusion = Confusion { method: "k-NN 5".to_owned(), counts };
        let classes = ["cat", "leopard", "none"].map(str::to_owned);
        let expected = [
            "k-NN 5 of the trained encoder: rows are true, columns predicted",
            "            0   1   2  right",
            "0 cat       9   1   .   90 %",
            "1 leopard   .  10   .  100 %",
            "2 none      .   .   .      -",
        ];
        assert_eq!(confusion.text(&classes), expected);
        let commonest = confusion.commonest(&classes);
        assert_eq!(commonest[1..], ["1 of 10 cat taken for leopard"]);
    }
}
