//! Durability: what is kept, when it is safe, and what a failure means.
//!
//! Three kinds of record:
//! - a **registration** changes rarely and is written through: [`Committer`] groups the changes of concurrent requests
//!   into one transaction, and each request is answered after that transaction is durable;
//! - a **last heartbeat** changes all the time and is written behind: [`WriteBehind`] hands the latest state of every
//!   agent that has beaten since the last flush to the store, a few large commands at a time;
//! - the **policies** of a scope change rarely too, and are written through: [`Policies`] publishes them one at a time.
//!
//! **Threats** are written through like registrations, each as two records: an index entry, of which all are read at
//! the start, and a payload, which is read when the threat is shown.
//!
//! A backend implements [`Store`] and passes the conformance suite (`conformance.rs`). It gets domain values and
//! knows nothing of actors or HTTP.

mod committer;
#[cfg(test)]
mod conformance;
mod durability;
mod embedded;
mod loading;
mod memory;
pub(crate) mod open;
mod policies;
pub(crate) mod policy_record;
pub mod record;
mod redis;
mod threat_record;
mod write_behind;

use std::{fmt::Debug, iter::Sum, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

#[cfg(doc)]
use crate::limits::{LOAD_CHUNK_MAX, POLICY_STEP_MAX};
use crate::{
    fleet::{ActiveTime, AgentId, LastHeartbeat, PolicyVersion, Registration},
    policy::{PolicyScope, ScopePolicies},
    threats::{Threat, ThreatEntry, ThreatId, ThreatKey},
};

pub(crate) use self::{
    committer::Committer,
    embedded::{EmbeddedReader, marker_of},
    policies::{Policies, PublishError},
    redis::{RedisReader, RedisSettings, RedisStore},
    threat_record::StoredThreat,
    write_behind::DirtySource,
};
pub use self::{
    durability::Durability,
    embedded::EmbeddedStore,
    memory::MemoryStore,
    write_behind::{FlushRules, WriteBehind},
};
use self::{record::RecordError, threat_record::is_left_out};

/// A change that must be durable before it is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new agent registered. Boxed: far larger than an id.
    Register(Box<Registration>),
    /// An agent registered again; replaces its earlier registration.
    Reregister(Box<Registration>),
    /// The agent was deregistered: neither of its records may come back.
    Deregister(AgentId),
    /// What there is of policies in a scope; replaces what there was.
    SetPolicies(Arc<ScopePolicies>),
    /// There are no policies in this scope.
    ForgetPolicies(PolicyScope),
    /// The newest version of a policy that was ever given out, whether that policy is still there or not.
    PolicyVersion(PolicyVersion),
    /// Threats were reported. Their ids grow, within this change and from one to the next.
    Report(Vec<StoredThreat>),
}

/// Threats that the store must not have, or not any more. To discard what is not there is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Those of a report that was refused and may have been stored all the same.
    Threats(Vec<ThreatKey>),
    /// A tenant's oldest ones.
    Oldest(ThreatRange),
}

impl Change {
    /// The agent whose registration is changed, if one is.
    pub fn agent(&self) -> Option<AgentId> {
        match self {
            Self::Register(registration) | Self::Reregister(registration) => Some(registration.id),
            Self::Deregister(id) => Some(*id),
            Self::SetPolicies(_) | Self::ForgetPolicies(_) | Self::PolicyVersion(_) | Self::Report(_) => None,
        }
    }
}

/// The oldest threats of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreatRange {
    /// The tenant.
    pub org: Option<Box<str>>,
    /// The tenant has none before this one, as far as is known.
    pub from: ThreatId,
    /// The newest of them.
    pub up_to: ThreatId,
}

/// What a flush writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeartbeatBatch {
    /// The latest state of agents that sent a heartbeat.
    pub heartbeats: Vec<LastHeartbeat>,
    /// Active time now, from which the next run goes on.
    pub clock: Option<ActiveTime>,
}

/// Part of a fleet that is being loaded: records in the order of their agents' ids, at most [`LOAD_CHUNK_MAX`] of them. An
/// agent's registration comes before its heartbeats; of these the last one counts, and those of unknown agents are remains
/// of deregistered ones. Policies come before all agents, at most [`POLICY_STEP_MAX`] scopes at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Chunk {
    /// What there is of policies in some scopes.
    Policies(Vec<Arc<ScopePolicies>>),
    /// Agents.
    Registrations(Vec<Registration>),
    /// Their last heartbeats.
    Heartbeats(Vec<LastHeartbeat>),
}

impl Chunk {
    fn is_empty(&self) -> bool {
        match self {
            Self::Policies(policies) => policies.is_empty(),
            Self::Registrations(registrations) => registrations.is_empty(),
            Self::Heartbeats(heartbeats) => heartbeats.is_empty(),
        }
    }
}

