//! The whole step on the emulated GPU, against PyTorch's values and against the CPU's own operations.

use super::Planned;
use crate::config::{Config, LossKind, Position, Precision};
use crate::cuda::emulated::{Emulated, without_compiler};
use crate::cuda::machine::Facts;
use crate::engine::device::{self, Device};
use crate::engine::learner::LearnerConfig;
use crate::engine::learner_tests::{BATCH, TestBatches};
use crate::engine::parity::{self, Tolerances};
use crate::engine::{Engine, EngineState, MicroBatch, Target};
use crate::model::patch::Pixels;
use crate::model::state::NamedTensors;
use crate::text::say::say;
use std::io::stderr;
use std::path::Path;

/// Returns a learner on an emulated GPU, with or without the library of products.
pub(in crate::engine) fn emulated(config: LearnerConfig, library: bool) -> Box<dyn Engine> {
    let facts = Facts { multiprocessors: 3, shared_memory: 100 << 10, library };
    let machine = Emulated::new(facts).expect("the emulator is there");
    Box::new(Planned::new(config, Box::new(machine)).expect("a small model fits"))
}

/// Returns whether there is nothing to run on here, after saying so.
pub(in crate::engine) fn skipped() -> bool {
    let why = without_compiler();
    if let Some(why) = &why {
        say(&mut stderr(), &format!("skipped: {why}"));
    }
    why.is_some()
}

fn parity_of(file: &str, precision: Precision, library: bool) {
    let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
    let groups = parity::check_with(Path::new(&path), Tolerances::of(precision), |config| {
        emulated(LearnerConfig { precision, ..config }, library)
    });
    let groups = groups.expect("the reference file is sound");
    let failed: Vec<_> = groups.iter().filter(|group| !group.passes()).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn a_step_in_fp32_meets_the_values_of_pytorch() {
    if skipped() {
        return;
    }
    parity_of("simmim_small.safetensors", Precision::Fp32, true);
    parity_of("simmim_small.safetensors", Precision::Fp32, false);
}

#[test]
fn a_step_in_bf16_is_as_near_to_pytorch_as_its_rounding_allows() {
    if skipped() {
        return;
    }
    parity_of("simmim_small.safetensors", Precision::Bf16, true);
    parity_of("simmim_small.safetensors", Precision::Bf16, false);
}

#[test]
fn a_classifier_meets_the_values_of_pytorch() {
    if skipped() {
        return;
    }
    parity_of("classifier_small.safetensors", Precision::Fp32, true);
    parity_of("classifier_small.safetensors", Precision::Bf16, true);
}

fn small(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    config.model.image_size = 16;
    config.model.patch_size = 4;
    config.model.embed_dim = 32;
    config.model.depth = 3;
    config.model.heads = 2;
    config.mask.unit = 4;
    config.train.accumulation = 2;
    change(&mut config);
    config
}

/// Returns the largest error relative to the largest entry, over all tensors.
fn distance(found: &NamedTensors, expected: &NamedTensors) -> (f64, String) {
    assert_eq!(found.len(), expected.len());
    let mut worst = (0.0, String::new());
    for (name, expected) in expected {
        let found = &found[name];
        let largest = expected.data.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let pairs = found.data.iter().zip(&expected.data);
        let error = pairs.fold(0.0_f32, |most, (f, e)| most.max((f - e).abs()));
        let share = f64::from(error / largest.max(1e-6));
        // NaN counts as larger than everything.
        if share.is_nan() || share > worst.0 {
            worst = (share, name.clone());
        }
    }
    worst
}

/// Compares the GPU that `make` returns, in fp32, with the CPU: gradients of a step and weights after some.
fn agrees_with_the_cpu(
    what: &str,
    config: &Config,
    make: &dyn Fn(LearnerConfig) -> Box<dyn Engine>,
) {
    let learner = LearnerConfig { precision: Precision::Fp32, ..LearnerConfig::new(config) };
    let mut cpu = device::engine(&Device::Cpu, learner.clone());
    let mut gpu = make(learner);
    assert_eq!(cpu.state().weights, gpu.state().weights, "{what}: fresh weights");
    for engine in [&mut cpu, &mut gpu] {
        (0..2).for_each(|micro| TestBatches::new(config).accumulate(engine.as_mut(), micro));
    }
    let (error, at) = distance(&gpu.gradients(), &cpu.gradients());
    assert!(error < 2e-4, "{what}: gradient of {at} is off by {error}");
    for engine in [&mut cpu, &mut gpu] {
        engine.step(1e-3);
        (2..6).for_each(|micro| {
            TestBatches::new(config).accumulate(engine.as_mut(), micro);
            if micro % 2 == 1 {
                engine.step(1e-3);
            }
        });
    }
    let (figures, expected) = (gpu.read_figures(), cpu.read_figures());
    assert_eq!(figures.len(), 3, "{what}");
    for (found, expected) in figures.iter().zip(&expected) {
        assert!((found.loss - expected.loss).abs() < 1e-4 * expected.loss, "{what}: {found:?}");
        let norms = (found.grad_norm - expected.grad_norm).abs();
        assert!(norms < 1e-3 * expected.grad_norm, "{what}: {found:?} is not {expected:?}");
    }
    let (images, mask) = TestBatches::new(config).batch(9);
    let run = |engine: &dyn Engine| {
        let pixels = Pixels::Bytes(&images);
        let found = engine.evaluate(MicroBatch { pixels, target: Target::Hidden(&mask) });
        let mut values = vec![found.loss];
        values.extend(found.prediction);
        values.extend(engine.reconstruct(pixels, &mask));
        values.extend(engine.features(pixels, BATCH, None));
        values.extend(engine.features(pixels, BATCH, Some(2)));
        values
    };
    let (found, expected) = (run(gpu.as_ref()), run(cpu.as_ref()));
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 5e-3, "{what}: {found} is not {expected}");
    }
}

