//! What those share who carry out a run: the load, the course of events, and the one who watches.

use std::cell::{Cell, RefCell, RefMut};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::load::SharedTally;
use crate::server::Host;

use super::ledger::Ledger;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Event {
    /// Seconds since the end of the warm-up.
    pub(crate) at_s: f64,
    pub(crate) what: String,
}

pub(super) struct Stage {
    pub(super) tally: SharedTally,
    /// The probe's beats.
    pub(super) probed: SharedTally,
    /// The end of the warm-up, from which on everything counts.
    pub(super) zero: Instant,
    pub(super) pid: Arc<AtomicU32>,
    /// Set to end the load early.
    pub(super) stop: CancellationToken,
    /// Set when that was wanted from outside, before the run had ended by itself.
    pub(super) interrupted: Cell<bool>,
    pub(super) done: CancellationToken,
    ledger: RefCell<Ledger>,
    events: RefCell<Vec<Event>>,
    doing: RefCell<String>,
}

impl Stage {
    pub(super) fn set(host: &Host, zero: Instant) -> Self {
        Self {
            tally: SharedTally::new(),
            probed: SharedTally::new(),
            zero,
            pid: host.pid.clone(),
            stop: CancellationToken::new(),
            interrupted: Cell::new(false),
            done: CancellationToken::new(),
            ledger: RefCell::default(),
            events: RefCell::default(),
            doing: RefCell::new("beating".to_owned()),
        }
    }

    pub(super) fn ledger(&self) -> RefMut<'_, Ledger> {
        self.ledger.borrow_mut()
    }

    pub(super) fn note(&self, what: impl Into<String>) {
        let at_s = Instant::now().saturating_duration_since(self.zero).as_secs_f64();
        self.events.borrow_mut().push(Event { at_s, what: what.into() });
    }

    pub(super) fn take_events(&self) -> Vec<Event> {
        self.events.take()
    }

    pub(super) fn doing(&self) -> String {
        self.doing.borrow().clone()
    }

    pub(super) fn now_doing(&self, what: impl Into<String>) {
        self.doing.replace(what.into());
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.get()
    }

    pub(super) async fn over(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.done.cancelled() => {}
        }
    }

    /// Waits until then; `false` if the run ended before.
    pub(super) async fn wait_until(&self, moment: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.over() => false,
            () = tokio::time::sleep_until(moment.into()) => true,
        }
    }

    /// Ends the load when that is wanted from outside.
    pub(super) async fn stop_on(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            () = self.over() => {}
            () = stop.cancelled() => {
                self.interrupted.set(true);
                self.stop.cancel();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_from_outside_ends_the_load_and_the_end_of_the_load_stops_nothing_else() {
        let target = crate::wire::Target::expect("http://127.0.0.1:9", None).await.expect("a target");
        let host = Host::given(target, "");
        let (ended_by_itself, outside) = (Stage::set(&host, Instant::now()), CancellationToken::new());
        ended_by_itself.stop.cancel();
        ended_by_itself.stop_on(&outside).await.expect("nothing that can fail");
        assert!(!outside.is_cancelled() && !ended_by_itself.is_interrupted());
        outside.cancel();
        let ended_early = Stage::set(&host, Instant::now());
        ended_early.stop_on(&outside).await.expect("nothing that can fail");
        assert!(ended_early.stop.is_cancelled() && ended_early.is_interrupted());
    }
}
