//! Orders to the trainer, in every sequence and at the worst moment: before and during the first validation.

use crate::common::{self, checkpoint_at};
use crossbeam_channel::{Receiver, Sender, unbounded};
use simmim_tui::config::{Config, file};
use simmim_tui::data;
use simmim_tui::event::{Command, Event, Order, Phase, Reason, Stamped};
use simmim_tui::run_dir::RunDir;
use simmim_tui::train::{Job, RunSummary, Start, TrainError, Trainer};
use simmim_tui::weights::checkpoint;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// The time after which a wait has failed: far more than any of these runs takes.
const DEADLINE: Duration = Duration::from_mins(2);

fn config(sets: &[&str]) -> Config {
    let mut all: Vec<String> = common::TINY.map(str::to_owned).into();
    all.extend(sets.iter().map(|&set| set.to_owned()));
    file::load(None, &all).expect("a valid configuration")
}

fn job(config: Config, run: RunDir) -> Job {
    let found = checkpoint::find(&run.checkpoints(), None).expect("sound checkpoints");
    let data = data::open(&config.data).expect("the photos are inside");
    common::job(
        config,
        data,
        run,
        found.map_or(Start::Fresh, |found| Start::Resume(Box::new(found))),
    )
}

struct Running {
    orders: Sender<Order>,
    events: Receiver<Stamped>,
    ended: Receiver<Result<RunSummary, TrainError>>,
}

/// Starts a trainer that has the orders `first` in its channel before it begins.
fn start(config: Config, root: &Path, first: &[Command]) -> Running {
    let run =
        if root.exists() { common::reopen(root) } else { RunDir::create(root).expect("a new run") };
    let job = job(config, run);
    let ((orders, inbox), (sender, events), (done, ended)) =
        (unbounded(), unbounded(), unbounded());
    for &command in first {
        orders.send(Order::new(command, "the test")).expect("the trainer will read it");
    }
    thread::spawn(move || {
        let result = Trainer::new(job, vec![Box::new(sender)], inbox).and_then(Trainer::run);
        let _ = done.send(result);
    });
    Running { orders, events, ended }
}

impl Running {
    fn say(&self, command: Command) {
        self.orders.send(Order::new(command, "the test")).expect("it runs");
    }

    fn end(&self) -> RunSummary {
        let result = self.ended.recv_timeout(DEADLINE).expect("the trainer doesn't hang");
        result.expect("the run ends in order")
    }

    /// Waits for an event and returns it.
    fn until(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.events.recv_timeout(DEADLINE);
            let event = event.unwrap_or_else(|_| panic!("{what} comes")).event;
            if wanted(&event) {
                return event;
            }
        }
    }
}

#[test]
fn no_sequence_of_orders_hangs_the_run() {
    use Command::{Checkpoint, Pause, Resume, Stop};
    let temp = tempfile::tempdir().expect("a temporary folder");
    let cases: [(&[Command], Reason); 9] = [
        (&[], Reason::Completed),
        (&[Pause, Resume], Reason::Completed),
        (&[Pause, Pause, Resume], Reason::Completed),
        (&[Resume, Resume], Reason::Completed),
        (&[Checkpoint, Checkpoint], Reason::Completed),
        (&[Pause, Checkpoint, Resume], Reason::Completed),
        (&[Pause, Stop], Reason::Stopped),
        (&[Stop, Pause], Reason::Stopped),
        (&[Stop, Checkpoint, Pause, Stop], Reason::Stopped),
    ];
    for (number, (orders, reason)) in cases.into_iter().enumerate() {
        let root = temp.path().join(format!("run-{number}"));
        let summary = start(config(&[]), &root, orders).end();
        assert_eq!(summary.finished.reason, reason, "{orders:?}");
        let saved = checkpoint_at(&root, summary.finished.step);
        assert!(saved.exists(), "{orders:?}: the last state is saved");
    }
}

#[test]
fn a_pause_holds_until_resume_and_serves_checkpoints() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().join("run");
    let endless = config(&["train.epochs=100000"]);
    let run = start(endless, &root, &[]);
    run.until("a step", |event| matches!(event, Event::Step(report) if report.step >= 3));
    run.say(Command::Pause);
    run.until("the pause", |event| *event == Event::Phase { phase: Phase::Paused });
    run.say(Command::Checkpoint);
    let saved = run.until("the save", |event| matches!(event, Event::CheckpointSaved { .. }));
    let Event::CheckpointSaved { step, .. } = saved else { unreachable!("matched above") };
    run.until("the pause again", |event| *event == Event::Phase { phase: Phase::Paused });
    run.say(Command::Resume);
    let next = run.until("a step", |event| matches!(event, Event::Step(_)));
    let Event::Step(report) = next else { unreachable!("matched above") };
    assert!(report.step > step, "no step ran in the pause");
    assert_eq!(report.step - report.losses.len() as u64, step, "and none is missing");
    run.say(Command::Stop);
    assert_eq!(run.end().finished.reason, Reason::Stopped);
}

#[test]
fn a_front_end_that_left_does_not_end_or_hold_the_run() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    for first in [&[][..], &[Command::Pause]] {
        let root = temp.path().join(format!("run-{}", first.len()));
        let Running { orders, events, ended } = start(config(&[]), &root, first);
        drop((orders, events));
        let result = ended.recv_timeout(DEADLINE).expect("the trainer doesn't hang");
        assert_eq!(result.expect("in order").finished.reason, Reason::Completed);
    }
}

#[test]
fn the_best_checkpoint_comes_back_when_a_kill_took_its_mark() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().join("run");
    start(config(&[]), &root, &[]).end();
    let best = root.join("checkpoints/best.safetensors");
    let before = checkpoint::load(&best).expect("the run has a best checkpoint");
    assert_eq!(before.meta.val_loss, before.meta.best_val_loss);
    let newest = checkpoint_at(&root, 42);
    let newest_is_best = checkpoint::load(&newest).expect("sound").meta == before.meta;
    assert!(newest_is_best, "this short run is best at its end");
    std::fs::remove_file(&best).expect("there");
    start(config(&[]), &root, &[]).end();
    assert_eq!(checkpoint::load(&best).expect("it is back"), before);
}

#[test]
fn a_branch_has_a_checkpoint_from_its_first_moment() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (old, new) = (temp.path().join("old"), temp.path().join("new"));
    start(config(&[]), &old, &[]).end();
    let found = checkpoint::find(&old.join("checkpoints"), None).expect("sound");
    let mut job = job(config(&[]), RunDir::create(&new).expect("a new run"));
    job.start = Start::Resume(Box::new(found.expect("a checkpoint")));
    let (events, _) = unbounded();
    let trainer =
        Trainer::new(job, vec![Box::new(events)], crossbeam_channel::never()).expect("it is built");
    let state = trainer.engine_state();
    drop(trainer); // The trainer ends here without saving, as after a kill.
    let saved = checkpoint::load(&checkpoint_at(&new, 42)).expect("the branch can be resumed");
    assert_eq!(saved.engine, state);
}