#[test]
fn every_option_of_the_model_agrees_with_the_cpu() {
    if !skipped() {
        all_options_agree_with_the_cpu(&|config| emulated(config, true));
    }
}

#[test]
#[ignore = "needs a GPU"]
fn every_option_of_the_model_agrees_with_the_cpu_on_a_gpu() {
    let gpu = device::select("cuda").expect("a GPU").device;
    all_options_agree_with_the_cpu(&|config| device::engine(&gpu, config));
}

fn all_options_agree_with_the_cpu(make: &dyn Fn(LearnerConfig) -> Box<dyn Engine>) {
    agrees_with_the_cpu("learned position", &small(|_| {}), make);
    let relative = small(|config| {
        config.model.position = Position::Relative;
        config.model.layer_scale = 0.1;
        config.model.drop_path = 0.4;
    });
    agrees_with_the_cpu("relative bias, LayerScale and drop path", &relative, make);
    let sincos = small(|config| {
        config.model.position = Position::Sincos;
        config.model.drop_path = 0.3;
        config.loss.kind = LossKind::SmoothL1;
        config.loss.normalize_targets = true;
        config.train.activation_checkpointing = true;
    });
    agrees_with_the_cpu("sin-cos position, smooth L1 and normalised targets", &sincos, make);
    let wide = small(|config| {
        config.model.embed_dim = 160;
        config.model.depth = 1;
        config.loss.kind = LossKind::Mse;
        config.train.grad_clip = 0.01;
    });
    agrees_with_the_cpu("heads of 80, MSE and clipping", &wide, make);
}

fn bits(state: &EngineState) -> Vec<u32> {
    let tensors = [&state.weights, &state.moments, &state.gradients];
    let values = tensors.into_iter().flat_map(|named| named.values()).flat_map(|t| &t.data);
    values.chain(&state.losses).map(|value| value.to_bits()).collect()
}

#[test]
fn a_state_that_is_saved_anywhere_goes_on_with_the_same_bits() {
    if skipped() {
        return;
    }
    goes_on_with_the_same_bits(&|config| emulated(config, false));
}

