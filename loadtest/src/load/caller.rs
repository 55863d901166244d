//! Requests that must succeed, one at a time, of those who change what the server has stored.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

use crate::wire::{KeepAlive, Link, Reply, Target};

/// How long a request may take: it waits for the server's disk.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// How often a request is repeated that was answered 429 or 503.
const MAX_REPEATS: u32 = 20;
/// The pause before that when the server names none.
const DEFAULT_PAUSE_S: u64 = 1;

/// Somebody who asks until he is heard, over a connection of his own.
pub(super) struct Caller {
    link: Link,
    target: Arc<Target>,
}

impl Caller {
    /// A caller of this server.
    pub(super) fn of(target: Arc<Target>) -> Self {
        Self { link: Link::new(target.clone(), KeepAlive::Yes), target }
    }

    /// One request, repeated while the server says that it is too busy; the body of its answer, which must have this
    /// status.
    pub(super) async fn call(&mut self, request: &[u8], expected: u16) -> anyhow::Result<&[u8]> {
        let mut repeats = 0;
        loop {
            let reply = match self.link.exchange_within(LIMIT, request).await {
                Ok(reply) => reply,
                Err(error) => bail!(error.advice(&self.target)),
            };
            match reply.status {
                status if status == expected => return Ok(self.link.body()),
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
