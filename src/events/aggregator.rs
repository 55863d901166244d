//! What has happened since the last tick, collected where it happens.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::event::{FleetEvent, StatusChange};
use crate::{
    fleet::{Agent, AgentId},
    limits::{EVENTS_DETAIL_MAX, EVENTS_THREAT_AGENTS_MAX},
    threats::Severity,
};

/// Where changes wait to be emitted. Each shard has a slot of its own, so a change waits for nobody but, for a moment five
/// times a second, for the collector that takes what is there.
#[derive(Debug)]
pub struct EventAggregator {
    shards: Box<[Mutex<ShardChanges>]>,
    threats: Mutex<ThreatReports>,
    policies: Mutex<Vec<FleetEvent>>,
    /// Wakes the collector, when something is there after nothing was.
    work: Notify,
}

/// What happened on one shard.
#[derive(Debug, Default)]
pub(super) struct ShardChanges {
    /// How many changes of each kind, by index.
    pub(super) counts: [u64; StatusChange::COUNT],
    /// The first of each kind, [`EVENTS_DETAIL_MAX`] at most, in the order in which they happened.
    pub(super) details: Vec<(StatusChange, FleetEvent)>,
}

/// The threats that were reported.
#[derive(Debug, Default)]
pub(super) struct ThreatReports {
    agents: HashMap<AgentId, Reported>,
    /// Of agents for which there was no room.
    others: Option<Reported>,
}

/// What one agent reported.
#[derive(Debug)]
struct Reported {
    /// None for those that will not be emitted one by one.
    hostname: Option<Box<str>>,
    count: u64,
    worst: Severity,
}

impl EventAggregator {
    pub fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            threats: Mutex::default(),
            policies: Mutex::default(),
            work: Notify::new(),
        }
    }

    /// Notes that an agent of this shard has changed. Costs a lock that is free, and for the first
    /// [`EVENTS_DETAIL_MAX`] of a kind in a tick a copy of the hostname.
    pub fn changed(&self, shard: usize, change: StatusChange, agent: &Agent) {
        let is_first = lock(&self.shards[shard]).add(change, || FleetEvent::of(agent, change.to));
        self.announce(is_first);
    }

    pub fn threats_reported(&self, agent: AgentId, hostname: &str, count: u64, worst: Severity) {
        let is_first = lock(&self.threats).add(agent, hostname, count, worst);
        self.announce(is_first);
    }

    /// Notes that there is a new policy. Few are made in a tick, as each is durable before the next.
    pub fn policy_created(&self, policy_id: &str, version: &str, rule_count: usize) {
        let (policy_id, version) = (policy_id.into(), version.into());
        lock(&self.policies).push(FleetEvent::PolicyCreated { policy_id, version, rule_count });
        self.announce(true);
    }

    fn announce(&self, is_first: bool) {
        if is_first {
            self.work.notify_one();
        }
    }

    /// Waits until something is there.
    pub(super) async fn filled(&self) {
        self.work.notified().await;
    }

    /// Takes what is there: changes of each shard, and the events of threats and of policies.
    pub(super) fn take(&self) -> (Vec<ShardChanges>, Vec<FleetEvent>) {
        let changes = self.shards.iter().map(|shard| mem::take(&mut *lock(shard))).collect();
        let mut events = mem::take(&mut *lock(&self.policies));
        let threats = mem::take(&mut *lock(&self.threats));
        events.extend(threats.into_events());
        (changes, events)
    }
}

impl ShardChanges {
    /// Adds a change; returns whether it is the first.
    pub(super) fn add(&mut self, change: StatusChange, event: impl FnOnce() -> FleetEvent) -> bool {
        let count = &mut self.counts[change.index()];
        *count += 1;
        if *count <= EVENTS_DETAIL_MAX as u64 {
            self.details.push((change, event()));
        }
        self.details.len() == 1 && *count == 1
    }
}

impl ThreatReports {
    /// Adds a report; returns whether it is the first.
    fn add(&mut self, agent: AgentId, hostname: &str, count: u64, worst: Severity) -> bool {
        let known = self.agents.len();
        match self.agents.entry(agent) {
            Entry::Occupied(mut reported) => reported.get_mut().add(count, worst),
            Entry::Vacant(_) if known == EVENTS_THREAT_AGENTS_MAX => {
                self.others.get_or_insert(Reported { hostname: None, count: 0, worst }).add(count, worst);
            }
            Entry::Vacant(entry) => {
                let hostname = (known < EVENTS_DETAIL_MAX).then(|| hostname.into());
                entry.insert(Reported { hostname, count, worst });
            }
        }
        known == 0
    }

