//! Steps whose figures are not numbers, in a run whose engine gets NaN instead of some images.

use super::{FailureKind, Job, RunSummary, Start, TrainError, Trainer};
use crate::config::{Config, FinetuneConfig, OnNan, file};
use crate::data::{self, ListedData};
use crate::engine::device::{self, Cpu, Device};
use crate::engine::learner::{Learner, LearnerConfig};
use crate::engine::{
    Engine, EngineState, Evaluation, Guard, MicroBatch, StepFigures, Target, Update,
};
use crate::event::{AlarmKind, Command, Event, Order, Phase, Stamped};
use crate::model::mask::HostMask;
use crate::model::patch::Pixels;
use crate::model::state::{NamedTensors, StateError};
use crate::run_dir::RunDir;
use crate::weights::checkpoint;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::ops::Range;
use std::path::Path;

/// An engine that gets this number instead of all pixels in some micro-steps.
struct Poisoned {
    engine: Box<dyn Engine>,
    at: Range<u64>,
    poison: f32,
}

impl Engine for Poisoned {
    fn accumulate(&mut self, batch: MicroBatch<'_>, micro: u64) {
        if !self.at.contains(&micro) {
            return self.engine.accumulate(batch, micro);
        }
        let Pixels::Bytes(bytes) = batch.pixels else { unreachable!("the loader gives bytes") };
        let bad = vec![self.poison; bytes.len()];
        self.engine.accumulate(MicroBatch { pixels: Pixels::Normalized(&bad), ..batch }, micro);
    }
    fn step(&mut self, lr: f64) -> Update {
        self.engine.step(lr)
    }
    fn read_figures(&mut self) -> Vec<StepFigures> {
        self.engine.read_figures()
    }
    fn evaluate(&self, batch: MicroBatch<'_>) -> Evaluation {
        self.engine.evaluate(batch)
    }
    fn reconstruct(&self, pixels: Pixels<'_>, mask: &HostMask) -> Vec<f32> {
        self.engine.reconstruct(pixels, mask)
    }
    fn features(&self, pixels: Pixels<'_>, batch: usize, layer: Option<usize>) -> Vec<f32> {
        self.engine.features(pixels, batch, layer)
    }
    fn gradients(&self) -> NamedTensors {
        self.engine.gradients()
    }
    fn state(&self) -> EngineState {
        self.engine.state()
    }
    fn load(&mut self, state: &EngineState) -> Result<(), StateError> {
        self.engine.load(state)
    }
    fn sync(&self) {
        self.engine.sync();
    }
}

fn config(on_nan: OnNan, extra: &[&str]) -> Config {
    let tiny = [
        "model.image_size=16",
        "model.patch_size=8",
        "mask.unit=8",
        "model.embed_dim=16",
        "model.depth=1",
        "model.heads=2",
        "train.batch_size=8",
        "train.epochs=2",
        "train.log_every=4",
        "train.device=cpu",
    ];
    let sets: Vec<String> = tiny.iter().chain(extra).map(|&set| set.to_owned()).collect();
    let mut config = file::load(None, &sets).expect("valid");
    config.alarms.on_nan = on_nan;
    config
}

struct Run {
    trainer: Trainer,
    events: Receiver<Stamped>,
    orders: Sender<Order>,
}

/// Returns a run whose pixels are NaN in the micro-steps `at`.
fn poisoned(root: &Path, config: Config, at: Range<u64>) -> Run {
    poisoned_by(f32::NAN, root, config, at)
}

fn poisoned_by(poison: f32, root: &Path, config: Config, at: Range<u64>) -> Run {
    let run = RunDir::create(root).expect("a new run");
    let data = data::open(&config.data).expect("the photos are inside");
    let learner = LearnerConfig::new(&config);
    let engine = move || -> Box<dyn Engine> {
        Box::new(Poisoned { engine: device::engine(&Device::Cpu, learner), at, poison })
    };
    let job = Job {
        images: ListedData::of(&data).fingerprint(),
        config,
        device: Device::Cpu,
        engine: Box::new(engine),
        data,
        run,
        eval: None,
        start: Start::Fresh,
        notices: Vec::new(),
    };
    let ((sender, events), (orders, inbox)) = (unbounded(), unbounded());
    let trainer = Trainer::new(job, vec![Box::new(sender)], inbox).expect("it is built");
    Run { trainer, events, orders }
}

