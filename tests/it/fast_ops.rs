//! The fused CPU operations, switched on and off and with each instruction set, compared with PyTorch's values.

use std::process::Command;

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/simmim_small.safetensors");
const CLASSIFIER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/classifier_small.safetensors");

/// Returns what `simmim-tui parity` prints with these environment variables. The command fails if a group of values
/// is out of tolerance.
fn parity(file: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_simmim-tui"))
        .args(["parity", file, "--device", "cpu"])
        .env_remove("SIMMIM_PLAIN_OPS")
        .env_remove("SIMMIM_SIMD")
        .envs(variables.iter().copied())
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{variables:?}: {text}");
    text
}

#[test]
fn every_path_through_the_cpu_agrees_with_pytorch() {
    for file in [REFERENCE, CLASSIFIER] {
        let fast = parity(file, &[]);
        let plain = parity(file, &[("SIMMIM_PLAIN_OPS", "1")]);
        assert_ne!(fast, plain, "the switch takes another path, so roundings differ");
        parity(file, &[("SIMMIM_SIMD", "avx2")]);
        parity(file, &[("SIMMIM_SIMD", "none")]);
        parity(file, &[("RAYON_NUM_THREADS", "1")]);
        parity(file, &[("RAYON_NUM_THREADS", "7")]);
    }
}

#[test]
fn the_same_step_gives_the_same_bits() {
    let losses = || {
        let output = Command::new(env!("CARGO_BIN_EXE_simmim-tui"))
            .args(["parity", REFERENCE, "--device", "cpu"])
            .env("RAYON_NUM_THREADS", "3")
            .output()
            .expect("the program starts");
        output.stdout
    };
    let first = losses();
    assert!(!first.is_empty());
    for _ in 0..5 {
        assert_eq!(first, losses(), "sums have a fixed order");
    }
}
