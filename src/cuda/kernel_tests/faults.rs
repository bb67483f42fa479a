//! Whether mistakes are seen: the detector of races, barriers left out, and launches that do what they must not.

use super::super::emulated::{Trait, barriers, signatures};
use super::super::machine::{KernelArg, Launch, Machine};
use super::bench::{Bench, TestMachine};
use super::{CHECKS, emulated};

/// Returns a bench that takes two threads that meet in memory for a fault, with a barrier left out.
fn watching(missing: usize) -> Option<Bench> {
    let machine = emulated(Trait::Watches { missing })?;
    let mut bench = Bench::new(TestMachine::Emulated(Box::new(machine)), 1);
    bench.watches = true;
    Some(bench)
}

#[test]
fn no_two_threads_meet_in_memory_without_a_barrier_between_them() {
    let Some(mut bench) = watching(0) else { return };
    for (name, check) in CHECKS {
        check(&mut bench).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    }
    let TestMachine::Emulated(machine) = &mut bench.device else { unreachable!("made above") };
    let report = machine.races().expect("it watches for races");
    // No kernel is left out.
    assert_eq!(report.lines().count(), signatures().len(), "{report}");
}

#[test]
fn the_detector_of_races_keeps_its_rules() {
    let Some(mut machine) = emulated(Trait::Watches { missing: 0 }) else { return };
    assert_eq!(machine.broken_rules().expect("it has the rules"), "");
}

/// Which check is likely to see it that functions whose names begin so miss a barrier.
const LIKELY: [(&str, &str); 10] = [
    ("norm_", "norms"),
    ("sum_strips", "sums"),
    ("sum_of_block", "cross-entropy"),
    ("store_column_sums", "tokens"),
    ("attention_any", "attention of any width"),
    ("attention", "attention"),
    ("plain_product", "plain products"),
    ("close_step", "optimizer"),
    ("sum_over_k", "products"),
    ("product", "products"),
];

/// Returns whether any check sees that the barrier of this number is missing.
fn is_seen(number: usize, function: &str) -> bool {
    let likely = LIKELY.iter().find(|(begin, _)| function.starts_with(begin));
    let mut checks = CHECKS;
    checks.sort_by_key(|(name, _)| likely.is_none_or(|(_, likely)| likely != name));
    let Some(mut bench) = watching(number) else { return true };
    checks.iter().any(|(_, check)| check(&mut bench).is_err())
}

#[test]
fn each_barrier_that_is_left_out_is_seen() {
    let unseen: Vec<_> = barriers()
        .into_iter()
        .enumerate()
        .filter(|(i, (_, function))| !is_seen(i + 1, function))
        .collect();
    assert!(unseen.is_empty(), "barriers that nobody misses: {unseen:?}");
}

/// Returns what a launch of `gelu_forward` on 32 numbers says, with other geometry or numbers.
fn said(threads: u32, count: i64, out_bytes: usize) -> Option<String> {
    let mut machine = emulated(Trait::Exact)?;
    let mut place = |bytes| machine.allocate(bytes).expect("there is memory");
    let (pre, out) = (place(64), place(out_bytes));
    machine.zero(pre, 64).expect("it is there");
    let values = vec![KernelArg::Address(pre), KernelArg::Address(out), KernelArg::Long(count)];
    let launch = Launch { kernel: "gelu_forward", grid: [1; 3], block: threads, shared: 0, values };
    let said = machine.launch(&launch).err().map(|fault| fault.0);
    if said.is_some() && threads == 256 {
        assert_eq!(machine.sync().err().map(|fault| fault.0), said, "a fault stays");
    }
    Some(said.unwrap_or_default())
}

#[test]
fn a_launch_that_leaves_its_buffers_ends_with_the_name_of_its_kernel() {
    let Some(good) = said(256, 32, 64) else { return };
    assert_eq!(good, "");
    let read = "gelu_forward: touched memory 0 bytes past the end of a buffer of 64 bytes";
    assert_eq!(said(256, 40, 80).as_deref(), Some(read));
    let written = "gelu_forward: touched memory 0 bytes past the end of a buffer of 48 bytes";
    assert_eq!(said(256, 32, 48).as_deref(), Some(written));
    // The end of this one is not a multiple of 16 bytes.
    let slack = "gelu_forward: wrote past the end of a buffer of 62 bytes";
    assert_eq!(said(256, 32, 62).as_deref(), Some(slack));
    assert_eq!(said(48, 32, 64).as_deref(), Some("gelu_forward: a launch that no device takes"));
    let wide = said(512, 32, 64).expect("there was a compiler before");
    assert!(wide.contains("its bound is 256"), "{wide}");
}
