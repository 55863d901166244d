//! Policies: rules for the Guards, published for the whole fleet or for the agents of one tenant.
//!
//! Pure, like [`crate::fleet`]: what a policy is, which one is in force for whom, and how many an agent has yet to fetch.
//! Making them durable is the business of [`crate::store`], passing them to the agents' shards that of [`crate::engine`].
//!
//! - Versions count up by one across the fleet, whatever the scope, so of two policies the newer is known by its version.
//! - In force for an agent is the newest policy of its tenant; where that has none, the newest global one.
//! - *Pending* for an agent are the policies in its scope, its tenant's and the global ones, that are newer than its *last
//!   fetched version*: the newest in its scope when it last fetched. Why: `docs/decisions/0011-policies.md`.
//!
//! Of the policies of a scope only the newest is kept whole; of the others their versions, to count them.

mod draft;
mod index;
mod rule;
mod scope;

use std::fmt;

use serde::{Serialize, Serializer};

pub use self::{
    draft::PolicyDraft,
    index::{PolicyIndex, PolicyIndexFull},
    rule::{Rule, RuleKind, Rules},
    scope::{PolicyScope, ScopePolicies},
};
use crate::fleet::{PolicyVersion, Timestamp};

/// The name of a policy: random, printed `pol_<16 lowercase hex digits>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyId(u64);

impl PolicyId {
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pol_{:016x}", self.0)
    }
}

impl Serialize for PolicyId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

/// A published policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub id: PolicyId,
    /// Which of all policies of the fleet it is.
    pub version: PolicyVersion,
    pub scope: PolicyScope,
    /// Its name for people.
    pub name: Box<str>,
    pub description: Option<Box<str>>,
    pub rules: Rules,
    /// When it was published.
    pub created_at: Timestamp,
}

impl Policy {
    /// What it takes in memory, in bytes, or a little less.
    fn size(&self) -> usize {
        let text = self.name.len() + self.description.as_deref().map_or(0, str::len);
        size_of::<Self>() + text + self.rules.iter().map(Rule::size).sum::<usize>()
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// A policy with a rule of its own.
    pub(crate) fn policy(version: u32, org: Option<&str>) -> Policy {
        let rule = serde_json::from_str(r#"{"type":"block_ip","config":{"ip":"203.0.113.66"},"enabled":true}"#);
        Policy {
            id: PolicyId::new(version.into()),
            version: PolicyVersion::new(version),
            scope: PolicyScope::of(org),
            name: format!("policy {version}").into(),
            description: version.is_multiple_of(2).then(|| "for \"every\"\nday".into()),
            rules: vec![rule.unwrap()].into(),
            created_at: Timestamp::from_millis(version.into()),
        }
    }

    /// A scope that has had policies of these versions.
    pub(crate) fn policies(org: Option<&str>, versions: &[u32]) -> ScopePolicies {
        let policies = versions.iter().map(|version| policy(*version, org));
        policies
            .fold(None, |earlier: Option<ScopePolicies>, next| Some(ScopePolicies::after(earlier.as_ref(), next)))
            .unwrap()
    }
}
