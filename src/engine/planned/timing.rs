//! What the start and the phases of a step take.

use super::{Between, Planned};
use crate::cuda::machine::{Fault, Machine, Stamp};
use crate::cuda::plan::StepPhase;
use crate::engine::{Phases, Startup};

/// Moments in the queue, each with the phase that begins there.
#[derive(Default)]
pub(super) struct Moments {
    kept: Vec<(Option<StepPhase>, Stamp)>,
    fault: Option<Fault>,
}

impl Moments {
    fn keep(&mut self, machine: &mut dyn Machine, phase: Option<StepPhase>) {
        match machine.stamp() {
            Ok(Some(stamp)) => self.kept.push((phase, stamp)),
            Ok(None) => {}
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// Adds up the milliseconds of each phase. Device sync.
    fn phases(self, machine: &mut dyn Machine) -> Result<Option<Phases>, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        machine.sync()?; // device sync
        let mut phases = Phases::default();
        for pair in self.kept.windows(2) {
            let [(Some(phase), from), (_, to)] = *pair else { continue };
            let ms = machine.ms_between(from, to)?;
            *match phase {
                StepPhase::Encode => &mut phases.encode,
                StepPhase::Predict => &mut phases.predict,
                StepPhase::Backward => &mut phases.backward,
                StepPhase::Update => &mut phases.update,
            } += ms;
        }
        Ok((!self.kept.is_empty()).then_some(phases))
    }
}

impl Planned {
    /// Adds what opening the machine took.
    pub(crate) fn opened(mut self, opening: &Startup) -> Self {
        self.start = Startup { weights: self.start.weights, ..*opening };
        self
    }

    pub(super) fn startup_until_now(&self) -> Startup {
        let runner = self.runner.borrow();
        Startup { plans: runner.planning.as_secs_f64() + runner.machine.choosing_s(), ..self.start }
    }

    /// Does `work`, and keeps the moments between its phases if they are measured.
    pub(super) fn watched(
        &mut self,
        work: impl FnOnce(&mut Self, Between<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut moments = self.moments.take();
        let result = work(self, &mut |machine, phase| {
            if let Some(moments) = &mut moments {
                moments.keep(machine, phase);
            }
        });
        self.moments = moments;
        result
    }

    /// Returns what the phases took since moments are kept, and keeps no more. Device sync.
    pub(super) fn take_phases(&mut self) -> Result<Option<Phases>, Fault> {
        let Some(moments) = self.moments.take() else { return Ok(None) };
        moments.phases(self.runner.borrow_mut().machine.as_mut()) // device sync
    }
}
