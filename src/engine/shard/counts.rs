//! How many agents there are in each status: counted at each change, never by a scan.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::fleet::{Status, Transition};

/// The counters of one shard. Written by its thread, read by any.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ShardCounts {
    online: AtomicU64,
    stale: AtomicU64,
    offline: AtomicU64,
    dirty: AtomicU64,
}

/// How many agents there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// Whose heartbeats arrive in time.
    pub online: u64,
    /// Silent.
    pub stale: u64,
    /// Silent for long.
    pub offline: u64,
    /// Whose last heartbeat is not in the store yet.
    pub dirty: u64,
}

impl FleetCounts {
    pub fn total(&self) -> u64 {
        self.online + self.stale + self.offline
    }

    pub fn with(&self, status: Status) -> u64 {
        match status {
            Status::Online => self.online,
            Status::Stale => self.stale,
            Status::Offline => self.offline,
        }
    }

    pub fn sum<'a>(shards: impl Iterator<Item = &'a ShardCounts>) -> Self {
        shards.fold(Self::default(), |sum, shard| Self {
            online: sum.online + shard.online.load(Relaxed),
            stale: sum.stale + shard.stale.load(Relaxed),
            offline: sum.offline + shard.offline.load(Relaxed),
            dirty: sum.dirty + shard.dirty.load(Relaxed),
        })
    }
}

impl ShardCounts {
    pub(in crate::engine) fn joined(&self, status: Status) {
        self.of(status).fetch_add(1, Relaxed);
    }

    pub(in crate::engine) fn left(&self, status: Status) {
        self.of(status).fetch_sub(1, Relaxed);
    }

    pub(in crate::engine) fn moved(&self, transition: Transition) {
        self.left(transition.from);
        self.joined(transition.to);
    }

    pub(in crate::engine) fn set_dirty(&self, agents: usize) {
        self.dirty.store(agents as u64, Relaxed);
    }

    fn of(&self, status: Status) -> &AtomicU64 {
        match status {
            Status::Online => &self.online,
            Status::Stale => &self.stale,
            Status::Offline => &self.offline,
        }
    }
}
