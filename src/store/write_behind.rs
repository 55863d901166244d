//! Write-behind: last heartbeats reach the store in few large commands, at most a flush interval late.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Notify},
    time::Instant,
};

use super::{Change, Durability, HeartbeatBatch, StoreError};
use crate::{
    clock::Clock,
    fleet::{ActiveTime, AgentId, LastHeartbeat},
    limits::{CLOCK_SAVE_MS, FLUSH_BATCH_MAX, RECONCILE_BATCH_MAX, SWEEP_STEP_MAX},
    metrics::Metrics,
};

/// Whoever knows which agents sent a heartbeat since the last flush.
pub trait DirtySource: std::fmt::Debug {
    /// How many there are.
    fn dirty(&self) -> usize;

    /// Takes the `most` that were marked first out of the dirty set, with their latest state.
    fn take(&self, most: usize) -> Vec<LastHeartbeat>;

    /// Puts them back: they were not written. What is written next is their state by then.
    fn put_back(&self, batch: &[LastHeartbeat]);

    /// The state of up to `most` agents that come after `after` in id order, dirty or not; empty at the end.
    fn next_in_order(&self, after: Option<AgentId>, most: usize) -> Vec<LastHeartbeat>;

    /// Takes up to `most` agents of which the store's registration is of unknown outcome, and returns what must be written of
    /// them: their registration, or that they are not of the fleet. Those with a change under way are left for later.
    fn reconciliation(&self, most: usize) -> Vec<Change>;

    /// The store's registration of these agents is of unknown outcome.
    fn put_with_an_unknown_outcome(&self, agents: &[AgentId]);

    /// The registrations of these agents. Of those with a change under way there is none: they are put of unknown outcome.
    fn registrations(&self, agents: &[LastHeartbeat]) -> Vec<Change>;

    /// Notified when something must not wait for the next flush.
    fn urgent(&self) -> &Notify;
}

/// When to flush, and when the clock may be saved.
#[derive(Clone, Copy, Debug)]
pub struct FlushRules {
    /// Between two flushes.
    pub interval: Duration,
    /// Active time is saved only from this moment on: see [`WriteBehind`].
    pub clock_from: ActiveTime,
    /// The shard this is for.
    pub shard: usize,
    /// Shards that write into the same store.
    pub shards: usize,
}

/// Writes the dirty set of one shard, on the shard's thread.
///
/// A flush carries active time along, so that the next run knows how long each agent has been silent. It is saved only
/// once this run has outlived its restart grace: until then the agents found at the start are still being waited for,
/// and a run that ends early must leave the next one to wait for them anew. At its end it saves the clock it began with.
#[derive(Debug)]
pub struct WriteBehind {
    source: Rc<dyn DirtySource>,
    durability: Durability,
    clock: Clock,
    metrics: Arc<Metrics>,
    rules: FlushRules,
    clock_saved: Cell<Instant>,
    /// The number of the sweep under way, and the agent it has come to.
    sweeping: Cell<Option<(u64, AgentId)>>,
    /// One flush at a time: of two states of an agent the older must not be written last.
    flushing: Mutex<()>,
}

impl WriteBehind {
    /// Write-behind of `source` into the store of `durability`.
    pub fn new(
        source: Rc<dyn DirtySource>,
        durability: Durability,
        clock: Clock,
        metrics: Arc<Metrics>,
        rules: FlushRules,
    ) -> Self {
        let clock_saved = Cell::new(clock.monotonic());
        Self {
            source,
            durability,
            clock,
            metrics,
            rules,
            clock_saved,
            sweeping: Cell::new(None),
            flushing: Mutex::new(()),
        }
    }

    /// Flushes at every interval, for ever. A failed flush is repeated at the next interval.
    pub async fn run(&self) {
        let mut more = false;
        loop {
            if !more {
                tokio::select! {
                    () = tokio::time::sleep(self.rules.interval) => {}
                    () = self.source.urgent().notified() => {}
                }
            }
            let outcome = match self.flush(false).await {
                Ok(()) => self.sweep().await,
                Err(error) => Err(error),
            };
            let changed = self.durability.progress.flushed(self.rules.shard, outcome.is_ok());
            if changed {
                match &outcome {
                    Ok(_) => tracing::info!("last heartbeats are written again"),
                    Err(error) => {
                        tracing::error!(%error, "last heartbeats cannot be written; they are kept and written later");
                    }
                }
            }
            more = outcome.unwrap_or(false);
        }
    }

