//! A process that is killed at any moment loses at most the work since its last checkpoint.

use crate::common::{self, Reader, Running};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const KILLS: usize = 20;

const SETTINGS: [&str; 8] = [
    "--set",
    "train.epochs=16",
    "--set",
    "checkpoint.every_steps=2",
    "--set",
    "train.log_every=3",
    "--set",
    "train.val_every=3",
];

/// Marsaglia's xorshift64. Random moments need no better generator.
struct Random(u64);

impl Random {
    /// Returns a duration below `limit`.
    fn below(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        limit.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// Starts the run, or resumes it if it has begun. The settings are on the command line both times, because a kill may
/// come before they are saved.
fn start(folder: &Path) -> Running {
    let run = folder.join("run");
    let begun = run.join("config.toml").exists() || run.join("events.jsonl").exists();
    let place = if begun { ["--resume", "run"] } else { ["--run-dir", "run"] };
    let arguments = common::tiny(&[&SETTINGS[..], &place, &["--no-ui"]].concat());
    Running::start(folder, &arguments, Reader::All)
}

#[test]
fn a_run_killed_at_twenty_random_moments_ends_with_the_weights_of_an_unbroken_one() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let unbroken = temp.path().join("unbroken");
    std::fs::create_dir(&unbroken).expect("a folder");
    let begin = Instant::now();
    let process = start(&unbroken);
    common::until_step(&unbroken.join("run"), "step", 1);
    let starting = begin.elapsed();
    process.end().expect(0, "the unbroken run");
    let stepping = begin.elapsed().saturating_sub(starting);
    let expected = common::newest_state(&unbroken.join("run"));

    // Long enough to get past the start, and short enough that one run suffers nearly all of the kills.
    let latest = starting.mul_f64(1.5) + stepping.mul_f64(1.5 / KILLS as f64);
    let mut random = Random(0x005E_ED0F_51AA_D1E5);
    let (mut kills, mut runs) = (0, 0);
    while kills < KILLS || runs == 0 {
        let folder = temp.path().join(format!("killed-{runs}"));
        let run = folder.join("run");
        std::fs::create_dir(&folder).expect("a folder");
        loop {
            let mut process = start(&folder);
            if kills < KILLS {
                thread::sleep(random.below(latest)); // What the run has done by then doesn't matter.
                if !process.has_ended() {
                    process.kill();
                    kills += 1;
                    common::events(&run); // Fails unless every whole line is JSON.
                    continue;
                }
            }
            process.end().expect(0, &format!("the start after {kills} kills"));
            break;
        }
        runs += 1;
        common::assert_same_state(
            &common::newest_state(&run),
            &expected,
            &format!("run {runs}, {kills} kills so far"),
        );
        common::assert_finished(&run, "completed");
        let leftovers: Vec<_> = common::names(&run)
            .into_iter()
            .filter(|path| path.extension().is_some_and(|ending| ending == "damaged"))
            .collect();
        assert!(leftovers.is_empty(), "no checkpoint was torn: {leftovers:?}");
    }
    eprintln!("{kills} kills over {runs} runs, each within {latest:?} of its start");
}

#[test]
fn a_run_killed_before_its_first_checkpoint_starts_again_with_its_own_configuration() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path();
    common::run_tiny(folder, &["--run-dir", "whole"]).expect(0, "the unbroken run");
    let expected = common::newest_state(&folder.join("whole"));
    // The files that exist after a kill at each point of the start, and how the run is then started again.
    let again = common::tiny(&["--run-dir", "run"]);
    let cases: [(&str, &[&str], &[&str]); 4] = [
        ("the folder", &[], &again),
        ("the lock", &["lock"], &again),
        ("the configuration", &["lock", "config.toml"], &["--resume", "run"]),
        ("a torn event", &["lock", "config.toml", "events.jsonl"], &["--resume", "run"]),
    ];
    for (name, files, arguments) in cases {
        let run = folder.join("run");
        for part in ["checkpoints", "previews"] {
            std::fs::create_dir_all(run.join(part)).expect("a folder");
        }
        for file in files {
            let mut bytes = std::fs::read(folder.join("whole").join(file)).expect("there");
            if *file == "events.jsonl" {
                bytes.truncate(100);
            }
            std::fs::write(run.join(file), bytes).expect("writable");
        }
        common::run(folder, arguments).expect(0, name);
        common::assert_same_state(&common::newest_state(&run), &expected, name);
        common::assert_finished(&run, "completed");
        std::fs::remove_dir_all(&run).expect("it can be removed");
    }
}
