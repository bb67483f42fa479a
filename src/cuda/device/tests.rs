//! What can be checked without a GPU, and on a machine with one, the machine itself.

use super::*;
use crate::cuda::machine::{Arithmetic, KernelArg, Number};

/// The first GPU that the kernels run on, if this machine has one.
fn gpu() -> Option<GpuMachine> {
    let seen = look(0).ok()?;
    if seen.capability < LEAST_CAPABILITY || obstacle(&seen).is_some() {
        return None;
    }
    Some(GpuMachine::open(0).expect("a usable GPU opens").0)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn a_gpu_without_room_says_what_would_help() {
    let gib = 1 << 30;
    let text = no_room_text(57 * gib / 10, Some((31 * gib / 10, 791 * gib / 10)));
    let expected = "the GPU has no room for 5.7 GiB more (3.1 GiB of 79.1 GiB are free): train.batch_size smaller, \
        train.activation_checkpointing = true";
    assert_eq!(text, expected);
    assert!(no_room_text(10, None).starts_with("the GPU has no room for 1 MiB more: train."));
}

#[test]
fn memory_and_copies_keep_what_was_written() {
    let Some(mut gpu) = gpu() else { return };
    let at = gpu.allocate(3 << 20).expect("room");
    assert_eq!(at % 256, 0);
    let written: Vec<u8> = (0..3 << 20).map(|i: u32| (i * 31) as u8).collect();
    gpu.write(at, &written).expect("written");
    gpu.zero(at + 256, 256).expect("zeroed");
    let mut read = vec![1; 3 << 20];
    gpu.read(at, &mut read).expect("read");
    assert_eq!(read[..256], written[..256]);
    assert!(read[256..512].iter().all(|byte| *byte == 0));
    assert_eq!(read[512..], written[512..]);
    gpu.release(at);
    let first = gpu.read(at, &mut read).expect_err("it was given back");
    assert_eq!(gpu.sync(), Err(first), "a GPU that has failed stays failed");
}

/// Adds up what many units upload, by a kernel that reads the buffer long after its upload was queued.
#[test]
fn an_upload_never_changes_what_queued_work_reads() {
    const NUMBERS: usize = 4 << 20;
    let Some(mut gpu) = gpu() else { return };
    let buffers =
        [gpu.allocate(4 * NUMBERS).expect("room"), gpu.allocate(4 * NUMBERS).expect("room")];
    let sum = gpu.allocate(4 * NUMBERS).expect("room");
    gpu.zero(sum, 4 * NUMBERS).expect("zeroed");
    for unit in 0..40 {
        let buffer = buffers[unit % 2];
        gpu.upload(buffer, &bytes(&vec![unit as f32; NUMBERS])).expect("uploaded");
        // sum_strips(part, out, S, C, accumulate): one strip is added to what is there.
        let values = vec![
            KernelArg::Address(buffer),
            KernelArg::Address(sum),
            KernelArg::Int(1),
            KernelArg::Int(NUMBERS as i32),
            KernelArg::Int(1),
        ];
        let grid = [NUMBERS.div_ceil(32) as u32, 1, 1];
        let launch = Launch { kernel: "sum_strips", grid, block: 1024, shared: 0, values };
        gpu.launch(&launch).expect("launched");
        gpu.mark();
    }
    let mut read = vec![0; 4 * NUMBERS];
    gpu.read(sum, &mut read).expect("read");
    assert!(
        floats(&read).iter().all(|x| x.to_bits() == 780.0_f32.to_bits()),
        "{:?}",
        &floats(&read)[..8]
    );
}

#[test]
fn products_are_in_the_arithmetic_that_was_asked_for() {
    let Some(mut gpu) = gpu().filter(|gpu| gpu.facts().library) else { return };
    let side = 128;
    // 1 + 2^-12 is a 32-bit float that TF32 and bf16 round to 1.
    let a = gpu.allocate(4 * side * side).expect("room");
    let d = gpu.allocate(4 * side * side).expect("room");
    let b = gpu.allocate(4 * side * side).expect("room");
    let fine = 1.0 + 2.0_f32.powi(-12);
    let unit: Vec<f32> =
        (0..side * side).map(|i| f32::from(u8::from(i / side == i % side))).collect();
    gpu.write(a, &bytes(&vec![fine; side * side])).expect("written");
    gpu.write(b, &bytes(&unit)).expect("written");
    for (arithmetic, expected) in [(Arithmetic::Fp32, fine), (Arithmetic::Tf32, 1.0)] {
        let shape = ProductShape {
            m: side,
            n: side,
            k: side,
            a_transposed: false,
            b_transposed: false,
            arithmetic,
            result: Number::F32,
            bias: false,
            add: false,
        };
        gpu.product(shape, Operands { a, b, c: 0, d, bias: 0 }).expect("multiplied");
        let mut read = vec![0; 4 * side * side];
        gpu.read(d, &mut read).expect("read");
        assert!(
            floats(&read).iter().all(|x| x.to_bits() == expected.to_bits()),
            "{arithmetic:?}: {}",
            floats(&read)[0]
        );
        // Added to another matrix, and to itself.
        let shape = ProductShape { add: true, ..shape };
        gpu.product(shape, Operands { a, b, c: a, d, bias: 0 }).expect("multiplied");
        gpu.product(shape, Operands { a, b, c: d, d, bias: 0 }).expect("multiplied");
        gpu.read(d, &mut read).expect("read");
        assert!(
            floats(&read).iter().all(|x| (x - (fine + 2.0 * expected)).abs() < 1e-6),
            "{arithmetic:?}"
        );
    }
}

#[test]
fn moments_in_the_queue_have_times_between_them() {
    let Some(mut gpu) = gpu() else { return };
    let at = gpu.allocate(1 << 28).expect("room");
    let first = gpu.stamp().expect("stamped").expect("a GPU has a clock");
    for _ in 0..10 {
        gpu.zero(at, 1 << 28).expect("zeroed");
    }
    let second = gpu.stamp().expect("stamped").expect("a GPU has a clock");
    // 2.5 GiB at 0.1 to 10 TB/s.
    let ms = gpu.ms_between(first, second).expect("measured");
    assert!((0.2..30.0).contains(&ms), "{ms} ms");
    for _ in 0..STAMPS {
        gpu.stamp().expect("stamped");
    }
    assert!(gpu.ms_between(first, second).is_err(), "too long ago");
}
