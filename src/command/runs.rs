//! The `runs` command: lists runs as text and as JSON. The lines about a single run are here too, for `ctl status`.

use crate::error::Error;
use crate::event::{Alarm, Metric, Phase, Started, Validation, WorkProgress};
use crate::run_dir::digest::RunRow;
use crate::run_dir::{self, Digest, Liveness, digest};
use crate::shown;
use crate::terminal::unicode::plus_minus;
use crate::text::say::{json, say, tell, tell_all};
use crate::text::units::{percent, span};
use serde::Serialize;
use std::fs;
use std::io::stderr;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, clap::Args)]
pub struct RunsArgs {
    /// Directories that hold runs, or run directories [default: runs]
    #[arg(value_name = "DIR")]
    pub folders: Vec<PathBuf>,
    /// Print one JSON object per run
    #[arg(long)]
    pub json: bool,
}

/// Lists the runs of the given directories.
///
/// # Errors
/// If a directory is missing, or standard output can't be written.
pub fn run(args: &RunsArgs) -> Result<(), Error> {
    if let Some(missing) = args.folders.iter().find(|folder| !folder.exists()) {
        return Err(Error::Usage(format!("there is no {}", shown::path(missing))));
    }
    let usual = [PathBuf::from("runs")];
    let folders = if args.folders.is_empty() { &usual[..] } else { &args.folders };
    let runs = find(folders);
    if runs.is_empty() {
        let names: Vec<_> = folders.iter().map(|folder| shown::path(folder).to_string()).collect();
        let line = format!("no runs in {}", names.join(", "));
        // Standard output of --json holds objects only, so the reason goes to standard error.
        if args.json { say(&mut stderr(), &line) } else { tell(&line)? }
    } else if args.json {
        tell_all(runs.iter().map(|run| json(&run.row())))?;
    } else {
        tell_all(table(&runs))?;
    }
    Ok(())
}

/// Returns the runs in these directories, newest first; a directory may be a run itself. Whatever is no run or can't be
/// read is left out.
fn find(folders: &[PathBuf]) -> Vec<Digest> {
    let mut roots: Vec<PathBuf> = folders.iter().flat_map(|folder| runs_in(folder)).collect();
    roots.sort();
    roots.dedup();
    let mut runs: Vec<Digest> = roots.iter().map(|root| digest(root)).collect();
    runs.sort_by(|a, b| b.run.time.total_cmp(&a.run.time));
    runs
}

