//! Where the process stands between its start and its end, and how many requests are under way.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{
        AtomicU8, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

/// What the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The fleet is being loaded: no request about it can be answered yet.
    Starting,
    /// In service.
    Serving,
    /// Coming to an end: what is under way is finished, nothing new is begun.
    Draining,
}

/// Shared by all listeners of the process.
#[derive(Debug, Default)]
pub struct Lifecycle {
    phase: AtomicU8,
    workers: Mutex<Vec<Arc<InFlight>>>,
}

/// Requests under way on one worker. Written by its thread, read by any.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct InFlight(AtomicUsize);

impl Lifecycle {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// Goes over to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, SeqCst);
    }

    /// A counter for one more worker.
    pub fn add_worker(&self) -> Arc<InFlight> {
        let in_flight = Arc::<InFlight>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(in_flight.clone());
        in_flight
    }

    /// Requests under way on all workers.
    pub fn in_flight(&self) -> usize {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().map(|worker| worker.count()).sum()
    }
}

impl InFlight {
    /// Requests under way.
    pub fn count(&self) -> usize {
        self.0.load(SeqCst)
    }

    /// Counts a request until the guard is dropped, on the same thread.
    pub fn begin(self: &Arc<Self>) -> InFlightGuard {
        // One writer: no read-modify-write is needed. In one order with the phase: who begins a request and then finds the
        // process serving is seen by who stops serving and then counts.
        self.0.store(self.0.load(Relaxed) + 1, SeqCst);
        InFlightGuard(self.clone())
    }
}

/// A request under way.
#[derive(Debug)]
pub struct InFlightGuard(Arc<InFlight>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.0.store(self.0.0.load(Relaxed) - 1, SeqCst);
    }
}
