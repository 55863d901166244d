//! Which agents a listing is about.

use super::{agent::Agent, status::Status, texts::SharedTexts};

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
    pub fn matches(&self, agent: &Agent, status: Status, texts: &SharedTexts) -> bool {
        self.status.is_none_or(|wanted| wanted == status)
            && self.org_id.as_deref().is_none_or(|org| agent.org_id(texts) == Some(org))
            && self.tags.iter().all(|wanted| agent.tags(texts).any(|tag| tag == &**wanted))
    }
}
