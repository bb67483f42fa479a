//! All integration tests, as one program: each further program would link the whole of Burn once more.
//!
//! A test that needs a process of its own (because it panics on a terminal, counts the open files of the process or
//! acts as another user) starts this program again with its own name.
//! `cargo test --release --test it resume::` runs one module.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests print for whoever runs them, and children of tests for their parents"
)]

// What the tests share: the program as a child process, terminals for it, and a recorded run on the screen.
mod common;

// Whether files, figures and documents agree with the program.

/// Runs every shell command of the documents.
mod docs;
/// Reads what earlier releases wrote.
mod formats;
/// The program names what is linked into it, and its licences.
mod licences;
/// Compares the tables of the documents, and the keys and files that they name, with the code.
mod reference;
/// A room of `src` imports only rooms below it; ARCHITECTURE.md describes each.
mod rooms;

// How a step computes.

/// The fused operations of the CPU give PyTorch's values with each instruction set.
mod fast_ops;
/// The compiled kernels of the GPU are those of their sources.
mod kernels;
/// Precision and activation checkpointing do what they say.
mod options;
/// The model, its gradients, the optimizer and the schedule give the values of PyTorch and timm.
mod parity;

// A run of the program, from its start to its end.

/// The command `check` says what of a run is sound.
mod check;
/// A disk that fails costs no step, and the log is as durable as the weights.
mod durable;
/// Each file operation fails in turn, and no step, weight or line of the log is lost.
mod fault_loop;
/// Wrong input and a failing system end with the right exit code and one helpful line.
mod faults;
/// Hostile files and lines end no command in another way than an error.
mod fuzz;
/// The lines, files and JSON of a run without the screen.
mod headless;
/// A run that is killed at any moment loses at most the work since its last checkpoint.
mod kill;
/// Lengths in steps, and the images of validations.
mod length;
/// What `bench --data` and `plan` say of the data, and a number of workers that a run finds by itself.
mod loading;
/// What a power cut leaves of a run can be resumed, and its log has no gap.
mod power_cut;
/// A resumed run computes what the unbroken run computes, bit for bit.
mod resume;
/// Version, doctor, completions and manual pages.
mod shell;
/// Each signal in each phase ends a run as documented.
mod signals;

// What comes from outside.

/// What people have on disk and what they bring along.
mod cases;
/// Shards hold what their source holds, after kills, full disks and damage, too; Python's `webdataset` reads them.
mod pack;

/// What others left in a folder, a log or a socket is not followed, believed or waited for, and nothing is overwritten.
mod trust;

// What is done with what was trained.

/// The commands `eval`, `features` and `embed`, and evaluations during a run.
mod eval;
/// Exported weights and histories can be read by others and come home.
mod export;
/// From pre-training to a classifier.
mod finetune;

// Watching and steering a run.

/// Alarms reach the log, the screen and the user's command, and cost no work.
mod alarms;
/// The control socket: orders, followers, abuse, other users, leaks.
mod control;
/// Orders to the trainer, in every sequence and at the worst moment.
mod steering;
/// Viewers come and go while a real run trains.
#[cfg(feature = "tui")]
mod viewers;

// The screen.

/// The run goes on when the line drops, the user detaches or the terminal stalls.
#[cfg(feature = "tui")]
mod hangup;
/// What people do at the keys, one test for each journey.
#[cfg(feature = "tui")]
mod journeys;
/// A panic in the screen costs the screen, a panic in the trainer costs the run; the terminal is restored after both.
#[cfg(feature = "tui")]
mod panics;
/// The program on a terminal: keys in, screen out, and how the terminal is left.
#[cfg(feature = "tui")]
mod pty;
/// Pictures of the screen at three sizes in every state.
#[cfg(feature = "tui")]
mod screen;
/// A whole session in a real tmux.
#[cfg(feature = "tui")]
mod tmux;

use std::fs;
use std::path::Path;

/// A file that no `mod` line names would never be compiled, and its tests never run.
#[test]
fn every_file_in_this_folder_is_a_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut folders = vec![(root.clone(), root.join("main.rs"))];
    while let Some((folder, parent)) = folders.pop() {
        let declarations = fs::read_to_string(&parent).expect("a module folder has a mod.rs");
        for entry in fs::read_dir(&folder).expect("the folder can be listed").flatten() {
            let path = entry.path();
            let module = path.file_stem().expect("a file has a name").to_string_lossy();
            let code = path.extension().is_some_and(|extension| extension == "rs");
            if path == parent || !(code || path.join("mod.rs").exists()) {
                continue;
            }
            let declared = declarations.lines().any(|line| {
                line.trim_start_matches("pub ")
                    .strip_prefix("mod ")
                    .and_then(|rest| rest.strip_suffix(';'))
                    == Some(&*module)
            });
            assert!(declared, "{} is not declared in {}", path.display(), parent.display());
            if path.is_dir() {
                folders.push((path.clone(), path.join("mod.rs")));
            }
        }
    }
}
