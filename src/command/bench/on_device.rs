//! What is measured on GPUs only: steps that wait for nothing, phases by the device's clock, and the start.

use super::Stepper;
use crate::data::loader::Batch;
use crate::engine::Startup;
use serde::Serialize;
use std::time::Instant;

/// Steps whose phases are measured.
const PHASED: u32 = 20;
/// The system counts the start of a process in these parts of a second, on all common processors.
const TICKS_PER_S: f64 = 100.0;

/// Steps that are queued one behind the other, with one wait at the end. As in a run, each uploads its batch.
#[derive(Debug, Serialize)]
pub(super) struct Queued {
    images_per_s: f64,
    /// Mean time of a step.
    mean_s: f64,
}

impl Queued {
    /// Times `steps` steps. A batch has that many `images`.
    pub(super) fn time(step: &mut Stepper<'_>, batch: &Batch, steps: u32, images: f64) -> Self {
        step.engine.sync();
        let start = Instant::now();
        for micro in 0..u64::from(steps) {
            step.queue(batch, micro);
        }
        step.engine.sync();
        let mean_s = start.elapsed().as_secs_f64() / f64::from(steps);
        step.engine.read_figures();
        Self { images_per_s: images / mean_s, mean_s }
    }
}

/// Mean time of each phase of a step on the device, in milliseconds.
#[expect(clippy::struct_field_names, reason = "the names in the JSON end in their units")]
#[derive(Debug, Serialize)]
pub(super) struct PhaseTimes {
    encode_ms: f64,
    predict_ms: f64,
    backward_ms: f64,
    update_ms: f64,
}

impl PhaseTimes {
    /// Times some steps, if the device has a clock.
    pub(super) fn time(step: &mut Stepper<'_>, batch: &Batch, steps: u32) -> Option<Self> {
        let steps = steps.min(PHASED);
        step.engine.time_phases();
        for micro in 0..u64::from(steps) {
            step.queue(batch, micro);
        }
        let sums = step.engine.phases()?; // device sync
        step.engine.read_figures();
        let mean = |sum: f64| sum / f64::from(steps);
        Some(Self {
            encode_ms: mean(sums.encode),
            predict_ms: mean(sums.predict),
            backward_ms: mean(sums.backward),
            update_ms: mean(sums.update),
        })
    }
}

/// Seconds from the start of the process to the end of the first step, and what they were spent on. The rest went into
/// opening the data and waiting for the first batch.
#[expect(clippy::struct_field_names, reason = "the names in the JSON end in their units")]
#[derive(Debug, Serialize)]
pub(super) struct StartTimes {
    context_s: f64,
    libraries_s: f64,
    kernels_s: f64,
    /// Drawing fresh weights, and bringing them to the device.
    weights_s: f64,
    /// Planning the passes, and choosing algorithms for their matrix products.
    plans_s: f64,
    /// The first step without its plans.
    first_step_s: f64,
    total_s: f64,
}

impl StartTimes {
    /// `selecting_s` is how long it took to find the device.
    pub(super) fn new(startup: &Startup, selecting_s: f64, first: &FirstStep) -> Self {
        let Startup { context, libraries, kernels, weights, plans } = *startup;
        Self {
            context_s: selecting_s + context,
            libraries_s: libraries,
            kernels_s: kernels,
            weights_s: weights,
            plans_s: plans,
            first_step_s: (first.step_s - plans).max(0.0),
            total_s: first.total_s,
        }
    }
}

/// When the first step was done.
#[derive(Debug)]
pub(super) struct FirstStep {
    /// How long it took.
    step_s: f64,
    /// Seconds since the process started.
    total_s: f64,
}

impl FirstStep {
    /// Makes the first step. The command began at `began`.
    pub(super) fn make(step: &mut Stepper<'_>, batch: &Batch, began: Instant) -> Self {
        let start = Instant::now();
        step.wait(batch, 0);
        let (step_s, elapsed) = (start.elapsed().as_secs_f64(), began.elapsed().as_secs_f64());
        // A container may have a clock of its own.
        let age = process_age().filter(|age| (elapsed - 0.1..elapsed + 60.0).contains(age));
        Self { step_s, total_s: age.unwrap_or(elapsed) }
    }
}

/// Returns the seconds since the process started.
fn process_age() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold spaces. The start is the 20th number behind it.
    let (_, numbers) = stat.rsplit_once(')')?;
    let started: f64 = numbers.split_whitespace().nth(19)?.parse().ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let now: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Some(now - started / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_knows_its_age() {
        let age = process_age().expect("Linux tells");
        assert!((-0.1..86_400.0).contains(&age), "{age} s");
    }
}
