//! The commands `ctl` and `runs`, tested on a fake trainer.

use super::fake::{DEADLINE, Fake, bury, failed, finished, own, place, started, step, until};
use serde_json::Value;
use simmim_tui::event::{Command as Word, Event, Order, Phase, Work, WorkProgress};
use simmim_tui::run_dir::Owner;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Runs the program in `folder`; returns its exit code, standard output and standard error.
fn program(arguments: &[&str], folder: &Path) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_simmim-tui"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Answers orders as a trainer would, until it is told to stop.
fn pretend(mut fake: Fake) -> JoinHandle<Fake> {
    fake.say(started(0));
    fake.say(step(120));
    thread::spawn(move || {
        while let Ok(order) = fake.orders.recv() {
            // Orders of others are carried out, too, and `ctl` must not take them for its own.
            fake.say(Event::Obeyed(Order::new(order.command, "the screen")));
            thread::sleep(Duration::from_millis(100));
            match order.command {
                Word::Pause => {
                    fake.say(step(123));
                    fake.say(Event::Phase { phase: Phase::Paused });
                }
                Word::Resume => fake.say(Event::Phase { phase: Phase::Running }),
                Word::Checkpoint => fake.say(Event::CheckpointSaved {
                    step: 123,
                    path: "checkpoints/step-00000123.safetensors".to_owned(),
                    bytes: 1,
                    best: false,
                }),
                Word::Stop => {}
            }
            let stop = order.command == Word::Stop;
            fake.say(Event::Obeyed(order));
            if stop {
                thread::sleep(Duration::from_millis(100));
                fake.say(finished(125));
                fake.hang_up();
                return fake;
            }
        }
        fake
    })
}

