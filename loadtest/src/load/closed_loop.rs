//! The closed loop: each connection sends its next beat as soon as the last is answered.
//!
//! Says what a beat costs and how many there can be. Its latencies would say nothing (a slow server
//! is simply asked less often), so that none are taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::bail;
use indicatif::ProgressBar;
use tokio::task::JoinSet;

use crate::wire::{KeepAlive, Link, Target};

use super::caller::LIMIT;
use super::heartbeat::{Batch, Heartbeat};
use super::relayed::Relayed;
use super::{Fleet, refusal};

/// Connections that beat as fast as they are answered, until this is dropped.
pub(crate) struct ClosedLoop {
    counters: Arc<Counters>,
    _connections: JoinSet<()>,
}

/// What the connections have done since they began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Answers with 2xx.
    pub(crate) beats: u64,
    /// Everything else.
    pub(crate) failures: u64,
}

#[derive(Default)]
struct Counters {
    beats: AtomicU64,
    failures: AtomicU64,
    first_failure: std::sync::OnceLock<String>,
}

/// How a closed loop sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Requests under way at once.
    pub(crate) connections: usize,
    /// What becomes of a connection after a request.
    pub(crate) keep_alive: KeepAlive,
    /// So many beats in each request, as relays send them, with the token that the fleet shares; or each alone.
    pub(crate) batch: Option<u64>,
}

impl ClosedLoop {
    /// Starts beating.
    pub(crate) fn start(target: &Arc<Target>, fleet: &Arc<Fleet>, manner: Manner) -> Self {
        let counters = Arc::new(Counters::default());
        let mut set = JoinSet::new();
        for index in 0..manner.connections {
            let connection = Connection {
                target: target.clone(),
                fleet: fleet.clone(),
                keep_alive: manner.keep_alive,
                // Each connection speaks for its own share of the agents.
                first: fleet.len() * index as u64 / manner.connections as u64,
                counters: counters.clone(),
            };
            match manner.batch {
                None => set.spawn(connection.beat()),
                Some(beats) => set.spawn(connection.relay(beats)),
            };
        }
        Self { counters, _connections: set }
    }

    /// What has been done up to now.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            beats: self.counters.beats.load(Ordering::Relaxed),
            failures: self.counters.failures.load(Ordering::Relaxed),
        }
    }

    /// What was said at the first failure.
    pub(crate) fn first_failure(&self) -> Option<&str> {
        self.counters.first_failure.get().map(String::as_str)
    }
}

struct Connection {
    target: Arc<Target>,
    fleet: Arc<Fleet>,
    keep_alive: KeepAlive,
    first: u64,
    counters: Arc<Counters>,
}

impl Connection {
    async fn beat(self) {
        let heartbeat = Heartbeat::to(&self.target, self.keep_alive);
        let mut link = Link::new(self.target.clone(), self.keep_alive);
        let mut request = Vec::new();
        for number in self.first.. {
            let (agent, token) = self.fleet.agent_of(number);
            heartbeat.write(&mut request, agent, token);
            let failure = match link.exchange(&request).await {
                Ok(reply) if reply.is_success() => {
                    self.counters.beats.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Ok(reply) => refusal(&self.target, reply, link.body()),
                Err(error) => error.advice(&self.target),
            };
            self.fail(1, failure).await;
        }
    }

    async fn relay(self, beats: u64) {
        let (_, token) = self.fleet.agent_of(0);
        let mut batch = Batch::to(&self.target, self.keep_alive, token);
        let mut link = Link::new(self.target.clone(), self.keep_alive);
        let mut request = Vec::new();
        let mut first = self.first;
        loop {
            batch.write(&mut request, (first..first + beats).map(|number| self.fleet.agent_of(number).0));
            first += beats;
            let (accepted, failure) = match link.exchange(&request).await {
                Ok(reply) => Relayed::read(reply, link.body()).accepted(beats, &self.target),
                Err(error) => (0, Some(error.advice(&self.target))),
            };
            self.counters.beats.fetch_add(accepted, Ordering::Relaxed);
            if let Some(failure) = failure {
                self.fail(beats - accepted, failure).await;
            }
        }
    }

    async fn fail(&self, beats: u64, failure: String) {
        self.counters.failures.fetch_add(beats, Ordering::Relaxed);
        self.counters.first_failure.get_or_init(|| failure);
        // A server that is gone fails at once: do not spin.
        tokio::task::yield_now().await;
    }
}

/// Sends one beat for every agent, as fast as they are answered; all must be.
pub(crate) async fn beat_once(
    target: &Arc<Target>,
    fleet: &Arc<Fleet>,
    connections: usize,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut set = JoinSet::new();
    for _ in 0..connections {
        set.spawn(beat_until_all_have(target.clone(), fleet.clone(), next.clone(), bar.clone()));
    }
    while let Some(done) = set.join_next().await {
        done??;
    }
    Ok(())
}

async fn beat_until_all_have(
    target: Arc<Target>,
    fleet: Arc<Fleet>,
    next: Arc<AtomicU64>,
    bar: ProgressBar,
) -> anyhow::Result<()> {
    let heartbeat = Heartbeat::to(&target, KeepAlive::Yes);
    let mut link = Link::new(target.clone(), KeepAlive::Yes);
    let mut request = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= fleet.len() {
            return Ok(());
        }
        let (agent, token) = fleet.agent_of(number);
        heartbeat.write(&mut request, agent, token);
        match link.exchange_within(LIMIT, &request).await {
            Ok(reply) if reply.is_success() => bar.inc(1),
            Ok(reply) => bail!(refusal(&target, reply, link.body())),
            Err(error) => bail!(error.advice(&target)),
        }
    }
}
