//! `simmim-tui`: pre-trains a Vision Transformer by `SimMIM` and lets people watch and steer it.
//!
//! ```text
//! Config ──▶ trainer thread: model, optimizer, loader, run folder ──Event──▶ front end (screen, headless), viewers
//!                 ▲                                                            │
//!                 └───────────────────────────Order────────────────────────────┘
//! RUN/: config.toml · events.jsonl (every Event) · previews/ · checkpoints/ · control.sock ──▶ attach, ctl
//! ```
//! `event` and `config` are leaves; `model` knows the configuration only, `data` nothing of the model, `train`
//! both; front ends know `event`, `progress` and the [`train::Session`]. No tensor crosses a thread.

pub mod cli;
pub mod command;
pub mod config;
pub mod control;
pub mod data;
pub mod engine;
pub mod error;
pub mod eval;
pub mod event;
#[cfg(any(feature = "tui", feature = "cuda"))]
pub mod gpu;
pub mod headless;
pub mod model;
pub mod ops;
pub mod picture;
pub mod process;
pub mod rng;
pub mod run_dir;
pub mod terminal;
pub mod text;
pub mod train;
#[cfg(feature = "tui")]
pub mod ui;
pub mod version;
pub mod weights;

#[cfg(feature = "tui")]
use crate::command::preview::{self, reconstruct};
#[cfg(feature = "tui")]
use crate::command::{attach, embed};
use crate::command::{bench, doctor, export, features, finetune, plan, prepare, runs, shell};
use crate::engine::{device, parity};
use crate::weights::foreign::start as import;
use cli::{BenchArgs, Cli, CliCommand, ConfigArgs, CtlArgs, ParityArgs, RunsArgs};
use config::Precision;
use engine::device::{Device, precision::Effective};
use error::Error;
use std::io::{stderr, stdout};
use std::path::PathBuf;
use std::time::Duration;

/// Does what the command line says.
///
/// # Errors
/// Anything that ends in another exit code than 0.
pub fn run(cli: Cli) -> Result<(), Error> {
    match cli.command {
        None => command::train::train(&cli.train, || prepare::prepare(&cli.train)),
        Some(CliCommand::Train(args)) => command::train::train(&args, || prepare::prepare(&args)),
        Some(CliCommand::Finetune(args)) => {
            command::train::train(&args.train, || finetune::prepare(&args))
        }
        Some(CliCommand::Plan(args)) => plan(&args),
        Some(CliCommand::Bench(args)) => bench(&args),
        #[cfg(feature = "tui")]
        Some(CliCommand::Preview(args)) => Ok(preview::run(&args, &|checkpoint, images| {
            reconstruct::preview(checkpoint, images).map_err(|error| error.to_string())
        })?),
        #[cfg(feature = "tui")]
        Some(CliCommand::Attach(args)) => attach::attach(&args),
        #[cfg(feature = "tui")]
        Some(CliCommand::Embed(args)) => embed::run(&args),
        Some(CliCommand::Eval(args)) => command::eval::run(&args),
        Some(CliCommand::Features(args)) => features::run(&args),
        Some(CliCommand::Export(args)) => export::run(&args),
        Some(CliCommand::Import(args)) => import::run(&args),
        Some(CliCommand::Runs(args)) => list(&args),
        Some(CliCommand::Ctl(args)) => ctl(&args),
        Some(CliCommand::Doctor(args)) => doctor::run(&args),
        Some(CliCommand::Completions(args)) => shell::completions(&args),
        Some(CliCommand::Man(args)) => shell::man(&args),
        Some(CliCommand::Parity(args)) => parity(&args),
    }
}

fn plan(args: &ConfigArgs) -> Result<(), Error> {
    let mut config = prepare::config(args)?;
    let (data, notice) = prepare::open_data(&mut config)?;
    if let Some(notice) = notice {
        say(&mut stderr(), &format!("warning: {notice}"));
    }
    let plan = plan::Plan::new(&config, data.train.len());
    say(&mut stdout(), plan.text(&config, &data.description).trim_end());
    Ok(())
}

fn bench(args: &BenchArgs) -> Result<(), Error> {
    let report = bench::run(args)?;
    let text = serde_json::to_string(&report)
        .map_err(|error| Error::System { what: "bench", source: error.into() })?;
    say(&mut stdout(), &text);
    Ok(())
}

fn list(args: &RunsArgs) -> Result<(), Error> {
    if let Some(missing) = args.folders.iter().find(|folder| !folder.exists()) {
        return Err(Error::Usage(format!("there is no {}", missing.display())));
    }
    let usual = [PathBuf::from("runs")];
    let folders = if args.folders.is_empty() { &usual[..] } else { &args.folders };
    let runs = runs::find(folders);
    if runs.is_empty() {
        let names: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let line = format!("no runs in {}", names.join(", "));
        // Who asks for JSON gets no objects, and still learns why.
        if args.json { say(&mut stderr(), &line) } else { say(&mut stdout(), &line) }
    } else if args.json {
        say_all(runs.iter().map(|run| json(&run.row())));
    } else {
        say_all(runs::table(&runs));
    }
    Ok(())
}

fn ctl(args: &CtlArgs) -> Result<(), Error> {
    let (root, out) = (&args.run, &mut stdout());
    if !run_dir::holds_run(root) {
        return Err(Error::Usage(format!(
            "no run at {}: ctl takes a run directory",
            root.display()
        )));
    }
    if let Some(command) = args.order.command() {
        let limit = (!args.no_wait).then_some(Duration::from_secs(args.timeout));
        let done = control::order::order(root, command, limit)?;
        say(out, &if args.json { json(&done) } else { done.text() });
        return Ok(());
    }
    let digest = run_dir::digest(root);
    if args.json {
        say(out, &json(&runs::Status::new(&digest)));
    } else {
        say_all(runs::status(&digest));
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() // plain data
}

fn parity(args: &ParityArgs) -> Result<(), Error> {
    let device: Device = device::select(&args.device)?.device;
    let Effective { notice, .. } = Effective::of(Precision::Fp32, &device);
    if let Some(notice) = notice {
        say(&mut stderr(), &notice); // why the tolerances are wider
    }
    let groups = parity::check(&args.file, &device)?;
    for group in &groups {
        let verdict = if group.passes() { "ok  " } else { "FAIL" };
        let line = format!(
            "{verdict} {:<16} largest error {:.2e}  tolerance {:.0e}  {}",
            group.name, group.error, group.tolerance, group.at
        );
        say(&mut stdout(), &line);
    }
    let failed = groups.iter().filter(|group| !group.passes()).count();
    if failed > 0 {
        return Err(Error::PastTolerance { failed, groups: groups.len() });
    }
    Ok(())
}

fn say_all(lines: impl IntoIterator<Item = String>) {
    let out = &mut stdout();
    for line in lines {
        say(out, &line);
    }
}

/// Prints a line; a reader that left is no reason to fail.
fn say(out: &mut impl std::io::Write, line: &str) {
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
