//! Write-behind: last heartbeats reach the store in few large commands, at most a flush interval late.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

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
    /// How many there are.
    fn dirty(&self) -> usize;

    /// Takes the `most` that were marked first out of the dirty set, with their latest state.
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

/// Up to which moment of hearing time each shard has written what it heard.
#[derive(Debug)]
pub struct Progress {
    shards: Box<[AtomicI64]>,
}

impl Progress {
    /// No shard has written anything since `base`.
    pub fn new(shards: usize, base: Heard) -> Self {
        Self { shards: (0..shards).map(|_| AtomicI64::new(base.as_micros())).collect() }
    }

    fn reached(&self, shard: usize, heard: Heard) {
        self.shards[shard].fetch_max(heard.as_micros(), Relaxed);
    }

    /// The moment up to which everything heard is written, once it is not before `from`. A later one must not be saved:
    /// after a crash, agents whose heartbeats were still on their way to the store would seem to have been silent.
    fn saveable(&self, from: Heard) -> Option<Heard> {
        let slowest = self.shards.iter().map(|shard| shard.load(Relaxed)).min()?;
        (slowest >= from.as_micros()).then_some(Heard::from_micros(slowest))
    }
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
    progress: Arc<Progress>,
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
        progress: Arc<Progress>,
    ) -> Self {
        let clock_saved = Cell::new(clock.monotonic());
        Self {
            source,
            store,
            clock,
            metrics,
            rules,
            progress,
            clock_saved,
            sweeping: Cell::new(None),
            flushing: Mutex::new(()),
        }
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

    /// Writes what was dirty when it began; what has become dirty since is the next flush's, or a busy fleet would keep
    /// this one going for ever.
    async fn flush(&self, with_clock: bool) -> Result<(), StoreError> {
        let _one_at_a_time = self.flushing.lock().await;
        let started = self.clock.monotonic();
        let heard = self.clock.heard();
        let mut left = self.source.dirty();
        let wrote = left > 0;
        while left > 0 {
            let batch = HeartbeatBatch {
                heartbeats: self.source.take(left.min(FLUSH_BATCH_MAX)),
                clock: self.progress.saveable(self.rules.clock_from),
            };
            if let Err(error) = self.store.save(&batch).await {
                self.source.put_back(&batch.heartbeats);
                self.metrics.flush_failures.increment(1);
                return Err(error);
            }
            left -= left.min(FLUSH_BATCH_MAX);
            self.metrics.flushed_heartbeats.increment(batch.heartbeats.len() as u64);
        }
        self.progress.reached(self.rules.shard, heard);
        if wrote {
            self.metrics.flush_seconds.record(self.clock.monotonic() - started);
            self.clock_saved.set(started);
        }
        let is_due = started - self.clock_saved.get() >= Duration::from_millis(CLOCK_SAVE_MS);
        if with_clock || is_due {
            let clock = self.progress.saveable(self.rules.clock_from);
            if clock.is_some() {
                self.store.save(&HeartbeatBatch { heartbeats: Vec::new(), clock }).await?;
            }
            self.clock_saved.set(started);
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::{
        fleet::{Timestamp, Vitals},
        store::MemoryStore,
    };

    /// A source that is marked dirty again whenever something is taken from it: a fleet under load.
    #[derive(Debug, Default)]
    struct Busy {
        dirty: RefCell<Vec<u64>>,
        taken: Cell<usize>,
        urgent: Notify,
    }

    fn last(id: u64) -> LastHeartbeat {
        LastHeartbeat {
            id: AgentId::new(id),
            registration: Timestamp::from_millis(0),
            at: Timestamp::from_millis(0),
            heard: Heard::default(),
            version: "1".into(),
            vitals: Vitals::default(),
        }
    }

    impl DirtySource for Busy {
        fn dirty(&self) -> usize {
            self.dirty.borrow().len()
        }

        fn take(&self, most: usize) -> Vec<LastHeartbeat> {
            let taken: Vec<u64> = self.dirty.borrow_mut().drain(..most).collect();
            self.dirty.borrow_mut().extend(&taken);
            self.taken.set(self.taken.get() + taken.len());
            taken.into_iter().map(last).collect()
        }

        fn put_back(&self, _: &[LastHeartbeat]) {}

        fn next_in_order(&self, _: Option<AgentId>, _: usize) -> Vec<LastHeartbeat> {
            Vec::new()
        }

        fn urgent(&self) -> &Notify {
            &self.urgent
        }
    }

    fn write_behind(source: Rc<Busy>, store: Arc<MemoryStore>, shard: usize, progress: Arc<Progress>) -> WriteBehind {
        let clock = Clock::simulated(2, Heard::default(), Duration::from_secs(30), Timestamp::from_millis(0));
        let rules = FlushRules { interval: Duration::from_millis(100), clock_from: Heard::default(), shard, shards: 2 };
        WriteBehind::new(source, store, clock, Arc::new(Metrics::new()), rules, progress)
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_ends_although_agents_beat_on() {
        let source = Rc::new(Busy::default());
        let agents = FLUSH_BATCH_MAX + 7;
        source.dirty.borrow_mut().extend(0..agents as u64);
        let progress = Arc::new(Progress::new(2, Heard::default()));
        write_behind(source.clone(), Arc::default(), 0, progress).drain().await.unwrap();
        assert_eq!(source.taken.get(), agents);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_waits_for_the_slowest_shard() {
        let (store, progress) = (Arc::<MemoryStore>::default(), Arc::new(Progress::new(2, Heard::default())));
        let shards = [0, 1].map(|shard| write_behind(Rc::default(), store.clone(), shard, progress.clone()));
        tokio::time::advance(Duration::from_secs(10)).await;
        shards[0].drain().await.unwrap();
        assert_eq!(
            store.clock().await.unwrap(),
            Some(Heard::default()),
            "the other shard may have unwritten heartbeats"
        );
        shards[1].drain().await.unwrap();
        assert_eq!(store.clock().await.unwrap(), Some(Heard::from_micros(10_000_000)));
    }
}
