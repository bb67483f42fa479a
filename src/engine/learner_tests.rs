//! What precision and activation checkpointing change in a learner, and what they don't.

use super::device::Cpu;
use super::learner::{Learner, LearnerConfig};
use super::{Engine, EngineState, MicroBatch, Target};
use crate::config::{Config, Position, Precision};
use crate::model::mask::{HostMask, MaskGenerator};
use crate::model::patch::Pixels;
use crate::model::state::NamedTensors;
use burn_flex::FlexDevice;

pub(super) const BATCH: usize = 3;

/// Makes a learner from a configuration.
type Make = fn(LearnerConfig) -> Box<dyn Engine>;

fn on_cpu(config: LearnerConfig) -> Box<dyn Engine> {
    Box::new(Learner::<Cpu>::new(config, FlexDevice))
}

/// Makes a learner on an emulated GPU.
#[cfg(feature = "cuda")]
fn on_gpu(config: LearnerConfig) -> Box<dyn Engine> {
    super::planned::tests::emulated(config, true)
}

fn everywhere() -> Vec<(&'static str, Make)> {
    let mut all: Vec<(&'static str, Make)> = vec![("cpu", on_cpu)];
    #[cfg(feature = "cuda")]
    if !super::planned::tests::skipped() {
        all.push(("gpu", on_gpu));
    }
    all
}

fn small(position: Position, extras: bool) -> Config {
    let mut config = Config::default();
    config.model.image_size = 16;
    config.model.patch_size = 4;
    config.model.embed_dim = 24;
    config.model.depth = 3;
    config.model.heads = 3;
    config.model.position = position;
    config.mask.unit = 4;
    config.train.accumulation = 2;
    if extras {
        config.model.layer_scale = 0.1;
        config.model.drop_path = 0.4;
    }
    config
}

/// Micro-batches that are the same each time.
pub(super) struct TestBatches {
    masks: MaskGenerator,
    side: usize,
}

impl TestBatches {
    pub(super) fn new(config: &Config) -> Self {
        let shape = LearnerConfig::new(config).shape;
        Self { masks: MaskGenerator::new(&config.mask, &shape, 3), side: config.model.image_size }
    }

    pub(super) fn batch(&self, micro: u64) -> (Vec<u8>, HostMask) {
        let pixel = |i: usize| {
            let (row, column) = (i / 3 / self.side % self.side, i / 3 % self.side);
            (row * 9 + column * (5 + micro as usize) + i % 3 * 40) as u8
        };
        let images = (0..BATCH * self.side * self.side * 3).map(pixel).collect();
        (images, self.masks.training(micro * BATCH as u64, BATCH))
    }

    pub(super) fn accumulate(&self, engine: &mut dyn Engine, micro: u64) {
        let (images, mask) = self.batch(micro);
        let (pixels, target) = (Pixels::Bytes(&images), Target::Hidden(&mask));
        engine.accumulate(MicroBatch { pixels, target }, micro);
    }

    /// Trains `steps` whole steps and returns the loss of each.
    fn train(&self, engine: &mut dyn Engine, steps: u64, accumulation: usize) -> Vec<f32> {
        for micro in 0..steps * accumulation as u64 {
            self.accumulate(engine, micro % 4);
            if (micro + 1).is_multiple_of(accumulation as u64) {
                engine.step(2e-3);
            }
        }
        engine.read_figures().iter().map(|figures| figures.loss).collect()
    }
}

fn bits(tensors: &NamedTensors) -> Vec<(&str, Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    tensors.iter().map(|(name, tensor)| (name.as_str(), bits(&tensor.data))).collect()
}

fn assert_same_bits(what: &str, found: &EngineState, expected: &EngineState) {
    for (part, found, expected) in [
        ("weights", &found.weights, &expected.weights),
        ("moments", &found.moments, &expected.moments),
        ("gradients", &found.gradients, &expected.gradients),
    ] {
        assert!(!expected.is_empty(), "{what}: {part}");
        for (found, expected) in bits(found).iter().zip(bits(expected)) {
            assert!(*found == expected, "{what}: {part} of {} differ", expected.0);
        }
        assert_eq!(found.len(), expected.len(), "{what}: {part}");
    }
    let losses = |state: &EngineState| state.losses.iter().map(|l| l.to_bits()).collect::<Vec<_>>();
    assert_eq!(losses(found), losses(expected), "{what}: losses");
}

#[test]
fn activation_checkpointing_changes_no_bit() {
    for (place, make) in everywhere() {
        for (position, extras, precision) in [
            (Position::Learned, false, Precision::Fp32),
            (Position::Relative, true, Precision::Fp32),
            (Position::Sincos, true, Precision::Fp32),
            (Position::Relative, true, Precision::Bf16),
        ] {
            let mut config = small(position, extras);
            config.train.precision = precision;
            let data = TestBatches::new(&config);
            let [kept, again] = [false, true].map(|checkpointing| {
                config.train.activation_checkpointing = checkpointing;
                let mut engine = make(LearnerConfig::new(&config));
                data.train(engine.as_mut(), 3, config.train.accumulation);
                // The state is compared in the middle of an accumulation.
                data.accumulate(engine.as_mut(), 3);
                engine.state()
            });
            let what = format!("{place}, {position:?}, {precision}");
            assert_same_bits(&what, &again, &kept);
        }
    }
}

/// Returns the distance relative to the size of all tensors together.
fn distance(found: &NamedTensors, expected: &NamedTensors) -> f64 {
    let (mut error, mut size) = (0.0, 0.0);
    for (name, expected) in expected {
        for (f, e) in found[name].data.iter().zip(&expected.data) {
            error += f64::from(f - e).powi(2);
            size += f64::from(*e).powi(2);
        }
    }
    (error / size).sqrt()
}

#[test]
fn bf16_learns_as_fp32_does_and_rounds() {
    for (place, make) in everywhere() {
        let mut config = small(Position::Relative, true);
        config.train.accumulation = 1;
        let data = TestBatches::new(&config);
        let [exact, rounded] = [Precision::Fp32, Precision::Bf16].map(|precision| {
            config.train.precision = precision;
            let mut engine = make(LearnerConfig::new(&config));
            data.accumulate(engine.as_mut(), 0);
            let gradients = engine.gradients();
            engine.step(0.0);
            engine.read_figures();
            let losses = data.train(engine.as_mut(), 40, 1);
            (gradients, losses, engine.state())
        });
        let off = distance(&rounded.0, &exact.0);
        assert!((1e-4..0.03).contains(&off), "{place}: gradients off by {off}");
        for (step, (rounded, exact)) in rounded.1.iter().zip(&exact.1).enumerate() {
            let off = (rounded - exact).abs() / exact;
            assert!(off < 0.02, "{place}: step {step} has loss {rounded}, in fp32 {exact}");
        }
        let (first, last) = (exact.1[0], rounded.1[39]);
        assert!(last < 0.9 * first, "{place}: the loss went from {first} to {last}");
        // Master weights and moments have bits that bf16 doesn't have.
        for tensors in [&rounded.2.weights, &rounded.2.moments] {
            let fine = |values: &[f32]| values.iter().any(|value| value.to_bits() & 0xffff != 0);
            assert!(tensors.values().filter(|t| t.data.len() > 100).all(|t| fine(&t.data)));
        }
    }
}

#[test]
fn a_state_of_one_precision_goes_on_in_another() {
    for (place, make) in everywhere() {
        let mut config = small(Position::Learned, false);
        let data = TestBatches::new(&config);
        for (from, to) in [(Precision::Fp32, Precision::Bf16), (Precision::Bf16, Precision::Fp32)] {
            config.train.precision = from;
            let mut engine = make(LearnerConfig::new(&config));
            data.train(engine.as_mut(), 2, config.train.accumulation);
            data.accumulate(engine.as_mut(), 0);
            let state = engine.state();
            config.train.precision = to;
            config.train.seed = 9;
            let mut other = make(LearnerConfig::new(&config));
            other.load(&state).expect("names, shapes and types are the same");
            assert_same_bits(&format!("{place}, {from} to {to}"), &other.state(), &state);
            for engine in [&mut engine, &mut other] {
                data.accumulate(engine.as_mut(), 1);
                engine.step(1e-3);
            }
            let off = distance(&other.state().weights, &engine.state().weights);
            assert!(off > 0.0 && off < 0.01, "{place}: {off}");
        }
    }
}

#[test]
fn learners_on_several_threads_lose_no_gradient() {
    let config = small(Position::Learned, false);
    let states = std::thread::scope(|scope| {
        let learners = [(); 4].map(|()| {
            scope.spawn(|| {
                let mut engine = on_cpu(LearnerConfig::new(&config));
                TestBatches::new(&config).train(engine.as_mut(), 100, config.train.accumulation);
                engine.state().weights
            })
        });
        learners.map(|learner| learner.join().expect("a thread that trains"))
    });
    for state in &states[1..] {
        assert!(bits(state) == bits(&states[0]), "a thread had other gradients");
    }
}
