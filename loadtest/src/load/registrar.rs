//! Registers agents through the API, many at a time, and deregisters them.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use indicatif::ProgressBar;
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::wire::{Method, Target, request};

use super::caller::Caller;
use super::{AgentId, Fleet};

/// Where agents register.
pub(super) const REGISTER_PATH: &str = "/api/agents/register";
/// Organisations that the simulated agents belong to, and racks they stand in, each a tag: some that many agents have,
/// and some that few have.
const ORGANISATIONS: u64 = 100;
const RACKS: u64 = 1_000;
/// Operating systems of each organisation's agents, one after the other.
const SYSTEMS: [&str; 5] = ["linux", "linux", "linux", "win32", "darwin"];

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
            caller: Caller::of(target.clone()),
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
            caller: Caller::of(target.clone()),
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
    let system = SYSTEMS[(number / ORGANISATIONS) as usize % SYSTEMS.len()];
    format!(
        r#"{{"hostname":"web-server-{number}","os":"{system}","version":"1.2.0","org_id":"org-{}","tags":["production","rack-{}"]}}"#,
        number % ORGANISATIONS,
        number % RACKS
    )
}

struct Worker {
    caller: Caller,
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
            let post = request(&self.target, Method::Post, REGISTER_PATH, Some(&self.token), Some(&body));
            let answer = Registered::read(self.caller.call(&post, 201).await?)?;
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
            let delete = request(&self.target, Method::Delete, &path, Some(&self.token), None);
            self.caller.call(&delete, 200).await?;
            self.bar.inc(1);
        }
    }
}
