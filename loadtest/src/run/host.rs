//! The server that a run is about: one of its own, which it may kill and start again, or a given one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;

use crate::scenario::{ServerPlan, StorePlan};
use crate::server::{Engine, EngineOptions, Probe, Redis, ServerProcess, WhichRedis};
use crate::wire::Target;

/// How long a server may take to end after SIGTERM.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A server under load.
pub(crate) struct Host {
    /// Its main listener.
    pub(crate) target: Arc<Target>,
    /// The admin token.
    pub(crate) token: String,
    /// Its process, for those who look at it from aside; 0 while there is none, or none is known.
    pub(super) pid: Arc<AtomicU32>,
    own: Option<Own>,
}

/// Dropped, the server goes before its Redis and its folder.
struct Own {
    process: Option<ServerProcess>,
    engine: Engine,
    redis: Option<Redis>,
}

impl Host {
    /// Starts a server as the scenario wants it.
    pub(crate) async fn start(binary: PathBuf, plan: &ServerPlan) -> anyhow::Result<Self> {
        let mut arguments: Vec<_> = plan.args.iter().map(Into::into).collect();
        let redis = match plan.store {
            StorePlan::Redis => Some(Redis::open(&WhichRedis::Own).await?),
            StorePlan::Embedded => None,
            StorePlan::Memory => {
                arguments.push("--store=memory:".into());
                None
            }
        };
        let options = EngineOptions {
            binary,
            tls: plan.tls,
            timeout_ms: Some(u64::try_from(plan.timeout.as_millis())?),
            arguments,
        };
        let engine = Engine::prepare(options, redis.as_ref().map(|redis| redis.store().clone()))?;
        let (process, _) = engine.start().await?;
        Ok(Self {
            target: engine.target().await?,
            token: engine.token().to_owned(),
            pid: Arc::new(AtomicU32::new(process.pid())),
            own: Some(Own { process: Some(process), engine, redis }),
        })
    }

    /// One that runs already.
    pub(crate) fn given(target: Arc<Target>, token: String) -> Self {
        Self { target, token, pid: Arc::default(), own: None }
    }

    /// Whether it was started here.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// A client for its metrics.
    pub(crate) async fn metrics(&self) -> anyhow::Result<Probe> {
        Ok(match &self.own {
            Some(own) => Probe::open(own.engine.operations().await?),
            None => Probe::with_token(self.target.clone(), &self.token),
        })
    }

    /// A client for its API.
    pub(super) fn api(&self) -> Probe {
        Probe::with_token(self.target.clone(), &self.token)
    }

    /// Its version, if it tells.
    pub(super) async fn version(&self) -> Option<String> {
        let mut probe = Probe::open(self.target.clone());
        let (_, body) = probe.get("/health").await.ok()?;
        let health: serde_json::Value = serde_json::from_slice(body).ok()?;
        Some(health["data"]["version"].as_str()?.to_owned())
    }

    /// Kills it (SIGKILL).
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.pid.store(0, Ordering::Relaxed);
        match self.own()?.process.take() {
            Some(process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Starts it again; returns how long it took to be ready.
    pub(super) async fn start_again(&mut self) -> anyhow::Result<Duration> {
        let own = self.own()?;
        let (process, ready) = own.engine.start().await?;
        let pid = process.pid();
        own.process = Some(process);
        self.pid.store(pid, Ordering::Relaxed);
        Ok(ready)
    }

    /// Its Redis.
    pub(super) fn redis(&mut self) -> anyhow::Result<&mut Redis> {
        self.own()?.redis.as_mut().context("the server does not keep its fleet in Redis")
    }

    /// Ends it in order; one that was started here.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        let Some(mut own) = self.own else { return Ok(()) };
        // Its Redis goes after it: it has yet to write what it has heard.
        match own.process.take() {
            Some(process) => process.terminate(END_LIMIT).await.map(drop),
            None => Ok(()),
        }
    }

    fn own(&mut self) -> anyhow::Result<&mut Own> {
        self.own.as_mut().context("only a server that was started for the run can be disturbed: give --server")
    }
}
