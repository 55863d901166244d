//! Durability: what is kept, when it is safe, and what a failure means.
//!
//! Two kinds of record:
//! - a **registration** changes rarely and is written through: [`Committer`] gathers the changes of concurrent requests
//!   into one transaction, and each request is answered after that transaction is durable;
//! - a **last heartbeat** changes all the time and is written behind: [`WriteBehind`] hands the latest state of every
//!   agent heard since the last flush to the store, a few large commands at a time.
//!
//! A backend implements [`Store`] and passes the conformance suite (`tests/it/store.rs`). It gets domain values and
//! knows nothing of actors or HTTP.

mod committer;
#[cfg(test)]
mod conformance;
mod embedded;
mod memory;
pub mod record;
mod write_behind;

use std::{fmt::Debug, path::PathBuf, str::FromStr, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::fleet::{AgentId, Heard, LastHeartbeat, Registration};

pub use committer::Committer;
pub use embedded::EmbeddedStore;
pub use memory::MemoryStore;
pub use write_behind::{DirtySource, FlushRules, Progress, WriteBehind};

/// A change that must be durable before it is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new agent registered. Boxed: far larger than an id.
    Register(Box<Registration>),
    /// An agent registered again; replaces its earlier registration.
    Reregister(Box<Registration>),
    /// The agent was deregistered: neither of its records may come back.
    Deregister(AgentId),
}

/// What a flush writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeartbeatBatch {
    /// The latest state of agents that were heard.
    pub heartbeats: Vec<LastHeartbeat>,
    /// Hearing time now, from which the next run goes on.
    pub clock: Option<Heard>,
}

/// Part of a fleet that is being loaded. An agent's registration comes before its heartbeats; of these the last one
/// counts, and those of unknown agents are remains of deregistered ones.
#[derive(Clone, Debug, PartialEq)]
pub enum Chunk {
    /// Agents.
    Registrations(Vec<Registration>),
    /// What was last heard of them.
    Heartbeats(Vec<LastHeartbeat>),
}

/// What the store held when it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Agents handed over.
    pub agents: u64,
    /// Records that could not be read; each was reported and left where it is.
    pub corrupt: u64,
}

/// Why the store did not do what it was asked. Nothing was half done: a change is there or it is not.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be used now; the same may succeed later.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// What is stored cannot be read any more.
    #[error("{0}")]
    Damaged(Arc<str>),
    /// Another process uses the store.
    #[error("{0}")]
    Locked(Arc<str>),
    /// More changes wait for the store than it can take.
    #[error("too many changes wait for the store")]
    Overloaded,
    /// The data was written by a version this one does not understand.
    #[error("{0}")]
    Format(Arc<str>),
}

impl StoreError {
    /// The store failed with this error.
    pub fn unavailable(cause: impl std::fmt::Display) -> Self {
        Self::Unavailable(cause.to_string().into())
    }
}

/// A place where the fleet survives the process.
pub trait Store: Send + Sync + Debug {
    /// Makes the changes durable, all or none, in their order. Without any, it proves that changes could be made durable.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Keeps the heartbeats (and the clock) so that they survive the end of this process, however it ends.
    fn save<'a>(&'a self, batch: &'a HeartbeatBatch) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Hearing time as it was saved last; none in a new store.
    fn clock(&self) -> BoxFuture<'_, Result<Option<Heard>, StoreError>>;

    /// Hands the whole fleet to `out`, in chunks of bounded size. Ends early if `out` is closed.
    fn load(&self, out: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>>;

    /// Whether `shard`, one of `shards`, should save the last heartbeats of all its agents once more, so that the store
    /// can drop what it has of them in older places. Only a log-structured store ever says yes.
    fn wants_sweep(&self, _shard: usize, _shards: usize) -> bool {
        false
    }

    /// The shard has saved all its agents since [`Store::wants_sweep`] said yes to it.
    fn swept(&self, _shard: usize) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Where the store is, as `store.url` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// In a folder; in the data folder if none is given.
    Embedded(Option<PathBuf>),
    /// Nowhere: for tests. Everything is gone with the process.
    Memory,
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("embedded", "")) => Ok(Self::Embedded(None)),
            Some(("embedded", path)) => Ok(Self::Embedded(Some(path.into()))),
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("redis" | "rediss", _)) => {
                Err("`embedded:`, `embedded:FOLDER` or `memory:`; this version has no Redis store".into())
            }
            Some(_) | None => Err("`embedded:`, `embedded:FOLDER` or `memory:`".into()),
        }
    }
}
