//! What is known of the threats of one period, without reading them.

use std::net::IpAddr;

use super::{BySeverity, History, Period, ThreatScope};
use crate::{fleet::AgentId, limits::THREAT_TOP_MAX};

/// The figures of one period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub total: u64,
    pub by_severity: BySeverity,
    /// The most frequent kinds, at most [`THREAT_TOP_MAX`] of them …
    pub by_kind: Vec<(Box<str>, u64)>,
    /// … and how many threats are of any other.
    pub other_kinds: u64,
    /// The agents that reported most, with their latest hostnames.
    pub top_agents: Vec<(AgentId, Box<str>, u64)>,
    /// The addresses that most came from.
    pub top_ips: Vec<(IpAddr, u64)>,
}

impl History {
    /// The figures of a period, with the `most` agents and addresses that occur most, at most [`THREAT_TOP_MAX`].
    pub fn summary(&mut self, scope: ThreatScope<'_>, period: Period, most: usize) -> Summary {
        let most = most.min(THREAT_TOP_MAX);
        let Some(window) = self.window_mut(scope, period) else { return Summary::default() };
        let (total, by_severity) = (window.total, window.by_severity);
        let (kinds, agents) = (window.kinds.top(THREAT_TOP_MAX), window.agents.top(most));
        let ips = window.ips.top(most);

        let of_these_kinds: u64 = kinds.iter().map(|(_, count)| count).sum();
        let named = |(slot, count)| {
            let (agent, hostname) = self.agents.named(slot);
            (agent, hostname.into(), count)
        };
        Summary {
            total,
            by_severity,
            by_kind: kinds.into_iter().map(|(slot, count)| (self.kinds.name(slot).clone(), count)).collect(),
            other_kinds: total - of_these_kinds,
            top_agents: agents.into_iter().map(named).collect(),
            top_ips: ips.into_iter().map(|(slot, count)| (*self.ips.name(slot), count)).collect(),
        }
    }
}
