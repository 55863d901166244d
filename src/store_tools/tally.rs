//! What a fleet consists of: counts, and a digest of its records, whatever order they come in.

use std::{
    collections::{BTreeSet, HashSet},
    hash::{DefaultHasher, Hasher},
};

use crate::{
    fleet::{AgentId, LastHeartbeat, Partition, Registration, Timestamp},
    policy::{PolicyScope, ScopePolicies},
    store::{
        Chunk,
        policy_record::encode_policies,
        record::{encode_heartbeat, encode_registration},
    },
};

/// What two stores have in common if they hold the same fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) agents: u64,
    /// Agents that have beaten since they registered.
    pub(super) last_heartbeats: u64,
    /// Scopes that have policies: the whole fleet, and tenants.
    pub(super) scopes: u64,
    /// Sum of the digests of every registration, of every agent's last heartbeat and of every scope's policies. Equal only for equal records but
    /// for a chance of one in 2⁶³; it is no protection against forgery.
    pub(super) digest: u64,
}

/// Counts a fleet while it is read. Holds 24 bytes of each agent: a log has several heartbeats of one, of which the last
/// counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    content: Content,
    newest: Option<Timestamp>,
    orphans: HashSet<AgentId>,
    known: KnownAgents,
    scopes: BTreeSet<PolicyScope>,
    among: Option<Box<(KnownAgents, BTreeSet<PolicyScope>)>>,
    buffer: Vec<u8>,
}

impl Tally {
    /// Counts only agents and scopes that are in `other`, and heartbeats of those that have one there.
    pub(super) fn among(other: Self) -> Self {
        Self { among: Some(Box::new((other.known, other.scopes))), ..Self::default() }
    }

    pub(super) fn count(&mut self, chunk: &Chunk) {
        match chunk {
            Chunk::Policies(policies) => policies.iter().for_each(|one| self.publish(one)),
            Chunk::Registrations(registrations) => registrations.iter().for_each(|one| self.register(one)),
            Chunk::Heartbeats(heartbeats) => {
                for last in heartbeats {
                    self.beat(last);
                }
            }
        }
    }

    pub(super) fn publish(&mut self, policies: &ScopePolicies) {
        let scope = policies.scope();
        if self.among.as_ref().is_some_and(|among| !among.1.contains(scope)) {
            return;
        }
        self.content.scopes += 1;
        let mut hasher = DefaultHasher::new();
        hasher.write(scope.to_string().as_bytes());
        hasher.write(&encode_policies(policies));
        self.content.digest = self.content.digest.wrapping_add(hasher.finish());
        self.scopes.insert(scope.clone());
    }

    pub(super) fn register(&mut self, registration: &Registration) {
        let id = registration.id;
        if self.among.as_mut().is_some_and(|among| among.0.find(id).is_none()) {
            return;
        }
        self.content.agents += 1;
        let record = encode_registration(registration);
        self.content.digest = self.content.digest.wrapping_add(digest(id, b'r', &record));
        self.known.add(Member { id, registered_at: registration.registered_at, last: HeartbeatDigest::default() });
    }

    /// A heartbeat. Returns whether it counts: one of an unknown agent, or of an earlier registration, does not.
    pub(super) fn beat(&mut self, last: &LastHeartbeat) -> bool {
        if let Some(among) = &mut self.among
            && among.0.find(last.id).is_none_or(|member| member.last == HeartbeatDigest::default())
        {
            return false;
        }
        let Some(member) = self.known.find(last.id) else {
            self.orphans.insert(last.id);
            return false;
        };
        if member.registered_at != last.registration {
            return false;
        }
        self.buffer.clear();
        encode_heartbeat(last, &mut self.buffer);
        // A store may hold a heartbeat record of agents that never beat, too: the time of their registration.
        let digest = HeartbeatDigest::new(digest(last.id, b'h', &self.buffer), last.at != last.registration);
        let before = std::mem::replace(&mut member.last, digest);
        self.content.last_heartbeats =
            self.content.last_heartbeats + u64::from(digest.has_beaten()) - u64::from(before.has_beaten());
        self.content.digest = self.content.digest.wrapping_sub(before.0).wrapping_add(digest.0);
        self.newest = self.newest.max(Some(last.at));
        true
    }

    /// What has been counted so far.
    pub(super) fn content(&self) -> Content {
        self.content
    }

    /// When the newest heartbeat was received.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// Agents that have a heartbeat but no registration.
    pub(super) fn orphans(&self) -> u64 {
        self.orphans.len() as u64
    }
}

fn digest(id: AgentId, kind: u8, record: &[u8]) -> u64 {
    // Of the same key at every start: both sides of a comparison agree.
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(id.get());
    hasher.write_u8(kind);
    hasher.write(record);
    hasher.finish()
}

/// An agent's last heartbeat: none (zero), or the digest of its record. The lowest bit says whether the agent has
/// beaten since it registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct HeartbeatDigest(u64);

impl HeartbeatDigest {
    fn new(digest: u64, has_beaten: bool) -> Self {
        Self(digest & !1 | u64::from(has_beaten))
    }

    fn has_beaten(self) -> bool {
        self.0 & 1 == 1
    }
}

#[derive(Clone, Copy, Debug)]
struct Member {
    id: AgentId,
    registered_at: Timestamp,
    last: HeartbeatDigest,
}

/// The agents of a fleet, by partition.
#[derive(Debug)]
struct KnownAgents {
    partitions: Box<[Members]>,
}

