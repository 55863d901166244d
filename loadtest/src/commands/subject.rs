//! An engine under test, with the Redis behind it if its fleet is kept there, and what both use.

use std::sync::Arc;
use std::time::Duration;

use crate::server::{Engine, EngineOptions, Expense, Info, Redis, ServerProcess, WhichRedis, own_cpu_time};
use crate::table::Table;
use crate::wire::Target;

use super::cpu_clock::CpuClock;

/// How long a server may take to end after SIGTERM.
pub(super) const END_LIMIT: Duration = Duration::from_secs(300);

/// A running engine. Dropped, it ends, and then a Redis that was started for it.
pub(super) struct Subject {
    /// Its process, which must end before its folder goes.
    pub(super) process: ServerProcess,
    /// How it is started, and where it listens.
    pub(super) engine: Engine,
    /// Where its fleet is kept; `None` for the embedded store.
    pub(super) redis: Option<Redis>,
    /// How long it took to become ready.
    pub(super) ready: Duration,
}

impl Subject {
    /// Starts it, with its fleet in Redis if one is named.
    pub(super) async fn start(options: EngineOptions, redis: Option<&WhichRedis>) -> anyhow::Result<Self> {
        let redis = Redis::open_if(redis).await?;
        let engine = Engine::prepare(options, redis.as_ref().map(|redis| redis.store().clone()))?;
        let (process, ready) = engine.start().await?;
        Ok(Self { process, engine, redis, ready })
    }

    /// Its main listener.
    pub(super) async fn target(&self) -> anyhow::Result<Arc<Target>> {
        self.engine.target().await
    }

    /// Ends it in order, and removes what it has stored.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.process.terminate(END_LIMIT).await?;
        match self.redis {
            Some(redis) => redis.clear().await,
            None => Ok(()),
        }
    }
}

/// What a server, the Redis behind it and this client use for a load, from start to stop.
pub(super) struct Meter {
    redis: Option<Info>,
    server_cpu: Option<Duration>,
    client_cpu: Duration,
}

/// What each request of a load has cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cost {
    /// Processor time of the server, in microseconds; `None` if it is not known.
    pub(super) server_us: Option<f64>,
    /// Processor time of this client, in microseconds.
    pub(super) client_us: f64,
    /// What it meant to Redis, if that is where the fleet is.
    pub(super) redis: Option<Expense>,
}

impl Meter {
    /// Begins. What is read right after this belongs to the same moment.
    pub(super) async fn start(clock: &mut CpuClock, redis: Option<&mut Redis>) -> anyhow::Result<Self> {
        let redis = info(redis).await?;
        Ok(Self { redis, server_cpu: clock.read().await?, client_cpu: own_cpu_time()? })
    }

    /// Ends, and shares out what was used over so many requests; at least one.
    pub(super) async fn stop(
        self,
        clock: &mut CpuClock,
        redis: Option<&mut Redis>,
        requests: u64,
    ) -> anyhow::Result<Cost> {
        let server = clock.read().await?.zip(self.server_cpu).map(|(now, then)| now.saturating_sub(then));
        let client = own_cpu_time()?.saturating_sub(self.client_cpu);
        let redis = self.redis.zip(info(redis).await?);
        let each_us = |cpu: Duration| cpu.as_secs_f64() * 1e6 / requests as f64;
        Ok(Cost {
            server_us: server.map(each_us),
            client_us: each_us(client),
            redis: redis.map(|(before, after)| after.since(&before, requests)),
        })
    }
}

impl Cost {
    /// Appends it to a table; `of` is what the requests are.
    pub(super) fn show(&self, table: &mut Table, of: &str) {
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

async fn info(redis: Option<&mut Redis>) -> anyhow::Result<Option<Info>> {
    match redis {
        Some(redis) => Ok(Some(redis.info().await?)),
        None => Ok(None),
    }
}
