//! The events, and their encoding.

use std::net::IpAddr;

use serde::Serialize;

use crate::{
    fleet::{Agent, AgentId, Status, Timestamp, Transition},
    threats::Severity,
};

/// Something that happened to the fleet. Its fields are those of the event's JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum FleetEvent {
    /// An agent registered, or sent a heartbeat again after silence.
    AgentOnline {
        agent_id: AgentId,
        hostname: Box<str>,
        /// The address it registered with.
        ip: IpAddr,
    },
    /// An agent has become silent.
    AgentStale {
        agent_id: AgentId,
        hostname: Box<str>,
        /// When its last heartbeat was received.
        last_seen: Timestamp,
    },
    /// An agent has been silent for long.
    AgentOffline {
        agent_id: AgentId,
        hostname: Box<str>,
        /// When its last heartbeat was received.
        last_seen: Timestamp,
    },
    /// An agent left the fleet.
    AgentDeregistered { agent_id: AgentId, hostname: Box<str> },
    /// So many agents changed alike that they are counted instead of named.
    FleetChanged {
        /// Their status before; none if they have registered.
        from: Option<Status>,
        /// Their status since; none if they were deregistered.
        to: Option<Status>,
        count: u64,
    },
    ThreatsReported {
        /// By which agent; none if by many.
        agent_id: Option<AgentId>,
        hostname: Option<Box<str>>,
        count: u64,
        max_severity: Severity,
        /// How many agents reported them, if they are not emitted one by one.
        #[serde(skip_serializing_if = "Option::is_none")]
        agents: Option<u64>,
    },
    PolicyCreated {
        policy_id: Box<str>,
        /// Its version, such as `v3`.
        version: Box<str>,
        rule_count: usize,
    },
}

/// What kind of event it is: its name on the stream and in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    AgentOnline,
    AgentStale,
    AgentOffline,
    AgentDeregistered,
    FleetChanged,
    ThreatsReported,
    PolicyCreated,
}

impl EventKind {
    pub const ALL: [Self; 7] = [
        Self::AgentOnline,
        Self::AgentStale,
        Self::AgentOffline,
        Self::AgentDeregistered,
        Self::FleetChanged,
        Self::ThreatsReported,
        Self::PolicyCreated,
    ];

    /// The name on the stream and in the metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AgentOnline => "agent_online",
            Self::AgentStale => "agent_stale",
            Self::AgentOffline => "agent_offline",
            Self::AgentDeregistered => "agent_deregistered",
            Self::FleetChanged => "fleet_changed",
            Self::ThreatsReported => "threats_reported",
            Self::PolicyCreated => "policy_created",
        }
    }
}

impl FleetEvent {
    pub fn kind(&self) -> EventKind {
        match self {
            Self::AgentOnline { .. } => EventKind::AgentOnline,
            Self::AgentStale { .. } => EventKind::AgentStale,
            Self::AgentOffline { .. } => EventKind::AgentOffline,
            Self::AgentDeregistered { .. } => EventKind::AgentDeregistered,
            Self::FleetChanged { .. } => EventKind::FleetChanged,
            Self::ThreatsReported { .. } => EventKind::ThreatsReported,
            Self::PolicyCreated { .. } => EventKind::PolicyCreated,
        }
    }

    /// That this agent's status is, by now, `to`.
    pub fn of(agent: &Agent, to: Option<Status>) -> Self {
        let (agent_id, hostname, last_seen) = (agent.id(), agent.hostname().into(), agent.last_seen());
        match to {
            Some(Status::Online) => Self::AgentOnline { agent_id, hostname, ip: agent.ip() },
            Some(Status::Stale) => Self::AgentStale { agent_id, hostname, last_seen },
            Some(Status::Offline) => Self::AgentOffline { agent_id, hostname, last_seen },
            None => Self::AgentDeregistered { agent_id, hostname },
        }
    }

    /// The event as the stream has it. JSON has no line breaks, so the data is one line.
    pub(super) fn frame(&self, run: &str, number: u64) -> Box<[u8]> {
        let mut frame = format!("id: {run}-{number}\nevent: {}\ndata: ", self.kind().name()).into_bytes();
        serde_json::to_writer(&mut frame, self).expect("an event has only string keys");
        frame.extend_from_slice(b"\n\n");
        frame.into_boxed_slice()
    }
}

