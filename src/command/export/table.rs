//! Writes metrics as CSV or JSON lines, one row per optimizer step that has any.
//!
//! Numbers are written as in `events.jsonl`, digit for digit.

use super::history::{ByStep, History};
use crate::event::Metric;
use crate::text::csv;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Columns that every table has, in this order.
const FIXED: [&str; 12] = [
    "step",
    "epoch",
    "time",
    "elapsed_s",
    "loss",
    "lr",
    "grad_norm",
    "images_per_s",
    "data_wait",
    "val_loss",
    "psnr",
    "ssim",
];

/// Rows of cells, one cell per column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    columns: Vec<String>,
    /// Cells as JSON text. A value that is not known at a step is `None`, and one that is no number is `null`.
    rows: Vec<Vec<Option<String>>>,
}

impl Table {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Returns the metrics of a run as a table, ordered by step.
pub(super) fn rows(history: &History) -> Table {
    let mut rows: BTreeMap<u64, BTreeMap<&str, String>> = BTreeMap::new();
    let mut put = |step: u64, column, text: String| {
        rows.entry(step).or_default().insert(column, text);
    };
    // If several kinds of events belong to a step, `time` is that of the report, or else of the loss, or else of the
    // validation, or else of the first evaluation.
    for (&step, (time, validation)) in &history.validations {
        put(step, "time", json(time));
        put(step, "epoch", json(&validation.epoch));
        put(step, "val_loss", json(&validation.comparable_loss()));
        for (column, value) in [("psnr", validation.psnr), ("ssim", validation.ssim)] {
            if let Some(value) = value {
                put(step, column, json(&value));
            }
        }
    }
    for (&step, (time, loss)) in &history.losses {
        put(step, "time", json(time));
        put(step, "loss", json(loss));
    }
    for (&step, (time, report)) in &history.reports {
        put(step, "time", json(time));
        put(step, "epoch", json(&report.epoch));
        put(step, "elapsed_s", json(&report.elapsed_s));
        put(step, "lr", json(&report.lr));
        put(step, "grad_norm", json(&report.grad_norm));
        put(step, "images_per_s", json(&report.images_per_s));
        put(step, "data_wait", json(&report.data_wait));
    }
    let evaluated = Figures::new("eval", &history.evaluations);
    let compared = Figures::new("baseline", &history.baselines);
    for figures in [&evaluated, &compared] {
        for (&step, metrics) in figures.by_step {
            for (time, metric) in metrics {
                let row = rows.entry(step).or_default();
                row.entry("time").or_insert_with(|| json(time));
                for (column, text) in figures.cells(metric) {
                    row.insert(column, text);
                }
            }
        }
    }
    let columns: Vec<String> = FIXED
        .iter()
        .map(|&name| name.to_owned())
        .chain(evaluated.columns())
        .chain(compared.columns())
        .collect();
    let rows = rows
        .into_iter()
        .map(|(step, mut row)| {
            row.insert("step", step.to_string());
            columns.iter().map(|column| row.remove(column.as_str())).collect()
        })
        .collect();
    Table { columns, rows }
}

/// Metrics whose names are not fixed: a column for each, and one for its standard error if it ever has one.
struct Figures<'a> {
    by_step: &'a ByStep,
    /// Name, column, column of the standard error.
    names: Vec<(&'a str, String, Option<String>)>,
}

impl<'a> Figures<'a> {
    fn new(kind: &str, by_step: &'a ByStep) -> Self {
        let metrics = || by_step.values().flatten().map(|(_, metric)| metric);
        let names = History::names(by_step).into_iter().map(|name| {
            let column = format!("{kind}/{name}");
            let with_error = metrics().any(|metric| metric.name == name && metric.stderr.is_some());
            let error = with_error.then(|| format!("{column} stderr"));
            (name, column, error)
        });
        Self { by_step, names: names.collect() }
    }

    fn columns(&self) -> impl Iterator<Item = String> {
        self.names
            .iter()
            .flat_map(|(_, column, error)| [Some(column), error.as_ref()])
            .flatten()
            .cloned()
    }

    fn cells(&self, metric: &Metric) -> Vec<(&str, String)> {
        let known = self.names.iter().find(|(name, ..)| *name == metric.name);
        let Some((_, column, error)) = known else { return Vec::new() };
        let value = (column.as_str(), json(&metric.value));
        let error = error.as_deref().zip(metric.stderr.map(|error| json(&error)));
        [Some(value), error].into_iter().flatten().collect()
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() // numbers and strings always have a form in JSON
}

/// Writes a header and a line per row. Unknown cells are empty, and values that are no numbers are `NaN`.
///
/// # Errors
/// Returns an error if the file can't be written.
pub(super) fn csv(table: &Table, out: &mut impl Write) -> io::Result<()> {
    let header: Vec<_> = table.columns.iter().map(|column| csv::field(column)).collect();
    writeln!(out, "{}", header.join(","))?;
    for row in &table.rows {
        let cells = row.iter().map(|cell| match cell.as_deref() {
            None => "",
            Some("null") => "NaN",
            Some(text) => text,
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join(","))?;
    }
    out.flush()
}

/// Writes an object per row with the known cells. Values that are no numbers are `null`.
///
/// # Errors
/// Returns an error if the file can't be written.
pub(super) fn jsonl(table: &Table, out: &mut impl Write) -> io::Result<()> {
    for row in &table.rows {
        let cells = table.columns.iter().zip(row);
        let known = cells.filter_map(|(column, cell)| {
            cell.as_ref().map(|text| format!("{}:{text}", json(column)))
        });
        writeln!(out, "{{{}}}", known.collect::<Vec<_>>().join(","))?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{evaluated, history, report, started};
    use super::*;

    fn text(layout: impl Fn(&Table, &mut Vec<u8>) -> io::Result<()>, table: &Table) -> String {
        let mut bytes = Vec::new();
        layout(table, &mut bytes).expect("memory is writable");
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_row_per_step_holds_what_is_known_of_it() {
        let table = rows(&history([
            started(0),
            report(2, &[0.1, f32::NAN]),
            evaluated(2, "k-NN 5, cosine", 0.3),
        ]));
        assert_eq!(
            text(csv, &table),
            "step,epoch,time,elapsed_s,loss,lr,grad_norm,images_per_s,data_wait,val_loss,psnr,ssim,\
             \"eval/k-NN 5, cosine\",\"eval/k-NN 5, cosine stderr\",\"baseline/raw, pixels\"\n\
             1,,101.0,,0.1,,,,,,,,,,\n\
             2,0.6666666666666666,101.0,2.0,NaN,0.001,0.5,70.0,0.0,,,,0.3,0.25,0.3\n"
        );
        assert_eq!(
            text(jsonl, &table),
            "{\"step\":1,\"time\":101.0,\"loss\":0.1}\n\
             {\"step\":2,\"epoch\":0.6666666666666666,\"time\":101.0,\"elapsed_s\":2.0,\"loss\":null,\"lr\":0.001,\
             \"grad_norm\":0.5,\"images_per_s\":70.0,\"data_wait\":0.0,\"eval/k-NN 5, cosine\":0.3,\
             \"eval/k-NN 5, cosine stderr\":0.25,\"baseline/raw, pixels\":0.3}\n"
        );
    }
}
