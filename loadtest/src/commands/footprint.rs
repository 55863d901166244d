//! What a server takes of the machine's memory, and the Redis behind it of its own.

use std::time::Duration;

use crate::server::{Redis, ServerProcess, resident_bytes};
use crate::table::Table;
use crate::units;

/// Until allocators and write-behind have come to rest.
pub(super) const REST: Duration = Duration::from_secs(2);

/// Memory in use at a moment.
#[derive(Clone, Copy)]
pub(super) struct Footprint {
    resident_bytes: u64,
    redis_bytes: Option<u64>,
}

impl Footprint {
    /// That of this moment.
    pub(super) async fn of(process: &ServerProcess, redis: Option<&mut Redis>) -> anyhow::Result<Self> {
        let redis_bytes = match redis {
            Some(redis) => Some(redis.info().await?.memory_bytes),
            None => None,
        };
        Ok(Self { resident_bytes: resident_bytes(process.pid())?, redis_bytes })
    }

    /// What so many of something, at least one, have added to what was in use without any; `of` is what one of them is.
    pub(super) fn show(self, table: &mut Table, without: Self, count: u64, of: &str) {
        let mut rows = |what: &str, before: u64, after: u64| {
            table.pair(format!("{what} without {of}s"), units::mebibytes(before));
            table.pair(what, units::mebibytes(after));
            table.pair(format!("{what} per {of}"), format!("{} bytes", after.saturating_sub(before) / count));
        };
        rows("RSS", without.resident_bytes, self.resident_bytes);
        if let (Some(before), Some(after)) = (without.redis_bytes, self.redis_bytes) {
            rows("Redis memory", before, after);
        }
    }
}
