//! A server under load: one that was started for it, which may be killed and started again, or a given one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;

use crate::wire::Target;

use super::launch::{Launch, Room, ServerPlan, StorePlan};
use super::process::ServerProcess;
use super::redis::{Redis, RedisUrl};
use super::usage::{cpu_time_of, open_files_limit, resident_bytes};
use super::{Info, Probe};

/// How long a server may take to end after SIGTERM.
const END_LIMIT: Duration = Duration::from_secs(300);

pub(crate) struct Host {
    pub(crate) target: Arc<Target>,
    pub(crate) token: Arc<str>,
    /// Its process, for those who look at it from aside; 0 while there is none, or none is known.
    pub(crate) pid: Arc<AtomicU32>,
    metrics: Probe,
    own: Option<Own>,
}

/// Dropped, the server goes before its Redis and its folder.
struct Own {
    process: Option<ServerProcess>,
    launch: Launch,
    redis: Option<Redis>,
    ready: Duration,
}

/// What a server has used up to a moment, and the Redis behind it.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    /// `None` if it is not known.
    pub(crate) cpu: Option<Duration>,
    pub(crate) redis: Option<Info>,
}

impl Host {
    /// Starts an engine; one that keeps its fleet in Redis, in the one at the URL or in one that is started with it.
    pub(crate) async fn start(program: &Path, plan: &ServerPlan, redis: Option<&RedisUrl>) -> anyhow::Result<Self> {
        let redis = match plan.store {
            StorePlan::Redis => Some(Redis::open(redis).await?),
            StorePlan::Embedded | StorePlan::Memory => None,
        };
        let launch = Launch::engine(program, plan, redis.as_ref())?;
        Self::launched(launch, redis).await
    }

    /// Starts the baseline; with the certificate of another server, if one is given.
    pub(crate) async fn bare(tls_folder: Option<&Path>, room: Option<Room>) -> anyhow::Result<Self> {
        Self::launched(Launch::bare(tls_folder, room)?, None).await
    }

    async fn launched(launch: Launch, redis: Option<Redis>) -> anyhow::Result<Self> {
        let (process, ready) = launch.start().await?;
        let (url, ca) = launch.address();
        let target = Target::reach(&url, ca.as_deref()).await?;
        Ok(Self {
            metrics: Probe::open(launch.operations().await?.unwrap_or_else(|| target.clone())),
            target,
            token: launch.token.as_str().into(),
            pid: Arc::new(AtomicU32::new(process.pid())),
            own: Some(Own { process: Some(process), launch, redis, ready }),
        })
    }

    /// One that runs already.
    pub(crate) fn given(target: Arc<Target>, token: &str) -> Self {
        let metrics = Probe::with_token(target.clone(), token);
        Self { target, token: token.into(), pid: Arc::default(), metrics, own: None }
    }

    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    pub(crate) fn metrics(&self) -> Probe {
        self.metrics.another()
    }

    pub(crate) fn api(&self) -> Probe {
        Probe::with_token(self.target.clone(), &self.token)
    }

    /// Its version, if it tells.
    pub(crate) async fn version(&self) -> Option<String> {
        let health = self.api().json("/health").await.ok()?;
        Some(health["data"]["version"].as_str()?.to_owned())
    }

    /// Where a certificate is that the baseline can use, if it speaks TLS.
    pub(crate) fn tls_folder(&self) -> Option<&Path> {
        self.own.as_ref()?.launch.tls_folder.as_deref()
    }

    /// How long it took to become ready.
    pub(crate) fn ready(&self) -> Option<Duration> {
        Some(self.own.as_ref()?.ready)
    }

    /// What it has used up to now.
    pub(crate) async fn usage(&mut self) -> anyhow::Result<Usage> {
        let redis = match self.own.as_mut().and_then(|own| own.redis.as_mut()) {
            Some(redis) => Some(redis.info().await?),
            None => None,
        };
        let cpu = match self.pid.load(Ordering::Relaxed) {
            // What it says of itself, if it does.
            0 => self.metrics.scrape().await.ok().and_then(|scrape| scrape.cpu_time()),
            pid => Some(cpu_time_of(pid)?),
        };
        Ok(Usage { cpu, redis })
    }

    /// Its resident memory: of one that was started here.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        resident_bytes(self.pid.load(Ordering::Relaxed))
    }

    /// How many files it may have open: one that was started here. `None` if there is no limit.
    pub(crate) fn open_files_limit(&self) -> anyhow::Result<Option<u64>> {
        open_files_limit(self.pid.load(Ordering::Relaxed))
    }

    /// Waits until one that was started here says that something has happened; returns the time since it was started.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        has_happened: impl AsyncFnMut() -> bool,
    ) -> anyhow::Result<Duration> {
        let process = self.own()?.process.as_mut().context("the server does not run")?;
        process.until(what, limit, has_happened).await
    }

    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.pid.store(0, Ordering::Relaxed);
        match self.own()?.process.take() {
            Some(process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Ends it in order; returns the time that took.
    pub(crate) async fn terminate(&mut self) -> anyhow::Result<Duration> {
        self.pid.store(0, Ordering::Relaxed);
        match self.own()?.process.take() {
            Some(process) => process.terminate(END_LIMIT).await,
            None => Ok(Duration::ZERO),
        }
    }

    /// Starts it again; returns how long it took to be ready.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<Duration> {
        let own = self.own()?;
        let (process, ready) = own.launch.start().await?;
        let pid = process.pid();
        own.process = Some(process);
        self.pid.store(pid, Ordering::Relaxed);
        Ok(ready)
    }

    pub(crate) fn redis(&mut self) -> anyhow::Result<&mut Redis> {
        self.own()?.redis.as_mut().context("the server does not keep its fleet in Redis")
    }

    /// Ends one that was started here, in order, and removes what it has stored.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        if !self.is_own() {
            return Ok(());
        }
        self.terminate().await?;
        // After it: it has yet to write what it has heard.
        match self.own.and_then(|own| own.redis) {
            Some(redis) => redis.clear().await,
            None => Ok(()),
        }
    }

    fn own(&mut self) -> anyhow::Result<&mut Own> {
        self.own.as_mut().context("only a server that was started for the run can be disturbed: leave out --url")
    }
}
