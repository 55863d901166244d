//! Changes and last heartbeats into transactions of few large commands.

use std::collections::BTreeMap;

use redis::Pipeline;

use super::{
    keys::{Keys, field},
    policies,
    session::Writes,
    threats,
};
use crate::{
    fleet::{ActiveTime, AgentId, LastHeartbeat, Partition, Registration},
    policy::{PolicyScope, ScopePolicies},
    store::{
        Change, Discard,
        record::{encode_heartbeat, encode_registration},
    },
};

/// What Redis answers to a transaction: how many of its kind there have been, and which run the fleet belongs to.
pub(super) type Confirmation = (i64, Option<String>);

/// The transaction that makes these changes. Without any, it is one that Redis refuses when it would refuse a change.
pub(super) fn commit(keys: &Keys, changes: &[Change]) -> Pipeline {
    let mut transaction = redis::pipe();
    transaction.atomic();
    // Of several changes of one agent, or of one scope's policies, the last one counts.
    let mut agents: BTreeMap<AgentId, Option<&Registration>> = BTreeMap::new();
    let mut scopes: BTreeMap<&PolicyScope, Option<&ScopePolicies>> = BTreeMap::new();
    for change in changes {
        match change {
            Change::Register(registration) | Change::Reregister(registration) => {
                agents.insert(registration.id, Some(registration));
            }
            Change::Deregister(id) => {
                agents.insert(*id, None);
            }
            Change::SetPolicies(policies) => {
                scopes.insert(policies.scope(), Some(policies));
            }
            Change::ForgetPolicies(scope) => {
                scopes.insert(scope, None);
            }
            Change::PolicyVersion(version) => policies::write_version(&mut transaction, keys, *version),
            Change::Report(reported) => threats::report(&mut transaction, keys, reported),
        }
    }
    let (mut set, mut removed) = (Hashes::default(), Hashes::default());
    for (id, registration) in agents {
        match registration {
            Some(registration) => set.put(id, encode_registration(registration)),
            None => removed.put(id, Vec::new()),
        }
    }
    policies::write(&mut transaction, keys, scopes);
    set.hset(&mut transaction, |partition| keys.agents(partition));
    removed.hdel(&mut transaction, |partition| keys.agents(partition));
    removed.hdel(&mut transaction, |partition| keys.heartbeats(partition));
    finish(&mut transaction, keys, "commits");
    transaction
}

/// The transaction that discards these threats. It has no command that a Redis without memory would refuse.
pub(super) fn discard(keys: &Keys, discards: &[Discard]) -> Pipeline {
    let mut transaction = redis::pipe();
    transaction.atomic();
    for discard in discards {
        match discard {
            Discard::Threats(discarded) => threats::remove(&mut transaction, keys, discarded),
            Discard::Oldest(range) => threats::trim(&mut transaction, keys, range),
        }
    }
    transaction.cmd("HGET").arg(keys.meta()).arg("run");
    transaction
}

/// The transaction that writes these heartbeats, and the clock.
pub(super) fn save(keys: &Keys, heartbeats: &[LastHeartbeat], clock: Option<ActiveTime>) -> Pipeline {
    let mut set = Hashes::default();
    for last in heartbeats {
        let mut record = Vec::with_capacity(96);
        encode_heartbeat(last, &mut record);
        set.put(last.id, record);
    }
    let mut transaction = redis::pipe();
    transaction.atomic();
    set.hset(&mut transaction, |partition| keys.heartbeats(partition));
    if let Some(clock) = clock {
        transaction.cmd("HSET").arg(keys.meta()).arg("clock").arg(clock.as_micros()).ignore();
    }
    finish(&mut transaction, keys, "saves");
    transaction
}

/// How many transactions of this kind Redis has confirmed with this receipt.
pub(super) fn commits(count: i64) -> Writes {
    Writes { commits: count, saves: 0 }
}

/// As [`commits`].
pub(super) fn saves(count: i64) -> Writes {
    Writes { commits: 0, saves: count }
}

fn finish(transaction: &mut Pipeline, keys: &Keys, counter: &str) {
    transaction.cmd("HINCRBY").arg(keys.meta()).arg(counter).arg(1);
    transaction.cmd("HGET").arg(keys.meta()).arg("run");
}

/// The field of an agent, and its record.
type Entry = ([u8; 16], Vec<u8>);

/// Fields and values for the hashes of partitions.
#[derive(Default)]
struct Hashes(BTreeMap<Partition, Vec<Entry>>);

impl Hashes {
    fn put(&mut self, id: AgentId, value: Vec<u8>) {
        self.0.entry(id.partition()).or_default().push((field(id), value));
    }

    fn hset(&self, transaction: &mut Pipeline, key: impl Fn(Partition) -> String) {
        for (partition, entries) in &self.0 {
            transaction.cmd("HSET").arg(key(*partition));
            for (field, value) in entries {
                transaction.arg(field).arg(value.as_slice());
            }
            transaction.ignore();
        }
    }

    fn hdel(&self, transaction: &mut Pipeline, key: impl Fn(Partition) -> String) {
        for (partition, entries) in &self.0 {
            transaction.cmd("HDEL").arg(key(*partition));
            for (field, _) in entries {
                transaction.arg(field);
            }
            transaction.ignore();
        }
    }
}