/// A change of one agent's status. It has none before it registers and after it was deregistered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// The status until now.
    pub from: Option<Status>,
    /// The status from now on.
    pub to: Option<Status>,
}

impl StatusChange {
    /// One more than the greatest [`StatusChange::index`].
    pub(super) const COUNT: usize = STATES * STATES;

    pub const REGISTERED: Self = Self { from: None, to: Some(Status::Online) };

    pub const fn deregistered(from: Status) -> Self {
        Self { from: Some(from), to: None }
    }

    /// Every change, in the order of their indices.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let states = || Status::ALL.into_iter().map(Some).chain([None]);
        states().flat_map(move |from| states().map(move |to| Self { from, to }))
    }

    /// Its index in a table of all changes.
    pub(super) fn index(self) -> usize {
        let state = |status: Option<Status>| status.map_or(STATES - 1, |status| status as usize);
        state(self.from) * STATES + state(self.to)
    }
}

/// The statuses, and none.
const STATES: usize = Status::ALL.len() + 1;

impl From<Transition> for StatusChange {
    fn from(transition: Transition) -> Self {
        Self { from: Some(transition.from), to: Some(transition.to) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_has_a_place_of_its_own() {
        let indices: Vec<_> = StatusChange::all().map(StatusChange::index).collect();
        assert_eq!(indices, (0..StatusChange::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn events_are_told_in_the_words_of_the_contract() {
        let (agent_id, hostname) = (AgentId::new(0xf3), Box::<str>::from("a\n\"b"));
        let last_seen = Timestamp::from_millis(0);
        let threats = |agent_id, hostname, agents| FleetEvent::ThreatsReported {
            agent_id,
            hostname,
            count: 3,
            max_severity: Severity::Critical,
            agents,
        };
        let cases = [
            (
                FleetEvent::AgentOnline { agent_id, hostname: hostname.clone(), ip: [192, 0, 2, 1].into() },
                r#"agent_online|{"agentId":"agent-00000000000000f3","hostname":"a\n\"b","ip":"192.0.2.1"}"#,
            ),
            (
                FleetEvent::AgentStale { agent_id, hostname: "h".into(), last_seen },
                r#"agent_stale|{"agentId":"agent-00000000000000f3","hostname":"h","lastSeen":"1970-01-01T00:00:00.000Z"}"#,
            ),
            (
                FleetEvent::AgentOffline { agent_id, hostname: "h".into(), last_seen },
                r#"agent_offline|{"agentId":"agent-00000000000000f3","hostname":"h","lastSeen":"1970-01-01T00:00:00.000Z"}"#,
            ),
            (
                FleetEvent::AgentDeregistered { agent_id, hostname: "h".into() },
                r#"agent_deregistered|{"agentId":"agent-00000000000000f3","hostname":"h"}"#,
            ),
            (
                FleetEvent::FleetChanged { from: None, to: Some(Status::Online), count: 101 },
                r#"fleet_changed|{"from":null,"to":"online","count":101}"#,
            ),
            (
                threats(Some(agent_id), Some("h".into()), None),
                r#"threats_reported|{"agentId":"agent-00000000000000f3","hostname":"h","count":3,"maxSeverity":"critical"}"#,
            ),
            (
                threats(None, None, Some(101)),
                r#"threats_reported|{"agentId":null,"hostname":null,"count":3,"maxSeverity":"critical","agents":101}"#,
            ),
            (
                FleetEvent::PolicyCreated { policy_id: "pol_1".into(), version: "v3".into(), rule_count: 2 },
                r#"policy_created|{"policyId":"pol_1","version":"v3","ruleCount":2}"#,
            ),
        ];
        let page = include_str!("../../docs/api.md");
        for (event, expected) in cases {
            let (name, data) = expected.split_once('|').unwrap();
            let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).expect("it is documented");
            let fields: serde_json::Map<_, serde_json::Value> = serde_json::from_str(data).unwrap();
            assert!(fields.keys().all(|field| row.contains(&format!("`{field}`"))), "{row}");
            let frame = format!("id: r-7\nevent: {name}\ndata: {data}\n\n");
            assert_eq!(std::str::from_utf8(&event.frame("r", 7)).unwrap(), frame);
        }
    }
}