#[derive(Clone, Debug, Default)]
struct Members {
    members: Vec<Member>,
    is_sorted: bool,
}

impl Default for KnownAgents {
    fn default() -> Self {
        Self { partitions: Partition::all().map(|_| Members::default()).collect() }
    }
}

impl KnownAgents {
    fn add(&mut self, member: Member) {
        let partition = &mut self.partitions[usize::from(member.id.partition().get())];
        partition.members.push(member);
        partition.is_sorted = false;
    }

    /// Puts the partition in order first if agents have come since. They come before the first heartbeat, so that is
    /// once.
    fn find(&mut self, id: AgentId) -> Option<&mut Member> {
        let Members { members, is_sorted } = &mut self.partitions[usize::from(id.partition().get())];
        if !std::mem::replace(is_sorted, true) {
            members.sort_unstable_by_key(|member| member.id);
            members.shrink_to_fit();
        }
        let found = members.binary_search_by_key(&id, |member| member.id);
        found.ok().map(|index| &mut members[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fleet::Figures,
        store_tools::samples::{heartbeat, registration},
    };

    fn tally(registrations: &[Registration], heartbeats: &[LastHeartbeat]) -> Tally {
        let mut tally = Tally::default();
        tally.count(&Chunk::Registrations(registrations.to_vec()));
        tally.count(&Chunk::Heartbeats(heartbeats.to_vec()));
        tally
    }

    #[test]
    fn a_member_takes_24_bytes() {
        assert_eq!(size_of::<Member>(), 24);
    }

    #[test]
    fn the_order_of_agents_does_not_matter() {
        let agents: Vec<_> = (0..100).map(|n| registration(n << 54 | n)).collect();
        let beats: Vec<_> = agents.iter().map(|agent| heartbeat(agent.id.get(), 5)).collect();
        let reversed = |beats: &[_]| beats.iter().rev().cloned().collect::<Vec<LastHeartbeat>>();
        let agents_reversed: Vec<_> = agents.iter().rev().cloned().collect();
        let content = tally(&agents, &beats).content();
        assert_eq!(content, tally(&agents_reversed, &reversed(&beats)).content());
        assert_eq!((content.agents, content.last_heartbeats), (100, 100));
    }

    #[test]
    fn of_an_agents_heartbeats_only_the_last_counts() {
        let agents = [registration(1), registration(2)];
        let log = tally(&agents, &[heartbeat(1, 5), heartbeat(2, 6), heartbeat(1, 7)]);
        assert_eq!(log.content(), tally(&agents, &[heartbeat(2, 6), heartbeat(1, 7)]).content());
        assert_ne!(log.content(), tally(&agents, &[heartbeat(2, 6), heartbeat(1, 5)]).content());
        assert_eq!(log.content().last_heartbeats, 2);
        assert_eq!(log.newest(), Some(heartbeat(1, 7).at));
    }

    #[test]
    fn every_difference_in_a_record_changes_the_digest() {
        let content = |registration: Registration, last: LastHeartbeat| tally(&[registration], &[last]).content();
        let same = content(registration(1), heartbeat(1, 5));
        assert_eq!(content(registration(1), heartbeat(1, 5)), same);
        let renamed = Registration { hostname: "other".into(), ..registration(1) };
        assert_ne!(content(renamed, heartbeat(1, 5)), same);
        let figures = Figures { cpu: Some(1.0).into(), ..Figures::default() };
        assert_ne!(content(registration(1), LastHeartbeat { figures, ..heartbeat(1, 5) }), same);
        // Two agents that have changed places.
        let swapped = |a, b| {
            let named = |id, name: &str| Registration { hostname: name.into(), ..registration(id) };
            tally(&[named(1, a), named(2, b)], &[]).content()
        };
        assert_ne!(swapped("a", "b"), swapped("b", "a"));
    }

    #[test]
    fn heartbeats_of_unknown_agents_are_counted_apart() {
        let mut tally = tally(&[registration(1)], &[]);
        let before = tally.content();
        assert!(!tally.beat(&heartbeat(2, 5)) && !tally.beat(&heartbeat(2, 6)));
        let earlier = LastHeartbeat { registration: Timestamp::from_millis(0), ..heartbeat(1, 5) };
        assert!(!tally.beat(&earlier));
        assert_eq!((tally.content(), tally.orphans()), (before, 1));
        assert!(tally.beat(&heartbeat(1, 5)));
    }

    #[test]
    fn an_agent_that_is_only_known_to_have_registered_has_not_been_heard() {
        let registered_only = LastHeartbeat { at: registration(1).registered_at, ..heartbeat(1, 5) };
        let mut tally = tally(&[registration(1)], &[registered_only]);
        assert_eq!(tally.content().last_heartbeats, 0);
        tally.beat(&heartbeat(1, 6));
        assert_eq!(tally.content().last_heartbeats, 1);
    }

    #[test]
    fn among_others_only_what_they_have_is_counted() {
        let source = tally(&[registration(1), registration(2)], &[heartbeat(1, 5)]);
        let expected = source.content();
        let mut found = Tally::among(source);
        [1, 2, 3].into_iter().for_each(|id| found.register(&registration(id)));
        for (last, counts) in [(heartbeat(1, 5), true), (heartbeat(2, 5), false), (heartbeat(3, 5), false)] {
            assert_eq!(found.beat(&last), counts);
        }
        assert_eq!((found.content(), found.orphans()), (expected, 0));
    }
}
