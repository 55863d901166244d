//! The store that keeps nothing beyond the process: for tests, and for measuring the engine alone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::mpsc;

use super::{Change, Chunk, HeartbeatBatch, Loaded, Store, StoreError, StoreReader, loading::Ordered};
use crate::{
    fleet::{AgentId, Heard, LastHeartbeat, Registration},
    limits::POLICY_STEP_MAX,
    policy::{Scope, ScopePolicies},
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
    policies: BTreeMap<Scope, Arc<ScopePolicies>>,
    clock: Option<Heard>,
}

impl Records {
    /// The fleet, and how many heartbeats there are of agents that are not in it.
    fn all(&self) -> (Vec<Chunk>, u64) {
        let policies: Vec<_> = self.policies.values().cloned().collect();
        let mut chunks: Vec<_> = policies.chunks(POLICY_STEP_MAX).map(|some| Chunk::Policies(some.to_vec())).collect();
        let mut ready = Ordered::default();
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
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreReader for MemoryStore {
    fn clock(&self) -> BoxFuture<'_, Result<Option<Heard>, StoreError>> {
        let clock = self.records().clock;
        async move { Ok(clock) }.boxed()
    }

    fn load(&self, out: mpsc::Sender<Chunk>) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        let (chunks, orphans) = self.records().all();
        async move {
            let mut loaded = Loaded { orphans, ..Loaded::default() };
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
                Change::SetPolicies(policies) => {
                    records.policies.insert(policies.scope().clone(), policies);
                }
                Change::ForgetPolicies(scope) => {
                    records.policies.remove(&scope);
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
