//! The store that keeps nothing beyond the process: for tests, and for measuring the engine alone.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::mpsc;

use super::{Change, Chunk, HeartbeatBatch, Loaded, Store, StoreError, StoreReader};
use crate::fleet::{AgentId, Heard, LastHeartbeat, Registration};

/// Keeps the records in maps.
#[derive(Debug, Default)]
pub struct MemoryStore {
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    registrations: BTreeMap<AgentId, Registration>,
    heartbeats: BTreeMap<AgentId, LastHeartbeat>,
    clock: Option<Heard>,
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
        let (registrations, heartbeats) = {
            let records = self.records();
            let registrations: Vec<_> = records.registrations.values().cloned().collect();
            (registrations, records.heartbeats.values().cloned().collect::<Vec<_>>())
        };
        async move {
            let loaded =
                Loaded { agents: registrations.len() as u64, heartbeats: heartbeats.len() as u64, ..Loaded::default() };
            for chunk in [Chunk::Registrations(registrations), Chunk::Heartbeats(heartbeats)] {
                // A closed receiver wants no more.
                let _ = out.send(chunk).await;
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