    /// Writes all there is, the clock included.
    pub async fn drain(&self) -> Result<(), StoreError> {
        self.flush(true).await
    }

    /// Writes what was dirty when it began; what has become dirty since is the next flush's, or a busy fleet would keep
    /// this one going for ever.
    async fn flush(&self, with_clock: bool) -> Result<(), StoreError> {
        let _one_at_a_time = self.flushing.lock().await;
        let Durability { store, progress, .. } = &self.durability;
        let started = self.clock.monotonic();
        let up_to = self.clock.active_time();
        if !store.is_reachable() {
            self.metrics.flush_failures.increment(1);
            return Err(StoreError::unavailable("it cannot be reached"));
        }
        // Heartbeats do not wait for registrations: those may be refused where these are not.
        let reconciled = self.reconcile().await;
        let mut left = self.source.dirty();
        let wrote = left > 0;
        while left > 0 {
            let batch = HeartbeatBatch {
                heartbeats: self.source.take(left.min(FLUSH_BATCH_MAX)),
                clock: progress.saveable(self.rules.clock_from),
            };
            if let Err(error) = store.save(&batch).await {
                self.source.put_back(&batch.heartbeats);
                self.metrics.flush_failures.increment(1);
                return Err(error);
            }
            left -= left.min(FLUSH_BATCH_MAX);
            self.metrics.flushed_heartbeats.increment(batch.heartbeats.len() as u64);
        }
        progress.reached(self.rules.shard, up_to);
        if wrote {
            self.metrics.flush_seconds.record(self.clock.monotonic() - started);
            self.clock_saved.set(started);
        }
        let is_due = started - self.clock_saved.get() >= Duration::from_millis(CLOCK_SAVE_MS);
        if with_clock || is_due {
            let clock = progress.saveable(self.rules.clock_from).or(with_clock.then(|| progress.base()));
            if clock.is_some() {
                store.save(&HeartbeatBatch { heartbeats: Vec::new(), clock }).await?;
            }
            self.clock_saved.set(started);
        }
        reconciled
    }

    /// Reconciles the store with what it may have or not: policies, and agents of this shard.
    async fn reconcile(&self) -> Result<(), StoreError> {
        self.durability.policies.reconcile().await?;
        let reconciliation = self.source.reconciliation(RECONCILE_BATCH_MAX);
        if reconciliation.is_empty() {
            return Ok(());
        }
        let agents: Vec<_> = reconciliation.iter().filter_map(Change::agent).collect();
        let outcome = self.durability.committer.commit_all(reconciliation).await;
        if outcome.is_err() {
            self.metrics.flush_failures.increment(1);
            self.source.put_with_an_unknown_outcome(&agents);
        }
        outcome
    }