    /// One event for each agent, in the order of their ids; or one for all if they are many. It counts agents up to
    /// [`EVENTS_THREAT_AGENTS_MAX`].
    fn into_events(self) -> Vec<FleetEvent> {
        let agents = self.agents.len() as u64;
        if agents <= EVENTS_DETAIL_MAX as u64 {
            let mut agents: Vec<_> = self.agents.into_iter().collect();
            agents.sort_unstable_by_key(|(id, _)| *id);
            return agents.into_iter().map(|(id, reported)| reported.into_event(Some(id), None)).collect();
        }
        let mut reports = self.agents.into_values().chain(self.others);
        let first = reports.next().map(|first| {
            let all = reports.fold(first, |mut all, one| {
                all.add(one.count, one.worst);
                all
            });
            Reported { hostname: None, ..all }.into_event(None, Some(agents))
        });
        first.into_iter().collect()
    }
}

impl Reported {
    fn add(&mut self, count: u64, worst: Severity) {
        self.count += count;
        self.worst = self.worst.max(worst);
    }

    fn into_event(self, agent_id: Option<AgentId>, agents: Option<u64>) -> FleetEvent {
        let Self { hostname, count, worst } = self;
        FleetEvent::ThreatsReported { agent_id, hostname, count, max_severity: worst, agents }
    }
}

/// Whole after every step: a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::fleet::Status;

    const STALE: StatusChange = StatusChange { from: Some(Status::Online), to: Some(Status::Stale) };

    fn event() -> FleetEvent {
        FleetEvent::AgentDeregistered { agent_id: AgentId::new(1), hostname: "h".into() }
    }

    fn threats(reports: impl IntoIterator<Item = (u64, u64, Severity)>) -> Vec<FleetEvent> {
        let mut threats = ThreatReports::default();
        for (id, count, worst) in reports {
            threats.add(AgentId::new(id), &format!("host-{id}"), count, worst);
        }
        threats.into_events()
    }

    #[test]
    fn of_a_million_changes_a_shard_keeps_the_count_and_the_first_hundred() {
        let mut changes = ShardChanges::default();
        for _ in 0..1_000_000 {
            changes.add(STALE, event);
        }
        changes.add(StatusChange::REGISTERED, event);
        assert_eq!(changes.counts[STALE.index()], 1_000_000);
        assert_eq!(changes.details.len(), EVENTS_DETAIL_MAX + 1);
    }

    #[test]
    fn only_the_first_change_after_a_take_wakes_the_collector() {
        let aggregator = EventAggregator::new(1);
        let add = |change| aggregator.announce(lock(&aggregator.shards[0]).add(change, event));
        let is_awake = || aggregator.filled().now_or_never().is_some();
        assert!(!is_awake());
        add(STALE);
        add(STALE);
        assert!(is_awake() && !is_awake());
        add(StatusChange::REGISTERED);
        assert!(!is_awake());
        assert_eq!(aggregator.take().0[0].details.len(), 3);
        add(STALE);
        assert!(is_awake());
        aggregator.threats_reported(AgentId::new(1), "h", 1, Severity::Low);
        aggregator.threats_reported(AgentId::new(2), "h", 1, Severity::Low);
        assert!(is_awake() && !is_awake());
    }

    #[test]
    fn the_reports_of_an_agent_within_a_tick_are_one_event_with_the_worst_severity() {
        let events = threats([(2, 1, Severity::Low), (1, 2, Severity::High), (2, 3, Severity::Medium)]);
        let of = |id, count, max_severity| FleetEvent::ThreatsReported {
            agent_id: Some(AgentId::new(id)),
            hostname: Some(format!("host-{id}").into()),
            count,
            max_severity,
            agents: None,
        };
        assert_eq!(events, [of(1, 2, Severity::High), of(2, 4, Severity::Medium)]);
        assert_eq!(threats([]), []);
    }

    #[test]
    fn the_reports_of_many_agents_are_one_event_that_counts_all() {
        let all = |count, agents| {
            [FleetEvent::ThreatsReported {
                agent_id: None,
                hostname: None,
                count,
                max_severity: Severity::Critical,
                agents: Some(agents),
            }]
        };
        let reports = |agents: u64| (0..2 * agents).map(move |n| (n % agents, 1, Severity::Low));
        let worst = [(7, 1, Severity::Critical)];
        assert_eq!(threats(reports(100)).len(), 100);
        assert_eq!(threats(reports(101).chain(worst)), all(203, 101));
        let most = EVENTS_THREAT_AGENTS_MAX as u64;
        assert_eq!(threats(reports(most + 50).chain(worst)), all(2 * (most + 50) + 1, most));
    }
}
