//! From the changes of each shard to events: one by one, or a mass change as one.

use tokio::time::{Duration, Instant};

use super::{
    aggregator::ShardChanges,
    event::{FleetEvent, StatusChange},
};
use crate::limits::{EVENTS_DETAIL_MAX, EVENTS_MASS_MAX_MS};

/// Coalesces the changes of the shards, tick by tick. Every change is in one event: its own, or the count of one.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    /// Changes of a kind that are under way in masses, by index.
    masses: [Option<Mass>; StatusChange::COUNT],
}

#[derive(Clone, Copy, Debug)]
struct Mass {
    since: Instant,
    count: u64,
}

impl Coalescer {
    /// Whether a mass change has not been emitted yet.
    pub(super) fn is_counting(&self) -> bool {
        self.masses.iter().any(Option::is_some)
    }

    /// The events of a tick. Those of one agent are in the order in which they happened.
    pub(super) fn tick(&mut self, now: Instant, shards: Vec<ShardChanges>) -> Vec<FleetEvent> {
        let mut events = Vec::new();
        let mut emitted_singly = [false; StatusChange::COUNT];
        for (index, StatusChange { from, to }) in StatusChange::all().enumerate() {
            let more: u64 = shards.iter().map(|shard| shard.counts[index]).sum();
            let mass = match self.masses[index] {
                Some(Mass { since, count }) => Mass { since, count: count + more },
                None if more > EVENTS_DETAIL_MAX as u64 => Mass { since: now, count: more },
                None => {
                    emitted_singly[index] = true;
                    continue;
                }
            };
            let is_over = more == 0 || now - mass.since >= Duration::from_millis(EVENTS_MASS_MAX_MS);
            self.masses[index] = (!is_over).then_some(mass);
            if is_over {
                events.push(FleetEvent::FleetChanged { from, to, count: mass.count });
            }
        }
        let details = shards.into_iter().flat_map(|shard| shard.details);
        events.extend(details.filter(|(change, _)| emitted_singly[change.index()]).map(|(_, event)| event));
        events
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        fleet::{AgentId, Status, Timestamp},
        limits::EVENTS_TICK_MS,
    };

    const TICK: Duration = Duration::from_millis(EVENTS_TICK_MS);
    const STALE: StatusChange = StatusChange { from: Some(Status::Online), to: Some(Status::Stale) };
    const BACK: StatusChange = StatusChange { from: Some(Status::Stale), to: Some(Status::Online) };

    /// The changes of a shard: so many changes of these kinds, one after the other.
    fn shard(changes: &[(StatusChange, u64)], number: &mut u64) -> ShardChanges {
        let mut collected = ShardChanges::default();
        for &(change, count) in changes {
            for _ in 0..count {
                *number += 1;
                collected.add(change, || event(change, *number));
            }
        }
        collected
    }

    fn event(change: StatusChange, number: u64) -> FleetEvent {
        let (agent_id, hostname, last_seen) = (AgentId::new(number), "h".into(), Timestamp::from_millis(0));
        match change.to {
            Some(Status::Online) => FleetEvent::AgentOnline { agent_id, hostname, ip: [127, 0, 0, 1].into() },
            Some(Status::Stale) => FleetEvent::AgentStale { agent_id, hostname, last_seen },
            Some(Status::Offline) => FleetEvent::AgentOffline { agent_id, hostname, last_seen },
            None => FleetEvent::AgentDeregistered { agent_id, hostname },
        }
    }

    /// The events after each tick in which so many agents turned stale.
    fn ticks(counts: &[u64]) -> Vec<Vec<FleetEvent>> {
        let (mut coalescer, mut now, mut number) = (Coalescer::default(), Instant::now(), 0);
        counts
            .iter()
            .map(|count| {
                now += TICK;
                coalescer.tick(now, vec![shard(&[(STALE, *count)], &mut number)])
            })
            .collect()
    }

    fn mass(change: StatusChange, count: u64) -> FleetEvent {
        FleetEvent::FleetChanged { from: change.from, to: change.to, count }
    }

