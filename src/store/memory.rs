//! The store that keeps nothing beyond the process: for tests, and for measuring the engine alone.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;

use super::{
    Change, Chunk, Discard, HeartbeatBatch, Loaded, LoadedThreats, Store, StoreError, StoreReader, StoredThreat,
    ThreatRange, loading::ChunkBuilder, threat_record::decode_payload,
};
use crate::{
    fleet::{ActiveTime, AgentId, LastHeartbeat, PolicyVersion, Registration},
    limits::{LOAD_CHUNK_MAX, POLICY_STEP_MAX},
    policy::{PolicyScope, ScopePolicies},
    threats::{Threat, ThreatEntry, ThreatId, ThreatKey},
};

/// Keeps the records in maps.
#[derive(Debug, Default)]
pub struct MemoryStore {
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    registrations: BTreeMap<AgentId, Registration>,
    heartbeats: BTreeMap<AgentId, LastHeartbeat>,
    policies: BTreeMap<PolicyScope, Arc<ScopePolicies>>,
    policy_version: PolicyVersion,
    clock: Option<ActiveTime>,
    threats: BTreeMap<(Option<Box<str>>, ThreatId), StoredThreat>,
    last_threat: Option<ThreatId>,
}

impl Records {
    /// The fleet, and how many heartbeats there are of agents that are not in it.
    fn all(&self) -> (Vec<Chunk>, u64) {
        let policies: Vec<_> = self.policies.values().cloned().collect();
        let mut chunks: Vec<_> = policies.chunks(POLICY_STEP_MAX).map(|some| Chunk::Policies(some.to_vec())).collect();
        let mut ready = ChunkBuilder::default();
        for registration in self.registrations.values() {
            let last = self.heartbeats.get(&registration.id).cloned();
            chunks.extend(ready.push(registration.clone(), last).into_iter().flatten());
        }
        chunks.extend(ready.take());
        let orphans = self.heartbeats.keys().filter(|id| !self.registrations.contains_key(id)).count();
        (chunks, orphans as u64)
    }
}

impl MemoryStore {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock()
    }
}

impl StoreReader for MemoryStore {
    fn clock(&self) -> BoxFuture<'_, Result<Option<ActiveTime>, StoreError>> {
        let clock = self.records().clock;
        async move { Ok(clock) }.boxed()
    }

    fn load(&self, out: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        let records = self.records();
        let ((chunks, orphans), policy_version) = (records.all(), records.policy_version);
        drop(records);
        async move {
            let mut loaded = Loaded { orphans, policy_version, ..Loaded::default() };
            for chunk in chunks {
                loaded.count(&chunk);
                if out.send(chunk).await.is_err() {
                    break;
                }
            }
            Ok(loaded)
        }
        .boxed()
    }

    fn load_threats(&self, out: mpsc::Sender<Vec<ThreatEntry>>) -> BoxFuture<'_, Result<LoadedThreats, StoreError>> {
        let (entries, last) = {
            let records = self.records();
            (records.threats.values().map(|stored| stored.entry.clone()).collect::<Vec<_>>(), records.last_threat)
        };
        async move {
            let mut loaded = LoadedThreats { last, ..LoadedThreats::default() };
            for entries in entries.chunks(LOAD_CHUNK_MAX) {
                loaded.threats += entries.len() as u64;
                if out.send(entries.to_vec()).await.is_err() {
                    break;
                }
            }
            Ok(loaded)
        }
        .boxed()
    }

    fn threats(&self, keys: Vec<ThreatKey>) -> BoxFuture<'_, Result<Vec<Option<Threat>>, StoreError>> {
        let records = self.records();
        let read = |key: ThreatKey| {
            let stored = records.threats.get(&(key.org.clone(), key.id))?;
            Some(decode_payload(key, &stored.payload).expect("this process has encoded it"))
        };
        let threats = keys.into_iter().map(read).collect();
        async { Ok(threats) }.boxed()
    }
}

impl Store for MemoryStore {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut records = self.records();
        for change in changes {
            match change {
                Change::Register(registration) | Change::Reregister(registration) => {
                    records.registrations.insert(registration.id, *registration);
                }
                Change::Deregister(id) => {
                    records.registrations.remove(&id);
                    records.heartbeats.remove(&id);
                }
                Change::Report(threats) => {
                    records.last_threat = records.last_threat.max(threats.last().map(|last| last.entry.id));
                    let keyed = threats.into_iter().map(|one| ((one.entry.org.clone(), one.entry.id), one));
                    records.threats.extend(keyed);
                }
                Change::SetPolicies(policies) => {
                    records.policies.insert(policies.scope().clone(), policies);
                }
                Change::ForgetPolicies(scope) => {
                    records.policies.remove(&scope);
                }
                Change::PolicyVersion(version) => records.policy_version = version,
            }
        }
        async { Ok(()) }.boxed()
    }

    fn discard(&self, discards: Vec<Discard>) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut records = self.records();
        for discard in discards {
            match discard {
                Discard::Threats(keys) => {
                    for ThreatKey { org, id } in keys {
                        records.threats.remove(&(org, id));
                    }
                }
                Discard::Oldest(ThreatRange { org, up_to, .. }) => {
                    records.threats.retain(|(of, id), _| *of != org || *id > up_to);
                }
            }
        }
        async { Ok(()) }.boxed()
    }

    fn save<'a>(&'a self, batch: &'a HeartbeatBatch) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut records = self.records();
        records.heartbeats.extend(batch.heartbeats.iter().map(|last| (last.id, last.clone())));
        records.clock = batch.clock.or(records.clock);
        async { Ok(()) }.boxed()
    }
}
