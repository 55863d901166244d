//! How many agents the fleet may hold.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The places in the fleet.
#[derive(Debug)]
pub struct Places {
    /// Agents, and registrations under way.
    taken: AtomicU64,
    most: u64,
}

impl Places {
    /// `most` places, none of them taken.
    pub fn new(most: u64) -> Self {
        Self { taken: AtomicU64::new(0), most }
    }

    /// Takes a place; fails with the number of places if none is free.
    pub fn take(&self) -> Result<Place<'_>, u64> {
        let free = |taken| (taken < self.most).then_some(taken + 1);
        match self.taken.fetch_update(Relaxed, Relaxed, free) {
            Ok(_) => Ok(Place { places: self, kept: false }),
            Err(_) => Err(self.most),
        }
    }

    /// Takes places for agents that are in the fleet already, even if it may hold fewer by now.
    pub fn occupy(&self, agents: u64) {
        self.taken.fetch_add(agents, Relaxed);
    }

    /// Gives the place of an agent back.
    pub fn give_back(&self) {
        self.taken.fetch_sub(1, Relaxed);
    }
}

/// A place in the fleet, given back unless kept.
#[derive(Debug)]
pub struct Place<'a> {
    places: &'a Places,
    kept: bool,
}

impl Place<'_> {
    /// Keeps the place: the agent is in the fleet.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.places.give_back();
        }
    }
}
