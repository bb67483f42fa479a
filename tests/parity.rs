//! The model, its gradients, the optimizer and the schedule against values that PyTorch and timm computed.

use simmim_tui::device::Device;
use simmim_tui::parity;
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
