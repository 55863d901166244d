//! What a load costs: processor time of the server and of this client, and work for Redis; and memory.

use std::time::Duration;

use crate::table::Table;
use crate::units;

use super::host::Usage;
use super::{Expense, Host, own_cpu_time};

pub(crate) struct Meter {
    before: Usage,
    client_cpu: Duration,
}

/// What each request of a load has cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    /// Processor time of the server; `None` if it is not known.
    pub(crate) server_us: Option<f64>,
    pub(crate) client_us: f64,
    /// What it meant to Redis, if that is where the fleet is.
    pub(crate) redis: Option<Expense>,
}

impl Meter {
    /// Begins. What is read right after this belongs to the same moment.
    pub(crate) async fn start(host: &mut Host) -> anyhow::Result<Self> {
        Ok(Self { before: host.usage().await?, client_cpu: own_cpu_time()? })
    }

    /// Ends, and shares out what was used over so many requests; at least one.
    pub(crate) async fn stop(self, host: &mut Host, requests: u64) -> anyhow::Result<Cost> {
        let client = own_cpu_time()?.saturating_sub(self.client_cpu);
        let now = host.usage().await?;
        let each_us = |cpu: Duration| cpu.as_secs_f64() * 1e6 / requests as f64;
        Ok(Cost {
            server_us: now.cpu.zip(self.before.cpu).map(|(now, then)| each_us(now.saturating_sub(then))),
            client_us: each_us(client),
            redis: now.redis.zip(self.before.redis).map(|(now, then)| now.since(&then, requests)),
        })
    }
}

impl Cost {
    /// Appends it to a table; `of` is what the requests are.
    pub(crate) fn show(&self, table: &mut Table, of: &str) {
        if let Some(server_us) = self.server_us {
            table.pair(format!("processor time per {of}"), format!("{server_us:.1} µs"));
        }
        if let Some(redis) = self.redis {
            table.pair(format!("processor time of Redis per {of}"), format!("{:.1} µs", redis.cpu_us));
            table.pair(format!("Redis commands per 1,000 {of}s"), format!("{:.1}", redis.commands_per_1000));
            table.pair(format!("Redis transactions per 1,000 {of}s"), format!("{:.2}", redis.transactions_per_1000));
        }
    }
}

/// Memory in use at a moment, by a server and the Redis behind it.
#[derive(Clone, Copy)]
pub(crate) struct Footprint {
    resident_bytes: u64,
    redis_bytes: Option<u64>,
}

impl Footprint {
    pub(crate) async fn of(host: &mut Host) -> anyhow::Result<Self> {
        let redis_bytes = host.usage().await?.redis.map(|redis| redis.memory_bytes);
        Ok(Self { resident_bytes: host.resident_bytes()?, redis_bytes })
    }

    /// Appends what so many of something, at least one, have added to what was in use without any; `of` is what one of
    /// them is. Returns the resident bytes of each.
    pub(crate) fn show(self, table: &mut Table, without: Self, count: u64, of: &str) -> u64 {
        let mut rows = |what: &str, before: u64, after: u64| {
            let each = after.saturating_sub(before) / count;
            table.pair(format!("{what} without {of}s"), units::mebibytes(before));
            table.pair(what, units::mebibytes(after));
            table.pair(format!("{what} per {of}"), format!("{each} bytes"));
            each
        };
        let each = rows("RSS", without.resident_bytes, self.resident_bytes);
        if let (Some(before), Some(after)) = (without.redis_bytes, self.redis_bytes) {
            rows("Redis memory", before, after);
        }
        each
    }
}
