//! One threat: all of it as it is stored, and the part that is counted and searched for.

use std::net::IpAddr;

use super::{Severity, ThreatId};
use crate::fleet::{AgentId, Timestamp};

/// A threat as an agent reported it and as it is stored. Checked where it was read: nothing is checked again here.
#[derive(Clone, Debug, PartialEq)]
pub struct Threat {
    pub id: ThreatId,
    pub agent: AgentId,
    /// The tenant that the agent belonged to.
    pub org: Option<Box<str>>,
    /// The agent's hostname at that time: it outlives the agent.
    pub hostname: Box<str>,
    /// What it is: the `type` of the API.
    pub kind: Box<str>,
    pub severity: Severity,
    /// How sure the agent is, from 0 to 1.
    pub confidence: Option<f64>,
    pub rule_id: Option<Box<str>>,
    /// The source address, if the agent reported one.
    pub source_ip: Option<IpAddr>,
    /// When it happened, by the agent's clock. For people; nothing is decided by it.
    pub occurred_at: Option<Timestamp>,
    /// Everything else about it: a JSON object, compact.
    pub details: Box<str>,
    /// What it takes in the store, in bytes.
    pub bytes: u32,
}

/// What a threat is found by in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreatKey {
    pub org: Option<Box<str>>,
    pub id: ThreatId,
}

/// What is counted and searched for of a threat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreatEntry {
    /// Its name, and with it its time …
    pub id: ThreatId,
    /// … unless it was taken in at another one, because the clock had been set back: in milliseconds since 1970.
    pub at_ms: Option<u64>,
    pub agent: AgentId,
    /// The tenant that the agent belonged to.
    pub org: Option<Box<str>>,
    /// The agent's hostname at that time.
    pub hostname: Box<str>,
    /// What it is: the `type` of the API.
    pub kind: Box<str>,
    pub severity: Severity,
    /// Where it came from, if known.
    pub source_ip: Option<IpAddr>,
    /// What it takes in the store, in bytes.
    pub bytes: u32,
}

impl Threat {
    /// What it is found by in the store.
    pub fn key(&self) -> ThreatKey {
        ThreatKey { org: self.org.clone(), id: self.id }
    }

    /// What is counted and searched for of this threat.
    pub fn entry(&self) -> ThreatEntry {
        ThreatEntry {
            id: self.id,
            at_ms: None,
            agent: self.agent,
            org: self.org.clone(),
            hostname: self.hostname.clone(),
            kind: self.kind.clone(),
            severity: self.severity,
            source_ip: self.source_ip,
            bytes: self.bytes,
        }
    }
}
