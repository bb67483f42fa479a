//! Every kernel against the plain loops of `host`, on the emulated GPU and, where there is one, on a real one.
//!
//! Each output is full of NaN before; memory ends at a forbidden page; inputs must stay as they were; each launch is repeated
//! in three orders of threads and must give the same bits.

mod attention;
mod bench;
mod branch;
mod classifier;
mod faults;
mod norm;
mod optimizer;
mod patches;

use super::emulated::{Emulated, Trait, without_compiler};
use super::machine::{Facts, Fault, Machine};
use bench::{Bench, TestMachine};

type Check = fn(&mut Bench) -> Result<(), Fault>;

/// All checks, by what they are about.
const CHECKS: [(&str, Check); 13] = [
    ("norms", norm::norms),
    ("sums", norm::sums),
    ("gelu", branch::gelu),
    ("branches", branch::branches),
    ("patches", patches::patches),
    ("tokens", patches::tokens),
    ("attention", attention::attention),
    ("attention of any width", attention::attention_any),
    ("relative bias", attention::relative_bias),
    ("optimizer", optimizer::optimizer),
    ("cross-entropy", classifier::cross_entropy),
    ("plain products", classifier::plain_products),
    ("products", classifier::products),
];

const FACTS: Facts = Facts { multiprocessors: 2, shared_memory: 228 << 10, library: true };

/// Returns a real GPU to run the same checks on, or nothing without one. Nothing else here knows of real machines.
fn device_machine() -> Option<Box<dyn Machine>> {
    #[cfg(feature = "cuda")]
    if let Ok((machine, _)) = super::device::GpuMachine::open(0) {
        return Some(Box::new(machine));
    }
    None
}

/// Returns an emulator, or nothing and says why.
fn emulated(own: Trait) -> Option<Emulated> {
    if let Some(fault) = without_compiler() {
        crate::text::say::say(&mut std::io::stderr(), &format!("skipped: {fault}"));
        return None;
    }
    let mut machine = Emulated::start(FACTS, own).expect("the emulator starts");
    machine.tighten();
    Some(machine)
}

fn passes(name: &str) {
    let Some(machine) = emulated(Trait::Exact) else { return };
    let check = CHECKS.iter().find(|(known, _)| *known == name).expect("a check of this name").1;
    // In the last order copies land at once, which only products tell apart.
    let orders = if name == "products" { 4 } else { 3 };
    let mut bench = Bench::new(TestMachine::Emulated(Box::new(machine)), orders);
    check(&mut bench).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn layer_norm_and_its_gradients_follow_their_definition() {
    passes("norms");
}

#[test]
fn sums_over_rows_are_right_in_any_number_of_strips() {
    passes("sums");
}

#[test]
fn gelu_and_its_gradient_follow_their_definition() {
    passes("gelu");
}

#[test]
fn ends_of_branches_scale_and_drop_and_so_do_their_gradients() {
    passes("branches");
}

#[test]
fn images_become_patches_and_predicted_patches_a_loss_of_each_kind() {
    passes("patches");
}

#[test]
fn tokens_are_masked_picked_put_back_and_pooled() {
    passes("tokens");
}

#[test]
fn attention_on_tensor_cores_follows_its_definition_within_the_rounding_of_bf16() {
    passes("attention");
}

#[test]
fn attention_of_any_width_follows_its_definition() {
    passes("attention of any width");
}

#[test]
fn the_relative_bias_of_a_pair_is_that_of_its_offset() {
    passes("relative bias");
}

#[test]
fn adamw_moves_parameters_by_clipped_gradients_and_leaves_bad_steps_out() {
    passes("optimizer");
}

#[test]
fn cross_entropy_and_its_gradient_follow_their_definition() {
    passes("cross-entropy");
}

#[test]
fn products_without_tensor_cores_are_right_at_any_size() {
    passes("plain products");
}

#[test]
fn products_on_tensor_cores_are_right_in_every_tile() {
    passes("products");
}

#[test]
fn products_of_the_emulated_library_follow_their_definition() {
    let Some(machine) = emulated(Trait::Exact) else { return };
    let mut bench = Bench::new(TestMachine::Emulated(Box::new(machine)), 1);
    classifier::library(&mut bench).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn all_checks_pass_with_sums_and_exponentials_as_inexact_as_a_gpu_may_have_them() {
    let Some(machine) = emulated(Trait::Inexact) else { return };
    let mut bench = Bench::new(TestMachine::Emulated(Box::new(machine)), 1);
    for (name, check) in CHECKS {
        check(&mut bench).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    }
}

#[test]
#[ignore = "needs a GPU"]
fn all_checks_pass_on_a_gpu() {
    let Some(machine) = device_machine() else { return };
    let mut bench = Bench::new(TestMachine::Other(machine), 3);
    let all = CHECKS.into_iter().chain([("library", classifier::library as Check)]);
    let failed: Vec<String> = all
        .filter_map(|(name, check)| Some(format!("{name}: {}", check(&mut bench).err()?)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
