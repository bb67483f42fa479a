//! The model, its gradients, the optimizer and the schedule, compared with values that PyTorch and timm computed.

use simmim_tui::engine::device::Device;
use simmim_tui::engine::parity;
use std::path::Path;

fn reference() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/simmim_small.safetensors"))
}

#[test]
fn every_group_of_values_is_within_its_tolerance() {
    let groups = parity::check(reference(), &Device::Cpu).expect("the reference file is sound");
    let names: Vec<&str> = groups.iter().map(|group| group.name).collect();
    assert_eq!(
        names,
        [
            "target",
            "pred",
            "features",
            "loss_l1",
            "loss_mse",
            "gradients",
            "step_lrs",
            "step_losses",
            "step_grad_norms",
            "after10"
        ]
    );
    for group in groups {
        assert!(group.passes(), "{group:?}");
    }
}

#[test]
fn so_is_every_group_of_a_classifier() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/classifier_small.safetensors");
    let groups = parity::check(Path::new(path), &Device::Cpu).expect("the file is sound");
    let names: Vec<&str> = groups.iter().map(|group| group.name).collect();
    let expected = ["logits", "features", "loss", "gradients", "after1", "after"];
    assert_eq!(names, [&expected[..], &["step_losses", "step_grad_norms"]].concat());
    for group in groups {
        assert!(group.passes(), "{group:?}");
    }
}