    #[test]
    fn up_to_a_hundred_changes_of_a_kind_are_told_one_by_one() {
        let emitted = ticks(&[0, 1, 100]);
        assert_eq!(emitted.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 100]);
        assert!(emitted.concat().iter().all(|event| matches!(event, FleetEvent::AgentStale { .. })));
    }

    #[test]
    fn a_mass_change_is_told_once_when_it_is_over() {
        assert_eq!(ticks(&[101, 0]), [vec![], vec![mass(STALE, 101)]]);
        assert_eq!(ticks(&[5_000, 3, 90_000, 0, 0]), [vec![], vec![], vec![], vec![mass(STALE, 95_003)], vec![]]);
    }

    #[test]
    fn a_mass_change_without_an_end_is_told_every_five_seconds() {
        let emitted = ticks(&[1_000; 60]);
        let at: Vec<_> = (0..emitted.len()).filter(|tick| !emitted[*tick].is_empty()).collect();
        assert_eq!(at, [25, 51], "the tick that begins one, and 25 more");
        assert_eq!(emitted[25], [mass(STALE, 26_000)]);
    }

    #[test]
    fn hundreds_that_are_spread_over_the_shards_are_a_mass_change_too() {
        let (mut coalescer, mut number) = (Coalescer::default(), 0);
        let now = Instant::now();
        assert_eq!(coalescer.tick(now, (0..4).map(|_| shard(&[(STALE, 26)], &mut number)).collect()), []);
        assert!(coalescer.is_counting());
        assert_eq!(coalescer.tick(now + TICK, vec![]), [mass(STALE, 104)]);
        assert!(!coalescer.is_counting());
    }

    #[test]
    fn an_agent_that_comes_and_goes_within_a_tick_is_told_in_that_order() {
        let agent = |change| event(change, 1);
        let mut collected = ShardChanges::default();
        let changes = [BACK, STALE, BACK, StatusChange::deregistered(Status::Online)];
        for change in changes {
            collected.add(change, || agent(change));
        }
        assert_eq!(Coalescer::default().tick(Instant::now(), vec![collected]), changes.map(agent));
    }

    proptest! {
        #[test]
        fn every_change_is_in_one_event_whatever_the_ticks_and_shards(
            ticks in proptest::collection::vec(
                (proptest::collection::vec(proptest::collection::vec((0_usize..16, prop_oneof![0_u64..5, 20_u64..130]), 0..4), 2), 1_u64..4_000),
                1..40,
            ),
        ) {
            let (mut coalescer, mut now, mut number) = (Coalescer::default(), Instant::now(), 0);
            let mut happened = [0_u64; StatusChange::COUNT];
            let (mut emitted, mut singles) = ([0_u64; StatusChange::COUNT], VecDeque::new());
            // What came last is over a tick after.
            let quiet = std::iter::repeat_n((vec![vec![], vec![]], EVENTS_TICK_MS), 1);
            for (shards, after_ms) in ticks.into_iter().chain(quiet) {
                now += Duration::from_millis(after_ms);
                let mut collected = Vec::new();
                for changes in shards {
                    let all: Vec<_> = StatusChange::all().collect();
                    let changes: Vec<_> = changes.into_iter().map(|(index, count)| (all[index], count)).collect();
                    changes.iter().for_each(|(change, count)| happened[change.index()] += count);
                    collected.push(shard(&changes, &mut number));
                }
                let was_detailed: Vec<_> = collected.iter().flat_map(|shard| shard.details.clone()).collect();
                for event in coalescer.tick(now, collected) {
                    if let FleetEvent::FleetChanged { from, to, count } = event {
                        prop_assert!(count > EVENTS_DETAIL_MAX as u64);
                        emitted[StatusChange { from, to }.index()] += count;
                    } else {
                        let (change, _) = was_detailed.iter().find(|(_, detail)| *detail == event).unwrap();
                        emitted[change.index()] += 1;
                        singles.push_back(event);
                    }
                }
            }
            prop_assert_eq!(emitted, happened);
            prop_assert!(!coalescer.is_counting());
            // Nothing is emitted twice.
            let before = singles.len();
            let mut singles: Vec<_> = singles.into_iter().map(|event| format!("{event:?}")).collect();
            singles.sort();
            singles.dedup();
            prop_assert_eq!(singles.len(), before);
        }
    }
}
