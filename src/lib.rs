//! `simmim-tui`: pre-trains a Vision Transformer by `SimMIM` and lets people watch and steer it.
//!
//! ```text
//! Config ──▶ trainer thread: model, optimizer, loader, run folder ──Event──▶ front end (headless)
//!                 ▲                                                            │
//!                 └──────────────────────────Command───────────────────────────┘
//! RUN/: config.toml · events.jsonl (every Event) · previews/ · checkpoints/
//! ```
//! `event` and `config` are leaves; `model` knows the configuration only, `data` nothing of the model, `train`
//! both; front ends know `event`, `progress` and the [`train::Session`]. No tensor crosses a thread.

pub mod bench;
pub mod chart;
pub mod cli;

pub mod config;
pub mod control;
pub mod data;
pub mod device;
pub mod error;
pub mod event;
pub mod headless;
pub mod launch;
pub mod model;
pub mod parity;
pub mod picture;
pub mod plan;
#[cfg(feature = "tui")]
pub mod preview;
pub mod progress;
pub mod quality;
#[cfg(feature = "tui")]
pub mod reconstruct;
pub mod rng;
pub mod run_dir;
pub mod sheet;
pub mod signals;
pub mod tensors;
pub mod train;
#[cfg(feature = "tui")]
pub mod ui;

use cli::{BenchArgs, Cli, Command, ConfigArgs, ParityArgs, TrainArgs};
use device::Device;
use error::Error;
use headless::Style;
use std::io::{IsTerminal as _, stderr, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Does what the command line says.
///
/// # Errors
/// Anything that ends in another exit code than 0.
pub fn run(cli: Cli) -> Result<(), Error> {
    match cli.command {
        None => train(&cli.train),
        Some(Command::Train(args)) => train(&args),
        Some(Command::Plan(args)) => plan(&args),
        Some(Command::Bench(args)) => bench(&args),
        #[cfg(feature = "tui")]
        Some(Command::Preview(args)) => Ok(preview::run(&args, &|checkpoint, images| {
            reconstruct::preview(checkpoint, images).map_err(|error| error.to_string())
        })?),
        Some(Command::Parity(args)) => parity(&args),
    }
}

fn train(args: &TrainArgs) -> Result<(), Error> {
    let job = launch::prepare(args)?;
    let style = if args.json { Style::Json } else { Style::Text };
    let asked = args.no_ui || args.json;
    let obstacle = if asked { None } else { no_screen() };
    if let Some(why) = obstacle {
        say(&mut stderr(), &format!("{why}: headless, as with --no-ui"));
    }
    let root = job.run.root().to_owned();
    say(&mut stderr(), &format!("run {}", root.display()));
    #[cfg(feature = "tui")]
    let app = screen(&job, &args.look);
    let system = |what| move |source| Error::System { what, source };
    let session = train::spawn(job).map_err(system("cannot start the trainer"))?;
    let commands = session.commands.clone();
    let signalled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&signalled);
    let stop = move || {
        flag.store(true, Ordering::Relaxed);
        #[cfg(feature = "tui")]
        ui::terminal::stop_waiting();
        let _ = commands.send(event::Command::Stop); // the trainer may have ended just now
    };
    let abort = || {
        #[cfg(feature = "tui")]
        ui::terminal::abandon();
    };
    signals::on_stop(stop, abort).map_err(system("cannot catch signals"))?;
    let (out, err) = (&mut stdout(), &mut stderr());
    #[cfg(feature = "tui")]
    if !asked && obstacle.is_none() {
        ui::run(session, app, &root, signalled, out, err)?;
        say(out, &format!("run {}", root.display()));
        return Ok(());
    }
    headless::follow(session, style, out, err)?;
    Ok(())
}

/// Why there can be no screen, if so.
fn no_screen() -> Option<&'static str> {
    if cfg!(not(feature = "tui")) {
        return Some("this build has no screen");
    }
    if !stdout().is_terminal() || !stdin().is_terminal() {
        return Some("no terminal");
    }
    std::env::var_os("TERM").is_none_or(|term| term == "dumb").then_some("TERM is dumb or not set")
}

/// The screen's state before the first event.
#[cfg(feature = "tui")]
fn screen(job: &train::run::Job, look: &cli::LookArgs) -> ui::app::App {
    let env = |name: &str| std::env::var(name).ok();
    let extent = train::run::Extent::new(&job.config, job.data.train.len());
    let schedule = train::schedule::Schedule::new(&job.config, extent.steps_per_epoch);
    let colors = ui::theme::detect(look.color.and_then(cli::Color::depth), env);
    let ascii = look.ascii || !ui::theme::has_unicode(env);
    let name = job.run.root().display().to_string();
    ui::app::App::new(name, Box::new(move |step| schedule.lr(step)), colors, ascii)
}

fn plan(args: &ConfigArgs) -> Result<(), Error> {
    let config = launch::config(args)?;
    let data = data::open(&config.data)?;
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

fn parity(args: &ParityArgs) -> Result<(), Error> {
    let device: Device = device::select(&args.device)?.device;
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

/// Prints a line; a reader that left is no reason to fail.
fn say(out: &mut impl std::io::Write, line: &str) {
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
