//! A side of a comparison: a server with agents of its own, measured for a round at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::load::{ClosedLoop, Credentials, Fleet, Manner, deregister, register};
use crate::progress;
use crate::run::Host;
use crate::server::{Bare, Redis};
use crate::wire::Target;

use super::cpu_clock::CpuClock;
use super::rounds::Sample;
use super::subject::{Meter, Subject};

/// Connections are made and caches are warm after this.
const WARM_UP: Duration = Duration::from_millis(500);

/// One of the sides; a server that was started for it ends when this is dropped.
pub(super) struct Side {
    /// What tables call it.
    pub(super) name: &'static str,
    server: Server,
    target: Arc<Target>,
    token: String,
    clock: CpuClock,
    fleet: Arc<Fleet>,
}

/// What stands behind a side.
pub(super) enum Server {
    /// The engine, started for it.
    Engine(Box<Subject>),
    /// The baseline, started for it.
    Bare(Bare),
    /// Whatever listens at a URL.
    Given(Box<Host>),
}

/// Whose beats are sent on each side, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// How many agents there are.
    pub(super) agents: u64,
    /// How they send.
    pub(super) manner: Manner,
}

impl Side {
    /// Registers its agents.
    pub(super) async fn enlist(name: &'static str, server: Server, load: Load) -> anyhow::Result<Self> {
        let (target, token, clock) = match &server {
            Server::Engine(subject) => {
                let clock = CpuClock::Process(subject.process.pid());
                (subject.target().await?, subject.engine.token().to_owned(), clock)
            }
            Server::Bare(bare) => (bare.target().clone(), "any".to_owned(), CpuClock::Process(bare.pid())),
            Server::Given(host) => {
                (host.target.clone(), host.token.clone(), CpuClock::told(host.metrics().await?).await)
            }
        };
        // A batch is sent with the admin token.
        let credentials = if load.manner.batch.is_some() { Credentials::Admin } else { Credentials::Own };
        let bar = progress::bar(load.agents, "registering");
        let fleet = register(&target, &token, load.agents, load.manner.connections, credentials, &bar).await;
        bar.finish_and_clear();
        Ok(Self { name, server, target, token, clock, fleet: Arc::new(fleet?) })
    }

    /// Measures one round.
    pub(super) async fn beat(&mut self, manner: Manner, seconds: u64) -> anyhow::Result<Sample> {
        let load = ClosedLoop::start(&self.target, &self.fleet, manner);
        tokio::time::sleep(WARM_UP).await;
        let meter = Meter::start(&mut self.clock, self.server.redis()).await?;
        let (begun, before, handshakes) = (Instant::now(), load.progress(), self.target.handshakes());
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let (elapsed, done, handshakes) =
            (begun.elapsed(), load.progress(), self.target.handshakes().since(handshakes));
        let beats = done.beats - before.beats;
        if beats == 0 && done.failures == 0 {
            bail!("no beat was answered on the side `{}`", self.name);
        }
        let cost = meter.stop(&mut self.clock, self.server.redis(), beats.max(1)).await?;
        if let Some(failure) = load.first_failure() {
            bail!(
                "{} of {} beats failed on the side `{}`: {failure}",
                done.failures,
                done.failures + done.beats,
                self.name
            );
        }
        Ok(Sample { per_second: beats as f64 / elapsed.as_secs_f64(), cost, resumed: handshakes.resumed_share() })
    }

    /// Whether the processor time of its server is known.
    pub(super) fn has_clock(&self) -> bool {
        !matches!(self.clock, CpuClock::Unknown)
    }

    /// Ends its server in order; deregisters the agents from one that goes on.
    pub(super) async fn end(self, connections: usize) -> anyhow::Result<()> {
        match self.server {
            Server::Engine(subject) => subject.end().await,
            Server::Bare(bare) => {
                drop(bare);
                Ok(())
            }
            Server::Given(_) => {
                let bar = progress::bar(self.fleet.len(), "deregistering");
                let done = deregister(&self.target, &self.token, &self.fleet, connections, &bar).await;
                bar.finish_and_clear();
                done
            }
        }
    }
}

impl Server {
    fn redis(&mut self) -> Option<&mut Redis> {
        match self {
            Self::Engine(subject) => subject.redis.as_mut(),
            Self::Bare(_) | Self::Given(_) => None,
        }
    }
}
