//! Which agents a listing is about.

use super::{
    agent::Agent,
    interner::Interned,
    shared_strings::{Labels, SharedStrings},
    status::Status,
    tag_lists::{Carriers, ListSet},
};

/// The filters of `GET /api/agents`; all that are set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentFilter {
    /// Only agents with this status.
    pub status: Option<Status>,
    /// Only agents of this tenant.
    pub org_id: Option<Box<str>>,
    /// Only agents that carry every one of these tags.
    pub tags: Vec<Box<str>>,
}

impl AgentFilter {
    /// Whether the agent, whose status is `status` now, belongs in the listing.
    pub fn matches(&self, agent: &Agent, status: Status, texts: &SharedStrings) -> bool {
        self.status.is_none_or(|wanted| wanted == status)
            && self.org_id.as_deref().is_none_or(|org| agent.org_id(texts) == Some(org))
            && self.tags.iter().all(|wanted| agent.tags(texts).any(|tag| tag == &**wanted))
    }

    /// Compiles the filter to a shard's handles, to rule agents out without looking at them; none if it rules out all.
    pub fn compile(&self, texts: &SharedStrings) -> Option<CompiledFilter> {
        let org = match self.org_id.as_deref() {
            Some(org) => Some(texts.org.find(org)?),
            None => None,
        };
        let tags = match &self.tags[..] {
            [] => None,
            wanted => match texts.tags.carrying(wanted) {
                Carriers::Nobody => return None,
                Carriers::These(lists) => Some(lists),
                Carriers::Many => None,
            },
        };
        Some(CompiledFilter { status: self.status, org, tags })
    }
}

/// An [`AgentFilter`] that compares handles instead of strings. Lets every agent pass that the filter lets pass, and as
/// few others as it can; valid until the shard's strings change.
#[derive(Debug)]
pub struct CompiledFilter {
    status: Option<Status>,
    org: Option<Interned>,
    tags: Option<ListSet>,
}

impl CompiledFilter {
    /// Whether an agent with these labels, counted under `status`, may belong in the listing.
    pub fn passes(&self, labels: Labels, status: Status) -> bool {
        self.status.is_none_or(|wanted| wanted == status)
            && (self.org.is_none() || self.org == labels.org)
            && self.tags.as_ref().is_none_or(|lists| lists.contains(labels.tags))
    }
}
