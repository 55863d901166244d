//! The phase of the process, and the number of requests in flight.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicU8, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The fleet is being loaded: no request about it can be answered yet.
    Starting,
    Serving,
    /// Shutting down: requests in flight are finished, new ones refused.
    Draining,
}

/// Shared by all listeners of the process.
#[derive(Debug, Default)]
pub struct Lifecycle {
    phase: AtomicU8,
    workers: Mutex<Vec<Arc<InFlight>>>,
    idle: Arc<Idle>,
}

/// Requests in flight on one worker. Written by its thread, read by any.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct InFlight {
    /// Until their answers have been sent.
    under_way: AtomicUsize,
    /// Until there is an answer.
    being_handled: AtomicUsize,
    idle: Arc<Idle>,
}

/// Wakes who waits for the last request.
#[derive(Debug, Default)]
struct Idle {
    /// Whether anybody waits: to wake takes a lock that all workers share, and no request is to pay for it in service.
    is_awaited: AtomicBool,
    notify: Notify,
}

impl Lifecycle {
    pub fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, SeqCst);
    }

    /// A counter for one more worker.
    pub fn add_worker(&self) -> Arc<InFlight> {
        let in_flight = Arc::new(InFlight { idle: self.idle.clone(), ..InFlight::default() });
        self.workers.lock().push(in_flight.clone());
        in_flight
    }

    /// Requests in flight on all workers.
    pub fn in_flight(&self) -> usize {
        let workers = self.workers.lock();
        workers.iter().map(|worker| worker.count()).sum()
    }

    /// Waits until no request is under way on any worker.
    pub async fn idle(&self) {
        // In one order with the counts: whoever ends the last request sees this, or is seen to have ended it.
        self.idle.is_awaited.store(true, SeqCst);
        loop {
            // Before the look: a worker that becomes idle after it wakes this.
            let idle = self.idle.notify.notified();
            if self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl InFlight {
    /// Requests whose answers have not been sent.
    pub fn count(&self) -> usize {
        self.under_way.load(SeqCst)
    }

    /// Requests that have no answer yet.
    pub fn being_handled(&self) -> usize {
        self.being_handled.load(Relaxed)
    }

    /// Counts a request until the guard is dropped, on the same thread.
    pub fn begin(self: &Arc<Self>) -> RequestGuard {
        // One writer: no read-modify-write is needed. Sequentially consistent with the phase: a request that begins and then
        // reads `Serving` is seen by a drain that leaves `Serving` and then counts.
        self.under_way.store(self.under_way.load(Relaxed) + 1, SeqCst);
        self.being_handled.store(self.being_handled.load(Relaxed) + 1, Relaxed);
        RequestGuard { in_flight: self.clone(), is_handled: false }
    }

    fn end_handling(&self) {
        self.being_handled.store(self.being_handled.load(Relaxed) - 1, Relaxed);
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct RequestGuard {
    in_flight: Arc<InFlight>,
    is_handled: bool,
}

impl RequestGuard {
    /// The response is ready but has yet to be sent.
    pub fn handled(mut self) -> Self {
        self.in_flight.end_handling();
        self.is_handled = true;
        self
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if !self.is_handled {
            self.in_flight.end_handling();
        }
        let left = self.in_flight.under_way.load(Relaxed) - 1;
        self.in_flight.under_way.store(left, SeqCst);
        if left == 0 && self.in_flight.idle.is_awaited.load(SeqCst) {
            self.in_flight.idle.notify.notify_waiters();
        }
    }
}

/// In the extensions of a response: its body is an endless stream. It does not count as in flight, or it would hold up
/// shutdown.
#[derive(Clone, Copy, Debug)]
pub struct Endless;
