//! Single requests to a server, timed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::wire::{KeepAlive, Link, Method, Target, request};

use super::prometheus::Scrape;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A client for questions in between, over a connection of its own.
pub(crate) struct Probe {
    target: Arc<Target>,
    token: Option<String>,
    link: Link,
}

impl Probe {
    /// For a listener that asks for no token.
    pub(crate) fn open(target: Arc<Target>) -> Self {
        Self { link: Link::new(target.clone(), KeepAlive::Yes), target, token: None }
    }

    /// For a listener that asks for one.
    pub(crate) fn with_token(target: Arc<Target>, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::open(target) }
    }

    /// As this one, over a connection of its own.
    pub(crate) fn another(&self) -> Self {
        Self { token: self.token.clone(), ..Self::open(self.target.clone()) }
    }

    /// `GET path`, which must be answered with 200; the time it took, and its body.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<(Duration, &[u8])> {
        let get = request(&self.target, Method::Get, path, self.token.as_deref(), None);
        let asked = Instant::now();
        match self.link.exchange_within(LIMIT, &get).await {
            Ok(reply) if reply.status == 200 => Ok((asked.elapsed(), self.link.body())),
            Ok(reply) => bail!("GET {}{path} was answered {}", self.target, reply.status),
            Err(error) => bail!("GET {path}: {}", error.advice(&self.target)),
        }
    }

    pub(crate) async fn json(&mut self, path: &str) -> anyhow::Result<serde_json::Value> {
        let (_, body) = self.get(path).await?;
        serde_json::from_slice(body).with_context(|| format!("GET {path} was not answered with JSON"))
    }

    /// As [`Probe::get`] with a body of any size, which goes to `sink` piece by piece.
    pub(crate) async fn stream(&mut self, path: &str, sink: impl FnMut(&[u8])) -> anyhow::Result<Duration> {
        let get = request(&self.target, Method::Get, path, self.token.as_deref(), None);
        let asked = Instant::now();
        match self.link.stream(&get, sink).await {
            Ok(reply) if reply.status == 200 => Ok(asked.elapsed()),
            Ok(reply) => bail!("GET {}{path} was answered {}", self.target, reply.status),
            Err(error) => bail!("GET {path}: {}", error.advice(&self.target)),
        }
    }

    pub(crate) async fn scrape(&mut self) -> anyhow::Result<Scrape> {
        let (_, body) = self.get("/metrics").await?;
        Ok(Scrape::parse(&String::from_utf8_lossy(body)))
    }
}
