//! Uploads that overlap with queued work: a stream of copies beside the stream of work.
//!
//! Work is cut into units by marks. The uploads of a unit wait for the end of the unit before the last, whose buffers
//! they may overwrite, and the work of the unit waits for its uploads; both by events. An upload to a place that was
//! written in this unit or the last one doesn't overlap: it is put into the queue of work.

use super::driver::{Driver, fault};
use super::staging::Staging;
use crate::cuda::machine::{Address, Fault};
use cudarc::driver::{CudaEvent, CudaStream};
use std::sync::Arc;

/// Places of a unit that are remembered; a unit with more is taken to have written everywhere.
const REMEMBERED: usize = 4096;

pub(super) struct Uploads {
    stream: Arc<CudaStream>,
    staging: Staging,
    /// The ends of the units with even and odd numbers.
    ends: [CudaEvent; 2],
    copied: CudaEvent,
    unit: u64,
    /// The copies already wait for what they must wait for in this unit.
    begun: bool,
    /// There are copies that the work doesn't wait for so far.
    pending: bool,
    recent: Recent,
}

impl Uploads {
    pub fn new(driver: &Driver) -> Result<Self, Fault> {
        let event = || driver.context.new_event(None).map_err(fault("make an event"));
        Ok(Self {
            stream: driver.context.new_stream().map_err(fault("make a stream"))?,
            staging: Staging::default(),
            ends: [event()?, event()?],
            copied: event()?,
            unit: 0,
            begun: false,
            pending: false,
            recent: Recent::default(),
        })
    }

    /// Notes that the stream of work writes there.
    pub fn written(&mut self, at: Address, bytes: usize) {
        self.recent.add(at, bytes);
    }

    /// Starts a copy beside `work`. Returns whether it did; otherwise the bytes have to go into the queue of `work`.
    pub fn send(
        &mut self,
        driver: &Driver,
        work: &CudaStream,
        at: Address,
        bytes: &[u8],
    ) -> Result<bool, Fault> {
        if self.recent.touches(at, bytes.len()) {
            return Ok(false);
        }
        if !self.begun {
            let end = &self.ends[(self.unit % 2) as usize];
            if self.unit < 2 {
                end.record(work).map_err(fault("mark its work"))?; // no unit before the last: all work so far
            }
            self.stream.wait(end).map_err(fault("order copies"))?;
            self.begun = true;
        }
        self.staging.send(driver, &self.stream, at, bytes)?;
        self.recent.add(at, bytes.len());
        self.pending = true;
        Ok(true)
    }

    /// Lets `work` wait for the copies so far.
    pub fn join(&mut self, work: &CudaStream) -> Result<(), Fault> {
        if self.pending {
            self.copied.record(&self.stream).map_err(fault("mark a copy"))?;
            work.wait(&self.copied).map_err(fault("order copies"))?;
            self.pending = false;
        }
        Ok(())
    }

    /// Ends a unit.
    pub fn mark(&mut self, work: &CudaStream) -> Result<(), Fault> {
        self.join(work)?;
        self.ends[(self.unit % 2) as usize].record(work).map_err(fault("mark its work"))?;
        self.unit += 1;
        self.begun = false;
        self.recent.turn();
        Ok(())
    }
}

/// What was written in this unit and in the last one, as ranges of addresses.
#[derive(Debug, Default)]
struct Recent {
    now: Vec<(Address, Address)>,
    before: Vec<(Address, Address)>,
}

impl Recent {
    fn add(&mut self, at: Address, bytes: usize) {
        let range = (at, at + bytes as Address);
        if self.now.len() < REMEMBERED {
            self.now.push(range);
        } else {
            self.now.truncate(1);
            self.now[0] = (0, Address::MAX);
        }
    }

    fn touches(&self, at: Address, bytes: usize) -> bool {
        let end = at + bytes as Address;
        self.now.iter().chain(&self.before).any(|&(begin, stop)| begin < end && at < stop)
    }

    fn turn(&mut self) {
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_recent_for_two_units() {
        let mut recent = Recent::default();
        recent.add(1000, 24);
        for _ in 0..2 {
            assert!(recent.touches(1023, 1) && recent.touches(0, 1001));
            assert!(!recent.touches(1024, 100) && !recent.touches(900, 100));
            recent.turn();
        }
        assert!(!recent.touches(0, 5000));
    }

    #[test]
    fn a_unit_that_wrote_very_often_wrote_everywhere() {
        let mut recent = Recent::default();
        for i in 0..=REMEMBERED as Address {
            recent.add(16 * i, 8);
        }
        assert!(recent.touches(1 << 40, 1));
        recent.turn();
        recent.turn();
        assert!(!recent.touches(1 << 40, 1));
    }
}
