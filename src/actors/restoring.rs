//! Bringing the fleet back from the store, before the first request.

use futures_util::future::join_all;

use super::{
    messages::{Begin, Restore},
    supervisor::{EngineError, EngineHandle},
};
use crate::{fleet::AgentId, limits::LIST_SCAN_MAX, store::Chunk};

impl EngineHandle {
    /// Hands part of the fleet to the shards it belongs to. Only before the first request.
    pub(crate) async fn restore(&self, chunk: Chunk) -> Result<(), EngineError> {
        match chunk {
            Chunk::Registrations(registrations) => {
                self.fleet.places.occupy(registrations.len() as u64);
                for registration in &registrations {
                    if let Some(machine) = registration.machine {
                        self.fleet.machines.pin().insert(machine, registration.id);
                    }
                }
                self.restore_each(registrations, |registration| registration.id, Chunk::Registrations).await
            }
            Chunk::Heartbeats(heartbeats) => self.restore_each(heartbeats, |last| last.id, Chunk::Heartbeats).await,
        }
    }

    async fn restore_each<T>(
        &self,
        records: Vec<T>,
        id_of: impl Fn(&T) -> AgentId,
        chunk_of: impl Fn(Vec<T>) -> Chunk,
    ) -> Result<(), EngineError> {
        let count = self.fleet.shards.len();
        let mut by_shard: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
        for record in records {
            by_shard[id_of(&record).partition().shard(count)].push(record);
        }
        let shards = by_shard.into_iter().enumerate().filter(|(_, records)| !records.is_empty());
        let restored = shards.map(|(shard, records)| self.ask_shard_at(shard, Restore(chunk_of(records))));
        join_all(restored).await.into_iter().collect()
    }

    /// Starts the actors of all agents that were restored.
    pub(crate) async fn begin(&self) -> Result<(), EngineError> {
        let begin = async |shard| {
            let mut after = None;
            loop {
                after = self.ask_shard_at(shard, Begin { after, most: LIST_SCAN_MAX }).await?;
                if after.is_none() {
                    return Ok(());
                }
            }
        };
        join_all((0..self.fleet.shards.len()).map(begin)).await.into_iter().collect()
    }
}