/// What the store held when it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Agents handed over.
    pub agents: u64,
    /// Last heartbeats handed over; a log may hold several of one agent.
    pub heartbeats: u64,
    /// Scopes handed over that have policies.
    pub scopes: u64,
    /// Heartbeats of agents that are not in the fleet, where the store can tell; they were left out.
    pub orphans: u64,
    /// Records that could not be read; each was reported, and left out but kept.
    pub corrupt: u64,
    /// The newest version of a policy that was ever given out, as far as the store knows; none in an older store.
    pub policy_version: PolicyVersion,
}

impl Loaded {
    /// Counts what is handed over with a chunk.
    fn count(&mut self, chunk: &Chunk) {
        match chunk {
            Chunk::Policies(policies) => self.scopes += policies.len() as u64,
            Chunk::Registrations(registrations) => self.agents += registrations.len() as u64,
            Chunk::Heartbeats(heartbeats) => self.heartbeats += heartbeats.len() as u64,
        }
    }
}

impl Sum for Loaded {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            agents: sum.agents + part.agents,
            heartbeats: sum.heartbeats + part.heartbeats,
            scopes: sum.scopes + part.scopes,
            orphans: sum.orphans + part.orphans,
            corrupt: sum.corrupt + part.corrupt,
            policy_version: sum.policy_version.max(part.policy_version),
        })
    }
}

/// What the store held of threats when they were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadedThreats {
    /// Index entries handed over.
    pub threats: u64,
    /// Those that could not be read; each was reported, and left out but kept.
    pub corrupt: u64,
    /// The latest id that was ever given out, whether that threat is still there or not.
    pub last: Option<ThreatId>,
}

impl LoadedThreats {
    /// Notes an index entry that cannot be read.
    fn is_corrupt(&mut self, id: ThreatId, error: &RecordError) {
        is_left_out(id, error);
        self.corrupt += 1;
    }
}

/// A request of a store to have its agents written once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Distinguishes this sweep from earlier ones.
    pub number: u64,
    /// Whether their registrations are wanted too, besides their last heartbeats.
    pub registrations: bool,
    /// Whether the store lacks them now: one step then follows the other at once, not one after each flush.
    pub urgent: bool,
}

/// Why the store did not do what it was asked. Nothing was half done: a change is there or it is not.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be used now; the same may succeed later.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// The store was asked and did not answer: a change may be there or not. Whoever asked must see to it that it is made
    /// or undone once the store answers again.
    #[error("the store did not answer: {0}")]
    UnknownOutcome(Arc<str>),
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

/// A fleet that can be read.
pub trait StoreReader: Send + Sync + Debug {
    /// Version of the layout of what is stored; one that this program does not read cannot be opened. A store that keeps
    /// nothing has none.
    fn format(&self) -> &'static str {
        "none"
    }

    /// What was found lost, damaged or amiss in the store since it was opened, and what became of it; for people. It has been
    /// logged.
    fn damage(&self) -> Vec<String> {
        Vec::new()
    }

    /// Active time as it was saved last; none in a new store.
    fn clock(&self) -> BoxFuture<'_, Result<Option<ActiveTime>, StoreError>>;

    /// Hands the whole fleet to `out`, in chunks of bounded size. Ends early if `out` is closed.
    fn load(&self, out: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>>;

    /// Hands the index entries of all threats to `out`, those of a tenant in the order of their ids, at most
    /// [`LOAD_CHUNK_MAX`] at a time. Ends early if `out` is closed.
    fn load_threats(&self, out: mpsc::Sender<Vec<ThreatEntry>>) -> BoxFuture<'_, Result<LoadedThreats, StoreError>>;

    /// The threats of these names, in the same order; none where there is none, or none that can be read.
    fn threats(&self, keys: Vec<ThreatKey>) -> BoxFuture<'_, Result<Vec<Option<Threat>>, StoreError>>;
}

/// Storage in which the fleet survives the process.
pub trait Store: StoreReader {
    /// Makes the changes durable, all or none, in their order. Without any, it proves that changes could be made durable.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Discards threats. Not a change like others: it frees room, so it is tried where changes are refused for want of it,
    /// and may be done in steps.
    fn discard(&self, discards: Vec<Discard>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Keeps the heartbeats (and the clock) so that they survive the end of this process, however it ends.
    fn save<'a>(&'a self, batch: &'a HeartbeatBatch) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Whether the store can be reached, as far as it knows without trying.
    fn is_reachable(&self) -> bool {
        true
    }

    /// How many times the store has lost threats that it had confirmed: they must be read again.
    fn losses(&self) -> u64 {
        0
    }

    /// Whether `shard`, one of `shards`, should write all its agents to the store once more: a log-structured store can then
    /// drop what it has of them in older segments, and a store that has lost data has it again.
    fn wants_sweep(&self, _shard: usize, _shards: usize) -> Option<Sweep> {
        None
    }

    /// The shard has written all its agents since [`Store::wants_sweep`] asked for this sweep.
    fn swept(&self, _shard: usize, _sweep: Sweep) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// Gives the fleet up for whoever opens the store next. Nothing may be written after.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