impl Run {
    fn end(self) -> (Result<RunSummary, TrainError>, Vec<Event>) {
        let result = self.trainer.run();
        (result, self.events.try_iter().map(|stamped| stamped.event).collect())
    }
}

fn alarms(events: &[Event]) -> Vec<(u64, bool)> {
    let alarms = events.iter().filter_map(|event| match event {
        Event::Alarm(alarm) if alarm.kind == AlarmKind::NotFinite => {
            Some((alarm.step, alarm.active))
        }
        _ => None,
    });
    alarms.collect()
}

#[test]
fn stop_saves_the_weights_from_before_the_step() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().join("run");
    let (result, events) = poisoned(&root, config(OnNan::Stop, &[]), 10..11).end();
    let error = result.expect_err("stopped");
    assert!(matches!(error, TrainError::NotFinite { step: 11, .. }), "{error}");
    assert_eq!(error.kind(), FailureKind::NotANumber);
    assert_eq!(alarms(&events), [(11, true)]);
    let newest = checkpoint::find(&root.join("checkpoints"), None).expect("readable");
    let newest = newest.expect("it is saved").checkpoint;
    assert_eq!(newest.meta.step, 11, "the step is behind it");
    // The same run without poison, stopped before that step.
    let clean = temp.path().join("clean");
    let run = poisoned(&clean, config(OnNan::Stop, &[]), 0..0);
    let mut trainer = run.trainer;
    for _ in 0..10 {
        trainer.micro_step().expect("a good step");
    }
    let before = trainer.engine_state();
    assert_eq!(newest.engine.weights, before.weights, "no weight has moved");
    assert_eq!(newest.engine.moments, before.moments, "no moment either");
}

#[test]
fn skip_leaves_the_step_out_and_trains_to_the_end() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().join("run");
    let (result, events) = poisoned(&root, config(OnNan::Skip, &[]), 5..8).end();
    assert_eq!(result.expect("it goes on").finished.step, 42);
    assert_eq!(alarms(&events), [(6, true), (28, false)], "one alarm, over after 20 good steps");
    let losses = events.iter().filter_map(|event| match event {
        Event::Step(report) => Some(&report.losses),
        _ => None,
    });
    let losses: Vec<f32> = losses.flatten().copied().collect();
    assert_eq!(losses.len(), 42, "every step is told");
    let bad: Vec<usize> =
        losses.iter().enumerate().filter(|(_, loss)| !loss.is_finite()).map(|(at, _)| at).collect();
    assert_eq!(bad, [5, 6, 7], "the bad ones as such");
}

#[test]
fn skipping_for_ever_ends_as_a_stop() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().join("run");
    let long = config(OnNan::Skip, &["train.epochs=100"]);
    let (result, _) = poisoned(&root, long, 30..u64::MAX).end();
    let error = result.expect_err("it makes no sense any more");
    assert!(matches!(error, TrainError::TooManyBadSteps { step: 130, count: 100, .. }), "{error}");
    assert_eq!(error.kind(), FailureKind::NotANumber);
}

#[test]
fn pause_waits_for_someone_to_resume_or_stop() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    for (command, last) in [(Command::Resume, 42), (Command::Stop, 11)] {
        let root = temp.path().join(command.name());
        let run = poisoned(&root, config(OnNan::Pause, &[]), 10..11);
        let (orders, events) = (run.orders.clone(), run.events.clone());
        let helper = std::thread::spawn(move || {
            for stamped in &events {
                if stamped.event == (Event::Phase { phase: Phase::Paused }) {
                    orders.send(Order::new(command, "the test")).expect("it waits");
                    return;
                }
            }
        });
        let (result, _) = run.end();
        helper.join().expect("it saw the pause");
        assert_eq!(result.expect("in order").finished.step, last);
    }
}

#[test]
fn ignore_makes_the_update_but_bad_weights_are_never_saved() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().join("run");
    let (result, events) = poisoned(&root, config(OnNan::Ignore, &[]), 10..11).end();
    assert_eq!(result.expect("it goes on").finished.step, 42);
    assert_eq!(alarms(&events).first(), Some(&(11, true)));
    assert_eq!(checkpoint::list(&root.join("checkpoints")).expect("readable").len(), 0);
    let told = events.iter().any(|event| {
        matches!(event, Event::Log { message, .. } if message.contains("is not saved: a weight"))
    });
    assert!(told, "it says that it didn't save");
}