fn runs_in(folder: &Path) -> Vec<PathBuf> {
    if run_dir::holds_run(folder) {
        return vec![folder.to_owned()];
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let inside = entries.map(|entry| entry.path());
    inside.filter(|path| path.is_dir() && run_dir::holds_run(path)).collect()
}

/// Returns a table with a line for each run.
fn table(runs: &[Digest]) -> Vec<String> {
    let mut rows: Vec<[String; 6]> =
        vec![["run", "state", "step", "loss", "best val_loss", "last event"].map(str::to_owned)];
    rows.extend(runs.iter().map(cells));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..6).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn cells(run: &Digest) -> [String; 6] {
    let row = run.row();
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    [
        shown::line(&row.path).into_owned(),
        shown::line(&row.state).into_owned(),
        format!("{}/{}", row.step, row.total_steps),
        figure(row.loss.map(f64::from)),
        match row.accuracy {
            Some(accuracy) => format!("{} ({})", figure(row.val_loss), percent(accuracy)),
            None => figure(row.val_loss),
        },
        row.age_s.map_or("-".to_owned(), |age| format!("{} ago", span(age))),
    ]
}

/// The state of one run, for programs: its [`RunRow`] and what it does at the moment.
#[derive(Debug, Serialize)]
pub struct Status {
    #[serde(flatten)]
    pub row: RunRow,
    pub phase: Option<Phase>,
    /// How far the validation or evaluation is that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<WorkProgress>,
    pub epoch: Option<f64>,
    pub epochs: Option<u64>,
    pub lr: Option<f64>,
    pub images_per_s: Option<f64>,
    pub eta_s: Option<f64>,
    /// Loss of the newest validation.
    pub last_val_loss: Option<f64>,
    /// Figures of the newest evaluation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// The newest checkpoint, relative to the run directory.
    pub checkpoint: Option<String>,
    /// Who ordered the last stop.
    pub stopped_by: Option<String>,
    /// Alarms that are active.
    pub alarms: Vec<Alarm>,
}

impl Status {
    pub fn new(digest: &Digest) -> Self {
        let run = &digest.run;
        let report = run.last_step.as_ref();
        Self {
            row: digest.row(),
            phase: run.phase.filter(|_| digest.liveness != Liveness::Gone),
            progress: run.progress.filter(|_| digest.is_going_on()),
            epoch: report.map(|report| report.epoch),
            epochs: run.started.as_ref().map(|started| started.epochs),
            lr: report.map(|report| report.lr),
            images_per_s: report.map(|report| report.images_per_s),
            eta_s: report.map(|report| report.eta_s),
            last_val_loss: run.last_validation.as_ref().map(Validation::comparable_loss),
            metrics: run
                .last_evaluation
                .as_ref()
                .map(|last| last.metrics.clone())
                .unwrap_or_default(),
            checkpoint: run.checkpoint.clone(),
            stopped_by: run.stopped_by.clone(),
            alarms: run.alarms.clone(),
        }
    }
}

/// Returns the state of one run as a few lines for people.
pub(super) fn status(digest: &Digest) -> Vec<String> {
    let status = Status::new(digest);
    let row = &status.row;
    let mut lines = vec![format!("{}  {}", row.path, row.state)];
    lines.push(match &digest.liveness {
        Liveness::Local(owner) | Liveness::Remote(owner) => owner.describe(),
        Liveness::Gone => digest.describe_end(),
    });
    let epochs = digest.run.started.as_ref().map(Started::epochs_text);
    let epoch = status.epoch.zip(epochs);
    let progress = [
        Some(format!("step {}/{}", row.step, row.total_steps)),
        epoch.map(|(epoch, epochs)| format!("epoch {epoch:.2}/{epochs}")),
        status.progress.map(|progress| format!("{} images", progress.text())),
        row.loss.map(|loss| format!("loss {loss:.4}")),
        row.val_loss.map(|val_loss| format!("best val_loss {val_loss:.4}")),
        row.accuracy.map(|accuracy| format!("best top-1 {}", percent(accuracy))),
        status.eta_s.filter(|_| digest.is_going_on()).map(|eta| format!("eta {}", span(eta))),
    ];
    lines.push(progress.into_iter().flatten().collect::<Vec<_>>().join("  "));
    if let Some(last) = &digest.run.last_evaluation {
        let metrics = last.metrics.iter().map(|metric| metric.text(plus_minus()));
        let metrics: Vec<String> = metrics.collect();
        lines.push(format!("evaluated at step {}: {}", last.step, metrics.join("  ")));
    }
    lines.extend(status.checkpoint.as_ref().map(|path| format!("checkpoint {path}")));
    lines.extend(row.age_s.map(|age| format!("last event {} ago", span(age))));
    lines.extend(status.alarms.iter().map(|alarm| {
        let (kind, step) = (alarm.kind.name(), alarm.step);
        format!("ALARM {kind} at step {step}: {}", alarm.message)
    }));
    lines.iter().map(|line| shown::line(line).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AlarmKind, Event, Stamped};
    use crate::run_dir::{EventLog, RunDir};

    fn write(root: &Path, time: f64, text: &str) {
        fs::create_dir_all(root).expect("a folder");
        let line = format!("{{\"time\":{time},{text}}}\n");
        fs::write(root.join("events.jsonl"), line).expect("writable");
    }

    #[test]
    fn runs_are_listed_newest_first_in_columns() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| temp.path().join(name);
        write(&at("old"), 1.0, "\"event\":\"phase\",\"phase\":\"running\"");
        let finished = "\"event\":\"finished\",\"step\":1000,\"reason\":\"completed\",\
            \"best_val_loss\":0.25,\"elapsed_s\":1";
        write(&at("a-longer\nname"), 3.0, finished);
        write(&at("new"), 2.0, "garbage");
        fs::create_dir(at("no-run")).expect("a folder");
        fs::write(at("file"), "").expect("writable");
        let runs = find(&[temp.path().to_owned(), at("old"), at("nowhere"), at("file")]);
        let lines = table(&runs);
        assert_eq!(lines.len(), 4);
        let columns: Vec<Vec<&str>> = lines
            .iter()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        let newest = at("a-longer\\nname").display().to_string();
        assert_eq!(columns[1][1..5], ["finished", "1000/0", "-", "0.2500"]);
        assert_eq!(columns[1][0], newest);
        assert_eq!(columns[2][0].trim(), at("old").display().to_string());
        assert_eq!(columns[2][1], "dead");
        assert!(columns[2][5].contains(" ago"), "{lines:?}");
        assert_eq!(columns[3][1..], ["dead", "0/0", "-", "-", "-"]);
        let starts: Vec<_> = ["state", "finished", "dead", "dead"]
            .iter()
            .zip(&lines)
            .map(|(word, line)| line.find(word))
            .collect();
        assert!(starts.iter().all(|start| *start == starts[0] && start.is_some()), "{lines:?}");
    }

    #[test]
    fn the_status_names_the_process_and_alarms() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let run = RunDir::create(temp.path()).expect("a new run");
        let mut log = EventLog::open(&run.events_path()).expect("writable");
        log.append(&Stamped::now(Event::Phase { phase: Phase::Running })).expect("written");
        let alarm = Alarm {
            kind: AlarmKind::DiskLow,
            active: true,
            step: 7,
            message: "1 MiB\nleft".to_owned(),
        };
        log.append(&Stamped::now(Event::Alarm(alarm))).expect("written");
        let digest = digest(temp.path());
        let lines = status(&digest);
        assert!(lines[0].ends_with("  running"), "{lines:?}");
        assert_eq!(lines[1], format!("process {}", std::process::id()));
        assert_eq!(lines.last().expect("some"), "ALARM disk nearly full at step 7: 1 MiB\\nleft");
        let value = serde_json::to_value(Status::new(&digest)).expect("plain data");
        assert_eq!(value["state"], "running");
        assert_eq!(value["owner"]["alive"], true);
        assert_eq!(value["alarms"][0]["kind"], "disk_low");
    }
}
