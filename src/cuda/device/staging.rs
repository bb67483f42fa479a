//! The way of bytes to the GPU: through pinned memory, so that nobody waits for the copy.

use super::driver::{Driver, Pinned, fault};
use crate::cuda::machine::{Address, Fault};
use cudarc::driver::{CudaEvent, CudaStream};
use std::sync::Arc;

/// Bytes that one copy takes at most; more are copied in pieces.
const PIECE: usize = 64 << 20;
/// Bytes of pinned memory that are taken at first.
const LEAST: usize = 1 << 20;

/// Two buffers of pinned memory. One is filled while the copies from the other are under way.
#[derive(Default)]
pub(super) struct Staging {
    halves: [Option<Half>; 2],
    now: usize,
}

struct Half {
    memory: Pinned,
    used: usize,
    /// The last copy from this half.
    copied: CudaEvent,
}

impl Staging {
    /// Queues a copy of the bytes to `at`. Waits only if both buffers are full.
    pub fn send(
        &mut self,
        driver: &Driver,
        stream: &Arc<CudaStream>,
        at: Address,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        driver.within(at, bytes.len())?;
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            let half = self.half(driver, piece.len())?;
            half.memory.fill(half.used, piece);
            let to = at + (i * PIECE) as Address;
            driver.copy_in(stream, to, &half.memory, half.used, piece.len())?;
            half.used += piece.len().next_multiple_of(256);
            half.copied.record(stream).map_err(fault("mark a copy"))?;
        }
        Ok(())
    }

    /// Returns a half with room for `bytes`.
    fn half(&mut self, driver: &Driver, bytes: usize) -> Result<&mut Half, Fault> {
        let room = |half: &Half| half.used + bytes <= half.memory.len();
        if !self.halves[self.now].as_ref().is_some_and(room) {
            self.now = 1 - self.now;
            if let Some(half) = &mut self.halves[self.now] {
                half.copied.synchronize().map_err(fault("finish a copy"))?;
                half.used = 0;
            }
            if !self.halves[self.now].as_ref().is_some_and(room) {
                self.halves[self.now] = None; // the old memory goes first
                let size = bytes.next_power_of_two().max(LEAST);
                let memory = Pinned::new(&driver.context, size)?;
                let copied = driver.context.new_event(None).map_err(fault("make an event"))?;
                self.halves[self.now] = Some(Half { memory, used: 0, copied });
            }
        }
        Ok(self.halves[self.now].as_mut().expect("just made"))
    }
}