#[test]
fn orders_are_carried_out_before_ctl_ends() {
    let (temp, root) = place();
    let trainer = pretend(Fake::start(&root));
    let ctl = |words: &[&str]| program(&[&["ctl", "run"], words].concat(), temp.path());
    assert_eq!(ctl(&["pause"]), (Some(0), "paused at step 123\n".to_owned(), String::new()));
    let (code, out, err) = ctl(&["status"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("run  paused\n"), "{out}");
    assert!(out.contains("step 123/1000  epoch 12.30/100  loss 0.5000  eta 1m00s\n"), "{out}");
    assert_eq!(ctl(&["resume"]).1, "resumed at step 123\n");
    let saved = "checkpoint checkpoints/step-00000123.safetensors at step 123\n";
    assert_eq!(ctl(&["checkpoint"]).1, saved);
    let (_, out, _) = ctl(&["checkpoint", "--json"]);
    let value: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(value["checkpoint"], "checkpoints/step-00000123.safetensors");
    assert_eq!((value["step"].as_u64(), &value["command"]), (Some(123), &"checkpoint".into()));
    assert_eq!(ctl(&["pause", "--no-wait"]).1, "pause accepted\n");
    assert_eq!(
        ctl(&["stop"]),
        (Some(0), "stopped and saved at step 125\n".to_owned(), String::new())
    );
    drop(trainer.join().expect("no panic"));
    bury(&root);
    let (code, out, err) = ctl(&["pause"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let text = "simmim-tui: run: no process trains this run: it ended ";
    assert!(err.starts_with(text) && err.ends_with(" ago (stopped at step 125)\n"), "{err}");
    let (code, out, _) = ctl(&["status", "--json"]);
    let value: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, &value["state"], &value["owner"]["alive"]),
        (Some(0), &"stopped".into(), &false.into())
    );
}

#[test]
fn an_order_without_an_effect_ends_in_one_line() {
    let (temp, root) = place();
    let mut fake = Fake::start(&root);
    fake.say(started(0));
    let (code, _, err) = program(&["ctl", "run", "pause", "--timeout", "1"], temp.path());
    assert_eq!(code, Some(1));
    let text = "simmim-tui: run: pause not carried out within 1s; the trainer will still do it\n";
    assert_eq!(err, text);
    // The run ends, fails or is killed before it carries out the order.
    let gone = AtomicBool::new(false);
    let wait = |fake: &Fake| {
        let ordered = fake.orders.recv_timeout(DEADLINE);
        ordered.expect("the order arrives");
        gone.store(true, Ordering::Relaxed);
    };
    while fake.orders.try_recv().is_ok() {}
    for (event, says) in [
        (Some(finished(9)), " ago (stopped at step 9)\n"),
        (Some(failed()), ": it went wrong\n"),
        (None, " ago (step 0)\n"),
    ] {
        let (code, err) = thread::scope(|scope| {
            let ctl = scope.spawn(|| program(&["ctl", "run", "checkpoint"], temp.path()));
            wait(&fake);
            if let Some(event) = event {
                fake.say(event);
            }
            fake.hang_up();
            bury(&root);
            let (code, _, err) = ctl.join().expect("no panic");
            (code, err)
        });
        assert_eq!(code, Some(1), "{err}");
        let text = "simmim-tui: run: the run ended before it could checkpoint: ";
        assert!(err.starts_with(text) && err.ends_with(says), "{err}");
        drop(fake);
        fake = Fake::start(&root);
        fake.say(started(0));
    }
    assert!(gone.load(Ordering::Relaxed));
}

#[test]
fn what_can_not_be_reached_is_told_apart() {
    let (temp, root) = place();
    let ctl = |word: &str| program(&["ctl", "run", word], temp.path());
    let (code, _, err) = ctl("pause");
    assert_eq!(
        (code, err.as_str()),
        (Some(2), "simmim-tui: no run at run: ctl takes a run directory\n")
    );
    assert_eq!(program(&["ctl", "run", "fly"], temp.path()).0, Some(2));
    let mut fake = Fake::start(&root);
    fake.say(started(0));
    fake.hang_up();
    let (code, _, err) = ctl("pause");
    let text = format!("simmim-tui: run: process {} takes no orders\n", std::process::id());
    assert_eq!((code, err), (Some(1), text));
    own(&root, &Owner { pid: 7, host: "node7".to_owned(), ..Owner::me() });
    let (code, _, err) = ctl("pause");
    let text = "simmim-tui: run: it runs as process 7 on host node7: give the order there\n";
    assert_eq!((code, err.as_str()), (Some(1), text));
    fake.die();
    let (code, _, err) = ctl("pause");
    assert_eq!(code, Some(1));
    let text = "simmim-tui: run: no process trains this run: process 4711 ended without a word; ";
    assert!(err.starts_with(text), "{err}");
}

#[test]
fn runs_lists_what_there_is() {
    let (temp, _) = place();
    let runs = |words: &[&str]| program(&[&["runs"], words].concat(), temp.path());
    assert_eq!(runs(&[]), (Some(0), "no runs in runs\n".to_owned(), String::new()));
    assert_eq!(runs(&["--json"]), (Some(0), String::new(), "no runs in runs\n".to_owned()));
    assert_eq!(runs(&["nowhere"]).0, Some(2));
    let at = |name: &str| temp.path().join("runs").join(name);
    let mut old = Fake::start(&at("old"));
    old.say(started(0));
    old.say(finished(9));
    old.die();
    let mut new = Fake::start(&at("new"));
    new.say(started(0));
    new.say(step(120));
    new.say(Event::Phase { phase: Phase::Running });
    fs::create_dir(at("no-run")).expect("a folder");
    fs::create_dir_all(at("strange").join("events.jsonl")).expect("a folder");
    let (code, out, err) = runs(&[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let starts: Vec<_> = out.lines().map(|line| line.split("  ").next().unwrap_or("")).collect();
    assert_eq!(starts, ["run", "runs/new", "runs/old", "runs/strange"], "{out}");
    assert!(out.contains("  running  120/1000  0.5000  -"), "{out}");
    let (_, out, _) = runs(&["--json", "runs/new"]);
    let value: Value = serde_json::from_str(&out).expect("one object");
    assert_eq!((&value["path"], &value["state"]), (&"runs/new".into(), &"running".into()));
    assert_eq!((value["step"].as_u64(), value["total_steps"].as_u64()), (Some(120), Some(1000)));
    assert_eq!(value["owner"]["pid"].as_u64(), Some(std::process::id().into()));
    assert!(value["age_s"].as_f64() >= Some(0.0) && value["val_loss"].is_null());
    until("a look takes no lock", || {
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20 {
                    simmim_tui::run_dir::digest(&at("old"));
                }
            });
            (0..50).all(|_| simmim_tui::run_dir::RunDir::open(&at("old")).is_ok())
        })
    });
}

#[test]
fn a_status_tells_how_far_a_validation_is_which_no_log_has() {
    let (temp, _) = place();
    let root = temp.path().join("runs").join("new");
    let mut fake = Fake::start(&root);
    fake.say(started(0));
    fake.say(Event::Phase { phase: Phase::Evaluating });
    let status =
        |json: &[&str]| program(&[&["ctl", "runs/new", "status"], json].concat(), temp.path()).1;
    assert!(!status(&[]).contains("3,200"), "nothing is told yet");
    let (step, work) = (0, Work::Validation);
    let progress = WorkProgress { step, work, done: 3200, total: 50_000 };
    fake.say_unlogged(Event::Progress(progress));
    let text = status(&[]);
    assert!(text.contains("  validating 3,200/50,000 images"), "{text}");
    let value: Value = serde_json::from_str(&status(&["--json"])).expect("one object");
    assert_eq!(value["progress"]["work"], "validation");
    assert_eq!(value["progress"]["done"].as_u64(), Some(3200));
    assert_eq!(value["progress"]["total"].as_u64(), Some(50_000));
    fake.say(Event::Phase { phase: Phase::Running });
    assert!(!status(&[]).contains("3,200"), "it is over");
    let log = fs::read_to_string(root.join("events.jsonl")).expect("readable");
    assert!(!log.contains("progress"), "{log}");
}
