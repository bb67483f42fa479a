//! Writes metrics as CSV or JSON lines, one row per optimizer step that has any.
//!
//! Numbers are written as in `events.jsonl`, digit for digit.

use super::history::{ByStep, History, LoggedStep};
use crate::event::Metric;
use crate::text::csv;
use std::collections::{BTreeMap, BTreeSet};
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

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// A header and a line per row. Unknown cells are empty, and values that are no numbers are `NaN`.
    Csv,
    /// An object per row with the known cells. Values that are no numbers are `null`.
    JsonLines,
}

/// Writes the metrics of a run as a table, ordered by step. Returns the number of rows.
///
/// # Errors
/// Returns an error if the log can't be read again, or if the table can't be written.
pub(super) fn write(history: &History, layout: Layout, out: &mut impl Write) -> io::Result<usize> {
    let evaluated = Figures::new("eval", &history.evaluations);
    let compared = Figures::new("baseline", &history.baselines);
    let columns: Vec<String> = FIXED
        .iter()
        .map(|&name| name.to_owned())
        .chain(evaluated.columns())
        .chain(compared.columns())
        .collect();
    if layout == Layout::Csv {
        let header: Vec<_> = columns.iter().map(|column| csv::field(column)).collect();
        writeln!(out, "{}", header.join(","))?;
    }
    // Few steps have more than their loss and their report.
    let others = [&history.evaluations, &history.baselines].map(BTreeMap::keys);
    let others: BTreeSet<u64> =
        others.into_iter().flatten().chain(history.validations.keys()).copied().collect();
    let mut others = others.into_iter().peekable();
    let mut steps = history.steps().peekable();
    let mut count = 0;
    loop {
        let step = match (steps.peek(), others.peek()) {
            (Some(Ok(figures)), Some(&other)) => figures.step.min(other),
            (Some(Ok(figures)), None) => figures.step,
            (None, Some(&other)) => other,
            (Some(Err(_)), _) | (None, None) => match steps.next() {
                Some(Err(error)) => return Err(error),
                _ => break,
            },
        };
        others.next_if_eq(&step);
        let figures = steps.next_if(|next| matches!(next, Ok(figures) if figures.step == step));
        let mut row = row(history, step, figures.and_then(Result::ok));
        for figures in [&evaluated, &compared] {
            figures.add(step, &mut row);
        }
        let cells: Vec<_> = columns.iter().map(|column| row.remove(column.as_str())).collect();
        line(layout, &columns, &cells, out)?;
        count += 1;
    }
    out.flush()?;
    Ok(count)
}

/// Cells as JSON text by column.
type Row<'a> = BTreeMap<&'a str, String>;

/// Returns the row of a step, without its evaluations.
fn row(history: &History, step: u64, figures: Option<LoggedStep>) -> Row<'static> {
    let mut row = Row::from([("step", step.to_string())]);
    // If several kinds of events belong to a step, `time` is that of the report, or else of the loss, or else of the
    // validation, or else of the first evaluation.
    if let Some((time, validation)) = history.validations.get(&step) {
        row.insert("time", json(time));
        row.insert("epoch", json(&validation.epoch));
        row.insert("val_loss", json(&validation.val_loss));
        for (column, value) in [("psnr", validation.psnr), ("ssim", validation.ssim)] {
            if let Some(value) = value {
                row.insert(column, json(&value));
            }
        }
    }
    let Some(figures) = figures else { return row };
    if let Some((time, loss)) = figures.loss {
        row.insert("time", json(&time));
        row.insert("loss", json(&loss));
    }
    if let Some((time, report)) = figures.report.as_deref() {
        row.insert("time", json(time));
        row.insert("epoch", json(&report.epoch));
        row.insert("elapsed_s", json(&report.elapsed_s));
        row.insert("lr", json(&report.lr));
        row.insert("grad_norm", json(&report.grad_norm));
        row.insert("images_per_s", json(&report.images_per_s));
        row.insert("data_wait", json(&report.data_wait));
    }
    row
}

/// Writes one row.
fn line(
    layout: Layout,
    columns: &[String],
    cells: &[Option<String>],
    out: &mut impl Write,
) -> io::Result<()> {
    if layout == Layout::Csv {
        let cells = cells.iter().map(|cell| match cell.as_deref() {
            None => "",
            Some("null") => "NaN",
            Some(text) => text,
        });
        return writeln!(out, "{}", cells.collect::<Vec<_>>().join(","));
    }
    let known = columns
        .iter()
        .zip(cells)
        .filter_map(|(column, cell)| cell.as_ref().map(|text| format!("{}:{text}", json(column))));
    writeln!(out, "{{{}}}", known.collect::<Vec<_>>().join(","))
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

    /// Adds the cells of a step to its row.
    fn add<'b>(&'b self, step: u64, row: &mut Row<'b>) {
        for (time, metric) in self.by_step.get(&step).into_iter().flatten() {
            row.entry("time").or_insert_with(|| json(time));
            row.extend(self.cells(metric));
        }
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

#[cfg(test)]
mod tests {
    use super::super::history::tests::{evaluated, history, report, started};
    use super::*;

    fn text(layout: Layout, history: &History) -> String {
        let mut bytes = Vec::new();
        assert_eq!(write(history, layout, &mut bytes).expect("memory is writable"), 2);
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_row_per_step_holds_what_is_known_of_it() {
        let (_temp, history) =
            history([started(0), report(2, &[0.1, f32::NAN]), evaluated(2, "k-NN 5, cosine", 0.3)]);
        assert_eq!(
            text(Layout::Csv, &history),
            "step,epoch,time,elapsed_s,loss,lr,grad_norm,images_per_s,data_wait,val_loss,psnr,ssim,\
             \"eval/k-NN 5, cosine\",\"eval/k-NN 5, cosine stderr\",\"baseline/raw, pixels\"\n\
             1,,101.0,,0.1,,,,,,,,,,\n\
             2,0.6666666666666666,101.0,2.0,NaN,0.001,0.5,70.0,0.0,,,,0.3,0.25,0.3\n"
        );
        assert_eq!(
            text(Layout::JsonLines, &history),
            "{\"step\":1,\"time\":101.0,\"loss\":0.1}\n\
             {\"step\":2,\"epoch\":0.6666666666666666,\"time\":101.0,\"elapsed_s\":2.0,\"loss\":null,\"lr\":0.001,\
             \"grad_norm\":0.5,\"images_per_s\":70.0,\"data_wait\":0.0,\"eval/k-NN 5, cosine\":0.3,\
             \"eval/k-NN 5, cosine stderr\":0.25,\"baseline/raw, pixels\":0.3}\n"
        );
    }
}
