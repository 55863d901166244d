//! How many agents the fleet may hold.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the fleet may hold.
#[derive(Debug)]
pub struct Capacity {
    /// Agents, and registrations under way.
    taken: AtomicU64,
    most: u64,
}

impl Capacity {
    /// Room for `most` agents, none of it taken.
    pub fn new(most: u64) -> Self {
        Self { taken: AtomicU64::new(0), most }
    }

    /// Takes a permit; fails with the capacity if none is left.
    pub fn take(&self) -> Result<Permit<'_>, u64> {
        let free = |taken| (taken < self.most).then_some(taken + 1);
        match self.taken.fetch_update(Relaxed, Relaxed, free) {
            Ok(_) => Ok(Permit { capacity: self, kept: false }),
            Err(_) => Err(self.most),
        }
    }

    /// Takes permits for agents that are in the fleet already, even if it may hold fewer by now.
    pub fn occupy(&self, agents: u64) {
        self.taken.fetch_add(agents, Relaxed);
    }

    /// Gives the permit of an agent back.
    pub fn give_back(&self) {
        self.taken.fetch_sub(1, Relaxed);
    }
}

/// Room for one agent, given back unless kept.
#[derive(Debug)]
pub struct Permit<'a> {
    capacity: &'a Capacity,
    kept: bool,
}

impl Permit<'_> {
    /// Keeps it: the agent is in the fleet.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.capacity.give_back();
        }
    }
}