#[test]
#[ignore = "needs a GPU"]
fn a_state_that_is_saved_anywhere_goes_on_with_the_same_bits_on_a_gpu() {
    let gpu = device::select("cuda").expect("a GPU").device;
    goes_on_with_the_same_bits(&|config| device::engine(&gpu, config));
}

fn goes_on_with_the_same_bits(make: &dyn Fn(LearnerConfig) -> Box<dyn Engine>) {
    for precision in [Precision::Bf16, Precision::Fp32] {
        let config = small(|config| {
            config.model.position = Position::Relative;
            config.model.drop_path = 0.4;
        });
        let learner = LearnerConfig { precision, ..LearnerConfig::new(&config) };
        let train = |engine: &mut dyn Engine, micros: std::ops::Range<u64>| {
            for micro in micros {
                TestBatches::new(&config).accumulate(engine, micro);
                if micro % 2 == 1 {
                    engine.step(2e-3);
                }
            }
        };
        let mut whole = make(learner.clone());
        train(whole.as_mut(), 0..7);
        // One more micro-batch than whole steps: gradients wait for their update.
        let mut first = make(learner.clone());
        train(first.as_mut(), 0..3);
        let mut second = make(learner);
        second.load(&first.state()).expect("its own state");
        train(second.as_mut(), 3..7);
        assert!(bits(&whole.state()) == bits(&second.state()), "{precision}");
    }
}

#[test]
fn an_update_that_is_not_finite_is_left_out_if_the_guard_is_on() {
    if skipped() {
        return;
    }
    let config = small(|config| config.train.accumulation = 1);
    for guard in [true, false] {
        let mut learner = LearnerConfig::new(&config);
        if !guard {
            learner.guard = crate::engine::Guard::Off;
        }
        let mut engine = emulated(learner, true);
        let mut poisoned = engine.state();
        let head = poisoned.weights.get_mut("head.bias").expect("every model has a head");
        head.data[1] = f32::NAN;
        engine.load(&poisoned).expect("its own state");
        TestBatches::new(&config).accumulate(engine.as_mut(), 0);
        engine.step(1e-3);
        assert!(!engine.read_figures()[0].is_finite());
        let after = engine.state();
        let unchanged =
            poisoned.weights["encoder.norm.weight"] == after.weights["encoder.norm.weight"];
        assert_eq!(unchanged, guard);
        assert_eq!(after.updates, 1, "an update that is left out counts, too");
    }
}

#[test]
fn sizes_without_kernels_are_refused_with_the_setting_to_change() {
    let facts = Facts { multiprocessors: 1, shared_memory: 100 << 10, library: true };
    for (change, expected) in [
        (("model.embed_dim", 36, 3), "model.embed_dim must be a multiple of 8, and it is 36"),
        (("model.embed_dim", 288, 2), "is at most 128 wide, and it is 144"),
    ] {
        let config = small(|config| {
            config.model.embed_dim = change.1;
            config.model.heads = change.2;
        });
        if skipped() {
            return;
        }
        let machine = Box::new(Emulated::new(facts).expect("the emulator is there"));
        let Err(fault) = Planned::new(LearnerConfig::new(&config), machine) else {
            panic!("{} is accepted", change.0)
        };
        assert!(fault.0.contains(expected), "{fault}");
    }
}

#[test]
fn a_gpu_without_a_clock_has_no_phases_and_still_says_what_its_start_took() {
    if skipped() {
        return;
    }
    let config = small(|config| config.train.accumulation = 1);
    let mut engine = emulated(LearnerConfig::new(&config), true);
    engine.time_phases();
    TestBatches::new(&config).accumulate(engine.as_mut(), 0);
    engine.step(1e-3);
    assert_eq!(engine.phases(), None);
    let startup = engine.startup().expect("it measures");
    assert!(startup.weights > 0.0 && startup.plans > 0.0, "{startup:?}");
    assert_eq!(engine.read_figures().len(), 1);
}
