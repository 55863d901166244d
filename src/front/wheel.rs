//! Which connections are to be looked at when: one coarse timer wheel for all of a worker, no timer each.

use std::mem;

use super::times::{LOOK_WITHIN, Tick};

/// More than that, and a power of two: so many ticks from now have a slot each, also where ticks wrap around.
const SLOTS: usize = (LOOK_WITHIN as usize + 1).next_power_of_two();

/// Keys of connections, by the tick at which they are to be looked at.
pub(super) struct Wheel {
    slots: [Vec<u32>; SLOTS],
}

impl Default for Wheel {
    fn default() -> Self {
        Self { slots: [const { Vec::new() }; SLOTS] }
    }
}

impl Wheel {
    /// Files a connection under a tick, which is at most [`LOOK_WITHIN`] ahead.
    pub(super) fn file(&mut self, key: u32, at: Tick) {
        self.slots[at as usize % SLOTS].push(key);
    }

    /// All that are filed under this tick.
    pub(super) fn take(&mut self, at: Tick) -> Vec<u32> {
        mem::take(&mut self.slots[at as usize % SLOTS])
    }
}