    /// Takes one step of a sweep, if the store wants one. Answers whether the next step should follow at once.
    async fn sweep(&self) -> Result<bool, StoreError> {
        let Durability { store, committer, policies, .. } = &self.durability;
        let Some(sweep) = store.wants_sweep(self.rules.shard, self.rules.shards) else {
            return Ok(false);
        };
        let come_to = self.sweeping.get().filter(|(number, _)| *number == sweep.number).map(|(_, agent)| agent);
        if sweep.registrations && come_to.is_none() && self.rules.shard == 0 {
            // They are no shard's; one of them sees to it.
            policies.put_all_with_an_unknown_outcome().await;
            policies.reconcile().await?;
        }
        let _one_at_a_time = self.flushing.lock().await;
        let batch = HeartbeatBatch { heartbeats: self.source.next_in_order(come_to, SWEEP_STEP_MAX), clock: None };
        let Some(last) = batch.heartbeats.last() else {
            self.sweeping.set(None);
            store.swept(self.rules.shard, sweep).await?;
            return Ok(false);
        };
        if sweep.registrations {
            // Before anything is awaited: a change that begins later is queued later, and has the last word.
            let written = committer.commit_all(self.source.registrations(&batch.heartbeats));
            written.await?;
        }
        store.save(&batch).await?;
        self.sweeping.set(Some((sweep.number, last.id)));
        Ok(sweep.urgent)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::{fleet::Timestamp, store::MemoryStore};

    /// A source that is marked dirty again whenever something is taken from it: a fleet under load.
    #[derive(Debug, Default)]
    struct Busy {
        dirty: RefCell<Vec<u64>>,
        taken: Cell<usize>,
        urgent: Notify,
    }

    impl DirtySource for Busy {
        fn dirty(&self) -> usize {
            self.dirty.borrow().len()
        }

        fn take(&self, most: usize) -> Vec<LastHeartbeat> {
            let taken: Vec<u64> = self.dirty.borrow_mut().drain(..most).collect();
            self.dirty.borrow_mut().extend(&taken);
            self.taken.set(self.taken.get() + taken.len());
            taken.into_iter().map(LastHeartbeat::bare).collect()
        }

        fn put_back(&self, _: &[LastHeartbeat]) {}

        fn next_in_order(&self, _: Option<AgentId>, _: usize) -> Vec<LastHeartbeat> {
            Vec::new()
        }

        fn reconciliation(&self, _: usize) -> Vec<Change> {
            Vec::new()
        }

        fn put_with_an_unknown_outcome(&self, _: &[AgentId]) {}

        fn registrations(&self, _: &[LastHeartbeat]) -> Vec<Change> {
            Vec::new()
        }

        fn urgent(&self) -> &Notify {
            &self.urgent
        }
    }

    fn write_behind(source: Rc<Busy>, durability: Durability, shard: usize) -> WriteBehind {
        let clock = Clock::simulated(2, ActiveTime::default(), Duration::from_secs(30), Timestamp::from_millis(0));
        let rules =
            FlushRules { interval: Duration::from_millis(100), clock_from: ActiveTime::default(), shard, shards: 2 };
        WriteBehind::new(source, durability, clock, Arc::new(Metrics::new()), rules)
    }

    fn durability() -> Durability {
        Durability::start(Arc::<MemoryStore>::default(), 2, ActiveTime::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_ends_although_agents_beat_on() {
        let source = Rc::new(Busy::default());
        let agents = FLUSH_BATCH_MAX + 7;
        source.dirty.borrow_mut().extend(0..agents as u64);
        write_behind(source.clone(), durability(), 0).drain().await.unwrap();
        assert_eq!(source.taken.get(), agents);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_ends_within_its_restart_grace_leaves_the_clock_it_began_with() {
        let base = ActiveTime::from_micros(5_000_000);
        let durability = Durability::start(Arc::<MemoryStore>::default(), 2, base);
        let store = durability.store.clone();
        let mut shards = [0, 1].map(|shard| write_behind(Rc::default(), durability.clone(), shard));
        shards.iter_mut().for_each(|shard| shard.rules.clock_from = base.after(Duration::from_secs(60)));
        tokio::time::advance(Duration::from_secs(10)).await;
        shards[0].flush(false).await.unwrap();
        assert_eq!(store.clock().await.unwrap(), None, "it is saved at the end");
        for shard in &shards {
            shard.drain().await.unwrap();
        }
        assert_eq!(store.clock().await.unwrap(), Some(base));
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_waits_for_the_slowest_shard() {
        let durability = durability();
        let store = durability.store.clone();
        let shards = [0, 1].map(|shard| write_behind(Rc::default(), durability.clone(), shard));
        tokio::time::advance(Duration::from_secs(10)).await;
        shards[0].drain().await.unwrap();
        assert_eq!(
            store.clock().await.unwrap(),
            Some(ActiveTime::default()),
            "the other shard may have unwritten heartbeats"
        );
        shards[1].drain().await.unwrap();
        assert_eq!(store.clock().await.unwrap(), Some(ActiveTime::from_micros(10_000_000)));
    }
}
