//! Requests that must all succeed, as fast as they are answered: a fleet is registered, beats once, is deregistered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use indicatif::ProgressBar;
use tokio::task::JoinSet;

use crate::progress;
use crate::wire::{KeepAlive, Link, Reply, Target};

use super::Fleet;
use super::operation::{Operation, Writer};
use super::registration::registered;

/// How long a request may take: it waits for the server's disk.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// How often a request is repeated that was answered 429 or 503.
const MAX_REPEATS: u32 = 20;
/// The pause before that when the server names none.
const DEFAULT_PAUSE_S: u64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials {
    Own,
    Admin,
}

#[derive(Clone)]
pub(crate) struct Bulk {
    pub(crate) target: Arc<Target>,
    pub(crate) token: Arc<str>,
    pub(crate) connections: usize,
}

impl Bulk {
    pub(crate) async fn register(&self, agents: u64, credentials: Credentials) -> anyhow::Result<Fleet> {
        let nobody = Arc::new(Fleet::nobody(&self.token));
        Ok(match credentials {
            Credentials::Own => Fleet::with_own_tokens(
                self.each("registering", &nobody, Operation::Register, agents, registered).await?,
            ),
            // A token of each would be some hundred bytes, of which ten million agents would make a gigabyte.
            Credentials::Admin => {
                let id = |body: &[u8]| Ok(registered(body)?.0);
                let ids = self.each("registering", &nobody, Operation::Register, agents, id).await?;
                Fleet::with_shared_token(ids, &self.token)
            }
        })
    }

    pub(crate) async fn deregister(&self, fleet: &Arc<Fleet>) -> anyhow::Result<()> {
        let ids = (0..fleet.len()).map(|agent| fleet.agent_of(agent).0).collect();
        let fleet = Arc::new(Fleet::with_shared_token(ids, &self.token));
        self.send("deregistering", &fleet, Operation::Deregister, fleet.len()).await
    }

    /// Does an operation so many times, of one agent after the other.
    pub(crate) async fn send(
        &self,
        label: &'static str,
        fleet: &Arc<Fleet>,
        operation: Operation,
        count: u64,
    ) -> anyhow::Result<()> {
        self.each(label, fleet, operation, count, |_| Ok(())).await.map(drop)
    }

    /// As [`Bulk::send`]; `take` reads the answers.
    async fn each<T: Send + 'static>(
        &self,
        label: &'static str,
        fleet: &Arc<Fleet>,
        operation: Operation,
        count: u64,
        take: fn(&[u8]) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        let bar = progress::bar(count, label);
        let next = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..self.connections {
            let worker = Worker {
                target: self.target.clone(),
                fleet: fleet.clone(),
                writer: Writer::of(operation, &self.target, KeepAlive::Yes),
                link: Link::new(self.target.clone(), KeepAlive::Yes),
                bar: bar.clone(),
            };
            workers.spawn(worker.run(next.clone(), count, take));
        }
        let mut taken = Vec::with_capacity(usize::try_from(count)?);
        let done = async {
            while let Some(done) = workers.join_next().await {
                taken.extend(done??);
            }
            anyhow::Ok(())
        };
        let done = done.await;
        bar.finish_and_clear();
        done.map(|()| taken)
    }
}

struct Worker {
    target: Arc<Target>,
    fleet: Arc<Fleet>,
    writer: Writer,
    link: Link,
    bar: ProgressBar,
}

impl Worker {
    async fn run<T>(
        mut self,
        next: Arc<AtomicU64>,
        count: u64,
        take: fn(&[u8]) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        let (mut request, mut taken) = (Vec::new(), Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(taken);
            }
            let (agent, token) = self.fleet.agent_of(number);
            self.writer.write(&mut request, number, agent, token);
            taken.push(take(self.call(&request).await?)?);
            self.bar.inc(1);
        }
    }

    /// One request, repeated while the server says that it is too busy; the body of its answer.
    async fn call(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        let mut repeats = 0;
        loop {
            let reply = match self.link.exchange_within(LIMIT, request).await {
                Ok(reply) => reply,
                Err(error) => bail!(error.advice(&self.target)),
            };
            match reply.status {
                200..300 => return Ok(self.link.body()),
                429 | 503 if repeats < MAX_REPEATS => {
                    repeats += 1;
                    let pause_s = reply.retry_after_s.unwrap_or(DEFAULT_PAUSE_S);
                    tokio::time::sleep(Duration::from_secs(pause_s)).await;
                }
                _ => bail!(refusal(&self.target, reply, self.link.body())),
            }
        }
    }
}

/// What a status other than 2xx means, and what to do about it.
pub(super) fn refusal(target: &Target, reply: Reply, body: &[u8]) -> String {
    let said = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
    match reply.status {
        401 => format!(
            "{target} refused the token (401): it must be the admin token, the one in MANAGER_AUTH_TOKEN \
             of the server, or, if none was set, the one it made in its data folder and named at its start. \
             Give it with --token, --token-file or GUARDBEAT_TOKEN"
        ),
        404 => format!(
            "{target} answered 404: is this a Guardbeat server, recent enough for batches if they were sent, and --url \
             its base URL? {said}"
        ),
        409 => format!("{target} takes no more agents (409): see its limits.max_agents. {said}"),
        status => format!("{target} answered {status}: {said}"),
    }
}
