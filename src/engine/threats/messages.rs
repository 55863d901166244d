//! What the threat log is asked.

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    fleet::AgentId,
    store::{LoadedThreats, StoreError, StoredThreat},
    threats::{BySeverity, Page, Period, Severity, Summary, ThreatEntry, ThreatId},
};

/// To the threat log: forget all threats; they come again from the store.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub struct Forget;

/// To the threat log: threats from the store, those of a tenant in the order of their ids.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub struct RestoreThreats(pub Vec<ThreatEntry>);

/// To the threat log: that was all.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub struct Restored(pub LoadedThreats);

/// To the threat log: an agent reports these; their ids are given by the threat log. Answered when they are durable.
#[derive(Debug, actix::Message)]
#[rtype(result = "Result<Vec<ThreatId>, StoreError>")]
pub struct Report {
    pub threats: Vec<StoredThreat>,
    /// What they take of the room for reports.
    pub room: OwnedSemaphorePermit,
}

/// To the threat log: answer when nothing is on its way to the store any more, and nothing left to be taken back from it.
#[derive(Debug, actix::Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct DrainReports;

/// To the threat log: the next step of a search.
#[derive(Clone, Debug, actix::Message)]
#[rtype(result = "Page")]
pub struct FindThreats {
    pub filter: ThreatFilter,
    /// Only those before this one.
    pub before: Option<ThreatId>,
    /// So many at most.
    pub most: usize,
}

/// What threats must be, to be found. What is not given matches all.
#[derive(Clone, Debug, Default)]
pub struct ThreatFilter {
    /// The tenant of their agents.
    pub org: Option<Box<str>>,
    /// Not older than this, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    pub severity: Option<Severity>,
    pub kind: Option<Box<str>>,
    pub agent: Option<AgentId>,
}

/// To the threat log: the figures of a period, of one tenant or of all.
#[derive(Debug, actix::Message)]
#[rtype(result = "Summary")]
pub struct Summarise {
    pub org: Option<Box<str>>,
    pub period: Period,
}

/// To the threat log: how many threats an agent reported in the last 24 hours.
#[derive(Debug, actix::Message)]
#[rtype(result = "u64")]
pub struct CountRecent(pub AgentId);

/// To the threat log: how many threats the whole fleet had in a period, and of each severity.
#[derive(Debug, actix::Message)]
#[rtype(result = "(u64, BySeverity)")]
pub struct CountThreats(pub Period);