#[test]
fn a_spike_is_told_and_the_run_goes_on() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().join("run");
    let long = config(OnNan::Stop, &["train.epochs=6"]);
    let (result, events) = poisoned_by(1e4, &root, long, 60..61).end();
    assert_eq!(result.expect("it goes on").finished.step, 126);
    let told: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Alarm(alarm) if alarm.kind == AlarmKind::LossSpike => {
                Some((alarm.active, alarm.step))
            }
            _ => None,
        })
        .collect();
    assert_eq!(told, [(true, 61), (false, 81)], "over after 20 good steps");
}

#[test]
fn poison_in_an_accumulation_spoils_that_step_alone() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().join("run");
    let two = config(OnNan::Skip, &["train.accumulation=2"]);
    let mut run = poisoned(&root, two, 6..7);
    for _ in 0..7 {
        run.trainer.micro_step().expect("a step");
    }
    run.trainer.save().expect("the weights are good in the middle of a bad accumulation");
    let half = checkpoint::list(&root.join("checkpoints")).expect("readable").pop();
    let half = checkpoint::load(&half.expect("saved")).expect("sound");
    assert!(half.meta.losses[0].is_nan(), "{:?}", half.meta.losses);
    let (result, events) = run.end();
    assert_eq!(result.expect("it goes on").finished.step, 20);
    assert_eq!(alarms(&events), [(4, true)]);
}

#[test]
fn a_classifier_leaves_bad_steps_out_too() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let mut config = config(OnNan::Skip, &["train.accumulation=2"]);
    let classes = data::open(&config.data).expect("the photos are inside").classes;
    config.finetune = Some(FinetuneConfig { classes, ..FinetuneConfig::default() });
    let (result, events) = poisoned(temp.path(), config, 9..11).end();
    assert_eq!(result.expect("it goes on").finished.step, 20);
    assert_eq!(alarms(&events), [(5, true)], "it holds for 20 good steps");
    let accurate =
        |event: &Event| matches!(event, Event::Validated(found) if found.accuracy.is_some());
    assert!(events.iter().any(accurate));
    let newest = checkpoint::find(&temp.path().join("checkpoints"), None).expect("readable");
    assert!(newest.expect("it is saved").checkpoint.engine.is_finite());
}

/// Both guards leave the same step out, and what they leave is the same bit for bit.
#[test]
fn the_device_guards_as_the_host_does() {
    let config = config(OnNan::Skip, &[]);
    let learner = |guard| {
        let config = LearnerConfig { guard, ..LearnerConfig::new(&config) };
        Learner::<Cpu>::new(config, burn_flex::FlexDevice)
    };
    for poisoned in [0..1, 3..5, 9..9] {
        let mut engines = [learner(Guard::Host), learner(Guard::Device)];
        let good: Vec<u8> = (0..8 * 16 * 16 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let bad = vec![f32::NAN; good.len()];
        let mask = HostMask { hidden: [true, false, true, false].repeat(8), batch: 8 };
        for micro in 0..8 {
            let pixels = if poisoned.contains(&micro) {
                Pixels::Normalized(&bad)
            } else {
                Pixels::Bytes(&good)
            };
            let before = engines[0].state();
            for engine in &mut engines {
                engine.accumulate(MicroBatch { pixels, target: Target::Hidden(&mask) }, micro);
            }
            let updates = engines.each_mut().map(|engine| engine.step(1e-2));
            let left_out = poisoned.contains(&micro);
            let expected = if left_out { Update::LeftOut } else { Update::Made };
            assert_eq!(updates, [expected, Update::Made], "the host doesn't know of the second");
            let states = [engines[0].state(), engines[1].state()];
            assert_eq!(states[0].weights, states[1].weights, "step {micro}");
            assert_eq!(states[0].weights == before.weights, left_out, "step {micro}");
            assert!(states[1].is_finite());
        }
        let figures = engines.each_mut().map(Engine::read_figures);
        let told = |figures: &[StepFigures]| {
            figures.iter().map(StepFigures::is_finite).collect::<Vec<_>>()
        };
        assert_eq!(told(&figures[0]), told(&figures[1]));
        assert_eq!(told(&figures[0]).len(), 8);
    }
}
