//! Write-behind: last heartbeats reach the store in few large commands, at most a flush interval late.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Notify},
    time::Instant,
};

use super::{HeartbeatBatch, Store, StoreError};
use crate::{
    clock::Clock,
    fleet::{AgentId, Heard, LastHeartbeat},
    limits::{CLOCK_SAVE_MS, FLUSH_BATCH_MAX, SWEEP_STEP_MAX},
    metrics::Metrics,
};

/// Whoever knows which agents were heard since the last flush.
pub trait DirtySource: std::fmt::Debug {
    /// Takes up to `most` of them out of the dirty set, with their latest state.
    fn take(&self, most: usize) -> Vec<LastHeartbeat>;

    /// Puts them back: they were not written. What is written next is their state by then.
    fn put_back(&self, batch: &[LastHeartbeat]);

    /// The state of up to `most` agents that come after `after` in id order, dirty or not; empty at the end.
    fn next_in_order(&self, after: Option<AgentId>, most: usize) -> Vec<LastHeartbeat>;

    /// Told when something must not wait for the next flush.
    fn urgent(&self) -> &Notify;
}

/// When to flush, and when the clock may be saved.
#[derive(Clone, Copy, Debug)]
pub struct FlushRules {
    /// Between two flushes.
    pub interval: Duration,
    /// Hearing time is saved only from this moment on: see [`WriteBehind`].
    pub clock_from: Heard,
    /// The shard this is for.
    pub shard: usize,
    /// Shards that write into the same store.
    pub shards: usize,
}

/// Writes the dirty set of one shard, on the shard's thread.
///
/// A flush carries hearing time along, so that the next run knows how long each agent has been silent. It is saved only
/// once this run has outlived its restart grace: until then the agents found at the start are still being waited for,
/// and a run that ends early must leave the next one to wait for them anew.
#[derive(Debug)]
pub struct WriteBehind {
    source: Rc<dyn DirtySource>,
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Arc<Metrics>,
    rules: FlushRules,
    clock_saved: Cell<Instant>,
    /// A sweep of the store under way: the agent it has come to.
    sweeping: Cell<Option<Option<AgentId>>>,
    /// One flush at a time: of two states of an agent the older must not be written last.
    flushing: Mutex<()>,
}

impl WriteBehind {
    /// Write-behind of `source` into `store`.
    pub fn new(
        source: Rc<dyn DirtySource>,
        store: Arc<dyn Store>,
        clock: Clock,
        metrics: Arc<Metrics>,
        rules: FlushRules,
    ) -> Self {
        let clock_saved = Cell::new(clock.monotonic());
        Self { source, store, clock, metrics, rules, clock_saved, sweeping: Cell::new(None), flushing: Mutex::new(()) }
    }

    /// Flushes at every interval, for ever. A failed flush is repeated at the next interval.
    pub async fn run(&self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.rules.interval) => {}
                () = self.source.urgent().notified() => {}
            }
            let outcome = match self.flush(false).await {
                Ok(()) => self.sweep().await,
                failed => failed,
            };
            if let Err(error) = outcome {
                tracing::error!(%error, "last heartbeats could not be written; they are kept and written later");
            }
        }
    }

    /// Writes all there is, the clock included.
    pub async fn drain(&self) -> Result<(), StoreError> {
        self.flush(true).await
    }

    async fn flush(&self, with_clock: bool) -> Result<(), StoreError> {
        let _one_at_a_time = self.flushing.lock().await;
        let started = self.clock.monotonic();
        let clock_is_due = with_clock || started - self.clock_saved.get() >= Duration::from_millis(CLOCK_SAVE_MS);
        let mut wrote = false;
        loop {
            let heartbeats = self.source.take(FLUSH_BATCH_MAX);
            let heard = self.clock.heard();
            let batch = HeartbeatBatch { clock: (heard >= self.rules.clock_from).then_some(heard), heartbeats };
            if batch.heartbeats.is_empty() && (wrote || !clock_is_due || batch.clock.is_none()) {
                break;
            }
            if let Err(error) = self.store.save(&batch).await {
                self.source.put_back(&batch.heartbeats);
                self.metrics.flush_failures.increment(1);
                return Err(error);
            }
            wrote = true;
            self.metrics.flushed_heartbeats.increment(batch.heartbeats.len() as u64);
        }
        if wrote {
            self.clock_saved.set(started);
            self.metrics.flush_seconds.record(self.clock.monotonic() - started);
        }
        Ok(())
    }

    /// Takes one step of a sweep, if the store wants one.
    async fn sweep(&self) -> Result<(), StoreError> {
        let come_to = match self.sweeping.get() {
            Some(come_to) => come_to,
            None if self.store.wants_sweep(self.rules.shard, self.rules.shards) => None,
            None => return Ok(()),
        };
        let _one_at_a_time = self.flushing.lock().await;
        let batch = HeartbeatBatch { heartbeats: self.source.next_in_order(come_to, SWEEP_STEP_MAX), clock: None };
        match batch.heartbeats.last() {
            Some(last) => {
                self.store.save(&batch).await?;
                self.sweeping.set(Some(Some(last.id)));
                Ok(())
            }
            None => {
                self.sweeping.set(None);
                self.store.swept(self.rules.shard).await
            }
        }
    }
}
