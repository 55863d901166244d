//! The ways into a store together, and how they fare.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{Committer, Policies, Store};
use crate::fleet::ActiveTime;

/// A store at work: what writes into it, and whether it can. Clones share it.
#[derive(Clone, Debug)]
pub struct Durability {
    /// The store itself.
    pub store: Arc<dyn Store>,
    /// Where durable changes go.
    pub committer: Committer,
    /// The policies, and where they are published.
    pub policies: Arc<Policies>,
    /// How far write-behind has come.
    pub progress: Arc<FlushProgress>,
}

impl Durability {
    /// Puts a store to work for `shards` shards, on the current runtime; active time is `base` now.
    pub fn start(store: Arc<dyn Store>, shards: usize, base: ActiveTime) -> Self {
        let committer = Committer::start(store.clone());
        let policies = Arc::new(Policies::new(committer.clone()));
        Self { store, committer, policies, progress: Arc::new(FlushProgress::new(shards, base)) }
    }

    /// Whether the store takes what it is given, as far as is known.
    pub fn is_up(&self) -> bool {
        self.store.is_reachable() && self.committer.is_healthy() && !self.progress.is_failing()
    }
}

/// Up to which moment of active time each shard has written what it received.
#[derive(Debug)]
pub struct FlushProgress {
    /// Active time when the run began.
    base: ActiveTime,
    shards: Box<[ShardProgress]>,
}

#[derive(Debug)]
struct ShardProgress {
    reached: AtomicI64,
    failing: AtomicBool,
}

impl FlushProgress {
    /// No shard has written anything since `base`.
    pub fn new(shards: usize, base: ActiveTime) -> Self {
        let at_base = || ShardProgress { reached: AtomicI64::new(base.as_micros()), failing: AtomicBool::new(false) };
        Self { base, shards: (0..shards).map(|_| at_base()).collect() }
    }

    /// Active time when the run began.
    pub(super) fn base(&self) -> ActiveTime {
        self.base
    }

    /// The shard has written all that it had received by then.
    pub(super) fn reached(&self, shard: usize, up_to: ActiveTime) {
        self.shards[shard].reached.fetch_max(up_to.as_micros(), Relaxed);
    }

    /// Notes how the shard's last flush went. Answers whether the one before went otherwise.
    pub(super) fn flushed(&self, shard: usize, good: bool) -> bool {
        self.shards[shard].failing.swap(!good, Relaxed) == good
    }

    fn is_failing(&self) -> bool {
        self.shards.iter().any(|shard| shard.failing.load(Relaxed))
    }

    /// How long ago, at `now`, everything that had been received was written.
    pub fn behind(&self, now: ActiveTime) -> Duration {
        now.since(ActiveTime::from_micros(self.slowest()))
    }

    /// The moment up to which everything received is written, once it is not before `from`. A later one must not be saved:
    /// after a crash, agents whose heartbeats were still on their way to the store would seem to have been silent.
    pub(super) fn saveable(&self, from: ActiveTime) -> Option<ActiveTime> {
        let slowest = self.slowest();
        (slowest >= from.as_micros()).then_some(ActiveTime::from_micros(slowest))
    }

    fn slowest(&self) -> i64 {
        self.shards.iter().map(|shard| shard.reached.load(Relaxed)).min().unwrap_or_default()
    }
}
