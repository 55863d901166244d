//! Registers agents through the API, many at a time, and deregisters them.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::wire::{KeepAlive, Link, Method, Reply, Target, request};

use super::{AgentId, Fleet};

/// Where agents register.
pub(super) const REGISTER_PATH: &str = "/api/agents/register";
/// How long a request may take: a registration waits for the server's disk.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// How often a registration is repeated that was answered 429 or 503.
const MAX_REPEATS: u32 = 20;
/// The pause before that when the server names none.
const DEFAULT_PAUSE_S: u64 = 1;
/// Organisations that the simulated agents belong to, and racks they stand in, each a tag: some that many agents have,
/// and some that few have.
const ORGANISATIONS: u64 = 100;
const RACKS: u64 = 1_000;

/// With which token the registered agents will beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// Each with its own.
    Own,
    /// All with the admin token.
    Admin,
}

/// Two top-level fields of the answer are all that a client needs.
#[derive(Deserialize)]
pub(super) struct Registered<'a> {
    #[serde(rename = "agentId", borrow)]
    agent_id: Cow<'a, str>,
    #[serde(borrow)]
    token: Cow<'a, str>,
}

impl<'a> Registered<'a> {
    /// Reads the answer to a registration.
    pub(super) fn read(body: &'a [u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(body).context("the answer to a registration has no top-level agentId and token")
    }

    /// The new agent's id.
    pub(super) fn id(&self) -> anyhow::Result<AgentId> {
        Ok(self.agent_id.parse()?)
    }
}

/// Registers `count` agents over as many connections as are given.
pub(crate) async fn register(
    target: &Arc<Target>,
    admin_token: &str,
    count: u64,
    connections: usize,
    credentials: Credentials,
    bar: &ProgressBar,
) -> anyhow::Result<Fleet> {
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let worker = Worker {
            link: Link::new(target.clone(), KeepAlive::Yes),
            target: target.clone(),
            token: admin_token.to_owned(),
            bar: bar.clone(),
        };
        workers.spawn(worker.register_until(next.clone(), count, credentials));
    }
    let mut ids = Vec::with_capacity(usize::try_from(count)?);
    let mut tokens = Vec::new();
    while let Some(done) = workers.join_next().await {
        let (more_ids, more_tokens) = done??;
        ids.extend(more_ids);
        tokens.extend(more_tokens);
    }
    Ok(match credentials {
        Credentials::Own => Fleet::with_own_tokens(ids.into_iter().zip(tokens).collect()),
        Credentials::Admin => Fleet::with_shared_token(ids, admin_token),
    })
}

/// Deregisters all agents of a fleet.
pub(crate) async fn deregister(
    target: &Arc<Target>,
    admin_token: &str,
    fleet: &Arc<Fleet>,
    connections: usize,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let worker = Worker {
            link: Link::new(target.clone(), KeepAlive::Yes),
            target: target.clone(),
            token: admin_token.to_owned(),
            bar: bar.clone(),
        };
        workers.spawn(worker.deregister_until(next.clone(), fleet.clone()));
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    Ok(())
}

/// What an agent says of itself when it registers.
pub(super) fn registration(number: u64) -> String {
    format!(
        r#"{{"hostname":"web-server-{number}","os":"linux","version":"1.2.0","org_id":"org-{}","tags":["production","rack-{}"]}}"#,
        number % ORGANISATIONS,
        number % RACKS
    )
}

/// What a status other than the expected one means, and what to do about it.
pub(crate) fn refusal(target: &Target, reply: Reply, body: &[u8]) -> String {
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

struct Worker {
    link: Link,
    target: Arc<Target>,
    token: String,
    bar: ProgressBar,
}

impl Worker {
    async fn register_until(
        mut self,
        next: Arc<AtomicU64>,
        count: u64,
        credentials: Credentials,
    ) -> anyhow::Result<(Vec<AgentId>, Vec<Box<str>>)> {
        let (mut ids, mut tokens) = (Vec::new(), Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok((ids, tokens));
            }
            let body = registration(number);
            self.call(Method::Post, REGISTER_PATH, Some(&body), 201).await?;
            let answer = Registered::read(self.link.body())?;
            ids.push(answer.id()?);
            if credentials == Credentials::Own {
                tokens.push(answer.token.into());
            }
            self.bar.inc(1);
        }
    }

    async fn deregister_until(mut self, next: Arc<AtomicU64>, fleet: Arc<Fleet>) -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= fleet.len() {
                return Ok(());
            }
            let path = format!("/api/agents/{}", fleet.agent_of(number).0);
            self.call(Method::Delete, &path, None, 200).await?;
            self.bar.inc(1);
        }
    }

    /// One request; repeated while the server says that it is too busy.
    async fn call(&mut self, method: Method, path: &str, body: Option<&str>, expected: u16) -> anyhow::Result<()> {
        let bytes = request(&self.target, method, path, Some(&self.token), body);
        let mut repeats = 0;
        loop {
            let reply = match self.link.exchange_within(LIMIT, &bytes).await {
                Ok(reply) => reply,
                Err(error) => bail!(error.advice(&self.target)),
            };
            match reply.status {
                status if status == expected => return Ok(()),
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
